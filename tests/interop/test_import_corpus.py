"""The open corpus imported: every file stored or refused for its defect, bytes as they are, a second time nothing."""

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from archive.rules.header import file_reader, read_file_meta
from archive.workspace import Workspace
from cli.main import run
from tests.interop.corpus import CORPUS, CorpusFile, corpus
from tests.story import assert_consistent
from tests.workbench import make_workspace, rows

REFUSED_AT_MOST = 16  # 777 files, 8 of them DICOMDIRs
MEDIUM = "files/pypi-pydicom/test_files/dicomdirtests/TINY_ALPHA/DICOMDIR"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    corpus()  # skips where it is not there
    workspace = make_workspace(tmp_path)
    (workspace.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n")
    return workspace


@pytest.fixture
def told(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Any:
    """Import and return the document."""

    def command(*paths: object) -> dict[str, Any]:
        capsys.readouterr()
        run(["import", *map(str, paths), "--yes", "--json"], {"PREARC_ROOT": str(ws.root.path)})
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return command


def on_disk(ws: Workspace) -> Iterator[str]:
    """The digest of every dataset in the prearchive, from its bytes."""
    for path in (ws.root.path / "prearchive").rglob("*.dcm"):
        data = path.read_bytes()
        fd = os.open(path, os.O_RDONLY)
        meta = read_file_meta(file_reader(fd), len(data))
        os.close(fd)
        yield hashlib.sha256(data[meta.dataset_offset :]).hexdigest()


def importable(refused: set[str], files: Sequence[CorpusFile]) -> Counter[str]:
    """The datasets of these files, as somebody else's reader cut them out, but for indexes and refused files."""
    return Counter(
        each.dataset_sha256 for each in files if "dicomdir" not in each.features and str(each.path) not in refused
    )


@pytest.mark.parametrize("folder", ["files/pypi-pydicom", pytest.param("files", marks=pytest.mark.campaign)])
def test_the_corpus_is_stored_byte_for_byte(ws: Workspace, told: Any, folder: str) -> None:
    """What was acknowledged is on the disk with the dataset of its file; imported again, all of it is known."""
    files = [each for each in corpus() if each.path.is_relative_to(CORPUS / folder)]
    first = told(CORPUS / folder)

    refused = {each["path"] for each in first["refused"]}
    wanted = importable(refused, files)
    answered = first["stored"] + first["already_stored"] + first["held"]
    assert len(refused) <= REFUSED_AT_MOST
    indexes = sum("dicomdir" in each.features for each in files)
    assert (answered, first["skipped_dicomdirs"]) == (wanted.total(), indexes)
    assert set(on_disk(ws)) == set(wanted)
    receipts = rows(ws, "SELECT dataset_sha256 FROM receipt WHERE status = 0")
    assert Counter(row["dataset_sha256"] for row in receipts) == wanted
    for each in files:
        if str(each.path) in refused:
            assert not each.is_regular, each.name
    assert_consistent(ws)

    again = told(CORPUS / folder)

    assert (again["stored"], again["held"], again["already_stored"]) == (0, 0, answered)
    assert {each["path"] for each in again["refused"]} == refused
    assert again["warnings"] == []
    assert_consistent(ws)


@pytest.mark.campaign
def test_a_zip_of_the_corpus_gives_the_same(ws: Workspace, told: Any, tmp_path: Path) -> None:
    """The same files in a zip: the same are stored, the same are refused."""
    archive = tmp_path / "corpus.zip"
    with zipfile.ZipFile(archive, "w", compression=zipfile.ZIP_DEFLATED) as stream:
        for each in corpus():
            stream.write(each.path, arcname=str(each.path.relative_to(CORPUS)))

    document = told(archive)

    prefix = f"{archive}/"
    refused = {str(CORPUS / each["path"].removeprefix(prefix)) for each in document["refused"]}
    assert len(refused) <= REFUSED_AT_MOST
    assert document["stored"] + document["already_stored"] + document["held"] == importable(refused, corpus()).total()
    assert set(on_disk(ws)) == set(importable(refused, corpus()))
    assert_consistent(ws)


def test_a_medium_of_the_corpus(ws: Workspace, told: Any) -> None:
    """A DICOMDIR of another maker: all its files are stored."""
    document = told(CORPUS / MEDIUM)

    assert (document["stored"], document["refused"]) == (50, [])
    assert_consistent(ws)
