"""The commands that are told go to the root and the configuration that were typed."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_VALUES: Final = ("--root", "--config")
_VERBS: Final = (
    "session|conflict|route|receiver|sender|config|audit|survey|mitigate|serve|status|import|demo|doctor|verify|trace"
)
_COMMAND: Final = re.compile(rf"(?<![^\s(`'])prearc (?=(?:{_VERBS})(?![\w.-]))")
_typed: ContextVar[str] = ContextVar("typed", default="")


@contextmanager
def told_with(options: Sequence[str]) -> Iterator[None]:
    """While the block runs, commands are told with those of the global `options` that say where."""
    token = _typed.set(_stated(options))
    try:
        yield
    finally:
        _typed.reset(token)


def addressed(text: str) -> str:
    """`text` with every ``prearc VERB`` in it as it has to be typed; doing it twice changes nothing."""
    typed = _typed.get()
    return _COMMAND.sub(lambda _: f"prearc {typed} ", text) if typed and "prearc " in text else text


def _stated(options: Sequence[str]) -> str:
    found: dict[str, str] = {}
    waiting = list(options)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if name in _VALUES and (equals or waiting):
            found[name] = value if equals else waiting.pop(0)
    return " ".join(f"{name} {shlex.quote(found[name])}" for name in _VALUES if name in found)
