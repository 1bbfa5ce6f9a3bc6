"""Names on disk: file names from XNAT's template, safe labels, scan folders.

A file name is byte-compatible with XNAT's `TemplatizedDicomFileNamer` for ordinary values; where a value
could leave its folder, hide its file or break a shell, it is made safe instead. Everything here is ASCII.
"""

import re
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import Final, Self

from archive.attributes import HEADER_TAGS, header_value
from archive.errors import ConfigurationError
from archive.instance_header import InstanceHeader
from archive.rules import uids
from archive.rules.header import tag_of

MAX_NAME_BYTES: Final = 200  # leaves room for a collision mark and a temporary suffix below NAME_MAX (255)
MAX_SUFFIX_CHARS: Final = 16
MAX_VALUE_CHARS: Final = 64  # the longest UID (DICOM PS3.5 9.1) passes as it is
KEPT_CHARS: Final = 40  # what stays readable of a value that is replaced by its hash

_VARIABLE: Final = re.compile(r"\$\{([^${}]*)\}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9._-]*")
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]+")
_HASH_PREFIX: Final = "Hash"
_HASH_DELIMITER: Final = "With"
_HASH_PROBLEM: Final = (
    "You can't specify a Hash without specifying at least two DICOM header values joined by the With delimiter."
)
_SERIES_NUMBER: Final = re.compile(r"(?!\.)[\w.-]{1,64}", re.ASCII)
_UTF_16: Final = f"utf-16-{sys.byteorder[0]}e"
_POWERS: Final = tuple(31**power & 0xFFFFFFFF for power in reversed(range(64)))  # a UID at once
_TAIL_CHARS: Final = 12  # by which the UIDs of a series differ
_TAIL_POWERS: Final = _POWERS[-_TAIL_CHARS:]
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
_NUMBERED_SCAN: Final = re.compile(r"(.+)-([A-Z]{2})([0-9]{1,9})", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One DICOM attribute in a template."""

    keyword: str
    tag: int


Part = str | Variable | tuple[Variable, ...]
"""Of a compiled template: literal text, a value, or the hash of several values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTemplate:
    """A compiled file name template.

    Attributes
    ----------
    text : the template as configured.
    parts : what the name is joined from.
    suffix : the extension, ``.dcm`` unless the template has its own.
    all_tags : the attributes a name is made of.
    tags : those of them the header must be read with, beyond `HEADER_TAGS`.
    """

    text: str
    parts: tuple[Part, ...]
    suffix: str
    all_tags: frozenset[int]
    tags: frozenset[int]

    @classmethod
    def compile(cls, text: str) -> Self:
        """Read a template in XNAT's syntax, ``${Keyword}`` and ``${Hash<A>With<B>}``.

        Raises
        ------
        ConfigurationError
            With every problem: unknown keyword, unbalanced ``${``, a hash of fewer than two values, a
            character that has no place in a file name, a name that does not depend on the SOP Instance UID.
        """
        stem, suffix = _split_extension(text)
        problems: list[str] = []
        parts: list[Part] = []
        for position, token in enumerate(_VARIABLE.split(stem)):
            parts.append(_variable(token, problems) if position % 2 else _literal(token, problems))
        if len(suffix) > MAX_SUFFIX_CHARS:
            problems.append(f"the extension is longer than {MAX_SUFFIX_CHARS} characters")
        variables = [variable for part in parts for variable in _variables_of(part)]
        if not problems and all(variable.keyword != "SOPInstanceUID" for variable in variables):
            problems.append(
                "two instances would get one name: it needs ${SOPInstanceUID} or a Hash with SOPInstanceUID"
            )
        if problems:
            raise ConfigurationError([f"file name template '{text}': {problem}" for problem in problems])
        tags = frozenset(variable.tag for variable in variables)
        return cls(
            text=text,
            parts=tuple(part for part in parts if part),
            suffix=suffix or ".dcm",
            all_tags=tags,
            tags=tags - HEADER_TAGS.keys(),
        )

    def name(self, header: InstanceHeader) -> str:
        """The file name of an instance: 1 to 200 bytes of ``[A-Za-z0-9._~-]``, no leading dot."""
        return self.name_of({tag: header_value(header, tag) for tag in self.all_tags})

    def name_of(self, values: Mapping[int, str]) -> str:
        """`name` from the values of `all_tags` that are there."""
        return self.joined([_render(part, values) for part in self.parts])

    def joined(self, texts: Iterable[str]) -> str:
        """The name that is made of the texts of `parts`."""
        stem = "".join(texts).lstrip(".")
        if len(stem) + len(self.suffix) <= MAX_NAME_BYTES:
            return stem + self.suffix
        tail = f"~{_digest(stem, 16)}{self.suffix}"
        return stem[: MAX_NAME_BYTES - len(tail)] + tail


class Namer:
    """The names of many instances by one template: a part is made anew where its values are not those of the instance
    before. Used by one thread."""

    __slots__ = ("_fields", "_hashes", "_template", "_texts", "_values", "_variables")

    def __init__(self, template: NameTemplate) -> None:
        self._template = template
        self._texts = [part if isinstance(part, str) else "" for part in template.parts]
        numbered = list(enumerate(template.parts))
        self._variables = [(number, part, part.tag) for number, part in numbered if isinstance(part, Variable)]
        self._hashes = [(number, part) for number, part in numbered if isinstance(part, tuple)]
        self._values: dict[int, str] = {}
        self._fields = [(tag, HEADER_TAGS[tag]) for tag in template.all_tags if tag in HEADER_TAGS]

    def name(self, header: InstanceHeader) -> str:
        """As `NameTemplate.name`."""
        values = {tag: getattr(header, field) for tag, field in self._fields}
        if self._template.tags:
            values.update(header.other)
        return self.name_of(values)

    def name_of(self, values: Mapping[int, str]) -> str:
        """As `NameTemplate.name_of`."""
        texts, before, get = self._texts, self._values, values.get
        for number, variable, tag in self._variables:
            value = get(tag, "")
            if before.get(number) != value:
                before[number] = value
                texts[number] = _render(variable, values)
        for number, variables in self._hashes:
            texts[number] = _render(variables, values)
        return self._template.joined(texts)


@lru_cache(maxsize=256)
def java_hash(text: str) -> int:
    """Java's ``String.hashCode``: 31-multiplier over UTF-16 code units, a signed 32-bit number."""
    if not text.isascii():
        value = _polynomial(memoryview(text.encode(_UTF_16, "surrogatepass")).cast("H"))
    elif len(text) <= _TAIL_CHARS:
        value = _polynomial(text.encode("ascii"))
    else:
        tail = sum(map(mul, text[-_TAIL_CHARS:].encode("ascii"), _TAIL_POWERS))
        value = (_head_hash(text[:-_TAIL_CHARS]) + tail) & 0xFFFFFFFF
    return value - 0x100000000 if value & 0x80000000 else value


@lru_cache(maxsize=256)
def _head_hash(text: str) -> int:
    """What the UIDs of a series have in common adds to their hashes."""
    return _polynomial(text.encode("ascii")) * 31**_TAIL_CHARS


def _polynomial(units: Sequence[int]) -> int:
    value = 0
    for start in range(0, len(units), len(_POWERS)):
        some = units[start : start + len(_POWERS)]
        value = (value * pow(31, len(some), 1 << 32) + sum(map(mul, some, _POWERS[-len(some) :]))) & 0xFFFFFFFF
    return value


def list_hash(values: list[str]) -> str:
    """Java's ``List.hashCode`` over strings as XNAT prints it: unsigned, base 36, lower case."""
    value = 1
    for text in values:
        value = (31 * value + java_hash(text)) & 0xFFFFFFFF
    return base36(value)


def base36(value: int) -> str:
    """The low 32 bits of a hash as XNAT prints it: unsigned, base 36, lower case."""
    rest, low = divmod(value & 0xFFFFFFFF, 36 * 36)
    rest, middle = divmod(rest, 36 * 36)
    top, high = divmod(rest, 36 * 36)
    return f"{_DIGITS[top]}{_PAIRS[high]}{_PAIRS[middle]}{_PAIRS[low]}".lstrip("0") or "0"


def collision_name(name: str, dataset_sha256: str, length: int = 8) -> str:
    """The name of a second, different dataset that asks for `name`: ``abc.dcm`` -> ``abc~1a2b3c4d.dcm``."""
    stem, suffix = _split_extension(name)
    tail = f"~{dataset_sha256[:length]}{suffix}"
    return stem[: 255 - len(tail)] + tail


def safe_label(text: str, limit: int = 64) -> str:
    """XNAT's label: every character outside ``[A-Za-z0-9_-]`` becomes ``_``.

    A text longer than `limit` (at least 16) characters ends in eight hex digits of its SHA-256, so that two
    long labels stay apart. ``""`` stays ``""``.
    """
    label = re.sub(r"[^\w-]", "_", text, flags=re.ASCII)
    return label if len(label) <= limit else f"{label[: limit - 9]}_{_digest(text, 8)}"


def scan_folder(series_number: str, series_instance_uid: str) -> str:
    """XNAT's scan id: the Series Number if it can be a folder name, else the series UID, else ``NA``.

    Unlike XNAT's, the folder is never hidden and never longer than 64 characters: a number that would make it
    so counts as unusable.
    """
    number = "_" + series_number[1:] if series_number.startswith("+") else series_number
    if _SERIES_NUMBER.fullmatch(number):
        return number
    return safe_label(series_instance_uid) or "NA"


def renamed_scan(scan: str, modality: str, taken: Container[str]) -> str:
    """The first free ``<scan>-<MOD><k>``, for a second series with the number of a first.

    An id that already ends in the same ``-<MOD><k>`` counts on: ``12-MR1`` -> ``12-MR2``. MOD is two
    upper-case letters of the modality, XNAT's ``PT`` for PET, ``OT`` where there are no letters.
    """
    letters = re.sub(r"[^A-Za-z]", "", modality)[:2].upper()
    mark = "OT" if len(letters) < 2 else {"PE": "PT"}.get(letters, letters)
    base, count = scan, 1
    numbered = _NUMBERED_SCAN.fullmatch(scan)
    if numbered and numbered[2] == mark:
        base, count = numbered[1], int(numbered[3]) + 1
    while f"{base}-{mark}{count}" in taken:
        count += 1
    return f"{base}-{mark}{count}"


def _variable(name: str, problems: list[str]) -> Part:
    if not name.startswith(_HASH_PREFIX):
        return _attribute(name, problems)
    keywords = name.removeprefix(_HASH_PREFIX).split(_HASH_DELIMITER)
    if len(keywords) < 2 or not all(keywords):
        problems.append(_HASH_PROBLEM)
        return ""
    return tuple(_attribute(keyword, problems) for keyword in keywords)


def _attribute(keyword: str, problems: list[str]) -> Variable:
    tag = tag_of(keyword) if keyword else None
    if tag is None:
        problems.append(f"'{keyword}' is not a DICOM keyword")
    elif tag >> 16 < 0x0008:
        problems.append(f"'{keyword}' is not part of the dataset")
    return Variable(keyword=keyword, tag=tag or 0)


def _literal(text: str, problems: list[str]) -> str:
    if any(char in text for char in "${}"):
        problems.append("a ${ without } or a $, { or } outside of ${...}")
    elif not _LITERAL.fullmatch(text):
        strange = sorted(set(re.sub(r"[A-Za-z0-9._-]", "", text)))
        problems.append(f"not allowed in a file name: {', '.join(map(ascii, strange))}")
    return text


def _variables_of(part: Part) -> tuple[Variable, ...]:
    if isinstance(part, Variable):
        return (part,)
    return part if isinstance(part, tuple) else ()


def _split_extension(text: str) -> tuple[str, str]:
    """Stem and extension by XNAT's rule: after the last dot there are only letters and digits."""
    stem, dot, last = text.rpartition(".")
    return (stem, dot + last) if dot and _EXTENSION.fullmatch(dot + last) else (text, "")


def _render(part: Part, values: Mapping[int, str]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, tuple):
        return list_hash([_value(variable, values) or _no_value(variable) for variable in part])
    value = _value(part, values)
    return _safe_value(value, part.keyword.endswith("UID")) if value else _no_value(part)


def _value(variable: Variable, values: Mapping[int, str]) -> str:
    value = values.get(variable.tag, "")
    return value if value.strip() else ""


def _no_value(variable: Variable) -> str:
    return f"no-value-for-{variable.keyword}"


@lru_cache(maxsize=256)
def _safe_value(value: str, is_uid: bool) -> str:
    """`value` as part of a file name; an overlong one and an invalid UID are told apart by their hash.

    A leading zero in a UID component violates DICOM PS3.5 9.1 but is seen in the field and harms no name.
    """
    if value.isalnum() and value.isascii() and not is_uid and len(value) <= MAX_VALUE_CHARS:
        return value  # most numbers
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", value).lstrip(".") or "_"
    if len(value) > MAX_VALUE_CHARS or (is_uid and not uids.is_uid(value)):
        return f"{safe[:KEPT_CHARS]}~{_digest(value, 16)}"
    return safe


def _digest(text: str, length: int) -> str:
    import hashlib  # for names that are not as they should be

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
