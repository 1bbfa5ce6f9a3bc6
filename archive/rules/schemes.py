"""The names that XNAT gave files before its present scheme, and what of a patient a name tells.

A name is recognised by its hash, which was made of the instance's UIDs, or by its shape: whoever made it may have
known other UIDs than the file carries now, because XNAT names a file before it anonymises it.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

from archive.instance_header import InstanceHeader
from archive.rules.naming import base36, java_hash, list_hash

SOP_HASH: Final = "sop-hash-1.5"  # SOPHashDicomFileNamer of XNAT 1.5 and 1.6, and of uploaders
TEMPLATE_2013: Final = "template-2013"  # the present templates with another hash
ORIGINAL: Final = "original"  # what the sender called the file

SHORTEST_DISCLOSED: Final = 3
"""A shorter name or id tells nobody apart, and would be found in any name."""

_SUBSTRING_CHARS: Final = 6  # so long a name is looked for inside of words too
_SOP_HASH_SHAPE: Final = re.compile(r".+\.\d{8}\.\d{4,6}\.[0-9a-z]{1,7}\.dcm")
_TEMPLATE_SHAPE: Final = re.compile(r".+-.+-[0-9a-z]{1,7}(~[0-9a-f]{8,64})?\.dcm")
_BREAKS: Final = re.compile(r"[-._~]")
_WORD: Final = re.compile(r"[^\W_]+")
_EXPLAINED: Final = (
    "modality",
    "study_date",
    "study_description",
    "series_description",
    "series_number",
    "instance_number",
)


def scheme_of(name: str, header: InstanceHeader) -> str:
    """The older scheme that made a name; ``""`` for the present one, whatever template and values it had."""
    pieces = set(_BREAKS.split(name)[:-1])
    classes, instance = header.sop_class_uid, header.sop_instance_uid
    if sop_hash(classes, instance) in pieces or _SOP_HASH_SHAPE.fullmatch(name):
        return SOP_HASH
    if template_2013_hash(classes, instance) in pieces:
        return TEMPLATE_2013
    is_present = list_hash([classes, instance]) in pieces or _TEMPLATE_SHAPE.fullmatch(name)
    return "" if is_present else ORIGINAL


def sop_hash(sop_class_uid: str, sop_instance_uid: str) -> str:
    """The hash of `SOPHashDicomFileNamer`: 37 times the instance's, and the class's."""
    return base36(37 * java_hash(sop_instance_uid) + java_hash(sop_class_uid))


def template_2013_hash(*values: str) -> str:
    """The hash of the template namer of XNAT 1.6: 37 times each value's, summed."""
    return base36(sum(37 * java_hash(value) for value in values))


def discloses(name: str, header: InstanceHeader, conforming: str = "") -> tuple[str, ...]:
    """The attributes of `PatientName` and `PatientID` that a name carries in any writing.

    Words are compared without case and accents, whatever stands between them. What the conforming name carries too,
    what is part of a UID, and what is as well a number, a date or a description of the scan, discloses nothing.
    """
    words = _words(_without_uids(name, header))
    known: set[str] | None = None
    found = []
    for keyword, writings in (
        ("PatientName", _of_name(header.patient_name)),
        ("PatientID", _of_value(header.patient_id)),
    ):
        carried = [writing for writing in writings if _carries(words, writing)]
        if carried:
            known = _known(header, conforming) if known is None else known
            if any("".join(each) not in known and not known.issuperset(each) for each in carried):
                found.append(keyword)
    return tuple(found)


def _known(header: InstanceHeader, conforming: str) -> set[str]:
    """The words that a name may carry whoever the patient is."""
    values = [getattr(header, field) for field in _EXPLAINED]
    return {value.casefold() for value in values}.union(_words(conforming), *map(_words, values))


def _without_uids(name: str, header: InstanceHeader) -> str:
    uids = (header.sop_instance_uid, header.series_instance_uid, header.study_instance_uid, header.sop_class_uid)
    for uid in uids:
        if uid:
            name = name.replace(uid, "/").replace(uid.replace(".", "_"), "/")
    return name


@lru_cache(maxsize=256)
def _of_name(patient_name: str) -> frozenset[tuple[str, ...]]:
    """Every way to look for a patient's name: as a whole, turned round, and family and given name alone."""
    found: set[tuple[str, ...]] = set()
    for group in patient_name.split("="):
        whole = _of_value(group)
        found.update(whole, (writing[::-1] for writing in whole))
        found.update(*(_of_value(component) for component in group.split("^")[:2]))
    return frozenset(found)


@lru_cache(maxsize=256)
def _of_value(value: str) -> frozenset[tuple[str, ...]]:
    """A value as words: as it is, and as XNAT makes a label of it (what is not ASCII becomes a gap)."""
    writings = {_words(value), _words(re.sub(r"[^\x00-\x7f]", "_", value))}
    return frozenset(each for each in writings if len("".join(each)) >= SHORTEST_DISCLOSED)


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return tuple(_WORD.findall(text.casefold()))


def _carries(words: tuple[str, ...], value: tuple[str, ...]) -> bool:
    joined = "".join(value)
    if joined in words:
        return True
    if not joined.isdecimal() and len(joined) >= _SUBSTRING_CHARS and any(joined in word for word in words):
        return True
    count = len(value)
    return count > 1 and any(words[start : start + count] == value for start in range(len(words) - count + 1))
