"""pynetdicom as a sender: its own association, its own encoder, several associations at once."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.fast_path import VARIABLE
from tests.interop.corpus import CorpusFile, different, regular
from tests.interop.peers import Peered, assert_kept, listening
from tests.interop.wire import C_ECHO_RSP

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_BASELINE, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


@pytest.fixture(params=["true", "false"], ids=["fast", "stock"])
def peered(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peered]:
    monkeypatch.setenv(VARIABLE, request.param)
    with listening(tmp_path) as each:
        yield each


def _send(port: int, files: list[CorpusFile], said: list[Any]) -> None:
    """An echo, then each file in the transfer syntax it has."""
    entity = AE(ae_title="PYNETDICOM")
    entity.add_requested_context(Verification)
    for sop_class, syntax in {(each.sop_class_uid, each.transfer_syntax_uid) for each in files}:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title="PREARC")
    said.append(association.is_established)
    said.append(association.send_c_echo().Status)
    said += [association.send_c_store(dcmread(each.path)).Status for each in files]
    association.release()


def test_store(peered: Peered) -> None:
    """Files of several classes and transfer syntaxes in one association: answered and kept as they were sent."""
    syntaxes = (EXPLICIT, IMPLICIT, JPEG_BASELINE, JPEG_2000, RLE)
    files = [each for syntax in syntaxes for each in different(regular(syntax))[:3]]
    said: list[Any] = []

    _send(peered.port, files, said)

    sent = peered.tap.instances()
    (conversation,) = peered.tap.conversations()
    assert said == [True, 0, *[0] * len(files)]
    assert {each.transfer_syntax_uid for each in sent} == set(syntaxes)
    assert conversation.statuses(C_ECHO_RSP) == [0]
    assert conversation.is_released
    assert_kept(peered, sent)


def test_store_by_several_at_once(peered: Peered) -> None:
    """Four associations side by side, each with files of its own."""
    files = different(regular(EXPLICIT))[:12]
    said: list[list[Any]] = [[] for _ in range(4)]
    senders = [
        threading.Thread(target=_send, args=(peered.port, files[number::4], said[number])) for number in range(4)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    assert said == [[True, 0, 0, 0, 0]] * 4
    assert all(each.is_released for each in peered.tap.conversations())
    assert_kept(peered, peered.tap.instances())


def test_a_stranger_is_rejected(peered: Peered) -> None:
    """Its association says that it was rejected, and nothing is kept."""
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context(Verification)

    association = entity.associate("127.0.0.1", peered.port, ae_title="STRICT")

    assert association.is_rejected
    assert [each.rejection for each in peered.tap.conversations()] == [(1, 1, 3)]
    assert peered.files() == []
