"""Free space: the water marks of bytes and inodes, and what instances on their way in will still need.

Between low and high water nothing changes: what was refused stays refused until the higher mark is reached, so that
a node does not open and close by the second. A C-STORE does not say how large it is, so every part covers what it
has with as much again, in steps; a part that gets no more is refused while the disk still has room for the database.
"""

import threading
from typing import Final

from archive.config import NodeSettings
from archive.errors import OutOfSpace
from archive.store import ballast
from archive.store.parts import Part
from archive.store.root import Root

FIRST_STEP_BYTES: Final = 1 << 20
"""What every part is granted at once; most instances never ask again."""

LONGEST_STEP_BYTES: Final = 64 << 20
_AMPLE_BYTES: Final = 1 << 30
"""So much above the low water no first step of anybody needs a look of its own."""

_DEFAULT_LOW_INODES: Final = 10_000


class Space:
    """The file system of the root or of one of its folders, as one process sees it; thread-safe."""

    def __init__(self, root: Root, settings: NodeSettings, place: str = "") -> None:
        self._root, self._settings, self._place = root, settings, place
        self._guard = threading.Lock()
        self._granted: dict[Part, int] = {}
        self._is_short = self._is_ample = False
        self._floor_bytes = water_marks(root, settings, place)[0] // 2
        """What no part gets any more; known anew with every look."""

    @property
    def in_flight_bytes(self) -> int:
        """What was granted to open parts and is not written yet."""
        with self._guard:
            return self._promised()

    def shortage(self) -> str | None:
        """Why nothing may be begun now: too few bytes or inodes; None when there is enough."""
        try:
            low, high = water_marks(self._root, self._settings, self._place)
            self._floor_bytes = low // 2
            free = self._root.free_bytes(self._place) - self.in_flight_bytes
            inodes, all_inodes = self._root.inodes(self._place)
        except OSError as error:
            return f"the disk does not answer: {error.strerror}"
        reason = None
        mark = high if self._is_short else low
        if free < mark:
            reason = f"free space {max(0, free)} bytes is below {mark} bytes{self._where}"
        low_inodes = low_water_inodes(self._settings, all_inodes)
        inode_mark = 2 * low_inodes if self._is_short else low_inodes
        if reason is None and all_inodes and inodes < inode_mark:
            reason = f"{inodes} free inodes are below {inode_mark}{self._where}"
        self._is_short = reason is not None
        self._is_ample = reason is None and free - low >= _AMPLE_BYTES
        if reason is None:
            self._set_ballast_aside(free, low, high)
        return reason

    def cover(self, part: Part) -> int:
        """Grant `part` the space for what it has and for some more; the size in bytes it is covered up to.

        Raises
        ------
        OutOfSpace
            There is no more but what is kept for the database, half the low water.
        """
        with self._guard:
            if self._is_ample and part not in self._granted and part.size_bytes <= FIRST_STEP_BYTES:
                self._granted[part] = FIRST_STEP_BYTES
                return FIRST_STEP_BYTES
            granted = self._granted.pop(part, 0)
            available = self._free_bytes() - self._promised() - self._floor_bytes
            needed = part.size_bytes - granted
            if available < needed:
                raise OutOfSpace("The disk has no room for the rest of this instance.", hint="prearc status")
            wanted = min(max(part.size_bytes, FIRST_STEP_BYTES), LONGEST_STEP_BYTES)
            self._granted[part] = granted + max(needed, min(wanted, available))
            return self._granted[part]

    def forget(self, part: Part) -> None:
        """The part is closed: what it was granted and did not need is free for others."""
        with self._guard:
            self._granted.pop(part, None)

    @property
    def _where(self) -> str:
        return f" in {self._place}/" if self._place else ""

    def _promised(self) -> int:
        return sum(max(0, granted - part.size_bytes) for part, granted in self._granted.items())

    def _free_bytes(self) -> int:
        try:
            return self._root.free_bytes(self._place)
        except OSError as error:
            raise OutOfSpace(f"The disk does not answer: {error.strerror}.", hint="prearc status") from error

    def _set_ballast_aside(self, free: int, low: int, high: int) -> None:
        size = ballast.wanted_bytes(self._settings.ballast_bytes, low)
        if self._place or not size or free - size < high:
            return
        try:
            ballast.fill(self._root.fd, size)
        except OSError:
            pass  # somebody was faster; the next look tries again


def water_marks(root: Root, settings: NodeSettings, place: str = "") -> tuple[int, int]:
    """(low, high) water in bytes: as configured, or 1 GiB but at most 1 % of the disk, and twice that."""
    low, high = root.low_water_bytes(settings.low_water_bytes, place), settings.high_water_bytes
    return low, max(low, 2 * low if high is None else high)


def low_water_inodes(settings: NodeSettings, all_inodes: int) -> int:
    """Free inodes below which nothing is taken: as configured, or 10 000 but at most 1 % of the file system's."""
    configured = settings.low_water_inodes
    return min(_DEFAULT_LOW_INODES, all_inodes // 100) if configured is None else configured
