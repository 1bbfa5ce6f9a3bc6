"""Other people's DICOM programs: found on PATH, run to their end, their output kept for the failure message."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

RUN_SECONDS: Final = 90.0
FIRST_PORT: Final = 20_000
PACKAGES: Final = {"gdcmscu": "libgdcm-tools", "Orthanc": "orthanc", "node": "nodejs"}
"""Debian's package of a program; what is not listed is DCMTK's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended. Its exit code proves nothing: some end with 0 when nothing was stored."""

    command: tuple[str, ...]
    code: int
    output: str

    def __str__(self) -> str:
        return f"{' '.join(self.command)} -> {self.code}\n{self.output}"


def need(*programs: str) -> None:
    """Skip the test, and say what to install, when a program is not there."""
    for program in programs:
        if find(program) is None:
            package = PACKAGES.get(program, "dcmtk")
            pytest.skip(f"NO {program}: apt-get install {package} to try prearc against it")


def find(program: str) -> str | None:
    """Where a program is; daemons live in sbin, which is not on everybody's PATH."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def run(program: str, *arguments: str | int | Path, timeout_seconds: float = RUN_SECONDS) -> Ran:
    """Run a program to its end; skips the test where it is not installed.

    Raises
    ------
    subprocess.TimeoutExpired
        It did not end; it was killed.
    """
    need(program)
    command = (program, *(str(each) for each in arguments))
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_seconds,
        check=False,
    )
    return Ran(command=command, code=ended.returncode, output=ended.stdout.decode("utf-8", "replace"))


def free_port() -> int:
    """A port that is free now, for programs that cannot be told to take any.

    It is none of those that the kernel gives to whoever asks for any port, as everything else here does: nobody takes
    it before the program does.
    """
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    others = range(FIRST_PORT, given)
    for port in (*random.SystemRandom().sample(others, k=min(100, len(others))), 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as free:
            return int(free.getsockname()[1])
    raise AssertionError("no port is free")


def listens(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
