"""Catalogs of XNAT, and what only looks like one."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.surveying import catalog_reader
from archive.surveying.catalog_reader import Catalog, read_catalog
from archive.surveys import Listed
from tests.examples import examples

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<cat:DCMCatalog xmlns:cat="http://nrg.wustl.edu/catalog" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" UID="1.2.3">'
)
TAIL = "</cat:DCMCatalog>"


def entry(uri: str, uid: str = "1.2", more: str = "") -> str:
    return f'<cat:entry ID="x" UID="{uid}" URI="{uri}" xsi:type="cat:dcmEntry"{more}/>'


def read(data: bytes | str, tmp_path: Path) -> Catalog:
    file = tmp_path / "catalog.xml"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    fd = os.open(file, os.O_RDONLY)
    try:
        return read_catalog(fd, "catalog.xml")
    finally:
        os.close(fd)


def listed(catalog: Catalog) -> dict[str, str]:
    assert catalog.listed is not None
    return {path: each.sop_instance_uid for path, each in catalog.listed.items()}


def test_entries_are_listed_wherever_they_stand(tmp_path: Path) -> None:
    """At the top, in sets, in sets of sets; in folders; with metadata of their own."""
    tags = "<cat:metaFields><cat:metaField name='SIZE'>12</cat:metaField></cat:metaFields>"
    text = (
        f"{HEAD}<cat:tags><cat:tag>a</cat:tag></cat:tags>"
        f'<cat:sets><cat:entrySet ID="s"><cat:sets><cat:entrySet><cat:entries>{entry("deep.dcm", "1.3")}</cat:entries>'
        f"</cat:entrySet></cat:sets><cat:entries>{entry('set/b.dcm', '1.4')}</cat:entries></cat:entrySet></cat:sets>"
        f'<cat:entries>{entry("./a.dcm")}<cat:entry URI="plain.dcm">{tags}</cat:entry></cat:entries>{TAIL}'
    )

    catalog = read(text, tmp_path)

    assert listed(catalog) == {"deep.dcm": "1.3", "set/b.dcm": "1.4", "a.dcm": "1.2", "plain.dcm": ""}
    assert (catalog.remarks, catalog.is_dicom) == ((), True)


def test_a_plain_catalog_is_read_too(tmp_path: Path) -> None:
    """`cat:Catalog`, and without any prefix."""
    catalog = read('<Catalog><entries><entry URI="a" UID=" 1.2 "/></entries></Catalog>', tmp_path)

    assert catalog.listed == {"a": Listed(sop_instance_uid="1.2")}
    assert not catalog.is_dicom


def test_a_gzipped_catalog_is_read(tmp_path: Path) -> None:
    """XNAT can write them so; one that was cut lists nothing."""
    data = gzip.compress(f"{HEAD}<cat:entries>{entry('a.dcm')}</cat:entries>{TAIL}".encode())

    assert listed(read(data, tmp_path)) == {"a.dcm": "1.2"}
    assert read(data[:-12], tmp_path).listed is None


@pytest.mark.parametrize(
    "uri",
    [
        "../a",
        "a/../../b",
        "..",
        "/etc/passwd",
        "file:///etc/passwd",
        "file:a",
        "https://example.org/a",
        "s3://b/a",
        ".",
    ],
)
def test_a_uri_that_leads_elsewhere_is_told_and_not_listed(tmp_path: Path, uri: str) -> None:
    """Neither above nor absolute nor anywhere else."""
    catalog = read(f"{HEAD}{entry(uri)}{entry('a.dcm')}{TAIL}", tmp_path)

    assert listed(catalog) == {"a.dcm": "1.2"}
    (remark,) = catalog.remarks
    assert remark.is_trouble
    assert "points outside of the resource" in remark.text and uri in remark.text


def test_entries_that_make_no_sense_are_told(tmp_path: Path) -> None:
    """No URI; one file twice: the first entry counts."""
    catalog = read(f"{HEAD}{entry('')}{entry('a', '1.1')}{entry('./a', '1.9')}{TAIL}", tmp_path)

    assert listed(catalog) == {"a": "1.1"}
    assert [remark.text for remark in catalog.remarks] == [
        "catalog catalog.xml: an entry has no URI (ID x)",
        "catalog catalog.xml: it lists a file twice: a",
    ]


def test_remarks_are_counted_rather_than_repeated(tmp_path: Path) -> None:
    """A thousand entries that lead outside are not a thousand lines."""
    catalog = read(HEAD + entry("../a") * 1000 + TAIL, tmp_path)

    assert len(catalog.remarks) == catalog_reader.MAX_REMARKS + 1
    assert catalog.remarks[-1].text.endswith("980 more")


LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not well formed"),
        (b"\0" * 100, "not well formed"),
        (b"DICM", "not well formed"),
        (HEAD.encode() + entry("a").encode(), "not well formed"),
        (f"{HEAD}{entry('a')}</cat:Other>".encode(), "not well formed"),
        (f"{HEAD}{entry('a', more=' URI=' + chr(34) + 'b' + chr(34))}{TAIL}".encode(), "not well formed"),
        (b"<html><entry URI='a'/></html>", "it is not a catalog"),
        (f"{LAUGHS}<DCMCatalog><entry URI='&b;'/></DCMCatalog>".encode(), "document type"),
        (b'<!DOCTYPE l SYSTEM "file:///etc/passwd"><DCMCatalog/>', "document type"),
        (b"<DCMCatalog><entry URI='&undefined;'/></DCMCatalog>", "not well formed"),
        (b"<DCMCatalog>" + b"<a>" * 100 + b"</a>" * 100 + b"</DCMCatalog>", "nested deeper"),
        (b'<?xml version="1.0" encoding="klingon"?><DCMCatalog/>', "encoding"),
        (b"<DCMCatalog><entry URI='" + b"a" * (3 << 20) + b"'/></DCMCatalog>", "more than 1 MiB"),
        (gzip.compress(b"<DCMCatalog>", mtime=0)[:-1], "not whole"),
    ],
)
def test_what_is_no_catalog_lists_nothing_and_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    """Malformed, other XML, entities, depth, length: all files count as listed, and a person has to look."""
    catalog = read(data, tmp_path)

    assert catalog.listed is None
    (remark,) = catalog.remarks
    assert remark.is_trouble
    assert reason in remark.text


def test_a_catalog_has_a_greatest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes, inflated ones, and in entries."""
    monkeypatch.setattr(catalog_reader, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(catalog_reader, "MAX_ENTRIES", 10)
    bomb = gzip.compress(b"<DCMCatalog>" + b" " * (64 << 20))

    assert "longer than 1 MiB" in read(bomb, tmp_path).remarks[0].text
    many = HEAD + "".join(entry(f"{number}") for number in range(11)) + TAIL
    assert "more than 10 entries" in read(many, tmp_path).remarks[0].text


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_catalog_or_are_told(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, is_in: bool
) -> None:
    """Nothing is raised; what is listed lies inside."""
    folder = tmp_path_factory.getbasetemp()

    catalog = read(HEAD.encode() + data + TAIL.encode() if is_in else data, folder)

    assert catalog.listed is not None or catalog.remarks
    assert all(".." not in path.split("/") and not path.startswith("/") for path in catalog.listed or ())
