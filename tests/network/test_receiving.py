"""Real associations into the real intake: what a sender was told is what disk and catalogue hold."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archive.model import Outcome
from archive.store.catalogue import receipts
from archive.workspace import Workspace
from scp.sender import send
from scp.server import Node
from scp.synthetic import SeriesSpec, study
from tests.network.raw_peer import (
    DATA,
    RELEASE_RP,
    RawPeer,
    message,
    pdu,
    pdv,
    store_rq,
    ui,
)
from tests.network.real_node import real_node

CORPUS = Path(os.environ.get("PREARC_OPEN_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data/open")
FRAGMENT_BYTES = 100_000
CONTEXTS_AT_ONCE = 100


@pytest.fixture
def receiving(tmp_path: Path) -> Iterator[tuple[Node, Workspace]]:
    with real_node(tmp_path) as each:
        yield each


def _trace(workspace: Workspace, uid: str) -> list[tuple[Outcome, int]]:
    with workspace.catalogue.read() as connection:
        return [(each.outcome, each.status) for each in receipts.trace(connection, uid)]


def _dataset_digest(path: Path) -> str:
    """SHA-256 of what follows group 2; its length is group 2's first element (DICOM PS3.10 7.1)."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM"
    group_length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + group_length :]).hexdigest()


@pytest.mark.usefixtures("both_paths")
def test_a_study_is_on_disk_and_in_the_catalogue(receiving: tuple[Node, Workspace]) -> None:
    """Every acknowledged instance has its file and its receipt; sent again it is stored once."""
    node, workspace = receiving
    datasets = study(
        patient_id="P1",
        patient_name="Doe^J",
        series=[SeriesSpec(number=1, instances=3), SeriesSpec(number=2, modality="CT")],
        patient_comments="Project:PI Subject:S1 Session:MR1",
    )
    port = node.addresses[0].port

    first = send("127.0.0.1", port, "PREARC", "SCANNER", datasets)
    again = send("127.0.0.1", port, "PREARC", "SCANNER", datasets)

    assert first == again == [0x0000] * 5
    assert len(list((workspace.root.path / "prearchive/PI").rglob("*.dcm"))) == 5
    for dataset in datasets:
        outcomes = {outcome for outcome, _ in _trace(workspace, dataset.SOPInstanceUID)}
        assert outcomes == {Outcome.STORED, Outcome.ALREADY_STORED}


@pytest.mark.usefixtures("both_paths")
def test_refusals_are_traced(receiving: tuple[Node, Workspace]) -> None:
    """What is refused for its command set or its bytes is answered and listed, and leaves no part."""
    node, workspace = receiving
    with RawPeer(node.addresses[0].port) as peer:
        peer.associate()
        peer.send(message(store_rq("1.2.3.1", sop_class=ui("1.2.3")), b"x"))
        peer.send(message(store_rq("1.2.3.2"), b"this is no dataset at all"))
        peer.send(message(store_rq("1.2.3.3"), b""))
        statuses = [peer.status() for _ in range(3)]
        assert peer.release() == RELEASE_RP

    assert statuses[0] == 0x0122
    assert statuses[1] >> 12 == 0xC
    assert statuses[2] == 0xC002
    assert [_trace(workspace, f"1.2.3.{n}") for n in (1, 2, 3)] == [[(Outcome.REFUSED, status)] for status in statuses]
    assert not list((workspace.root.path / "spool").rglob("*.part"))


@pytest.mark.usefixtures("both_paths")
def test_an_instance_cut_off_leaves_no_part(receiving: tuple[Node, Workspace]) -> None:
    """When the peer vanishes in the middle nothing of the instance stays."""
    node, workspace = receiving
    with RawPeer(node.addresses[0].port) as peer:
        peer.associate()
        peer.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)))
        peer.send(pdu(DATA, pdv(b"x" * 10_000, is_command=False, is_last=False)))

    node.drain(5.0)

    assert not list((workspace.root.path / "spool").rglob("*.part"))
    assert not list((workspace.root.path / "prearchive").rglob("*.dcm"))


def _corpus() -> list[dict[str, Any]]:
    if not (CORPUS / "manifest.json").exists():
        pytest.skip(f"NO CORPUS at {CORPUS}: set PREARC_OPEN_DATA to check against real files")
    files: list[dict[str, Any]] = json.loads((CORPUS / "manifest.json").read_text())["files"]
    return [each for each in files if each["sop_class"] and each["transfer_syntax"]]


def _send_file(peer: RawPeer, context_id: int, entry: dict[str, Any]) -> int:
    """Send the dataset of a file exactly as it lies there."""
    data = (CORPUS / entry["path"]).read_bytes()[entry["dataset_offset"] :]
    uid = entry["sop_uid"]
    request = store_rq(instance=ui(uid) if uid else None, sop_class=ui(entry["sop_class"]))
    peer.send(pdu(DATA, pdv(request, is_command=True, is_last=True, context_id=context_id)))
    for start in range(0, len(data), FRAGMENT_BYTES):
        piece = data[start : start + FRAGMENT_BYTES]
        is_last = start + FRAGMENT_BYTES >= len(data)
        peer.send(pdu(DATA, pdv(piece, is_command=False, is_last=is_last, context_id=context_id)))
    return peer.status()


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.campaign)])
def test_real_files_are_kept_as_sent(receiving: tuple[Node, Workspace], step: int) -> None:
    """Each file of the open corpus, or every sixth, is stored with exactly its dataset's bytes, or refused."""
    node, workspace = receiving
    entries = _corpus()[::step]
    pairs = sorted({(each["sop_class"], each["transfer_syntax"]) for each in entries})
    accepted: dict[str, int] = {}
    for start in range(0, len(pairs), CONTEXTS_AT_ONCE):
        ids = {pair: 2 * index + 1 for index, pair in enumerate(pairs[start : start + CONTEXTS_AT_ONCE])}
        with RawPeer(node.addresses[0].port, timeout_seconds=30) as peer:
            peer.associate([(context_id, uid, [syntax]) for (uid, syntax), context_id in ids.items()])
            for entry in entries:
                if (context_id := ids.get((entry["sop_class"], entry["transfer_syntax"]))) is not None:
                    accepted[entry["path"]] = _send_file(peer, context_id, entry)
            assert peer.release() == RELEASE_RP

    assert len(accepted) == len(entries)
    stored = {_dataset_digest(path) for path in (workspace.root.path / "prearchive").rglob("*.dcm")}
    lost = [
        entry["path"] for entry in entries if accepted[entry["path"]] == 0 and entry["dataset_sha256"] not in stored
    ]
    assert lost == []
    assert sum(status == 0 for status in accepted.values()) > 0.9 * len(entries)
    with workspace.catalogue.read() as connection:
        assert sum(receipts.counts_since(connection, "").values()) == len(entries)
