"""GDCM's sender against the real node. gdcmscu ends with 134 after a clean release: its exit code says nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.corpus import CorpusFile, different, regular
from tests.interop.peers import Peered, assert_kept, listening
from tests.interop.tools import run
from tests.interop.wire import C_ECHO_RSP

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_BASELINE, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


@pytest.fixture
def peered(tmp_path: Path) -> Iterator[Peered]:
    with listening(tmp_path) as each:
        yield each


def test_echo_is_answered(peered: Peered) -> None:
    """gdcmscu --echo gets its answer and its release."""
    ran = run("gdcmscu", "--echo", "--call", "PREARC", "--aetitle", "GDCM", "127.0.0.1", peered.port)

    (conversation,) = peered.tap.conversations()
    assert conversation.statuses(C_ECHO_RSP) == [0x0000], ran
    assert conversation.is_released, ran


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, JPEG_BASELINE, JPEG_2000, RLE])
def test_store(peered: Peered, syntax: str) -> None:
    """What gdcmscu --store puts on the wire is on the disk, uncompressed and compressed, one file or several."""
    files = different(regular(syntax))[:5]
    assert files

    ran = _store(peered, files)

    sent = peered.tap.instances()
    assert {each.sop_instance_uid for each in sent} == {each.sop_instance_uid for each in files}, ran
    assert_kept(peered, sent)


def test_store_again(peered: Peered) -> None:
    """The same files once more are acknowledged and change nothing."""
    files = different(regular(EXPLICIT))[:5]
    _store(peered, files)
    before = {each.path: each.sha256 for each in peered.files()}

    _store(peered, files)

    assert [each.status for each in peered.tap.instances()] == [0x0000] * 10
    assert {each.path: each.sha256 for each in peered.files()} == before
    assert peered.outcomes() == {"STORED": 5, "ALREADY_STORED": 5}


def test_a_stranger_is_rejected(peered: Peered) -> None:
    """A caller who is not listed is told so, and nothing of his is kept."""
    (file,) = regular(EXPLICIT)[:1]

    run("gdcmscu", "--store", "--call", "STRICT", "--aetitle", "STRANGER", "127.0.0.1", peered.port, file.path)

    assert {each.rejection for each in peered.tap.conversations()} == {(1, 1, 3)}
    assert peered.files() == []


def _store(peered: Peered, files: list[CorpusFile]) -> object:
    inputs = [each.path for each in files]
    return run("gdcmscu", "--store", "--call", "PREARC", "--aetitle", "GDCM", "127.0.0.1", peered.port, *inputs)
