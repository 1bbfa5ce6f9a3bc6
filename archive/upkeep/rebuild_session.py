"""One session for the new catalogue: from its manifest, or without one from its path, headers and routing."""

import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from archive.clock import folder_timestamp, from_iso, iso
from archive.config import Settings
from archive.errors import StoreError
from archive.examination.inspection import is_own_file
from archive.intake.filing import study_of
from archive.model import UNASSIGNED, Autoarchive, FileRecord, SessionStatus, scan_files_path
from archive.rules.policy import Policy
from archive.rules.routing import RouteInput
from archive.store import files, manifest_reader
from archive.store.catalogue import events, recovering, rows, sessions
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.store.catalogue.recovering import InstanceFacts
from archive.store.manifest_reader import ManifestContent, ManifestError
from archive.store.root import Root
from archive.upkeep.adoption import Examined, examine, facts_of, place_in_scan
from archive.upkeep.discrepancies import REPAIR
from archive.upkeep.doubts import Doubts, without_staged
from archive.upkeep.printing import is_utf8
from archive.upkeep.unread import what_and_why

_STATUS: Final = {
    "prearchive": SessionStatus.RECEIVING,
    "archive": SessionStatus.ARCHIVED,
    "trash": SessionStatus.DELETED,
}
"""The place tells the status; a prearchive session is built again, which tells READY from ERROR."""


_LISTS: Final = ("lines", "adopted", "missing", "unlisted", "damaged")
_LARGEST_ID: Final = 2**53  # numbers above would leave none to the sessions to come


class Tally(Protocol):
    """What the report needs; see `archive.rebuild`."""

    sessions: int
    instances: int
    lines: list[str]
    adopted: list[str]
    missing: list[str]
    unlisted: list[str]
    damaged: list[str]


class Rebuilder:
    """Adds session folders to a new catalogue, one transaction each."""

    def __init__(self, root: Root, catalogue: Catalogue, settings: Settings, policy: Policy, tally: Tally) -> None:
        self._root, self._catalogue, self._settings, self._policy = root, catalogue, settings, policy
        self._tally = tally
        self._joined: list[tuple[int, str, Mapping[str, Any]]] = []  # session, its folder, what was joined into it
        self._doubles: dict[tuple[int, int], set[str]] = {}  # names in the prearchive of files that may have several
        self._doubts = Doubts(root.fd)
        self._unread: list[OSError] = []  # folders of the prearchive: their files may have other names
        for path, status in files.walk(root.fd, "prearchive", passed_over=self._unread.append):
            if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                self._doubles.setdefault((status.st_dev, status.st_ino), set()).add(path)

    def add(self, place: str, folder: str) -> None:
        """Add the session of a folder, or say why there is none."""
        marks = self._marks()
        try:
            for error in self._unread:  # whatever it says now
                if f"{error.filename}/".startswith(f"{folder}/"):
                    raise error
            self._take(place, folder)
        except OSError as error:
            self._forget_since(marks)
            self.pass_over(error)

    def pass_over(self, error: OSError) -> None:
        """Name what cannot be looked at; it stays where it is, for the next rebuild."""
        path, why = what_and_why(self._root.path, error)
        self._tally.unlisted.append(path)
        again = "prearc doctor --rebuild   (when it can be read)"
        self._tally.lines.append(f"{path} cannot be looked at: {why}. It is in no session now: {again}")

    def _marks(self) -> dict[str, int]:
        return {name: len(getattr(self._tally, name)) for name in _LISTS}

    def _forget_since(self, marks: dict[str, int]) -> None:
        for name, mark in marks.items():
            del getattr(self._tally, name)[mark:]

    def _take(self, place: str, folder: str) -> None:
        if not is_utf8(folder):
            self._reject(folder, "its name is not UTF-8")
            return
        content = self._manifest(folder)
        for believed in (content, None) if content is not None else (None,):
            marks = self._marks()
            try:
                self._add(place, folder, believed)
                return
            except (StoreError, OverflowError, UnicodeEncodeError) as error:
                if not recovering.is_contradiction(error):
                    raise
                self._forget_since(marks)
                what = "The manifest cannot be true" if believed is not None else "What is in it cannot be a session"
                self._tally.lines.append(f"{folder}: {what}: {error}")
        self._reject(folder, "it contradicts another one")

    def add_joined(self) -> None:
        """The sessions that were joined with or merged into others: they hold nothing, but say where it went, and where
        what comes belongs."""
        with self._catalogue.write() as tx:
            for home_id, folder, columns in self._joined:
                key = (columns["project"], columns["timestamp"], columns["folder"])
                if recovering.is_taken(tx.connection, columns["id"]) or sessions.by_folder(tx.connection, *key):
                    continue  # a folder of it was there: the join was interrupted
                status = SessionStatus.ARCHIVED if columns["status"] == SessionStatus.ARCHIVED else SessionStatus.JOINED
                places = {"status": status, "path": folder, "merged_into_id": home_id, "accepts": 0}
                clock = {"clock_since": tx.clock.monotonic(), "boot_id": tx.clock.boot_id}
                recovering.insert_session(tx, {**columns, **places, **clock})

    def _reject(self, folder: str, why: str) -> None:
        """Name the files of a folder that cannot be a session; they stay where they are."""
        self._tally.unlisted += [path for path, _ in files.walk(self._root.fd, folder)]
        self._tally.lines.append(f"{folder} is no session: {why}")

    def _add(self, place: str, folder: str, content: ManifestContent | None) -> None:
        on_disk = {path: status for path, status in files.walk(self._root.fd, folder) if not is_own_file(path)}
        listed = self._listed(folder, content)
        self._doubts.look_at(on_disk.keys(), [path for path, status in on_disk.items() if self._names(status) - {path}])
        self._settle_doubles(place, on_disk, listed)
        names, staged = without_staged(on_disk)
        doubles = [path for path in names if self._unread and path not in listed and on_disk[path].st_nlink > 1]
        examined = self._examine(folder, [path for path in names if path not in listed and path not in doubles])
        self._tally.unlisted += [*staged, *doubles]
        self._tally.lines += [f"{path} stays unlisted: an overwriting left it: {REPAIR}" for path in staged]
        if content is None and not examined:
            self._tally.lines.append(f"{folder} holds no session")
            return
        with self._catalogue.write() as tx:
            columns = _from_manifest(content) if content is not None else self._from_files(folder, examined)
            session_id = self._insert(tx, place, folder, columns)
            count = 0
            if content is not None:
                count += self._insert_listed(tx, session_id, content, listed, on_disk)
            count += self._insert_examined(tx, session_id, examined)
            sessions.recount(tx, session_id)
            events.append(tx, "SESSION_REBUILT", session_id, {"from_manifest": content is not None, "instances": count})
        if content is not None:
            self._joined += [(session_id, folder, each) for each in content.joined]
        self._tally.sessions += 1
        self._tally.instances += count

    def _manifest(self, folder: str) -> ManifestContent | None:
        try:
            content = manifest_reader.read(self._root.fd, folder)
            if content is not None and content.session["id"] > _LARGEST_ID:
                raise ManifestError("The manifest's session number is none of prearc's.")
        except ManifestError as error:
            self._tally.lines.append(f"{folder}: {error.message}")
            return None
        if content is None:
            self._tally.lines.append(f"{folder} has no manifest: reconstructed from its files")
            return None
        self._tally.lines += [f"{folder}: {problem}" for problem in content.problems]
        return content

    @staticmethod
    def _listed(folder: str, content: ManifestContent | None) -> dict[str, tuple[str, InstanceFacts]]:
        """The instances of a manifest by path, with their scan."""
        if content is None:
            return {}
        return {
            f"{scan_files_path(folder, scan)}/{name}": (scan, facts)
            for (scan, name), facts in content.instances.items()
        }

    def _names(self, status: os.stat_result) -> set[str]:
        """The names in the prearchive that a file has besides, or had when the rebuild began."""
        return self._doubles.get((status.st_dev, status.st_ino), set())

    def _settle_doubles(
        self, place: str, on_disk: dict[str, os.stat_result], listed: dict[str, tuple[str, InstanceFacts]]
    ) -> None:
        """A file under two names is an interrupted operation: a name stays that a manifest lists, else the other."""
        for path, status in list(on_disk.items()):
            names = self._names(status)
            others = names - {path}
            if not others:
                continue
            gone = others if path in listed else {path}
            for name in sorted(gone):
                files.unlink(self._root.fd, name)
                self._tally.lines.append(f"{name} was the second name of a file: an operation was interrupted")
            names -= gone
            if path in gone:
                del on_disk[path]
                files.remove_empty_folders(self._root.fd, files.split(path)[0], keep=place)

    def _examine(self, folder: str, paths: list[str]) -> list[Examined]:
        found: list[Examined] = []
        for path in paths:
            result = examine(self._root.fd, folder, path, self._policy)
            if isinstance(result, str):
                self._tally.unlisted.append(path)
                self._tally.lines.append(f"{path} stays unlisted: {result}")
            else:
                found.append(result)
        return found

    def _from_files(self, folder: str, examined: list[Examined]) -> dict[str, Any]:
        """The columns of a session without manifest. It waits for a person: it is not archived by itself."""
        place, project, middle, label = [*folder.split("/"), "", "", ""][:4]
        header = examined[0].header
        receiver = self._settings.receiver[0]
        route = self._policy.router(receiver).route(header, RouteInput(called_ae_title=receiver.ae_title))
        first = files.status(self._root.fd, examined[0].path)
        moment = datetime.fromtimestamp(first.st_mtime if first else 0.0, tz=UTC)
        is_prearchive = place == "prearchive"
        return {
            "project": None if project in ("", UNASSIGNED) else project,
            "subject": route.subject.value or label,
            "label": label or files.split(folder)[1],
            "timestamp": middle if is_prearchive else folder_timestamp(moment),
            "folder": label or files.split(folder)[1],
            "key_project": route.project.value or "",
            "key_study": header.study_instance_uid,
            "key_label": route.session.value or "",
            "autoarchive": Autoarchive.MANUAL,
            "idle_seconds": receiver.idle_seconds,
            "cap_seconds": receiver.cap_seconds,
            "received_first": iso(moment),
            "received_last": iso(moment),
        }

    def _insert(self, tx: Transaction, place: str, folder: str, columns: dict[str, Any]) -> int:
        _follow_path(place, folder, columns)
        wanted = columns.pop("id", None)
        if wanted is not None and not recovering.is_taken(tx.connection, wanted):
            columns["id"] = wanted
        elif wanted is not None:
            self._tally.lines.append(f"{folder}: session {wanted} is there already, so this one gets a new number")
        moment = from_iso(columns["received_first"])
        while sessions.by_folder(tx.connection, columns["project"], columns["timestamp"], columns["folder"]):
            columns["timestamp"] = folder_timestamp(moment)
            moment += timedelta(milliseconds=1)
        status = _STATUS[place]
        return recovering.insert_session(
            tx,
            {
                **columns,
                "status": status,
                "is_archived": int(status is SessionStatus.ARCHIVED),
                "path": folder,
                "accepts": 0,
                "clock_since": tx.clock.monotonic(),
                "boot_id": tx.clock.boot_id,
                "close_requested": int(status is SessionStatus.RECEIVING),
            },
        )

    def _insert_listed(
        self,
        tx: Transaction,
        session_id: int,
        content: ManifestContent,
        listed: dict[str, tuple[str, InstanceFacts]],
        on_disk: dict[str, os.stat_result],
    ) -> int:
        for study in content.studies:
            recovering.insert_study(tx, session_id, study.study_instance_uid, rows.study_text(study))
        for decision in content.decisions:
            recovering.insert_decision(tx, session_id, decision)
        scans = {each.scan: recovering.insert_scan(tx, session_id, each.scan, each.header) for each in content.scans}
        count = 0
        for path, (scan, facts) in listed.items():
            row = self._checked(tx, path, facts, on_disk.get(path))
            if row is not None:
                recovering.insert_instance(tx, session_id, scans[scan], row)
                count += 1
        return count

    def _checked(
        self, tx: Transaction, path: str, facts: InstanceFacts, status: os.stat_result | None
    ) -> InstanceFacts | None:
        """The row of a listed instance. Its digest is believed unless the size is another one, or there are doubts."""
        if status is None or not stat.S_ISREG(status.st_mode):
            if recovering.has_dataset(tx.connection, facts.sop_instance_uid, facts.file.dataset_sha256):
                self._tally.lines.append(f"{path} is not there; the archive has its dataset")
                return None
            self._tally.missing.append(path)
            return _replaced(facts, facts.file, is_missing=True)
        if status.st_size == facts.file.size_bytes and not self._doubts.are_about(path):
            return _replaced(facts, facts.file, is_missing=False)
        now = examine(self._root.fd, "/".join(path.split("/")[:-4]), path, self._policy)
        if isinstance(now, Examined) and now.file.dataset_sha256 == facts.file.dataset_sha256:
            return _replaced(facts, now.file, is_missing=False)
        if isinstance(now, Examined) and (settled := self._doubts.settled(path, facts, now)) is not None:
            self._tally.lines.append(f"{path} is not what its manifest says: an overwriting was interrupted")
            return settled
        self._tally.damaged.append(path)
        return _replaced(facts, facts.file, is_missing=False)

    def _insert_examined(self, tx: Transaction, session_id: int, examined: list[Examined]) -> int:
        count = 0
        for each in examined:
            scan_id = place_in_scan(tx, session_id, each.scan, each.header)
            if isinstance(scan_id, str):
                self._tally.unlisted.append(each.path)
                self._tally.lines.append(f"{each.path} stays unlisted: {scan_id}")
                continue
            study = study_of(each.header)
            recovering.insert_study(tx, session_id, study.study_instance_uid, rows.study_text(study))
            recovering.insert_instance(tx, session_id, scan_id, facts_of(each, tx.now_text))
            self._tally.adopted.append(each.path)
            count += 1
        return count


def _from_manifest(content: ManifestContent) -> dict[str, Any]:
    return {name: value for name, value in content.session.items() if name != "status"}


def _follow_path(place: str, folder: str, columns: dict[str, Any]) -> None:
    """Where the folder is counts for more than what its manifest said before it was moved."""
    parts = folder.split("/")
    if place == "trash" or len(parts) != 4:
        return
    columns["project"] = None if parts[1] == UNASSIGNED else parts[1]
    if place == "prearchive":
        columns["timestamp"], columns["folder"] = parts[2], parts[3]
    else:
        columns["label"] = parts[3]


def _replaced(facts: InstanceFacts, file: FileRecord, *, is_missing: bool) -> InstanceFacts:
    return InstanceFacts(
        sop_instance_uid=facts.sop_instance_uid,
        sop_class_uid=facts.sop_class_uid,
        transfer_syntax_uid=facts.transfer_syntax_uid,
        file=file,
        received_at=facts.received_at,
        is_missing=is_missing,
    )
