"""The node's log: one line a fact on stderr, key=value or JSON, every value escaped."""

import os
import sys
from collections.abc import MutableMapping
from typing import Any

from cli.render import escape


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

    renderer = (
        structlog.processors.JSONRenderer()
        if is_json
        else structlog.processors.LogfmtRenderer(
            key_order=("timestamp", "level", "event"), drop_missing=True, bool_as_flag=False
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *((_with_process,) if names_process else ()),
            structlog.processors.format_exc_info,
            escaped,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=_Stderr()),  # type: ignore[arg-type]
    )


def _with_process(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: who writes; asked each time, because processes fork."""
    facts["pid"] = os.getpid()
    return facts


def escaped(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no value breaks its line or steers a terminal."""
    for name, value in facts.items():
        if value is not None and not isinstance(value, bool | int | float):
            facts[name] = escape(value)
    return facts
