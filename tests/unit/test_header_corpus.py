"""Every header of the open corpus, attribute by attribute, as pydicom reads it."""

import io
import json
import os
import random
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.multival import MultiValue

from archive.attributes import HEADER_TAGS, header_value
from archive.errors import HeaderError
from archive.model import InstanceHeader
from archive.rules.header import FileMeta, ReadAt, TruncatedHeader, file_reader, read_file_header

CORPUS = Path(os.environ.get("PREARC_OPEN_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data/open")

REFUSED = {
    # PixelData claims 8,192 bytes, the file ends before
    "pydicom/test_files/MR_truncated.dcm": TruncatedHeader,
    # the file ends inside the last sequence, which has a defined length
    "pydicom/test_files/rtplan_truncated.dcm": TruncatedHeader,
    # a stray byte stands before the first element, so that pydicom reads elements that are not there
    "pydicom/test_files/no_meta.dcm": HeaderError,
}

GUESSED = {
    # no Transfer Syntax UID: pydicom leaves it empty, prearc names what it found
    "pypi-pydicom-data/OT-PAL-8-face.dcm": "1.2.840.10008.1.2",
    "pydicom/test_files/ExplVR_BigEndNoMeta.dcm": "1.2.840.10008.1.2.2",
    "pydicom/test_files/ExplVR_LitEndNoMeta.dcm": "1.2.840.10008.1.2.1",
    "pydicom/test_files/meta_missing_tsyntax.dcm": "1.2.840.10008.1.2",
    "pydicom/test_files/rtstruct.dcm": "1.2.840.10008.1.2",
}

AS_SENT = {
    # pydicom drops the empty third component group of a name ("...=")
    ("Test Data/GH1301.dcm", "patient_name"),
    ("charset_files/chrX1.dcm", "patient_name"),
    ("charset_files/chrX2.dcm", "patient_name"),
}


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, bytes]]:
    manifest = CORPUS / "manifest.json"
    if not manifest.is_file():
        pytest.skip(f"NO CORPUS at {CORPUS}: set PREARC_OPEN_DATA to check against real files")
    paths = [entry["path"] for entry in json.loads(manifest.read_text())["files"]]
    assert paths
    return [(path, (CORPUS / path).read_bytes()) for path in paths]


def memory(data: bytes) -> ReadAt:
    return lambda offset, size: data[offset : offset + size]


def named(table: Any, path: str) -> Any:
    return next((table[end] for end in table if path.endswith(end)), None)


def read(data: bytes) -> tuple[FileMeta, InstanceHeader]:
    return read_file_header(memory(data), len(data))


def as_text(dataset: pydicom.Dataset, tag: int) -> str:
    """pydicom's value in our form."""
    value = dataset[tag].value if tag in dataset else ""
    if isinstance(value, MultiValue):
        value = "\\".join(str(part) for part in value)
    return "" if value is None else str(value).strip("\0 ")


def test_every_header_is_what_pydicom_reads(corpus: list[tuple[str, bytes]]) -> None:
    """All attributes of all files agree, but for the exceptions named above."""
    differences = []
    for path, data in corpus:
        if named(REFUSED, path):
            continue
        meta, header = read(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
            expected = {name: as_text(dataset, tag) for tag, name in HEADER_TAGS.items()}
        syntax = named(GUESSED, path) or dataset.file_meta.get("TransferSyntaxUID", "")
        if {meta.transfer_syntax_uid, header.transfer_syntax_uid} != {syntax}:
            differences.append((path, "transfer_syntax_uid", syntax, meta.transfer_syntax_uid))
        for name, value in expected.items():
            found = getattr(header, name)
            is_exception = any(path.endswith(end) and name == field for end, field in AS_SENT)
            if found.strip() != (value.strip() + "=" if is_exception else value.strip()):
                differences.append((path, name, value, found))

    assert differences == []


def test_what_is_refused_is_refused_for_its_reason(corpus: list[tuple[str, bytes]]) -> None:
    """Exactly the named files are refused, so no whole file counts as truncated."""
    refused = {}
    for path, data in corpus:
        try:
            read(data)
        except HeaderError as error:
            refused[path] = type(error)

    assert sorted(refused.values(), key=str) == sorted(REFUSED.values(), key=str)
    assert all(refused[path] is named(REFUSED, path) for path in refused)


def test_a_file_cut_inside_its_pixel_data_is_truncated(corpus: list[tuple[str, bytes]]) -> None:
    """Nearly every file that ends with pixel data and loses a tenth of its bytes is seen to be cut."""
    unseen = []
    count = 0
    for path, data in corpus:
        last = data.rfind(b"\xe0\x7f\x10\x00")
        if len(data) < 2000 or not 0 < last < len(data) // 2 or named(REFUSED, path):
            continue
        count += 1
        try:
            read(data[: -len(data) // 10])
            unseen.append(path)
        except TruncatedHeader:
            pass

    assert count > 200
    assert len(unseen) <= count // 50, unseen


def test_a_file_and_its_bytes_read_the_same(corpus: list[tuple[str, bytes]]) -> None:
    """Reading through the file's window gives what reading from memory gives."""
    for path, data in corpus[::5]:
        if named(REFUSED, path):
            continue
        with (CORPUS / path).open("rb") as file:
            assert read_file_header(file_reader(file.fileno()), len(data)) == read(data)


def test_damaged_real_headers_never_fail_otherwise(corpus: list[tuple[str, bytes]]) -> None:
    """Flipped bytes, cuts and doubled pieces of real headers give a header or a `HeaderError`."""
    rng = random.Random(20_240_601)
    headers = 0
    for _, original in corpus:
        data = bytearray(original[:20_000])
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    data[place : place + 4] = b"\xff\xff\xff\xff"
                case _:
                    data[place:place] = data[place : place + rng.randrange(64)]
        try:
            _, header = read(bytes(data))
        except HeaderError:
            continue
        headers += 1
        for tag in HEADER_TAGS:
            assert "\0" not in header_value(header, tag)
            header_value(header, tag).encode()

    assert headers > 0
