"""A DICOM resource as XNAT keeps it, made with seeded defects: what is wrong with it is known."""

import gzip
import os
import socket
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import quoteattr

from pydicom.dataset import Dataset

from archive.rules.naming import list_hash
from archive.rules.schemes import sop_hash, template_2013_hash
from archive.surveys import FileClass, SetDifference
from scp.synthetic import SeriesSpec, study

MR = "1.2.840.10008.5.1.4.1.1.4"


def encoded(dataset: Dataset) -> bytes:
    """A file's bytes."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def right_name(dataset: Dataset) -> str:
    """XNAT's default template, put together by hand."""
    mark = list_hash([str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)])
    return f"{dataset.StudyInstanceUID}-{dataset.SeriesNumber}-{dataset.InstanceNumber}-{mark}.dcm"


def instances(count: int, *, seed: int = 0, scan: int = 1) -> list[Dataset]:
    """Datasets of one series."""
    return study(
        patient_id="PAT-00042",
        patient_name="Doe^Jane",
        series=[SeriesSpec(number=scan, instances=count, rows=2, columns=2)],
        seed=seed,
    )


@dataclass
class SeededResource:
    """A folder ``SCANS/<scan>/DICOM`` in the making, and what a survey has to find in it."""

    folder: Path
    entries: list[tuple[str, str]] = field(default_factory=list)
    wanted: dict[str, FileClass] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)
    schemes: dict[str, str] = field(default_factory=dict)
    disclosures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, SetDifference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)

    def put(self, path: str, data: bytes, kind: FileClass, *, uid: str | None = "") -> None:
        """Write a file of this class; listed with `uid` unless that is None."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.want(path, kind, uid=uid)

    def want(self, path: str, kind: FileClass, *, uid: str | None = "") -> None:
        """A file of this class is to be found."""
        self.wanted[path] = kind
        if uid is not None:
            self.entries.append((path, uid))

    def add(self, dataset: Dataset, defect: str, random: Random) -> None:
        """One instance, with one defect."""
        DEFECTS[defect](self, dataset, random)

    def write_catalog(self, *, is_nested: bool = False, is_gzipped: bool = False, name: str = "") -> Path:
        """The catalog, flat or with its entries in sets."""
        lines = [
            f'<cat:entry ID={quoteattr(uri)} UID={quoteattr(uid)} URI={quoteattr(uri)} xsi:type="cat:dcmEntry"/>'
            for uri, uid in self.entries
            if uri.isprintable()
        ]
        half = len(lines) // 2 if is_nested else 0
        sets = '<cat:sets><cat:entrySet ID="a"><cat:entries>{}</cat:entries></cat:entrySet></cat:sets>'
        inner = sets.format("\n".join(lines[:half])) if is_nested else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<cat:DCMCatalog xmlns:cat="http://nrg.wustl.edu/catalog" '
            f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" UID="1.2">{inner}<cat:entries>\n'
            + "\n".join(lines[half:])
            + "\n</cat:entries></cat:DCMCatalog>"
        )
        file = self.folder / (name or f"scan_{self.folder.parent.name}_catalog.xml{'.gz' if is_gzipped else ''}")
        file.write_bytes(gzip.compress(text.encode()) if is_gzipped else text.encode())
        return file


Defect = Callable[[SeededResource, Dataset, Random], None]


def _good(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    tree.put(right_name(dataset), encoded(dataset), FileClass.CONFORMING, uid=str(dataset.SOPInstanceUID))


def _in_folder(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    path = f"some/folder/{right_name(dataset)}"
    tree.put(path, encoded(dataset), FileClass.CONFORMING, uid=str(dataset.SOPInstanceUID))


def _named(name_of: Callable[[Dataset], str], scheme: str, disclosed: tuple[str, ...] = ()) -> Defect:
    def defect(tree: SeededResource, dataset: Dataset, random: Random) -> None:
        name = name_of(dataset)
        tree.put(name, encoded(dataset), FileClass.MISMATCHED, uid=str(dataset.SOPInstanceUID))
        tree.expected[name] = right_name(dataset)
        tree.schemes[name] = scheme
        if disclosed:
            tree.disclosures[name] = disclosed

    return defect


def _sop_hash_name(dataset: Dataset) -> str:
    mark = sop_hash(MR, str(dataset.SOPInstanceUID))
    return f"Doe_Jane.MR.Brain.{dataset.SeriesNumber}.{dataset.InstanceNumber}.20260105.101500.{mark}.dcm"


def _name_of_2013(dataset: Dataset) -> str:
    mark = template_2013_hash(MR, str(dataset.SOPInstanceUID))
    return f"{dataset.StudyInstanceUID}-{dataset.SeriesNumber}-{dataset.InstanceNumber}-{mark}.dcm"


def _twice(change: Callable[[Dataset], None], difference: SetDifference, *, name: str = "IM{}") -> Defect:
    def defect(tree: SeededResource, dataset: Dataset, random: Random) -> None:
        other = deepcopy(dataset)
        change(other)
        uid = str(dataset.SOPInstanceUID)
        is_one_name = right_name(other) == right_name(dataset)
        kind = FileClass.DUPLICATE if is_one_name else FileClass.NON_ACTIONABLE_DUPLICATE
        tree.put(right_name(dataset), encoded(dataset), kind, uid=uid)
        for copy in range(random.randrange(1, 3)):
            tree.put(f"{name.format(dataset.InstanceNumber)}.{copy}", encoded(other), kind, uid=uid)
        tree.sets[uid] = difference

    return defect


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)


def _other_group_2(dataset: Dataset) -> None:
    dataset.file_meta.SourceApplicationEntityTitle = "OTHER"


def _bad(data_of: Callable[[Dataset], bytes], name: str) -> Defect:
    def defect(tree: SeededResource, dataset: Dataset, random: Random) -> None:
        uid = None if random.random() < 0.5 else str(dataset.SOPInstanceUID)
        tree.put(f"{name}-{dataset.InstanceNumber}.dcm", data_of(dataset), FileClass.BAD, uid=uid)

    return defect


def _without(keyword: str) -> Callable[[Dataset], bytes]:
    def data_of(dataset: Dataset) -> bytes:
        data = encoded(dataset)  # group 2 keeps the UID: a file needs one
        tag = {"SOPClassUID": b"\x08\x00\x16\x00", "SOPInstanceUID": b"\x08\x00\x18\x00"}[keyword]
        at = data.index(tag, 300)
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        return data[: at + 8 + length].replace(data[at : at + 8 + length], b"") + data[at + 8 + length :]

    return data_of


def _unlisted(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    tree.put(right_name(dataset), encoded(dataset), FileClass.UNLISTED, uid=None)


def _missing(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    tree.want(right_name(dataset), FileClass.MISSING, uid=str(dataset.SOPInstanceUID))


def _uid_differs(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    tree.put(right_name(dataset), encoded(dataset), FileClass.UID_DIFFERS, uid="1.2.3.4")


def _link(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    name = f"link-{dataset.InstanceNumber}"
    (tree.folder / name).symlink_to("/etc/passwd" if random.random() < 0.5 else "..")
    tree.want(name, FileClass.BAD, uid=None)


def _fifo(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    name = f"fifo-{dataset.InstanceNumber}"
    os.mkfifo(tree.folder / name)
    tree.want(name, FileClass.BAD, uid="")


def _socket(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    name = f"socket-{dataset.InstanceNumber}"
    here = os.open(tree.folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/{name}")  # a short name, however deep the folder is
    os.close(here)
    tree.want(name, FileClass.BAD, uid=None)


def _hard_link(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    """One file under two names: a duplicate like any other."""
    _twice(lambda dataset: None, SetDifference.IDENTICAL_BYTES)(tree, dataset, random)
    other = tree.folder / f"IM{dataset.InstanceNumber}.0"
    other.unlink()
    os.link(tree.folder / right_name(dataset), other)


def _broken_name(tree: SeededResource, dataset: Dataset, random: Random) -> None:
    name = os.fsdecode(b"m\xfcller-%d.dcm" % int(dataset.InstanceNumber))
    tree.put(name, encoded(dataset), FileClass.UNLISTED, uid=None)


DEFECTS: dict[str, Defect] = {
    "good": _good,
    "in a folder": _in_folder,
    "sop hash": _named(_sop_hash_name, "sop-hash-1.5", ("PatientName",)),
    "2013": _named(_name_of_2013, "template-2013"),
    "original": _named(lambda dataset: f"IM_{dataset.InstanceNumber}", "original"),
    "with id": _named(lambda dataset: f"PAT-00042_{dataset.InstanceNumber}.dcm", "original", ("PatientID",)),
    "other number": _named(lambda dataset: right_name(dataset).replace("-1-", "-9-"), ""),
    "identical": _twice(lambda dataset: None, SetDifference.IDENTICAL_BYTES),
    "hard link": _hard_link,
    "group 2": _twice(_other_group_2, SetDifference.SAME_DATASET),
    "header": _twice(_set("PatientName", "Anonymous"), SetDifference.HEADER_ONLY),
    "pixel": _twice(_set("PixelData", bytes(8)), SetDifference.PIXEL_DATA),
    "two names": _twice(_set("InstanceNumber", 4711), SetDifference.HEADER_ONLY),
    "text": _bad(lambda dataset: b"This is no DICOM file at all.\n" * 20, "text"),
    "zero bytes": _bad(lambda dataset: b"", "zero"),
    "cut in header": _bad(lambda dataset: encoded(dataset)[:700], "cut"),
    "cut in pixels": _bad(lambda dataset: encoded(dataset)[:-3], "short"),
    "zeros": _bad(lambda dataset: bytes(5000), "hole"),
    "no class": _bad(_without("SOPClassUID"), "classless"),
    "no instance": _bad(_without("SOPInstanceUID"), "nobody"),
    "unlisted": _unlisted,
    "missing": _missing,
    "uid differs": _uid_differs,
    "link": _link,
    "fifo": _fifo,
    "socket": _socket,
    "broken name": _broken_name,
}


def seeded(folder: Path, random: Random, **catalog: Any) -> SeededResource:
    """A resource of up to ten instances, each with some defect."""
    tree = SeededResource(folder)
    for dataset in instances(random.randrange(11), seed=random.randrange(1 << 30)):
        tree.add(dataset, random.choice(list(DEFECTS)), random)
    tree.write_catalog(is_nested=random.random() < 0.5, is_gzipped=random.random() < 0.2, **catalog)
    return tree
