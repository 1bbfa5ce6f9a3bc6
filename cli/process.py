"""prearc as a child of prearc: how it is started."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_HOME: Final = Path(__file__).resolve().parents[1]


def command(*arguments: str) -> list[str]:
    """The command line of a child: this interpreter, our own packages, never those of the working directory."""
    return [sys.executable, "-P", "-m", "cli", *arguments]


def environment(inherited: Mapping[str, str], *, without: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a child: the inherited one, our packages findable, some variables left out."""
    kept = {name: value for name, value in inherited.items() if name not in without}
    path = kept.get("PYTHONPATH", "")
    if str(_HOME) not in path.split(os.pathsep):
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_HOME), path)))
    return kept
