"""Hostile words and broken bytes: nothing leaves the root, nothing is named after them, every one leaves a trace."""

import ctypes
import errno
import os
import re
import resource
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive import failpoints, receive, sessions
from archive.model import Outcome, Receipt, Refusal, Source, StoreRequest
from archive.store import files
from archive.store.catalogue import receipts
from archive.workspace import Workspace
from scp.status import STATUSES
from scp.synthetic import SeriesSpec
from tests.story import assert_consistent, labelled_workspace, visit
from tests.workbench import PIECE_BYTES, Sender, encoded, make_workspace, rows, tree

EXPLICIT: Final = "1.2.840.10008.1.2.1"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
DICOMDIR: Final = "1.2.840.10008.1.3.10"

HOSTILE: Final = (
    b"..",
    b".",
    b"/",
    b"../../../../etc/cron.d/x",
    b"/etc/passwd",
    b"a/b",
    b"a\0b",
    b"\0",
    b"\x1b[2J\x1b]0;x\x07",
    b"a\nb\rc",
    b"-rf",
    b"~root",
    b"$(id)`id`",
    "\u202egnp.exe".encode(),
    "ä\u0000ö".encode(),
    b"\xff\xfe\x80",
    b"CON",
    b"x" * 4096,
    b"../" * 1300,
    b" ",
    b"",
)
TAGS: Final = {
    "sop_class_uid": (0x00080016, b"UI"),
    "sop_instance_uid": (0x00080018, b"UI"),
    "accession_number": (0x00080050, b"SH"),
    "modality": (0x00080060, b"CS"),
    "study_description": (0x00081030, b"LO"),
    "patient_name": (0x00100010, b"PN"),
    "patient_id": (0x00100020, b"LO"),
    "patient_comments": (0x00104000, b"LT"),
    "study_instance_uid": (0x0020000D, b"UI"),
    "series_instance_uid": (0x0020000E, b"UI"),
    "series_number": (0x00200011, b"IS"),
    "instance_number": (0x00200013, b"IS"),
}
NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*", re.ASCII)
PLACE: Final = re.compile(
    r"prearchive/[A-Za-z0-9_-]+/\d{8}_\d{9}/[A-Za-z0-9_-]+/SCANS/[A-Za-z0-9_.-]+/DICOM/[A-Za-z0-9._~-]+\.dcm", re.ASCII
)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One data element in Explicit VR Little Endian, whatever the value is worth."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def raw_dataset(**fields: bytes) -> bytes:
    """A dataset with these fields; what is not given is sound."""
    sound = {
        "sop_class_uid": MR.encode(),
        "sop_instance_uid": b"1.2.3.4",
        "patient_id": b"P1",
        "modality": b"MR",
        "study_instance_uid": b"1.2.3",
        "series_instance_uid": b"1.2.3.1",
        "series_number": b"1",
        "instance_number": b"1",
    }
    values = {**sound, **fields}
    return b"".join(element(*TAGS[name], values[name]) for name in sorted(values, key=lambda name: TAGS[name][0]))


def store_raw(
    ws: Workspace,
    data: bytes,
    *,
    sop_instance_uid: str = "1.2.3.4",
    sop_class_uid: str = MR,
    transfer_syntax_uid: str = EXPLICIT,
    calling: str = "SCANNER",
    peer_host: str = "192.0.2.7",
    sender: Sender | None = None,
) -> Receipt:
    """What a peer sends, byte for byte."""
    sender = sender or Sender(ws)
    association = sender.intake.open(receiver=ws.settings.receiver[0], calling_ae_title=calling, peer_host=peer_host)
    request = StoreRequest(
        sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
    )
    part = association.begin(request)
    for start in range(0, len(data), PIECE_BYTES):
        part.write(data[start : start + PIECE_BYTES])
    receipt = association.finish(request, part)
    association.close()
    sender.intake.endings.settle()
    return receipt


def trace(ws: Workspace, uid: str) -> list[Receipt]:
    with ws.catalogue.read() as connection:
        return receipts.trace(connection, uid)


def assert_inside(ws: Workspace, beside: Path) -> None:
    """Every name below the root is harmless, and nothing came to be beside it."""
    assert [path.name for path in beside.iterdir()] == ["root"]
    for parent, folders, names in os.walk(os.fsencode(ws.root.path)):
        for name in folders + names:
            if name in (b"spool", b"lost+found") or name.startswith(b"catalogue"):
                continue
            assert NAME.fullmatch(os.fsdecode(name)), (parent, name)
            assert len(name) <= 255


def assert_nothing_left(ws: Workspace) -> None:
    """No part, no open association."""
    assert not list((ws.root.path / "spool").glob("*.part"))
    assert rows(ws, "SELECT id FROM association WHERE is_open = 1") == []


# --- hostile words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [name for name in TAGS if name not in ("sop_class_uid", "sop_instance_uid")])
def test_a_hostile_value_never_becomes_a_name(tmp_path: Path, field: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Stored or refused, with a receipt; all names are made of letters, digits, dot, dash, underscore and tilde."""
    ws = make_workspace(tmp_path)
    sender = Sender(ws)
    stored = 0

    for number, text in enumerate(HOSTILE):
        uid = f"1.2.3.4.{number}"
        value = b"Project:" + text + b" Subject:" + text + b" Session:" + text if field == "patient_comments" else text
        data = raw_dataset(**{"sop_instance_uid": uid.encode(), field: value})
        receipt = store_raw(ws, data, sop_instance_uid=uid, sender=sender)

        assert [told.outcome for told in trace(ws, uid)] == [receipt.outcome]
        if receipt.outcome is Outcome.STORED:
            stored += 1
            assert receipt.path is not None and PLACE.fullmatch(receipt.path), receipt.path
            assert (ws.root.path / receipt.path).read_bytes().endswith(data)

    assert stored >= len(HOSTILE) - 2  # a value is no reason to refuse an instance
    assert_inside(ws, tmp_path)
    assert_nothing_left(ws)
    assert_consistent(ws)
    said = capfd.readouterr()
    assert "\x1b[2J" not in said.out + said.err and "cron.d" not in said.out + said.err


@pytest.mark.parametrize("field", ["sop_class_uid", "sop_instance_uid"])
def test_a_hostile_identity_is_refused(tmp_path: Path, field: str) -> None:
    """A SOP Instance UID that is none is 0117, another class than announced A900; both traced, no name made."""
    ws = labelled_workspace(tmp_path)
    for text in HOSTILE:
        told = text.decode("latin-1")
        data = raw_dataset(**{field: text})
        receipt = store_raw(ws, data, sop_instance_uid=told if field == "sop_instance_uid" else "1.2.3.4")

        assert receipt.outcome is Outcome.REFUSED
        assert receipt.status == (0x0117 if field == "sop_instance_uid" else 0xA900)
        assert receipt.message.isascii() and receipt.message.isprintable()

    assert rows(ws, "SELECT id FROM session") == []
    assert rows(ws, "SELECT count(*) AS n FROM receipt") == [{"n": len(HOSTILE)}]
    assert_inside(ws, tmp_path)
    assert_nothing_left(ws)


@pytest.mark.parametrize("where", ["calling", "peer_host"])
def test_a_hostile_caller_never_becomes_a_name(tmp_path: Path, where: str) -> None:
    """AE title and peer may decide labels by rule; what they name is made safe."""
    source = {"calling": "CallingAETitle", "peer_host": "Peer"}[where]
    receiver = {
        "ae_title": "PREARC",
        "project": f"{source}:(.*)",
        "subject": f"{source}:(.*)",
        "session": f"{source}:(.*)",
    }
    ws = make_workspace(tmp_path, receiver=[receiver])

    for number, text in enumerate(HOSTILE):
        uid = f"1.2.3.4.{number}"
        data = raw_dataset(sop_instance_uid=uid.encode())
        told = {where: text.decode("latin-1")[:64]}
        receipt = store_raw(ws, data, sop_instance_uid=uid, **told)  # type: ignore[arg-type]

        assert receipt.outcome is Outcome.STORED
        assert receipt.path is not None and PLACE.fullmatch(receipt.path)

    assert_inside(ws, tmp_path)
    assert_consistent(ws)


def test_a_link_planted_below_the_root_leads_nowhere(tmp_path: Path) -> None:
    """Somebody exchanged the prearchive for a link: the store fails with A700 and writes nothing through it."""
    ws = labelled_workspace(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (ws.root.path / "prearchive").rmdir()
    (ws.root.path / "prearchive").symlink_to(outside)

    receipt = store_raw(ws, raw_dataset())

    assert (receipt.outcome, receipt.status) == (Outcome.REFUSED, 0xA700)
    assert list(outside.iterdir()) == []
    assert_nothing_left(ws)


# --- a full disk -----------------------------------------------------------------------------------------------------


def large(instances: int = 1) -> SeriesSpec:
    """8 MB an instance."""
    return SeriesSpec(number=1, instances=instances, rows=2048, columns=2048)


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond it (EFBIG), as a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_out_of_resources(ws: Workspace, receipt: Receipt) -> None:
    """A700, traced, and not a byte of it left."""
    assert (receipt.outcome, receipt.status) == (Outcome.REFUSED, 0xA700)
    (told,) = trace(ws, receipt.sop_instance_uid)
    assert (told.outcome, told.status, told.path) == (Outcome.REFUSED, 0xA700, None)
    assert told.message.startswith("OUT_OF_RESOURCES: ")
    assert rows(ws, "SELECT id FROM instance") == []
    assert not [path for path in tree(ws) if path.endswith((".part", ".dcm"))]


def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """The disk refuses more in the middle of an instance: A700, no part, the rest swallowed; the next store works."""
    ws = labelled_workspace(tmp_path)
    (big,) = visit(series=[large()])
    sender = Sender(ws)

    with file_size_limit(4 << 20):
        receipt = sender.store(big)
        assert_out_of_resources(ws, receipt)
        small = sender.store(visit(series=[SeriesSpec(number=2, instances=1)])[0])
        assert small.outcome is Outcome.STORED

    assert sender.store(big).outcome is Outcome.STORED
    assert_nothing_left(ws)
    assert_consistent(ws)


@contextmanager
def small_file_system(path: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of this size; skipped where none can be mounted."""
    path.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_bytes},mode=700".encode()
    if libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, options) != 0:
        pytest.skip(f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield path
    finally:
        libc.umount2(os.fsencode(path), 2)  # MNT_DETACH


@pytest.mark.root
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """ENOSPC in the middle of an instance: A700 with its receipt, the space is free again, the next store works."""
    with small_file_system(tmp_path / "small", 4 << 20) as folder:
        ws = labelled_workspace(folder)
        (big,) = visit(series=[large()])
        sender = Sender(ws)
        before = shutil.disk_usage(folder).free

        receipt = sender.store(big)

        assert_out_of_resources(ws, receipt)
        assert shutil.disk_usage(folder).free > before - (256 << 10)
        small = sender.store(visit(series=[SeriesSpec(number=2, instances=1)])[0])
        assert small.outcome is Outcome.STORED
        assert_consistent(ws)
        ws.close()


@pytest.mark.parametrize("step", ["P1", "P3", "P5", "P6", "P7"])
def test_no_space_at_any_step_is_out_of_resources(tmp_path: Path, step: str) -> None:
    """ENOSPC wherever the instance is on its way: A700, no name left in the prearchive; then all is well."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    (dataset,) = visit(series=[SeriesSpec(number=1, instances=1)])

    failpoints.arm(f"{step}=errno:ENOSPC@1")
    try:
        receipt = sender.store(dataset)
    finally:
        failpoints.arm("")

    assert (receipt.outcome, receipt.status) == (Outcome.REFUSED, 0xA700)
    assert rows(ws, "SELECT id FROM instance") == []
    assert not [path for path in tree(ws) if path.endswith(".dcm")]
    assert not list((ws.root.path / "spool").glob("*.part"))
    assert [str(told.outcome) for told in trace(ws, receipt.sop_instance_uid)] == ["REFUSED"]
    assert sender.store(dataset).outcome is Outcome.STORED
    assert_consistent(ws)


SHORT_OF_SPACE: Final = {"low_water_bytes": 1 << 50, "high_water_bytes": 1 << 50}


def test_refusals_below_low_water_are_counted_not_written(tmp_path: Path) -> None:
    """A sender that retries without end cannot eat the reserve: the first refusal of an association, and a count."""
    ws = labelled_workspace(tmp_path, node=SHORT_OF_SPACE)
    sender = Sender(ws)
    datasets = visit(series=[SeriesSpec(number=1, instances=3)])

    receipts_ = sender.store_all([dataset for _ in range(10) for dataset in datasets])

    assert {(receipt.outcome, receipt.status) for receipt in receipts_} == {(Outcome.REFUSED, 0xA700)}
    (first,) = trace(ws, str(datasets[0].SOPInstanceUID))
    assert first.message.startswith("OUT_OF_RESOURCES: free space")
    (last,) = trace(ws, str(datasets[2].SOPInstanceUID))
    assert last.message.startswith("OUT_OF_RESOURCES: free space") and "29 more" in last.message
    assert last.status == 0xA700
    assert trace(ws, str(datasets[1].SOPInstanceUID)) == []
    assert_nothing_left(ws)


def test_a_single_refusal_below_low_water_has_one_receipt(tmp_path: Path) -> None:
    """Nothing more was refused, so nothing more is said; the next association's first refusal is written again."""
    ws = labelled_workspace(tmp_path, node=SHORT_OF_SPACE)
    sender = Sender(ws)

    for _ in range(2):
        sender.store(visit()[0])

    assert len(rows(ws, "SELECT id FROM receipt")) == 2
    assert not rows(ws, "SELECT id FROM receipt WHERE message LIKE '%more%'")


def test_another_refusal_keeps_its_own_receipt_although_space_is_short(tmp_path: Path) -> None:
    """Only what was not admitted is counted: a request that is wrong by itself is traced each time."""
    ws = labelled_workspace(tmp_path, node=SHORT_OF_SPACE)
    association = Sender(ws).intake.open(receiver=ws.settings.receiver[0], calling_ae_title="X", peer_host="192.0.2.7")
    request = StoreRequest(sop_class_uid=MR, sop_instance_uid="1.2", transfer_syntax_uid=EXPLICIT)

    for _ in range(3):
        association.refuse(request, Refusal.NOT_NEGOTIATED, "not for storage")
    association.close()

    assert [str(told.message) for told in trace(ws, "1.2")] == ["NOT_NEGOTIATED: not for storage"] * 3


def test_refusals_without_end_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one association sends wrong is traced and kept so many times; then one receipt says how many more."""
    monkeypatch.setattr(receive, "MOST_REFUSALS_TOLD", 3)
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)

    stored = [store_raw(ws, GARBAGE, sender=sender) for _ in range(2)]
    association = sender.intake.open(receiver=ws.settings.receiver[0], calling_ae_title="X", peer_host="192.0.2.7")
    request = StoreRequest(sop_class_uid=MR, sop_instance_uid="1.2", transfer_syntax_uid=EXPLICIT)
    parts = []
    for _ in range(10):
        parts.append(association.begin(request))
        parts[-1].write(GARBAGE)
        assert association.finish(request, parts[-1]).status == 0x0117
    association.close()
    sender.intake.endings.settle()

    assert all(each.path is not None for each in stored)
    *told, last = [str(each.message) for each in trace(ws, "1.2")]
    assert len(told) == 3 and not any("more" in each for each in told)
    assert "7 more of this association were refused" in last
    assert len(list((ws.root.path / "quarantine").rglob("*.dcm"))) == 5
    assert_nothing_left(ws)


def test_an_import_has_a_receipt_of_each_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many: files of a disk are finite, and a person looks for each."""
    monkeypatch.setattr(receive, "MOST_REFUSALS_TOLD", 3)
    ws = labelled_workspace(tmp_path)
    association = Sender(ws).intake.open(
        receiver=ws.settings.receiver[0], calling_ae_title="X", peer_host="", source=Source.IMPORT
    )
    request = StoreRequest(sop_class_uid=MR, sop_instance_uid="1.2", transfer_syntax_uid=EXPLICIT)

    for _ in range(10):
        association.refuse(request, Refusal.NOT_NEGOTIATED, "not for storage")
    association.close()

    assert len(trace(ws, "1.2")) == 10


# --- broken bytes ----------------------------------------------------------------------------------------------------


GARBAGE: Final = b"\xff" * 64
DELIMITER: Final = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE: Final = struct.pack("<HH2sHL", 0x0008, 0x0006, b"SQ", 0, 0xFFFFFFFF)
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
CASES: Final[Mapping[str, tuple[bytes, Refusal, bool]]] = {
    "a delimiter without sequence": (DELIMITER + raw_dataset(), Refusal.CANNOT_UNDERSTAND, True),
    "a sequence of no items": (SEQUENCE + raw_dataset(), Refusal.CANNOT_UNDERSTAND, True),
    "no deflated stream": (b"\x07" * 64, Refusal.CANNOT_UNDERSTAND, True),
    "garbage": (GARBAGE, Refusal.UID_INVALID, True),
    "cut": (raw_dataset()[:-3], Refusal.TRUNCATED, True),
    "cut in an element's head": (raw_dataset()[:45], Refusal.TRUNCATED, True),
    "length beyond the end": (struct.pack("<HH2sHL", 8, 5, b"UT", 0, 1 << 31), Refusal.TRUNCATED, True),
    "empty": (b"", Refusal.EMPTY, False),
    "another class": (raw_dataset(sop_class_uid=b"1.2.840.10008.5.1.4.1.1.2"), Refusal.CLASS_MISMATCH, True),
    "another instance": (raw_dataset(sop_instance_uid=b"1.2.3.5"), Refusal.UID_INVALID, True),
    "no instance UID": (raw_dataset(sop_instance_uid=b""), Refusal.UID_INVALID, True),
    "a DICOMDIR": (raw_dataset(sop_class_uid=DICOMDIR.encode()), Refusal.NOT_COMPOSITE, True),
    "too large": (raw_dataset() + element(0x7FE00010, b"UN", b"") + b"\0" * 70_000, Refusal.OVER_LIMIT, False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_filed_is_refused_traced_and_kept(tmp_path: Path, case: str) -> None:
    """Each refusal has its status; bytes that may tell something are in the quarantine, and the receipt says where."""
    data, refusal, is_kept = CASES[case]
    ws = labelled_workspace(tmp_path, limits={"instance_bytes": 65536})

    receipt = store_raw(ws, data, transfer_syntax_uid=DEFLATED if case == "no deflated stream" else EXPLICIT)

    assert (receipt.outcome, receipt.status) == (Outcome.REFUSED, STATUSES[refusal].code)
    (told,) = trace(ws, "1.2.3.4")
    assert (told.outcome, told.status, told.path) == (Outcome.REFUSED, receipt.status, receipt.path)
    assert told.message.startswith(f"{refusal}: ")
    kept = [path for path in tree(ws) if path.startswith("quarantine/") and path.endswith(".dcm")]
    assert kept == ([receipt.path] if is_kept else [])
    if receipt.path is not None:
        content = (ws.root.path / receipt.path).read_bytes()
        assert content.endswith(data) and content[128:132] == b"DICM"
        assert told.dataset_sha256 is not None
    assert rows(ws, "SELECT id FROM session") == []
    assert_nothing_left(ws)


def test_every_refusal_of_a_dataset_is_made_here() -> None:
    """The refusals that are left are made by the network door."""
    at_the_door = {Refusal.OUT_OF_RESOURCES, Refusal.NOT_NEGOTIATED, Refusal.NOT_AUTHORISED}

    assert {refusal for _, refusal, _ in CASES.values()} == set(Refusal) - at_the_door


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    """When it is full no more is kept and nothing is deleted to make room, also after a restart; all is traced.

    A file counts as a block at least.
    """
    limits = {"quarantine_bytes": 3 * 4096}
    ws = labelled_workspace(tmp_path, limits=limits)
    sender = Sender(ws)

    paths = [store_raw(ws, GARBAGE * 10, sender=sender).path for _ in range(5)]
    sender.intake.close()
    again = store_raw(ws, GARBAGE * 10).path

    kept = [path for path in paths if path is not None]
    assert kept == paths[:3]
    assert again is None
    assert len(list((ws.root.path / "quarantine").rglob("*.dcm"))) == 3
    assert all((ws.root.path / path).exists() for path in kept)
    assert len(trace(ws, "1.2.3.4")) == 6
    assert_nothing_left(ws)


def test_processes_share_the_bound_of_the_quarantine(tmp_path: Path) -> None:
    """Two that were both there when it was empty keep no more together than one would."""
    ws = labelled_workspace(tmp_path, limits={"quarantine_bytes": 3 * 4096})
    senders = [Sender(ws), Sender(ws)]

    paths = [store_raw(ws, GARBAGE * 10, sender=senders[number % 2]).path for number in range(8)]

    kept = [path for path in paths if path is not None]
    assert kept == paths[:3]


@pytest.mark.parametrize("step", ["make_folder", "link", "sync_folder"])
def test_what_the_quarantine_could_not_keep_takes_no_space_of_it(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk for a while: nothing is kept and no name stays, and afterwards the quarantine holds what it may."""
    ws = labelled_workspace(tmp_path, limits={"quarantine_bytes": 4096})
    sender = Sender(ws)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, step, fail)
        lost = [store_raw(ws, GARBAGE * 10, sender=sender) for _ in range(5)]
    kept = store_raw(ws, GARBAGE * 10, sender=sender)

    assert [(receipt.status, receipt.path) for receipt in lost] == [(0x0117, None)] * 5
    assert kept.path is not None
    assert [str(path.relative_to(ws.root.path)) for path in (ws.root.path / "quarantine").rglob("*.dcm")] == [kept.path]
    assert_nothing_left(ws)


def test_an_abandoned_instance_leaves_nothing(tmp_path: Path) -> None:
    """The peer leaves in the middle of a dataset: it was not received, and nobody was told otherwise."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    association = sender.intake.open(receiver=ws.settings.receiver[0], calling_ae_title="X", peer_host="192.0.2.7")
    data = encoded(visit()[0])

    part = association.begin(StoreRequest(sop_class_uid=MR, sop_instance_uid="1.2", transfer_syntax_uid=EXPLICIT))
    part.write(data[:100])
    association.abandon(part)
    association.close()

    assert rows(ws, "SELECT id FROM receipt") == []
    assert_nothing_left(ws)


def test_a_session_of_hostile_labels_can_be_built_and_archived(tmp_path: Path) -> None:
    """What came in under hostile words goes on like any other session, to the archive and into its catalog."""
    from archive.archiving import archive
    from archive.examination.review import ArchiveOrder

    ws = make_workspace(tmp_path, receiver=[{"ae_title": "PREARC", "project": "PI"}])
    data = raw_dataset(
        patient_id=b"../../etc", patient_name=b"\x1b[2J", series_number=b"../7", study_instance_uid=b"not/a\x1buid"
    )
    receipt = store_raw(ws, data)
    session = sessions.close(ws, receipt.session_id or 0)

    result = archive(ws, session.id, ArchiveOrder())

    assert (str(session.status), result.status) == ("READY", "ARCHIVED")
    assert_inside(ws, tmp_path)
    assert_consistent(ws)


def test_whatever_bytes_come_there_is_an_answer(tmp_path: Path) -> None:
    """Random bytes, and sound datasets with random damage: an outcome and a receipt for each, never an exception."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    sound = encoded(visit(series=[SeriesSpec(number=1, instances=1)])[0])[:800]
    answered = 0

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=8))))
    def store(what: bytes | tuple[int, bytes]) -> None:
        nonlocal answered
        data = what if isinstance(what, bytes) else sound[: what[0]] + what[1] + sound[what[0] + len(what[1]) :]
        receipt = store_raw(ws, data, sender=sender)
        assert receipt.status == 0 or receipt.outcome is Outcome.REFUSED
        answered += 1

    store()

    assert rows(ws, "SELECT count(*) AS n FROM receipt") == [{"n": answered}]
    assert_nothing_left(ws)
    assert_consistent(ws)
