"""Other people's DICOM programs: found on PATH, run to their end, their output kept for the failure message."""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

RUN_SECONDS: Final = 40.0
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


def free_ports(count: int) -> Sequence[int]:
    """Ports that are free now, for programs that cannot be told to take any."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listens(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
