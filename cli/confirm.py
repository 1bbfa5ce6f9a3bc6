"""Asking before something is done that a person should mean."""

import sys

from archive.errors import Refused, UsageError
from cli import render


def can_ask() -> bool:
    """Whether a person sits there: both to be asked and to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, is_agreed: bool, cost: str = "") -> None:
    """Return when the person agreed: by ``--yes``, or by typing ``y`` on a terminal.

    Parameters
    ----------
    cost
        What it costs, told before the question.

    Raises
    ------
    UsageError
        Not on a terminal, and no ``--yes``.
    Refused
        The answer was no.
    """
    if is_agreed:
        return
    if not can_ask():
        raise UsageError(f"{question} Not on a terminal, so nobody can be asked.", hint="add --yes")
    if cost:
        render.say(cost)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("Nothing was done.", hint="add --yes to agree beforehand")
