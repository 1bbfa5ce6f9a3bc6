"""One root folder: its layout, its preparation and what makes it unusable."""

import os
import uuid
from pathlib import Path
from typing import Final

from archive.errors import RootError
from archive.store import files
from archive.store.locks import Locks

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
CATALOGUE_NAME: Final = "catalogue.sqlite3"
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

    def close(self) -> None:
        """Let the folder go; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def free_bytes(self) -> int:
        """Bytes an unprivileged process can still write."""
        facts = os.fstatvfs(self.fd)
        return facts.f_bavail * facts.f_frsize

    def total_bytes(self) -> int:
        """Size of the file system."""
        facts = os.fstatvfs(self.fd)
        return facts.f_blocks * facts.f_frsize

    def probe(self, folder: str = "spool") -> None:
        """Write, sync, read back and remove a file; raises OSError when the store does not hold what it is given."""
        name, token = f"{folder}/.probe-{uuid.uuid4().hex}", uuid.uuid4().bytes
        files.write_atomically(self.fd, name, token)
        fd = files.open_file(self.fd, name)
        try:
            if os.read(fd, 64) != token:
                raise OSError("what was written is not what was read")
        finally:
            os.close(fd)
            files.unlink(self.fd, name)


def prepare(path: Path, *, allow_remote: bool = False) -> Root:
    """Make the folders of a root, check it, and open it.

    Raises
    ------
    RootError
        Not writable, spread over several file systems (links would fail), or on a network file system
        (flock and fsync there do not mean what durability needs).
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        root = Root(path.resolve())
        for folder in FOLDERS:
            files.make_folder(root.fd, folder)
        os.fsync(root.fd)
        files.sync_path(root.path.parent)
        root.probe()
    except OSError as error:
        raise RootError(
            f"The root {path} is not writable: {error.strerror or error}.",
            hint="prearc --root DIR serve, or mend the folder's owner and mode",
        ) from None
    devices = {folder: (root.path / folder).stat().st_dev for folder in FOLDERS}
    if len(set(devices.values())) > 1:
        home = root.path.stat().st_dev
        foreign = ", ".join(sorted(name for name, device in devices.items() if device != home))
        raise RootError(
            f"The root {path} is spread over two file systems: {foreign} is on another one. "
            "Files are linked from folder to folder, so all must be on one.",
            hint="mount one file system at the root itself",
        )
    kind = _file_system(root.path)
    if kind in _REMOTE and not allow_remote:
        raise RootError(f"The root {path} is on {kind}; locks and fsync do not hold there.", hint="use a local disk")
    return root


def open_existing(path: Path) -> Root:
    """Open a root that a node made; the commands of an administrator never make one by accident.

    Raises
    ------
    RootError
        There is no catalogue at this path.
    """
    if not (path / CATALOGUE_NAME).exists():
        raise RootError(f"There is no prearc root at {path}.", hint=f"prearc --root {path} serve   (makes one)")
    return Root(path.resolve())


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
