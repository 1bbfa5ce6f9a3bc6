"""The driver's side of `shim.c`: compiled once, armed and read while a process runs."""

import atexit
import errno
import functools
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).with_name("shim.c")
_NUMBERS: Final = struct.Struct("=9q")
_TEXTS: Final = struct.Struct("=32s224s")
_SIZE: Final = _NUMBERS.size + _TEXTS.size
_COUNT, _AT, _ERROR, _STICKY, _HITS, _COUNTING, _HANG, _CLOCK_STEP = range(8)
_SEQUENCE_AT: Final = 8 * 8
KILL: Final = "kill"
"""SIGKILL to the process that makes the call."""

CRASH: Final = "crash"
"""SIGKILL to the whole node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is to happen at call number `at` (from 1) of those of this kind whose path has `path` in it.

    `action` is the name of an errno, ``kill`` or ``crash``; with `is_sticky` every later one fails too, with
    `is_the_end` every later call with such a path, of any kind.
    """

    at: int
    action: str
    kind: str = ""
    path: str = ""
    is_sticky: bool = False
    is_the_end: bool = False

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.kind, self.path))) or "call"
        return f"{self.action} at {what} {self.at}{' and after' if self.is_sticky else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as the shim wrote it down; `began` and `ended` count over all processes, `error` is 0 or an errno."""

    began: int
    ended: int
    kind: str
    error: int
    inode: str
    size: int
    path: str
    path2: str
    data: bytes


class Shim:
    """One control file and one log, for the processes that are started with `environment`."""

    def __init__(self, folder: Path, root: Path) -> None:
        control = folder / "shim-control"
        control.write_bytes(bytes(_SIZE))
        self.log = folder / "shim-log"
        with control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self.environment = {
            "LD_PRELOAD": str(library()),
            "SHIM_CONTROL": str(control),
            "SHIM_ROOT": str(root),
            "SHIM_LOG": str(self.log),
        }

    def begin(self, fault: Fault | None = None) -> None:
        """Forget what was written down, and count from now on; with `fault`, arm it."""
        self.log.write_bytes(b"")
        self._memory[:] = bytes(_SIZE)
        self.arm(fault)

    def arm(self, fault: Fault | None) -> None:
        """Count from 0, what `fault` names, and let it happen."""
        self._memory[:_SEQUENCE_AT] = bytes(_SEQUENCE_AT)
        self._memory[_NUMBERS.size :] = bytes(_TEXTS.size)
        if fault is not None:
            number = {KILL: 0, CRASH: -1}.get(fault.action)
            number = getattr(errno, fault.action) if number is None else number
            self._memory[_NUMBERS.size :] = _TEXTS.pack(fault.kind.encode(), fault.path.encode())
            self._set(_ERROR, number)
            self._set(_STICKY, 2 if fault.is_the_end else int(fault.is_sticky))
            self._set(_AT, fault.at)
        self._set(_COUNTING, 1)

    def end(self) -> None:
        """Count no more, and let nothing fail."""
        for field in (_AT, _COUNTING, _HANG, _CLOCK_STEP):
            self._set(field, 0)

    def hang(self, seconds: float) -> None:
        """Let every sync take so long from now on; 0 ends it for those that come then."""
        self._set(_HANG, int(seconds * 1e6))

    def step_the_clock(self, seconds: float) -> None:
        """Set the wall clock of the process by so much."""
        self._set(_CLOCK_STEP, int(seconds * 1e6))

    @property
    def count(self) -> int:
        """How many calls were counted."""
        return self._get(_COUNT)

    @property
    def hits(self) -> int:
        """How many calls were made to fail."""
        return self._get(_HITS)

    def calls(self) -> list[Call]:
        """What was written down, in the order in which the calls ended."""
        calls = []
        whole, _, _ = self.log.read_text().rpartition("\n")  # a process may be writing a line just now
        for line in whole.splitlines():
            began, ended, kind, error, inode, size, path, path2, *data = line.split(" ")
            calls.append(
                Call(
                    began=int(began), ended=int(ended), kind=kind, error=int(error), inode=inode, size=int(size),
                    path=path, path2=path2, data=bytes.fromhex(data[0] if data else ""),
                )
            )  # fmt: skip
        return sorted(calls, key=lambda call: call.ended)

    def _set(self, field: int, value: int) -> None:
        struct.pack_into("=q", self._memory, 8 * field, value)

    def _get(self, field: int) -> int:
        return int(struct.unpack_from("=q", self._memory, 8 * field)[0])


@functools.cache
def library() -> Path:
    """The compiled shim; it goes with the process that compiled it."""
    folder = Path(tempfile.mkdtemp(prefix="prearc-shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return built


@functools.cache
def why_unavailable() -> str:
    """Why this machine cannot make calls fail; empty when it can."""
    if shutil.which("gcc") is None:
        return "the shim needs gcc"
    try:
        env = {**os.environ, "LD_PRELOAD": str(library())}
        subprocess.run(["true"], env=env, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the shim cannot be compiled or loaded: {getattr(error, 'stderr', '') or error}"
    return ""


def require_shim() -> None:
    """Skip the calling test, loudly, where calls cannot be made to fail."""
    if reason := why_unavailable():
        warnings.warn(f"FAILING CALLS WERE NOT TESTED: {reason}", stacklevel=2)
        pytest.skip(f"FAILING CALLS WERE NOT TESTED: {reason}")
