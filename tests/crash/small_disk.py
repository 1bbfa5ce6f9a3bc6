"""A small real disk: an ext4 image on a loop device that runs out of bytes or inodes, or is made read-only."""

import functools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def ext4(folder: Path, *, megabytes: int, inodes: int | None = None) -> Iterator[Path]:
    """A mounted ext4 of this size, made read-only by the kernel at its first error; gone afterwards."""
    image, mount_point = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    how = ["-q", "-F", "-E", "nodiscard"] + (["-N", str(inodes)] if inodes else [])
    subprocess.run(["mkfs.ext4", *how, str(image)], check=True, capture_output=True)
    mount_point.mkdir()
    options = "loop,errors=remount-ro"
    subprocess.run(
        ["mount", "-t", "ext4", "-o", options, str(image), str(mount_point)], check=True, capture_output=True
    )
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True, capture_output=True)


def break_it(mount_point: Path) -> None:
    """Let the kernel meet an error of the file system: from now on every write is EROFS."""
    device = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", str(mount_point)], check=True, capture_output=True, text=True
    ).stdout.strip()
    trigger = Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error")
    if not os.access(trigger, os.W_OK):
        pytest.skip(f"AN ERROR OF A REAL DISK WAS NOT TESTED: {trigger} cannot be written here")
    trigger.write_text("prearc test\n")


@functools.cache
def why_unavailable() -> str:
    """Why this machine cannot have such a disk; empty when it can: one was mounted."""
    if os.geteuid() != 0:
        return "loop devices need root"
    if missing := [tool for tool in ("mkfs.ext4", "mount", "umount", "findmnt") if shutil.which(tool) is None]:
        return f"a disk needs {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with ext4(Path(folder), megabytes=8):
                return ""
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no ext4 can be mounted: {getattr(error, 'stderr', '') or error}"


def require_small_disk() -> None:
    """Skip the calling test, loudly, where no disk can be made."""
    if reason := why_unavailable():
        warnings.warn(f"REAL DISKS WERE NOT TESTED: {reason}", stacklevel=2)
        pytest.skip(f"REAL DISKS WERE NOT TESTED: {reason}")
