"""Parts of dead processes in the spool: which they are, and where they go."""

from collections.abc import Mapping
from dataclasses import dataclass

from archive.store import files, listing
from archive.store.catalogue import events
from archive.store.parts import PART_SUFFIX
from archive.upkeep.leftovers import LOST_AND_FOUND, living_owners
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of dead processes: `filed` have another name, `lost` were never acknowledged; of `unclear` ones the disk
    does not tell, a sentence each."""

    filed: tuple[str, ...]
    lost: tuple[str, ...]
    unclear: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What became of parts: paths that were `filed`, new names of those that are `lost`, and a sentence for each that
    stays where it is."""

    filed: tuple[str, ...]
    lost: Mapping[str, str]
    stay: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """A line for each that was cleared."""
        lines = [f"{path} was filed under its other name" for path in self.filed]
        return lines + [f"{path} was never acknowledged: now in {LOST_AND_FOUND}" for path in self.lost]


def dead_parts(ws: Workspace) -> Parts:
    """The parts in the spool that no living process can be writing.

    A part is called ``<owner>.<id>.part`` and lives while its owner does; one without an owner in its name may be
    anybody's. A receiver takes its lock before it makes a part, so the parts are listed first.
    """
    names = [name for name in listing.plain_names(ws.root.fd, "spool") if name.endswith(PART_SUFFIX)]
    living = living_owners(ws)
    filed, lost, unclear = list[str](), list[str](), list[str]()
    for name in names:
        owner = name.removesuffix(PART_SUFFIX).rpartition(".")[0]
        if owner in living if owner else living:
            continue
        try:
            status = files.status(ws.root.fd, f"spool/{name}")
        except OSError as error:
            unclear.append(_stays(f"spool/{name}", error))
            continue
        if status is not None:
            (filed if status.st_nlink > 1 else lost).append(f"spool/{name}")
    return Parts(filed=tuple(filed), lost=tuple(lost), unclear=tuple(unclear))


def _stays(path: str, error: OSError) -> str:
    return f"{path} is of a dead process and stays where it is: {error.strerror}"


def clear_parts(ws: Workspace, parts: Parts) -> Cleared:
    """A part with another name is unlinked; one without is bytes nobody was promised: to ``lost+found``.

    One that the disk does not let go stays; the others are cleared all the same.
    """
    filed, moves, stay = list[str](), dict[str, str](), list(parts.unclear)
    for path in parts.filed:
        try:
            files.unlink(ws.root.fd, path)
        except OSError as error:
            stay.append(_stays(path, error))
        else:
            filed.append(path)
    for path in parts.lost:
        try:
            moves[path] = _keep_lost(ws, path)
        except FileNotFoundError:  # somebody else was faster: the doctor, the archiver, a receiver process
            continue
        except OSError as error:
            stay.append(_stays(path, error))
    if filed or moves:
        files.sync_folder(ws.root.fd, "spool")
    if moves:
        with ws.catalogue.write() as tx:
            for move in moves.items():
                events.append(tx, "PART_SET_ASIDE", None, {"path": list(move), "reason": "never acknowledged"})
    return Cleared(filed=tuple(filed), lost=moves, stay=tuple(stay))


def _keep_lost(ws: Workspace, path: str) -> str:
    """Move a part to ``lost+found``, under its name or, where that is taken, one more; its new path."""
    wanted = name = f"{LOST_AND_FOUND}/{files.split(path)[1]}"
    number = 0
    while True:
        try:
            files.rename_folder(ws.root.fd, path, name)
        except FileExistsError:
            number += 1
            name = f"{wanted}~{number}"
        else:
            return name
