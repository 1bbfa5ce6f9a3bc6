"""Folders that are used many times a second: opened once, and used for as long as their path leads to them."""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from archive.store import files

AT_MOST: Final = 64
"""Descriptors one process keeps for this; more folders than that are opened again and again."""


@dataclass(slots=True)
class Folder:
    """An open folder; `fd` is valid for as long as somebody uses it."""

    fd: int
    identity: tuple[int, int]
    users: int = 0
    is_kept: bool = True


class OpenFolders:
    """Descriptors of folders below a root, the latest used ones kept; threads share it.

    Before each use the path is looked up once more: a folder that was renamed or removed meanwhile, or replaced by
    another one, is opened anew, as if nothing had been kept. What happens between that look and the use is what may
    happen to any descriptor: whoever files something decides by the catalogue afterwards.
    """

    def __init__(self, root_fd: int, *, at_most: int = AT_MOST) -> None:
        self.root_fd, self._at_most = root_fd, at_most
        self._folders: OrderedDict[str, Folder] = OrderedDict()
        self._guard = threading.Lock()

    def use(self, relative: str) -> "_Use":
        """The descriptor of a folder; valid inside the block.

        Raises
        ------
        OSError
            There is no such folder (FileNotFoundError), or a link is on the way to it.
        """
        return _Use(self, relative)

    def take(self, relative: str) -> Folder:
        """As `use`, until it is given back."""
        folder = self._kept(relative)
        if folder is not None:
            if self._leads_to(relative, folder):
                return folder
            with self._guard:
                if self._folders.get(relative) is folder:
                    self._forget(relative)
            self.give(folder)
        return self._open(relative)

    def take_kept(self, relative: str) -> Folder:
        """As `take`, but one that is kept is not looked up once more: for a folder that is nobody's to move. Nothing
        can be made in one that was removed all the same; `take` opens the one that is there instead."""
        return self._kept(relative) or self._open(relative)

    def give(self, folder: Folder) -> None:
        """Give back what was taken."""
        with self._guard:
            folder.users -= 1
            if not folder.users and not folder.is_kept:
                os.close(folder.fd)

    def close(self) -> None:
        """Let every descriptor go that nobody uses; those in use go with their last user."""
        with self._guard:
            for relative in list(self._folders):
                self._forget(relative)

    def _kept(self, relative: str) -> Folder | None:
        with self._guard:
            folder = self._folders.get(relative)
            if folder is not None:
                folder.users += 1
                self._folders.move_to_end(relative)
            return folder

    def _leads_to(self, relative: str, folder: Folder) -> bool:
        try:
            status = os.stat(relative, dir_fd=self.root_fd, follow_symlinks=False)
        except OSError:
            return False  # whoever opens it hears why
        return (status.st_dev, status.st_ino) == folder.identity

    def _open(self, relative: str) -> Folder:
        with files.open_folder(self.root_fd, relative) as opened:
            fd = os.dup(opened)
        status = os.fstat(fd)
        folder = Folder(fd=fd, identity=(status.st_dev, status.st_ino), users=1)
        with self._guard:
            if relative in self._folders:  # another thread was faster
                folder.is_kept = False
                return folder
            self._folders[relative] = folder
            while len(self._folders) > self._at_most:
                self._forget(next(iter(self._folders)))
        return folder

    def _forget(self, relative: str) -> None:
        folder = self._folders.pop(relative)
        folder.is_kept = False
        if not folder.users:
            os.close(folder.fd)


class _Use:
    """A folder that is taken while the block runs; no generator, as this is done several times an instance."""

    __slots__ = ("_folder", "_folders", "_relative")

    def __init__(self, folders: OpenFolders, relative: str) -> None:
        self._folders, self._relative = folders, relative

    def __enter__(self) -> int:
        self._folder = self._folders.take(self._relative)
        return self._folder.fd

    def __exit__(self, *exception: object) -> None:
        self._folders.give(self._folder)
