"""A disk in memory, where there is one with room: a sync costs nothing there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
ENOUGH_BYTES: Final = 1 << 30
"""Free, for all that tests keep at a time; a container may have 64 MB."""


@contextmanager
def quick_disk(*, otherwise: Path) -> Iterator[Path]:
    """A folder that is gone afterwards; `otherwise` where there is no such disk."""
    if not _has_room():
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="prearc-test-", dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _has_room() -> bool:
    try:
        facts = os.statvfs(MEMORY)
    except OSError:
        return False
    return os.access(MEMORY, os.W_OK | os.X_OK) and facts.f_bavail * facts.f_frsize >= ENOUGH_BYTES
