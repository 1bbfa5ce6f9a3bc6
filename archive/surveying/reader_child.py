"""The process that reads files for a survey: what is in them may be hostile, and it may die of it without harm.

Started with the root's descriptor, a template and limits. Each line on descriptor 0 is a JSON list ``[with_digests,
[[folder, [name, ...]], ...]]``; the answer is a line with one list a file, in that order.
"""

import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

from archive.rules.header import HeaderLimits
from archive.rules.naming import NameTemplate
from archive.store import files
from archive.surveying.reading import WINDOW_BYTES, FileReader, Reading, open_unseen, row_of

MEMORY_BYTES: Final = 1 << 30


def main(arguments: list[str]) -> None:
    """Answer until descriptor 0 is closed."""
    root_fd, template, limits = int(arguments[0]), arguments[1], json.loads(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY_BYTES)):
        resource.setrlimit(what, (most, most))
    reader = FileReader(NameTemplate.compile(template), HeaderLimits(**limits))
    gc.disable()  # a header makes no cycles
    with os.fdopen(0, "rb") as asked, os.fdopen(1, "wb") as answers:
        for line in asked:
            with_digests, folders = json.loads(line)
            rows = [
                row_of(reading, name)
                for folder, names in folders
                for name, reading in zip(names, read_names(reader, root_fd, folder, names, with_digests), strict=True)
            ]
            answers.write(json.dumps(rows, check_circular=False, separators=(",", ":")).encode("ascii") + b"\n")
            answers.flush()


def read_names(
    reader: FileReader, root_fd: int, folder: str, names: list[str], with_digests: bool
) -> Iterator[Reading]:
    """Read files of one folder."""
    with ExitStack() as stack:
        try:
            folder_fd = stack.enter_context(files.open_folder(root_fd, folder))
        except FileNotFoundError:
            yield from (Reading() for _ in names)
            return
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not a path"
            yield from (Reading(size_bytes=0, fault=f"Its folder cannot be opened: {reason}.") for _ in names)
            return
        if not with_digests:
            reader.enter(folder, len(names))
            read_ahead(folder_fd, names)
        for name in names:
            yield reader.read(folder_fd, name, with_digests=with_digests)


def read_ahead(folder_fd: int, names: list[str]) -> None:
    """Have the disk read the beginnings of all these files at once, when they are not in memory already."""
    if len(names) > 1 and any(_looked(folder_fd, name, _is_cold) for name in (names[0], names[-1])):
        for name in names:
            _looked(folder_fd, name, _ask_for)


def _is_cold(fd: int) -> bool:
    """Whether reading would wait for the disk."""
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    return False


def _ask_for(fd: int) -> bool:
    os.posix_fadvise(fd, 0, WINDOW_BYTES, os.POSIX_FADV_WILLNEED)
    return True


def _looked(folder_fd: int, name: str, look: Callable[[int], bool]) -> bool:
    """What a look at an open file says; False where that fails, which is told when it is read."""
    try:
        fd = open_unseen(folder_fd, name)
    except (OSError, ValueError):
        return False
    try:
        return look(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


if __name__ == "__main__":
    main(sys.argv[1:])
