"""Named places where a test may kill, fail or delay the process; nothing happens unless armed.

Names are the steps of a store (``P1`` .. ``P8``), of recovery (``R_`` and what it looks at), and of an operation in
the journal: its phases ``PLANNED``, ``PLACED``, ``COMMITTED``, ``DERIVED`` and ``CLEANED``, and each item on its way,
``PLACE_ITEM``, ``COPIED`` (a copy is on the disk and has no name), ``SWAP_ITEM``, ``CLEAN_ITEM``, ``TAKE_BACK_ITEM``;
of a survey ``SURVEY_CLAIMED``, ``SURVEY_FILES`` and ``SURVEY_READ``; of a mitigation ``BACKED_UP``; of a
verification ``VERIFY_FILE``, ``VERIFY_READ`` and ``VERIFY_KEPT``.
A caller at the edge arms them from a specification such as
``P3=kill@2,P5=errno:ENOSPC,P7=sleep:0.2``; this module never looks for one itself.
"""

import errno
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from archive.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failpoint:
    """What happens at one name; `only_hit` None is every hit, else that one, counted from 1."""

    act: Callable[[], None]
    only_hit: int | None


_armed: dict[str, _Failpoint] = {}
_hits: dict[str, int] = {}
_counting = threading.Lock()


def arm(spec: str) -> None:
    """Replace all armed failpoints by those of `spec`; an empty one disarms.

    `spec` is a comma-separated list of ``NAME=ACTION[@N]``: ``kill`` is SIGKILL to this process, ``crash``
    to its whole process group, as a node with all its processes is; ``errno:ENOSPC`` raises `OSError` with
    that number, ``sleep:0.2`` waits that many seconds; ``@N`` limits it to the Nth hit in each process.

    Raises
    ------
    ConfigurationError
        For every part that is not understood; nothing is armed then.
    """
    armed: dict[str, _Failpoint] = {}
    problems: list[str] = []
    for part in filter(None, (piece.strip() for piece in spec.split(","))):
        name, _, action = part.partition("=")
        try:
            armed[_checked_name(name)] = _parsed(name, action)
        except ValueError as error:
            problems.append(f"failpoint {part!r}: {error}")
    if problems:
        raise ConfigurationError(problems, hint="NAME=kill|crash|errno:NAME|sleep:SECONDS, each with @N if wanted")
    with _counting:
        _hits.clear()
        _armed.clear()
        _armed.update(armed)


def hit(name: str) -> None:
    """Do what is armed at `name`, usually nothing.

    Raises
    ------
    OSError
        When ``errno:...`` is armed here.
    """
    if not _armed:
        return
    failpoint = _armed.get(name)
    if failpoint is None:
        return
    with _counting:
        _hits[name] = count = _hits.get(name, 0) + 1
    if failpoint.only_hit in (None, count):
        failpoint.act()


def _checked_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("the name of a step is missing")
    return name


def _parsed(name: str, action: str) -> _Failpoint:
    verb, at, count = action.partition("@")
    if at and not (count.isdecimal() and int(count) > 0):
        raise ValueError("the number after @ counts hits from 1")
    return _Failpoint(act=_action(name, verb), only_hit=int(count) if at else None)


def _action(name: str, verb: str) -> Callable[[], None]:
    kind, _, value = verb.partition(":")
    match kind:
        case "kill" if not value:
            return _kill
        case "crash" if not value:
            return _crash
        case "errno":
            return _failure(name, value)
        case "sleep":
            return _delay(value)
    raise ValueError("unknown action")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _crash() -> None:
    os.killpg(0, signal.SIGKILL)


def _failure(name: str, errno_name: str) -> Callable[[], None]:
    number = getattr(errno, errno_name, None)
    if not isinstance(number, int):
        raise ValueError("unknown errno name")

    def fail() -> None:
        raise OSError(number, f"{os.strerror(number)} (failpoint {name})")

    return fail


def _delay(seconds: str) -> Callable[[], None]:
    delay_seconds = float(seconds)
    if not (math.isfinite(delay_seconds) and delay_seconds >= 0):
        raise ValueError("a delay is a number of seconds")
    return lambda: time.sleep(delay_seconds)
