"""A dataset that came again: is the file of its row really there, with these bytes? Only then is it known.

A file that is gone is called missing. One that holds other bytes goes to ``quarantine/damaged-<yyyymmdd>/``
first, so that no byte is lost and no unlisted file is left in the session. Either way its row then waits for
the good bytes, which are at hand.
"""

import errno
import os
import uuid
from dataclasses import dataclass
from typing import Final

from archive import failpoints
from archive.clock import Clock
from archive.store import files
from archive.store.catalogue import known as rows
from archive.store.catalogue.connection import Catalogue
from archive.store.catalogue.known import Known
from archive.store.parts import Part
from archive.store.root import Root

_DAMAGED_ERRNOS: Final = frozenset({errno.EINVAL, errno.EIO, errno.ELOOP})
"""Not a regular file, not readable, a link: no file of ours holds its bytes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is at the path of a row: nothing (`status` None), the dataset (`is_same`), or something else."""

    status: os.stat_result | None
    is_same: bool


class KnownFiles:
    """Looks at the files of rows; threads share it."""

    def __init__(self, root: Root, catalogue: Catalogue, clock: Clock) -> None:
        self._root, self._catalogue, self._clock = root, catalogue, clock

    def confirm(self, known: Known, part: Part) -> bool:
        """Whether the row's file holds the part's dataset; where not, the row is called missing.

        False may also mean that the session moved on meanwhile: then nothing was changed, and the caller looks
        again.

        Raises
        ------
        StoreError
            It could not be read, or set aside: nothing was changed.
        """
        try:
            found = self._look(known, part)
            if not found.is_same:
                self._give_up(known, found)
        except OSError as error:
            raise files.store_error(error, "looking at an instance that came again") from error
        return found.is_same

    def _look(self, known: Known, part: Part) -> _Found:
        status = files.status(self._root.fd, known.path)
        if status is None:
            return _Found(status=None, is_same=False)
        try:
            is_same = part.is_in(known.path, known.file)
        except FileNotFoundError:
            return _Found(status=None, is_same=False)
        except OSError as error:
            if error.errno not in _DAMAGED_ERRNOS:
                raise
            is_same = False
        return _Found(status=status, is_same=is_same)

    def _give_up(self, known: Known, found: _Found) -> None:
        """Under the write lock, which every receiver takes to move a name: is all as it was seen?"""
        with self._catalogue.write() as tx:
            now = files.status(self._root.fd, known.path)
            if not rows.is_current(tx, known) or _identity(now) != _identity(found.status):
                return
            kept_as = self._keep(known.path) if now is not None else None
            rows.mark_missing(tx, known, kept_as=kept_as)
            if kept_as is not None:
                files.unlink(self._root.fd, known.path)

    def _keep(self, path: str) -> str:
        """A second, durable name in the quarantine for what is at `path`."""
        folder = f"quarantine/damaged-{self._clock.now():%Y%m%d}"
        name = f"{folder}/{uuid.uuid4().hex}.dcm"
        failpoints.hit("DAMAGED")
        files.make_folder(self._root.fd, folder)
        files.link(self._root.fd, path, name)
        files.sync_folder(self._root.fd, folder)
        return name


def _identity(status: os.stat_result | None) -> tuple[int, int, int] | None:
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)
