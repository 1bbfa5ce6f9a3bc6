"""The process that compares two datasets: it reads what may be hostile, and may die of it without harm.

It touches no path. Each message on descriptor 0, a socket, brings two open files, the new one first; the answer is
one JSON document. Its limits are set before the first byte is read.
"""

import gc
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from archive.differences import (
    TAGS_LISTED,
    Difference,
    DifferenceKind,
    TagDifference,
    as_document,
    printable,
    unknown,
)
from archive.errors import HeaderError
from archive.examination.dataset_index import Index, Key, Leaf, index_file
from archive.rules.header import file_reader, keyword_of

MEMORY_BYTES: Final = 512 << 20
CPU_SECONDS: Final = 60
_REQUEST_BYTES: Final = 16
_DESCRIPTORS: Final = 2


def main() -> None:
    """Answer until the socket is closed."""
    _limit()
    with socket.socket(fileno=0) as asked:
        while True:
            request, fds, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, _DESCRIPTORS)
            if not request:
                return
            try:
                difference = compare(*fds)
            finally:
                for fd in fds:
                    os.close(fd)
            asked.send(json.dumps(as_document(difference), ensure_ascii=False).encode("utf-8"))


def compare(new_fd: int, old_fd: int) -> Difference:
    """How the dataset of one open file differs from that of another; UNKNOWN with the reason when it cannot be told."""
    new = old = None
    try:
        new = _index(new_fd)
        old = _index(old_fd)
        return differ(new, old)
    except HeaderError as error:
        return unknown(f"the {'other' if new else 'new'} file: {error.message}")
    except OSError as error:
        return unknown(f"a file cannot be read: {os.strerror(error.errno or 0)}")
    except MemoryError:
        new = old = None
        gc.collect()
        return unknown("the datasets have more elements than can be compared")


def differ(new: Index, old: Index) -> Difference:
    """How one indexed dataset differs from another."""
    changed = [key for key in sorted(new.header.keys() | old.header.keys()) if _is_other(new, old, key)]
    tags = [tag for key in changed if (tag := _tag(new, old, key)) is not None]
    is_same_form = new.transfer_syntax_uid == old.transfer_syntax_uid or (new.is_native and old.is_native)
    has_pixels = bool(new.pixels or old.pixels)
    if has_pixels and not is_same_form:
        kind = DifferenceKind.ENCODING
    elif new.pixels.keys() != old.pixels.keys() or any(
        not leaf.is_like(old.pixels[key]) for key, leaf in new.pixels.items()
    ):
        kind = DifferenceKind.PIXEL_DATA
    else:
        kind = DifferenceKind.HEADER_ONLY if tags else DifferenceKind.SAME_DATASET
    return Difference(kind=kind, tags=tuple(tags[:TAGS_LISTED]), more_tags=max(0, len(tags) - TAGS_LISTED))


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
    ):
        resource.setrlimit(what, (most, most))


def _index(fd: int) -> Index:
    return index_file(file_reader(fd), os.fstat(fd).st_size)


def _is_other(new: Index, old: Index, key: Key) -> bool:
    one, other = new.header.get(key), old.header.get(key)
    return one is None or other is None or not one.is_like(other)


def _tag(new: Index, old: Index, key: Key) -> TagDifference | None:
    """The difference in words; None where the two are one text in two character sets."""
    path, tag, _ = key
    one, other = new.header.get(key), old.header.get(key)
    new_text, old_text = (None if leaf is None else leaf.text(tag) for leaf in (one, other))
    if one and other and new_text == old_text and one.encodings != other.encodings and _is_whole(one, other):
        return None
    return TagDifference(
        tag=f"{tag >> 16:04X},{tag & 0xFFFF:04X}",
        keyword=_keyword(new, old, key),
        old=None if old_text is None else printable(old_text),
        new=None if new_text is None else printable(new_text),
        path="/".join(_steps(path)),
    )


def _is_whole(*leaves: Leaf) -> bool:
    return all(leaf.length == len(leaf.start) for leaf in leaves)


def _steps(path: tuple[tuple[int, int], ...]) -> Iterator[str]:
    for sequence, number in path:
        yield f"{sequence >> 16:04X},{sequence & 0xFFFF:04X}[{number}]"


def _keyword(new: Index, old: Index, key: Key) -> str:
    """The keyword; for a private attribute its creator in brackets (DICOM PS3.5 7.8.1); ``""`` when there is none."""
    path, tag, _ = key
    group, element = tag >> 16, tag & 0xFFFF
    if group % 2 and element > 0xFF:
        creator = group << 16 | element >> 8
        for index in (new, old):
            if leaf := index.header.get((path, creator, 0)):
                return f"[{printable(leaf.text(creator), 62)}]"
        return "[no private creator]"
    with suppress(LookupError):
        keyword = keyword_of(tag)
        return "" if keyword.startswith("(") else keyword
    return ""


if __name__ == "__main__":
    main()
