"""One root folder: its layout, its preparation and what makes it unusable."""

import os
import re
import shlex
import stat
import uuid
from functools import cached_property
from pathlib import Path
from typing import Final

from archive.errors import RootError
from archive.store import files
from archive.store.catalogue.ownership import verify_ours
from archive.store.locks import Locks
from archive.store.sync_order import SyncOrder, order_for

FOLDERS: Final = (
    "spool",
    "spool/lost+found",
    "prearchive",
    "archive",
    "trash",
    "quarantine",
    "backup",
    "locks",
)
APART: Final = ("archive", "backup")
"""What may be on a file system of its own; the others give each other links and renames."""

CATALOGUE_NAME: Final = "catalogue.sqlite3"
_MOUNTED: Final = "locks/mounted-"  # and a name of `APART`: it was a file system of its own
_OF_ALL: Final = re.compile(r"node|archiver|listening|catalogue|catalogue-open|quarantine-bytes|receiver-\d+")
"""Files in ``locks/`` without which nothing can be received, whatever is wrong with one session's lock."""

_DEFAULT_LOW_BYTES: Final = 1 << 30
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p"})


class Root:
    """An opened root folder; `fd` anchors every path below it.

    Layout: ``spool/`` (parts on their way in), ``prearchive/``, ``archive/``, ``trash/``, ``quarantine/``
    (bytes that could not be understood), ``backup/``, ``locks/``, ``catalogue.sqlite3``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise RootError(
                f"The root {path} cannot be opened: {error.strerror}.", hint="prearc --root DIR status"
            ) from None
        self.locks = Locks(path / "locks")

    @property
    def catalogue_path(self) -> Path:
        return self.path / CATALOGUE_NAME

    @cached_property
    def sync_order(self) -> SyncOrder:
        """How new files become durable here."""
        return order_for(self.path)

    def close(self) -> None:
        """Let the folder go; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def free_bytes(self, place: str = "") -> int:
        """Bytes an unprivileged process can still write, at the root or in one of its folders."""
        facts = self._facts(place)
        return facts.f_bavail * facts.f_frsize

    def total_bytes(self, place: str = "") -> int:
        """Size of the file system of the root or of one of its folders."""
        facts = self._facts(place)
        return facts.f_blocks * facts.f_frsize

    def is_read_only(self, place: str = "") -> bool:
        """Whether that file system takes no writes at all, as after an error of the disk."""
        return bool(self._facts(place).f_flag & os.ST_RDONLY)

    def inodes(self, place: str = "") -> tuple[int, int]:
        """(free, all) inodes of that file system; (0, 0) where it makes them as they are needed."""
        facts = self._facts(place)
        return facts.f_favail, facts.f_files

    def low_water_bytes(self, configured: int | None, place: str = "") -> int:
        """What is kept free: as configured, or 1 GiB but at most 1 % of the file system."""
        return min(_DEFAULT_LOW_BYTES, self.total_bytes(place) // 100) if configured is None else configured

    def apart(self) -> tuple[str, ...]:
        """Those of `APART` that are on a file system of their own now."""
        home = os.fstat(self.fd).st_dev
        return tuple(place for place in APART if os.stat(place, dir_fd=self.fd).st_dev != home)

    def not_mounted(self) -> tuple[str, ...]:
        """Those of `APART` that were on a file system of their own and are not: whatever is there now is not it."""
        apart = self.apart()
        return tuple(place for place in APART if place not in apart and files.status(self.fd, _MOUNTED + place))

    def _facts(self, place: str) -> os.statvfs_result:
        if not place:
            return os.fstatvfs(self.fd)
        with files.open_folder(self.fd, place) as fd:
            return os.fstatvfs(fd)

    def probe(self, folder: str = "spool") -> None:
        """Write, sync, read back and remove a file; raises OSError when the store does not hold what it is given."""
        name, token = f"{folder}/.probe-{uuid.uuid4().hex}", uuid.uuid4().bytes
        files.write_atomically(self.fd, name, token)
        try:
            fd = files.open_file(self.fd, name)
            try:
                if os.read(fd, 64) != token:
                    raise OSError("what was written is not what was read")
            finally:
                os.close(fd)
        finally:
            files.unlink(self.fd, name)


def prepare(path: Path, *, allow_remote: bool = False) -> Root:
    """Make the folders of a root, check it, and open it.

    Raises
    ------
    RootError
        Another program's database is where the catalogue would be; not writable; spread over several file systems in
        another way than `APART` allows (links would fail); one of those is not mounted; something else is where the
        node's own locks are; or on a network file system (flock and fsync there do not mean what durability needs).
    """
    verify_ours(path / CATALOGUE_NAME)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        root = Root(path.resolve())
        for folder in FOLDERS:
            files.make_folder(root.fd, folder)
        os.fsync(root.fd)
        files.sync_path(root.path.parent)
        for place in ("spool", *root.apart()):
            root.probe(place)
    except OSError as error:
        raise RootError(
            f"The root {path} is not writable: {error.strerror or error}.",
            hint="prearc --root DIR serve, or mend the folder's owner and mode",
        ) from None
    _verify_locks(root)
    _verify_spread(root)
    _verify_mounted(root)
    for place in root.apart():
        files.write_atomically(root.fd, _MOUNTED + place, b"")
    for path in (root.path, *(root.path / place for place in root.apart())):
        kind = _file_system(path)
        if kind in _REMOTE and not allow_remote:
            raise RootError(f"{path} is on {kind}; locks and fsync do not hold there.", hint="use a local disk")
    return root


def open_existing(path: Path) -> Root:
    """Open a root that a node made; the commands of an administrator never make one by accident.

    Raises
    ------
    RootError
        There is no catalogue at this path, or it is another program's; a part of the root is gone or not mounted.
    """
    where = shlex.quote(str(path))
    if not (path / CATALOGUE_NAME).exists():
        if (path / "archive").is_dir() and (path / "locks").is_dir():
            raise RootError(
                f"The catalogue of the root {path} is gone; its archive is there.",
                hint=f"prearc --root {where} doctor --rebuild   (makes it again from the files)",
            )
        raise RootError(f"There is no prearc root at {path}.", hint=f"prearc --root {where} serve   (makes one)")
    verify_ours(path / CATALOGUE_NAME)
    for place in APART:
        if not (path / place).is_dir():
            raise RootError(
                f"The root {path} is not whole: it has no {place}/.", hint=f"bring {path / place} back, or mount it"
            )
    root = Root(path.resolve())
    _verify_mounted(root)
    return root


def _verify_locks(root: Root) -> None:
    for path in filter(lambda each: _OF_ALL.fullmatch(each.name), (root.path / "locks").iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode):
            hint = f"rm -d {shlex.quote(str(path))}"
            raise RootError(f"{path} is no file: something else is where the node has a lock.", hint=hint)


def _verify_spread(root: Root) -> None:
    """Links and renames lead from spool to prearchive to trash and quarantine, and locks are where the catalogue is."""
    home = root.path.stat().st_dev
    foreign = [name for name in FOLDERS if name not in APART and (root.path / name).stat().st_dev != home]
    if foreign:
        raise RootError(
            f"The root {root.path} is spread over several file systems: {', '.join(sorted(foreign))} is on another one."
            f" Only {' and '.join(f'{name}/' for name in APART)} may be; between the others files are linked.",
            hint="mount one file system at the root itself, and others at archive/ and backup/ alone",
        )


def _verify_mounted(root: Root) -> None:
    for place in root.not_mounted():
        raise RootError(
            f"{root.path / place} was a file system of its own and is not mounted.",
            hint=f"mount it; if it is to be a plain folder from now on: rm {root.path / _MOUNTED}{place}",
        )


def _file_system(path: Path) -> str:
    """The kind of the file system at `path` from /proc/self/mounts; "" when unknown."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    text = f"{path}/"
    for line in lines:
        fields = line.split(" ")
        mount = fields[1].replace("\\040", " ").rstrip("/") + "/"
        if text.startswith(mount) and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind
