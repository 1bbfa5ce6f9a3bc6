"""From the paths a person named to candidates: folders walked, zips listed, DICOMDIRs followed; nothing is read."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from archive.errors import HeaderError, NotFound
from archive.importing import zips
from archive.importing.candidates import Candidate, Decline, Declined, Unusable, identity_of
from archive.importing.opening import open_regular
from archive.rules.directory import FileId, is_directory, referenced_files
from archive.rules.header import file_reader, read_file_meta

Found = Candidate | Declined
_PREAMBLE_BYTES: Final = 132


def find(paths: Sequence[str], *, root: str) -> Iterator[Found]:
    """Everything there is to import, in a stable order: as named, and by name inside folders.

    Links are never followed, and a folder that is `root` itself, the archive's, is not walked.

    Raises
    ------
    NotFound
        A named path does not exist; told before anything else.
    """
    named = [path.rstrip("/") or "/" for path in paths]
    for path in named:
        if not os.path.lexists(path):
            raise NotFound(f"There is no file or folder {path}.", hint="prearc import PATH...")
    own = os.lstat(root)
    for path in named:
        yield from _walk(path, (own.st_dev, own.st_ino))


def _walk(named: str, own: tuple[int, int]) -> Iterator[Found]:
    """A named path, and all below it if it is a folder."""
    waiting = [named]
    while waiting:
        path = waiting.pop()
        try:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                yield from _file(path, status, is_named=path is named)
            elif (status.st_dev, status.st_ino) == own:
                raise Unusable(Decline.OWN_ROOT)
            else:
                waiting += reversed(_names(path))
        except Unusable as error:
            yield error.of(path)
        except OSError as error:
            yield Unusable(Decline.UNREADABLE, error.strerror or "").of(path)


def _names(folder: str) -> list[str]:
    """The paths in a folder, sorted by the bytes of their names."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(fd) as found:
            names = sorted((each.name for each in found), key=os.fsencode)
        return [os.path.join(folder, name) for name in names]
    finally:
        os.close(fd)


def _file(path: str, status: os.stat_result, *, is_named: bool) -> Iterator[Found]:
    """Something that is no folder; a zip or a DICOMDIR that was named stands for what is in it."""
    if stat.S_ISLNK(status.st_mode):
        raise Unusable(Decline.LINK)
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(Decline.NOT_A_FILE)
    if not is_named:
        yield _candidate(path, status)
        return
    fd = open_regular(path, identity_of(status))
    try:
        start = os.pread(fd, _PREAMBLE_BYTES, 0)
        if is_zip(start):
            opened = zips.open_zip(os.dup(fd))
            try:
                yield from zips.entries(opened, path, identity_of(status))
            finally:
                zips.close_zip(opened)
        elif _is_directory(fd, status.st_size):
            yield from _referenced(path, fd, status.st_size)
        else:
            yield _candidate(path, status)
    finally:
        os.close(fd)


def is_zip(start: bytes) -> bool:
    """Whether a file that begins so is a zip. The preamble of a DICOM file may look like one."""
    return start.startswith(zips.MAGIC) and start[128:132] != b"DICM"


def _candidate(path: str, status: os.stat_result) -> Candidate:
    return Candidate(path=path, identity=identity_of(status), size_bytes=status.st_size)


def _is_directory(fd: int, size_bytes: int) -> bool:
    try:
        return is_directory(read_file_meta(file_reader(fd), size_bytes))
    except HeaderError:
        return False


def _referenced(path: str, fd: int, size_bytes: int) -> Iterator[Found]:
    """The files a DICOMDIR refers to, each once, all of them below its folder."""
    media = _Media(os.path.dirname(path))
    seen: set[FileId] = set()
    try:
        for file_id in referenced_files(file_reader(fd), size_bytes):
            if file_id in seen:
                continue
            seen.add(file_id)
            name = f"{path}/{'/'.join(file_id)}"
            try:
                yield media.candidate(file_id)
            except Unusable as error:
                yield error.of(name)
            except OSError as error:
                yield Unusable(Decline.UNREADABLE, error.strerror or "").of(name)
    except HeaderError as error:
        yield Unusable(Decline.INDEX_DAMAGED, error.message).of(path)


class _Media:
    """The folder of a DICOMDIR. File IDs are in capitals (DICOM PS3.10 8.5); a copy may have them in small letters."""

    def __init__(self, folder: str) -> None:
        self._folder = folder or "."
        self._names: dict[str, dict[str, list[str]]] = {}

    def candidate(self, file_id: FileId) -> Candidate:
        """The file with this ID. Raises `Unusable`, OSError."""
        if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in file_id):
            raise Unusable(Decline.INDEX_OUTSIDE)
        path = self._folder
        status = os.lstat(path)
        for part in file_id:
            path, status = self._step(path, part)
            if stat.S_ISLNK(status.st_mode):
                raise Unusable(Decline.LINK)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable(Decline.NOT_A_FILE)
        return _candidate(path if self._folder != "." else path.removeprefix("./"), status)

    def _step(self, folder: str, part: str) -> tuple[str, os.stat_result]:
        try:
            path = os.path.join(folder, part)
            return path, os.lstat(path)
        except FileNotFoundError:
            alike = self._alike(folder).get(part.casefold(), [])
            if len(alike) != 1:
                raise Unusable(Decline.MISSING) from None
            path = os.path.join(folder, alike[0])
            return path, os.lstat(path)

    def _alike(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder by what they are in small letters."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            with os.scandir(folder) as found:
                for each in found:
                    names.setdefault(each.name.casefold(), []).append(each.name)
            self._names[folder] = names
        return self._names[folder]
