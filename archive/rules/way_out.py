"""A way out of a conflict: one command, why one would type it, and what it costs."""

from dataclasses import dataclass
from typing import Final

NO_FILE_CHANGES: Final = "No file is rewritten, and it can be changed back."


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A command that works when pasted, why one would type it, and what it costs; `rank` counts from 1."""

    command: str
    why: str
    cost: str = ""
    rank: int = 0
