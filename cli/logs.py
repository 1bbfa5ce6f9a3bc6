"""The node's log: one line a fact on stderr, key=value or JSON, every value escaped."""

import os
import re
import sys
import time
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, Final

from cli.render import escape

_QUOTED: Final = re.compile('[ ="]')


class _Stderr:
    """stderr that never raises: a log reader that went away must not fail the store of an instance.

    It is given whole lines, and each is one write: lines of several processes do not run into each other.
    """

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except OSError:
            pass


def configure(level: str, *, is_json: bool = False, names_process: bool = False) -> None:
    """Set up structlog for this process; unconfigured it would print to stdout.

    Parameters
    ----------
    level
        The lowest that is printed: ``DEBUG``, ``INFO`` or ``WARNING``.
    names_process
        Each line has the pid: several processes write to the same place.
    """
    import logging

    import structlog

    structlog.configure(
        processors=[
            *((_with_process,) if names_process else ()),
            _short_of_memory,
            structlog.processors.format_exc_info,
            *((_stamped, escaped, structlog.processors.JSONRenderer()) if is_json else (logfmt,)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=_Stderr()),  # type: ignore[arg-type]
    )


def _with_process(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: who writes; asked each time, because processes fork."""
    facts["pid"] = os.getpid()
    return facts


def _short_of_memory(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no traceback of a `MemoryError`, which may be raised anywhere.

    To make one takes memory, and opens every module that it names; what cannot be closed then stays open.
    """
    if isinstance(sys.exception(), MemoryError):
        facts.pop("exc_info", None)
    return facts


def _stamped(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: how grave, and when."""
    facts["level"], facts["timestamp"] = method, _timestamp()
    return facts


def _timestamp() -> str:
    """Now, in ISO 8601, UTC, with microseconds."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def escaped(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no value breaks its line or steers a terminal."""
    for name, value in facts.items():
        if value is not None and not isinstance(value, bool | int | float):
            facts[name] = escape(value)
    return facts


def logfmt(logger: object, method: str, facts: MutableMapping[str, Any]) -> str:
    """A structlog processor: the line as key=value, as structlog's own ones would put it together, at less than half
    the cost: every association writes two."""
    event = _logfmt_value(facts.pop("event", ""))
    parts = [f"{name}={_logfmt_value(value)}" for name, value in facts.items()]
    return " ".join((f"timestamp={_timestamp()} level={method} event={event}", *parts))


def _logfmt_value(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = escape(value)
    if not _QUOTED.search(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
