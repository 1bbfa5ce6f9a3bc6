"""Reading the catalog XML that XNAT keeps beside the files of a resource: what it lists, and what is wrong with it.

The file may be anything. It is parsed piece by piece without a tree, no entity is ever expanded, no address is
followed, and what it may cost is bounded. A catalog that cannot be read to its end lists nothing.
"""

import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from xml.parsers import expat

from archive.surveys import Listed, Remark

MAX_BYTES: Final = 1 << 28
MAX_ENTRIES: Final = 1_000_000
MAX_DEPTH: Final = 64
MAX_REMARKS: Final = 20
_TOKEN_BYTES: Final = 1 << 20  # no element of a catalog is longer
_PIECE_BYTES: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_ROOTS: Final = frozenset({"Catalog", "DCMCatalog"})
_USUAL: Final = frozenset({"cat:entry", "entry"})
_PLAIN: Final = re.compile(r"[\w-][\w.-]*")
"""Most URIs: a name in the resource's own folder."""


class _Unreadable(Exception):
    """Why a catalog is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What a catalog lists by path relative to its folder; `listed` is None when it could not be read."""

    listed: Mapping[str, Listed] | None
    remarks: tuple[Remark, ...] = ()
    is_dicom: bool = False


@dataclass(slots=True, kw_only=True)
class _Entries:
    """Collects entries while the parser runs."""

    listed: dict[str, Listed] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    more_remarks: int = 0
    depth: int = 0
    root: str = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth == 1:
            self.root = name.rpartition(":")[2]
            if self.root not in _ROOTS:
                raise _Unreadable("it is not a catalog")
        elif self.depth > MAX_DEPTH:
            raise _Unreadable(f"it is nested deeper than {MAX_DEPTH} levels")
        elif name in _USUAL or name.rpartition(":")[2] == "entry":
            if "URI" not in attributes:
                attributes = {key.rpartition(":")[2]: value for key, value in attributes.items()}
            self._entry(attributes)

    def end(self, name: str) -> None:
        self.depth -= 1

    def _entry(self, attributes: dict[str, str]) -> None:
        uri = attributes.get("URI", "")
        path = uri if _PLAIN.fullmatch(uri) else _inside(uri)
        if not uri:
            self.remark(f"an entry has no URI (ID {_shown(attributes.get('ID', ''))})")
        elif path is None:
            self.remark(f"an entry points outside of the resource: {_shown(uri)}")
        elif path in self.listed:
            self.remark(f"it lists a file twice: {_shown(path)}")
        elif len(self.listed) >= MAX_ENTRIES:
            raise _Unreadable(f"it has more than {MAX_ENTRIES} entries")
        else:
            self.listed[path] = Listed(attributes.get("UID", "").strip())

    def remark(self, text: str) -> None:
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(text)
        else:
            self.more_remarks += 1


def read_catalog(fd: int, name: str) -> Catalog:
    """Read the open catalog `fd`; `name` is what remarks call it."""
    entries = _Entries()
    try:
        _parse(fd, entries)
    except (_Unreadable, zlib.error) as error:
        reason = str(error) if isinstance(error, _Unreadable) else "it is not whole"
    except expat.ExpatError as error:
        reason = f"it is not well formed, line {error.lineno}: {expat.ErrorString(error.code)}"
    except OSError as error:
        reason = os.strerror(error.errno or 0)
    except (ValueError, LookupError):
        reason = "its encoding is not known"
    else:
        texts = entries.remarks + ([f"{entries.more_remarks} more"] if entries.more_remarks else [])
        return Catalog(
            listed=MappingProxyType(entries.listed),
            remarks=tuple(Remark(text=f"catalog {name}: {text}") for text in texts),
            is_dicom=entries.root == "DCMCatalog",
        )
    remark = Remark(text=f"catalog {name} cannot be read: {reason}; all files count as listed")
    return Catalog(listed=None, remarks=(remark,))


def _parse(fd: int, entries: _Entries) -> None:
    parser = expat.ParserCreate()
    parser.StartElementHandler = entries.start
    parser.EndElementHandler = entries.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    fed = 0
    for piece in _pieces(fd):
        fed += len(piece)
        if fed > MAX_BYTES:
            raise _Unreadable(f"it is longer than {MAX_BYTES >> 20} MiB")
        parser.Parse(piece, False)
        if fed - max(0, parser.CurrentByteIndex) > _TOKEN_BYTES + len(piece):
            raise _Unreadable(f"it holds an element of more than {_TOKEN_BYTES >> 20} MiB")
    parser.Parse(b"", True)


def _pieces(fd: int) -> Iterator[bytes]:
    """The bytes of the file, inflated if it is gzipped, never much at once."""
    piece, offset = os.pread(fd, _PIECE_BYTES, 0), 0
    inflater = zlib.decompressobj(wbits=31) if piece.startswith(_GZIP) else None
    while piece:
        offset += len(piece)
        if inflater is None:
            yield piece
        else:
            while piece:
                yield inflater.decompress(piece, _PIECE_BYTES)
                piece = inflater.unconsumed_tail
        piece = os.pread(fd, _PIECE_BYTES, offset)
    if inflater is not None and not inflater.eof:
        raise _Unreadable("it is not whole")


def _refuse_doctype(*_: object) -> None:
    raise _Unreadable("it declares a document type, which no catalog does")


def _inside(uri: str) -> str | None:
    """The path below the resource that a URI names; None when it leads elsewhere."""
    if uri.startswith("/") or "\0" in uri or "://" in uri or uri.startswith("file:"):
        return None
    if "/" not in uri:
        return None if uri in ("", ".", "..") else uri
    parts = [part for part in uri.split("/") if part not in ("", ".")]
    return None if not parts or ".." in parts else "/".join(parts)


def _shown(text: str) -> str:
    """At most 200 characters, printable."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])
