"""What is a UID (DICOM PS3.5 9.1)."""

import re
from functools import lru_cache
from typing import Final

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)


def is_uid(text: str) -> bool:
    """Whether `text` is a UID (PS3.5 9.1): digits and dots, 64 at most. Leading zeros are tolerated."""
    return len(text) <= 64 and _is_dotted(text)


@lru_cache(maxsize=1024)  # the classes are few, and an instance's UID is asked for more than once
def _is_dotted(text: str) -> bool:
    return _UID.fullmatch(text) is not None
