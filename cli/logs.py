"""The node's log: one line a fact on stderr, key=value or JSON, every value escaped."""

import sys
from collections.abc import MutableMapping
from typing import Any

from cli.render import escape


class _Stderr:
    """stderr that never raises: a log reader that went away must not fail the store of an instance."""

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


def configure(*, is_json: bool, is_verbose: bool) -> None:
    """Set up structlog for this process; DEBUG with `is_verbose`."""
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
            structlog.processors.format_exc_info,
            escaped,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if is_verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def escaped(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no value breaks its line or steers a terminal."""
    for name, value in facts.items():
        if value is not None and not isinstance(value, bool | int | float):
            facts[name] = escape(value)
    return facts
