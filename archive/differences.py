"""How two datasets under one SOP Instance UID differ: the words, and the sentence for a finding."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

VALUE_CHARACTERS: Final = 64
"""A value is cut here, after it was made printable."""

TAGS_LISTED: Final = 50
"""So many tags a difference names; `more_tags` counts the others."""

_TAGS_IN_SENTENCE: Final = 3
_PATIENT_GROUP: Final = "0010,"


class DifferenceKind(StrEnum):
    """What kind of difference it is, from the most harmless on."""

    SAME_DATASET = "SAME_DATASET"  # the same elements, written differently: lengths, padding, byte order
    HEADER_ONLY = "HEADER_ONLY"  # equal pixel data, other attributes: a re-anonymised or corrected copy
    PIXEL_DATA = "PIXEL_DATA"  # other pixel bytes: two instances under one UID, or one of them was changed
    ENCODING = "ENCODING"  # other transfer syntax: pixel data cannot be compared byte for byte, attributes were
    UNKNOWN = "UNKNOWN"  # not compared, or not comparable; `reason` says why


PHRASES: Final[Mapping[DifferenceKind, str]] = MappingProxyType(
    {
        DifferenceKind.SAME_DATASET: "same dataset, written differently",
        DifferenceKind.HEADER_ONLY: "header only",
        DifferenceKind.PIXEL_DATA: "pixel data",
        DifferenceKind.ENCODING: "other transfer syntax",
        DifferenceKind.UNKNOWN: "not compared",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagDifference:
    """One attribute that differs. `old` and `new` are None where the attribute is absent.

    `tag` is ``GGGG,EEEE``; `keyword` is the private creator in square brackets for a private attribute; `path` names
    the sequence items around it, ``0040,0275[1]``, and is ``""`` at the top level.
    """

    tag: str
    keyword: str
    old: str | None
    new: str | None
    path: str = ""

    @property
    def name(self) -> str:
        """What a person calls it: the keyword, or the tag where there is none, behind the items around it."""
        name = self.keyword if self.keyword and not self.keyword.startswith("[") else f"{self.tag} {self.keyword}"
        return f"{self.path} {name}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a new dataset differs from the one that was there."""

    kind: DifferenceKind
    tags: tuple[TagDifference, ...] = ()
    more_tags: int = 0
    reason: str = ""


def unknown(reason: str) -> Difference:
    """The difference of two datasets that were not compared."""
    return Difference(kind=DifferenceKind.UNKNOWN, reason=reason)


def printable(text: str, limit: int = VALUE_CHARACTERS) -> str:
    r"""At most `limit` characters of `text`; what is not printable stands as ``\x1b``, ``\u202e``."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[:limit]
    )
    return shown if len(shown) <= limit and len(text) <= limit else shown[: limit - 3] + "..."


def as_document(difference: Difference) -> dict[str, Any]:
    """A difference as JSON: in the answer of the comparing process, and in a finding's detail."""
    return {
        "kind": str(difference.kind),
        "tags": [asdict(tag) for tag in difference.tags],
        "more_tags": difference.more_tags,
        "reason": difference.reason,
    }


def from_document(document: Mapping[str, Any]) -> Difference:
    """The inverse of `as_document`, for what may have been written by a process that hostile bytes have confused.

    Raises
    ------
    ValueError
        It is not a difference.
    """
    try:
        return Difference(
            kind=DifferenceKind(document["kind"]),
            tags=tuple(_tag(each) for each in document["tags"][:TAGS_LISTED]),
            more_tags=max(0, int(document["more_tags"])),
            reason=printable(str(document["reason"]), 200),
        )
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("not a difference") from error


def sentence(differences: Iterable[Difference]) -> str:
    """``3 header only (PatientName, PatientID), 1 pixel data``; ``""`` for none."""
    found = list(differences)
    parts: list[str] = []
    for kind in DifferenceKind:
        of_kind = [each for each in found if each.kind is kind]
        if of_kind:
            names = _names(of_kind)
            parts.append(f"{len(of_kind)} {PHRASES[kind]}" + (f" ({names})" if names else ""))
    return ", ".join(parts)


def counts(differences: Iterable[Difference]) -> dict[str, int]:
    """How many there are of each kind, those that there are."""
    found = [each.kind for each in differences]
    return {str(kind): found.count(kind) for kind in DifferenceKind if kind in found}


def _names(differences: Iterable[Difference]) -> str:
    """The attributes that differ most often, those of the patient first."""
    seen: dict[str, tuple[bool, int]] = {}
    more = 0
    for difference in differences:
        more = max(more, difference.more_tags)
        for tag in difference.tags:
            is_other, times = seen.get(tag.name, (not (tag.tag.startswith(_PATIENT_GROUP) and not tag.path), 0))
            seen[tag.name] = (is_other, times - 1)
    ranked = sorted(seen, key=lambda name: seen[name])
    left = len(ranked) - _TAGS_IN_SENTENCE + more
    tail = f" and {left} more" if ranked and left > 0 else ""
    return ", ".join(ranked[:_TAGS_IN_SENTENCE]) + tail


def _tag(document: Mapping[str, Any]) -> TagDifference:
    old, new = document["old"], document["new"]
    return TagDifference(
        tag=printable(str(document["tag"])),
        keyword=printable(str(document["keyword"])),
        old=None if old is None else printable(str(old)),
        new=None if new is None else printable(str(new)),
        path=printable(str(document["path"]), 200),
    )
