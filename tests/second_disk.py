"""A second file system inside a root: a small tmpfs, mounted for as long as a test lasts."""

import functools
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *, kilobytes: int = 8192, inodes: int = 2048) -> Iterator[Path]:
    """An empty file system at `folder`, which is made; gone with all it holds afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={kilobytes}k,nr_inodes={inodes},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "prearc-test", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@functools.cache
def why_unavailable() -> str:
    """Why this machine cannot mount a file system; empty when it can: one was mounted."""
    if os.geteuid() != 0:
        return "mounting needs root"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder, "disk")):
                return ""
        except (OSError, subprocess.CalledProcessError) as error:
            return f"a tmpfs cannot be mounted: {error}"


def require_second_disk() -> None:
    """Skip the calling test, loudly, where no file system can be mounted."""
    if reason := why_unavailable():
        warnings.warn(f"A SECOND FILE SYSTEM WAS NOT TESTED: {reason}", stacklevel=2)
        pytest.skip(f"A SECOND FILE SYSTEM WAS NOT TESTED: {reason}")
