"""Reading one file for a survey: what it is, who it is, and the name it should have. Nothing here writes.

A file costs an `openat`, an `fstat`, a `pread` and a `close`, unless its digests are wanted. Its access time is left
alone where the system allows that.
"""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from archive.attributes import HEADER_TAGS, KEYWORD_TAGS
from archive.errors import HeaderError
from archive.instance_header import InstanceHeader
from archive.rules.header import DEFAULT_LIMITS, FileMeta, HeaderLimits, ReadAt, file_reader, read_file_header
from archive.rules.header_series import SeriesReader
from archive.rules.naming import Namer, NameTemplate
from archive.rules.schemes import discloses, scheme_of
from archive.store import files

WINDOW_BYTES: Final = 1 << 14
QUICK_FROM_FILES: Final = 4
"""Of so many files in one folder it pays to learn how they are made."""

MISSES: Final = 8
"""After so many files one after the other that it was no use for it is given up for the folder."""

_SOP_CLASS_UID: Final = KEYWORD_TAGS["SOPClassUID"]
_SOP_INSTANCE_UID: Final = KEYWORD_TAGS["SOPInstanceUID"]
_PIECE_BYTES: Final = 1 << 20
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SHOWN: Final = frozenset(
    KEYWORD_TAGS[keyword]
    for keyword in (
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyDate",
        "Modality",
        "StudyDescription",
        "SeriesDescription",
        "PatientName",
        "PatientID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "InstanceNumber",
    )
)
"""What schemes and disclosures are judged by."""

_IDENTITY: Final = frozenset(
    KEYWORD_TAGS[keyword] for keyword in ("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID")
)

NOT_FILES: Final[Mapping[int, str]] = MappingProxyType(
    {
        stat.S_IFLNK: "It is a symbolic link, which is not followed.",
        stat.S_IFIFO: "It is a FIFO.",
        stat.S_IFSOCK: "It is a socket.",
        stat.S_IFCHR: "It is a device.",
        stat.S_IFBLK: "It is a device.",
        stat.S_IFDIR: "It is a folder.",
    }
)


_SHORT: Final = 6


class Reading(NamedTuple):
    """What reading one file gave; the fields are those of `FileFacts`, and the tuple travels between processes."""

    size_bytes: int | None = None
    mtime_ns: int = 0
    inode: int = 0
    fault: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    expected_name: str = ""
    scheme: str = ""
    discloses: tuple[str, ...] = ()
    dataset_sha256: str = ""
    file_sha256: str = ""


def row_of(reading: Reading, name: str) -> tuple[Any, ...]:
    """A reading as it travels between processes: of the many files that are as their name says without what is empty.

    `reading_of` is the inverse.
    """
    if reading[7] == name and not reading[10]:
        return reading[:3] + reading[4:7]
    return reading


def reading_of(row: Sequence[Any], path: str) -> Reading:
    """The reading of the file at `path`. Raises `TypeError` or `ValueError` for what is none."""
    if len(row) == _SHORT:
        return Reading(row[0], row[1], row[2], "", row[3], row[4], row[5], path.rpartition("/")[2])
    [*fields] = row
    fields[9] = tuple(fields[9])
    return Reading._make(fields)


_NOTHING_KNOWN: Final = Reading(size_bytes=0)


class FileReader:
    """Reads files one by one, for one template."""

    __slots__ = ("_first_tags", "_folder", "_is_quick", "_limits", "_misses", "_namer", "_quick", "_template")

    def __init__(self, template: NameTemplate, limits: HeaderLimits = DEFAULT_LIMITS) -> None:
        self._template = template
        self._limits = limits
        self._first_tags = _IDENTITY | (template.all_tags & HEADER_TAGS.keys())
        self._namer = Namer(template)
        self._quick = SeriesReader(_SHOWN | template.all_tags, limits)
        self._folder = ""
        self._is_quick = False
        self._misses = 0

    def enter(self, folder: str, files: int) -> None:
        """So many files of a folder follow."""
        if folder == self._folder and self._is_quick:
            return
        self._folder = folder
        self._is_quick = files >= QUICK_FROM_FILES
        self._misses = 0
        self._quick.next_folder()

    def read(self, folder_fd: int, name: str, *, with_digests: bool = False) -> Reading:
        """Read one file of an open folder, all its bytes when digests are wanted.

        Every trouble is a `fault`. Without a file `size_bytes` is None.
        """
        try:
            fd = open_unseen(folder_fd, name)
        except FileNotFoundError:
            return Reading()
        except (OSError, ValueError) as error:
            return _closed(folder_fd, name, error)
        facts = _NOTHING_KNOWN
        try:
            status = os.fstat(fd)
            if self._is_quick and not with_digests and stat.S_ISREG(status.st_mode):
                if quick := self._read_quick(fd, name, status):
                    self._misses = 0
                    return quick
                self._misses += 1
                self._is_quick = self._misses < MISSES
            facts = Reading(status.st_size, status.st_mtime_ns, status.st_ino)
            if not stat.S_ISREG(status.st_mode):
                return facts._replace(fault=kind_fault(status.st_mode))
            return self._read(fd, file_reader(fd, WINDOW_BYTES), name, facts, with_digests=with_digests)
        except OSError as error:
            return facts._replace(fault=f"It cannot be read: {os.strerror(error.errno or 0)}.")
        finally:
            os.close(fd)

    def _read_quick(self, fd: int, name: str, status: os.stat_result) -> Reading | None:
        """An ordinary file; None of any other, also of what cannot be read."""
        try:
            header = self._quick.read(os.pread(fd, WINDOW_BYTES, 0), status.st_size, partial(_pread, fd))
        except OSError:
            return None
        if header is None:
            return None
        syntax, _, texts = header
        sop_class_uid, sop_instance_uid = texts.get(_SOP_CLASS_UID), texts.get(_SOP_INSTANCE_UID)
        if not sop_class_uid or not sop_instance_uid:
            return None
        expected = self._namer.name_of(texts)
        facts = status.st_size, status.st_mtime_ns, status.st_ino
        found = Reading(*facts, "", sop_class_uid, sop_instance_uid, syntax, expected)
        if name == expected:
            return found
        fields: dict[str, Any] = {HEADER_TAGS[tag]: text for tag, text in texts.items() if tag in HEADER_TAGS}
        whole = InstanceHeader(transfer_syntax_uid=syntax, **fields)
        return found._replace(scheme=scheme_of(name, whole), discloses=discloses(name, whole, expected))

    def _read(self, fd: int, read_at: ReadAt, name: str, facts: Reading, *, with_digests: bool) -> Reading:
        template, tags, size_bytes = self._template, self._first_tags, facts.size_bytes or 0
        try:
            meta, header = self._header(read_at, size_bytes, tags)
        except HeaderError as error:
            fault = error.message if size_bytes else "The file is empty."
            return facts._replace(fault=fault, file_sha256=_digests(fd, None)[0] if with_digests else "")
        if with_digests:
            file_sha256, dataset_sha256 = _digests(fd, meta)
            facts = facts._replace(file_sha256=file_sha256, dataset_sha256=dataset_sha256)
        if not header.sop_class_uid or not header.sop_instance_uid:
            absent = [each for each in header.missing if each in ("SOPClassUID", "SOPInstanceUID")]
            return facts._replace(fault=f"The file has no {' and no '.join(absent)}.")
        expected = template.name(header)
        scheme: str = ""
        disclosed: tuple[str, ...] = ()
        if name != expected:
            header = self._header(read_at, size_bytes, tags | _SHOWN)[1]
            scheme, disclosed = scheme_of(name, header), discloses(name, header, expected)
        return Reading(
            facts.size_bytes,
            facts.mtime_ns,
            facts.inode,
            "",
            header.sop_class_uid,
            header.sop_instance_uid,
            meta.transfer_syntax_uid,
            expected,
            scheme,
            disclosed,
            facts.dataset_sha256,
            facts.file_sha256,
        )

    def _header(self, read_at: ReadAt, size_bytes: int, tags: frozenset[int]) -> tuple[FileMeta, InstanceHeader]:
        return read_file_header(read_at, size_bytes, also=self._template.tags, known=tags, limits=self._limits)


def _pread(fd: int, offset: int, size: int) -> bytes:
    return os.pread(fd, size, offset)


def kind_fault(mode: int) -> str:
    """Why something that is not a regular file cannot be an instance."""
    return NOT_FILES.get(stat.S_IFMT(mode), "It is not a file.")


def open_unseen(folder_fd: int, name: str) -> int:
    """Open for reading without following a link or waiting for a FIFO, and without a trace where that is allowed."""
    try:
        return os.open(name, _OPEN | os.O_NOATIME, dir_fd=folder_fd)
    except PermissionError:  # O_NOATIME is the owner's
        return os.open(name, _OPEN, dir_fd=folder_fd)


def open_file_unseen(root_fd: int, relative: str) -> int:
    """`files.open_file` without a trace; raises `OSError`."""
    folder, name = files.split(relative)
    with files.open_folder(root_fd, folder) as folder_fd:
        fd = open_unseen(folder_fd, name)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def _closed(folder_fd: int, name: str, error: OSError | ValueError) -> Reading:
    """What cannot be opened; a link and a socket are told by their kind."""
    reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not a name"
    fault = f"It cannot be opened: {reason}."
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return Reading()
    except (OSError, ValueError):
        return Reading(size_bytes=0, fault=fault)
    return Reading(
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        fault=NOT_FILES.get(stat.S_IFMT(status.st_mode), fault),
    )


def _digests(fd: int, meta: FileMeta | None) -> tuple[str, str]:
    """SHA-256 of all bytes, and of the dataset where there is one."""
    import hashlib  # most surveys digest nothing

    whole, dataset = hashlib.sha256(), hashlib.sha256()
    offset, start = 0, None if meta is None else meta.dataset_offset
    while piece := os.pread(fd, _PIECE_BYTES, offset):
        whole.update(piece)
        if start is not None and offset + len(piece) > start:
            dataset.update(memoryview(piece)[max(0, start - offset) :])
        offset += len(piece)
    return whole.hexdigest(), "" if start is None else dataset.hexdigest()
