"""The same instance twice, another one under its UID, two at once, a lost one again: nothing is ever overwritten."""

import hashlib
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from archive import failpoints, sessions
from archive.findings import FACTS, FindingKind
from archive.intake.experience import Experiences
from archive.model import FileRecord, Outcome, Receipt, SessionStatus
from archive.rules.naming import NameTemplate
from archive.store.catalogue import receipts as receipt_rows
from archive.store.parts import Part
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import (
    STUDY_1,
    STUDY_2,
    archive_session,
    assert_consistent,
    event_kinds,
    labelled_workspace,
    send,
    visit,
)
from tests.workbench import Sender, change, encoded, rows, tree

ONE = [SeriesSpec(number=1, instances=1)]


def image(pixel_seed: int = 0) -> Dataset:
    """One instance; the seed changes its bytes and nothing else."""
    return visit(series=ONE, pixel_seed=pixel_seed)[0]


def on_disk(ws: Workspace) -> list[Path]:
    """Every instance file."""
    return sorted(ws.root.path.glob("prearchive/**/*.dcm"))


def outcomes(ws: Workspace, uid: str) -> list[str]:
    """What became of every C-STORE of this UID, oldest first."""
    with ws.catalogue.read() as connection:
        return [str(receipt.outcome) for receipt in receipt_rows.trace(connection, uid)]


def test_a_resent_instance_is_stored_once(tmp_path: Path) -> None:
    """Same UID, same dataset: ALREADY_STORED, answered success; one file, one row, two receipts."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    before = tree(ws)

    again = send(ws, [image()])[0]

    assert (first.outcome, again.outcome) == (Outcome.STORED, Outcome.ALREADY_STORED)
    assert (again.status, again.session_id) == (0, first.session_id)
    assert tree(ws) == before
    assert len(rows(ws, "SELECT id FROM instance")) == 1
    assert outcomes(ws, first.sop_instance_uid) == ["STORED", "ALREADY_STORED"]
    with ws.catalogue.read() as connection:
        told = receipt_rows.trace(connection, first.sop_instance_uid)
    assert {receipt.path for receipt in told} == {first.path}
    assert event_kinds(ws, first.session_id or 0) == ["SESSION_OPENED"]
    assert_consistent(ws)


def test_a_resend_within_one_association_is_stored_once(tmp_path: Path) -> None:
    """The association that already knows the place answers the same."""
    ws = labelled_workspace(tmp_path)

    receipts = send(ws, [image(), image(), image()])

    assert [str(receipt.outcome) for receipt in receipts] == ["STORED", "ALREADY_STORED", "ALREADY_STORED"]
    assert len(on_disk(ws)) == 1
    assert_consistent(ws)


def test_another_dataset_under_the_same_uid_is_held_beside(tmp_path: Path) -> None:
    """Same UID, other bytes: HELD, answered success, both kept whole, the session says INSTANCE_DIFFERS."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    kept = (ws.root.path / first.path).read_bytes()

    other = send(ws, [image(pixel_seed=1)])[0]

    assert (other.outcome, other.status, other.session_id) == (Outcome.HELD, 0, first.session_id)
    assert other.path is not None and other.dataset_sha256 is not None
    assert other.path == first.path.replace(".dcm", f"~{other.dataset_sha256[:8]}.dcm")
    assert (ws.root.path / first.path).read_bytes() == kept
    assert (ws.root.path / other.path).read_bytes().endswith(encoded(image(pixel_seed=1)))
    shown = sessions.details(ws, first.session_id or 0)
    (finding,) = shown.findings
    assert finding.kind is FindingKind.INSTANCE_DIFFERS
    assert finding.message == FACTS[finding.kind].message
    assert finding.detail == {"sop_instance_uids": [first.sop_instance_uid]}
    assert finding.hint.startswith("prearc ")
    assert_consistent(ws)


def test_a_third_dataset_and_resends_of_all(tmp_path: Path) -> None:
    """Each different dataset is kept once, however often and in whatever order they come; one finding."""
    ws = labelled_workspace(tmp_path)

    receipts = send(ws, [image(seed) for seed in (0, 1, 2, 1, 0, 2, 2)])

    told = [str(receipt.outcome) for receipt in receipts]
    assert told == ["STORED", "HELD", "HELD", *["ALREADY_STORED"] * 4]
    assert len(on_disk(ws)) == len(rows(ws, "SELECT id FROM instance")) == 3
    assert len(sessions.details(ws, 1).findings) == 1
    assert_consistent(ws)


def test_the_same_dataset_in_another_transfer_syntax_is_another_dataset(tmp_path: Path) -> None:
    """Bytes are kept as sent and never transcoded: implicit and explicit VR of one instance are both kept."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)

    explicit = sender.store(image())
    implicit = sender.store(image(), transfer_syntax=ImplicitVRLittleEndian)

    assert (explicit.outcome, implicit.outcome) == (Outcome.STORED, Outcome.HELD)
    for receipt, syntax in ((explicit, "1.2.840.10008.1.2.1"), (implicit, ImplicitVRLittleEndian)):
        assert receipt.path is not None
        assert (ws.root.path / receipt.path).read_bytes().endswith(encoded(image(), syntax))
    assert_consistent(ws)


def test_the_same_uid_in_another_study_is_no_duplicate(tmp_path: Path) -> None:
    """Duplicates are looked for in the session alone: another study's instance has a session of its own."""
    ws = labelled_workspace(tmp_path)
    ours = image()
    theirs = visit(STUDY_2, series=ONE)[0]
    theirs.SOPInstanceUID = ours.SOPInstanceUID

    one, two = send(ws, [ours])[0], send(ws, [theirs])[0]

    assert (one.outcome, two.outcome) == (Outcome.STORED, Outcome.STORED)
    assert one.session_id != two.session_id
    assert_consistent(ws)


@pytest.mark.parametrize("is_one_process", [True, False])
def test_the_same_instance_stored_twice_at_once(tmp_path: Path, is_one_process: bool) -> None:
    """Two threads, or two receivers, store one instance at the same moment: one file, one row, both a success."""
    ws = labelled_workspace(tmp_path)
    senders = [Sender(ws), Sender(ws)]
    if is_one_process:
        senders[1].intake = senders[0].intake
    for round_number in range(5):
        dataset = visit(series=[SeriesSpec(number=round_number + 1, instances=1)])[0]
        start = threading.Barrier(2)
        receipts: list[Receipt] = []

        def store(
            sender: Sender, dataset: Dataset = dataset, start: threading.Barrier = start, to: list[Receipt] = receipts
        ) -> None:
            start.wait(60)
            to.append(sender.store(dataset))

        threads = [threading.Thread(target=store, args=[sender]) for sender in senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)

        assert Counter(str(receipt.outcome) for receipt in receipts) == {"STORED": 1, "ALREADY_STORED": 1}
        assert [receipt.status for receipt in receipts] == [0, 0]
        uid = str(dataset.SOPInstanceUID)
        assert len(rows(ws, "SELECT id FROM instance WHERE sop_instance_uid = ?", uid)) == 1
        assert sorted(outcomes(ws, uid)) == ["ALREADY_STORED", "STORED"]
        assert len(on_disk(ws)) == round_number + 1
    assert_consistent(ws)


def give_one_name(sender: Sender) -> None:
    """Every instance asks for the name ``same.dcm``, which no configuration can say."""
    template = replace(NameTemplate.compile("${SOPInstanceUID}"), parts=("same",))
    sender.intake.experiences = Experiences(replace(sender.intake.policy, template=template))


@pytest.mark.parametrize("is_one_association", [True, False])
def test_the_name_of_a_lost_file_is_not_given_to_another_instance(tmp_path: Path, is_one_association: bool) -> None:
    """A row says that its file is there, and it is not: what has its name now would pass for it."""
    ws = labelled_workspace(tmp_path)
    one, two = visit(series=[SeriesSpec(number=1)])
    sender = Sender(ws)
    give_one_name(sender)
    if is_one_association:
        sender.__enter__()
    first = sender.store(one)
    assert first.path is not None
    (ws.root.path / first.path).unlink()

    second = sender.store(two)
    sender.release()

    assert (second.outcome, second.status) == (Outcome.STORED, 0)
    assert second.dataset_sha256 is not None
    assert [path.name for path in on_disk(ws)] == [f"same~{second.dataset_sha256[:8]}.dcm"]
    assert rows(ws, "SELECT file_name FROM instance ORDER BY id") == [
        {"file_name": "same.dcm"},
        {"file_name": f"same~{second.dataset_sha256[:8]}.dcm"},
    ]


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_instance_that_another_association_filed_under_another_name(tmp_path: Path, is_lost: bool) -> None:
    """New to its own association, which has just made the scan: known if that file is there, else stored again."""
    ws = labelled_workspace(tmp_path)
    one, again = visit(series=[SeriesSpec(number=1)])
    with Sender(ws) as sender, Sender(ws) as another:
        sender.store(one)
        stored = another.store(again)
        change(ws, "UPDATE instance SET file_name = 'renamed.dcm' WHERE id = 2")
        path = ws.root.path / (stored.path or "")
        renamed = path.rename(path.with_name("renamed.dcm"))
        if is_lost:
            renamed.unlink()

        answer = sender.store(again)

    assert (answer.outcome, answer.status) == (Outcome.STORED if is_lost else Outcome.ALREADY_STORED, 0)
    assert len(rows(ws, "SELECT id FROM instance")) == 2
    assert renamed.read_bytes().endswith(encoded(again))
    assert len(on_disk(ws)) == 2
    assert_consistent(ws)


def test_two_instances_that_ask_for_one_name_are_both_kept(tmp_path: Path) -> None:
    """Two instances whose names collide: the second gets ~ and eight digits of its digest; nothing is a conflict."""
    ws = labelled_workspace(tmp_path)
    one, two = visit(series=[SeriesSpec(number=1)])
    sender = Sender(ws)
    give_one_name(sender)

    receipts = sender.store_all([one, two, two, one])

    assert [str(receipt.outcome) for receipt in receipts] == ["STORED", "STORED", "ALREADY_STORED", "ALREADY_STORED"]
    digest = receipts[1].dataset_sha256
    assert digest is not None
    assert [path.name for path in on_disk(ws)] == ["same.dcm", f"same~{digest[:8]}.dcm"]
    assert sessions.close(ws, 1).status is SessionStatus.READY
    assert sessions.details(ws, 1).findings == ()
    assert_consistent(ws)


@pytest.mark.parametrize("is_one_association", [True, False])
@pytest.mark.parametrize("is_folder_gone", [True, False])
def test_a_resend_replaces_a_file_whose_loss_nobody_noticed(
    tmp_path: Path, is_one_association: bool, is_folder_gone: bool
) -> None:
    """The row says it is there and it is not: the resend is STORED under its name, and the loss is on record."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    if is_one_association:
        sender.__enter__()
    first = sender.store(image())
    assert first.path is not None
    path = ws.root.path / first.path
    path.unlink()
    if is_folder_gone:
        path.parent.rmdir()

    again = sender.store(image())
    sender.release()

    assert (again.outcome, again.status, again.path) == (Outcome.STORED, 0, first.path)
    assert path.read_bytes().endswith(encoded(image()))
    assert rows(ws, "SELECT is_missing FROM instance") == [{"is_missing": 0}]
    assert "INSTANCE_MISSING" in event_kinds(ws, 1)
    assert any("is missing" in line for _, line in sessions.details(ws, 1).log)
    assert sessions.close(ws, 1).status is SessionStatus.READY
    assert sessions.details(ws, 1).findings == ()
    assert_consistent(ws)


def damaged(path: Path, how: str) -> bytes:
    """Damage an instance's file in place; the bytes it holds now."""
    good = path.read_bytes()
    match how:
        case "truncated":
            bad = good[: len(good) // 2]
        case "longer":
            bad = good + b"more"
        case "a flipped bit":
            bad = good[:-1] + bytes([good[-1] ^ 1])
        case "another prefix":
            bad = b"x" + good[1:]
        case "empty":
            bad = b""
        case _:
            raise AssertionError(how)
    path.write_bytes(bad)
    return bad


@pytest.mark.parametrize("calling", ["SCANNER", "ANOTHER_SCANNER"])
@pytest.mark.parametrize("how", ["truncated", "longer", "a flipped bit", "another prefix", "empty"])
def test_a_resend_replaces_a_damaged_file_and_loses_no_byte_of_it(tmp_path: Path, how: str, calling: str) -> None:
    """What the row names holds other bytes: they go to the quarantine, the resend is STORED under the name."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    bad = damaged(ws.root.path / first.path, how)

    again = Sender(ws).store(image(), calling=calling)

    assert (again.outcome, again.status, again.path) == (Outcome.STORED, 0, first.path)
    assert (ws.root.path / first.path).read_bytes().endswith(encoded(image()))
    (kept,) = (ws.root.path / "quarantine").glob("damaged-*/*.dcm")
    assert kept.read_bytes() == bad
    assert kept.stat().st_nlink == 1
    (event,) = [event for event in sessions.details(ws, 1).events if event.kind == "INSTANCE_DAMAGED"]
    assert event.detail["path"] == first.path
    assert ws.root.path / event.detail["kept_as"] == kept
    assert any(first.path in line and event.detail["kept_as"] in line for _, line in sessions.details(ws, 1).log)
    assert_prefix_is_listed(ws)
    assert sessions.close(ws, 1).status is SessionStatus.READY
    assert sessions.details(ws, 1).findings == ()
    assert_consistent(ws)


def test_a_resend_after_the_repair_is_stored_once(tmp_path: Path) -> None:
    """Once the good bytes are there again, the same instance is ALREADY_STORED as ever."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    damaged(ws.root.path / first.path, "truncated")

    told = [str(receipt.outcome) for receipt in send(ws, [image(), image()])]

    assert told == ["STORED", "ALREADY_STORED"]
    assert len(list((ws.root.path / "quarantine").rglob("*.dcm"))) == 1
    assert_consistent(ws)


def test_a_resend_by_another_application_is_compared_by_its_dataset(tmp_path: Path) -> None:
    """Its prefix is another one, of another length: still the same dataset, ALREADY_STORED, and nothing is damaged."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    sender.store(image())
    before = tree(ws)

    again = sender.store(image(), calling="ANOTHER_SCANNER")

    assert again.outcome is Outcome.ALREADY_STORED
    assert tree(ws) == before
    assert_consistent(ws)


def test_damaged_bytes_that_cannot_be_kept_are_not_touched(tmp_path: Path) -> None:
    """No space for the quarantine: A700, the damaged file stays where it is; the next resend repairs it."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    bad = damaged(ws.root.path / first.path, "truncated")
    sender = Sender(ws)

    failpoints.arm("DAMAGED=errno:ENOSPC@1")
    try:
        refused = sender.store(image())
    finally:
        failpoints.arm("")

    assert (refused.outcome, refused.status) == (Outcome.REFUSED, 0xA700)
    assert (ws.root.path / first.path).read_bytes() == bad
    assert "INSTANCE_DAMAGED" not in event_kinds(ws, 1)
    assert sender.store(image()).outcome is Outcome.STORED
    assert_consistent(ws)


def test_a_file_that_another_receiver_repaired_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between look and write lock the good bytes came back: they are not called damaged, the resend is known."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    path = ws.root.path / first.path
    good = path.read_bytes()
    damaged(path, "truncated")
    really, looks = Part.is_in, list[bool]()

    def look(part: Part, relative: str, file: FileRecord) -> bool:
        looks.append(really(part, relative, file))
        path.write_bytes(good)
        return looks[-1]

    monkeypatch.setattr(Part, "is_in", look)
    again = send(ws, [image()])[0]

    assert (looks, again.outcome) == ([False, True], Outcome.ALREADY_STORED)
    assert path.read_bytes() == good
    assert not list((ws.root.path / "quarantine").iterdir())
    assert event_kinds(ws, 1) == ["SESSION_OPENED"]
    assert_consistent(ws)


def test_a_resend_to_a_session_that_was_archived_meanwhile(tmp_path: Path) -> None:
    """The association knows a place its session has left: files are looked for where they are, not called lost."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with sender:
        first = sender.store(image())
        change(ws, "DELETE FROM association_session")
        sessions.close(ws, 1)
        archived = archive_session(ws, 1)
        assert archived.status == "ARCHIVED"

        again = sender.store(image())

    assert (again.outcome, again.status) == (Outcome.ALREADY_STORED, 0)
    assert "INSTANCE_MISSING" not in event_kinds(ws, 1)
    assert rows(ws, "SELECT is_missing FROM instance") == [{"is_missing": 0}]
    assert first.path is not None
    assert_consistent(ws)


def test_a_lost_file_is_healed_by_a_resend(tmp_path: Path) -> None:
    """A row whose file is gone takes the resent dataset under its name: STORED, one row, no longer missing."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    (ws.root.path / first.path).unlink()
    change(ws, "UPDATE instance SET is_missing = 1")

    again = send(ws, [image()])[0]

    assert (again.outcome, again.path) == (Outcome.STORED, first.path)
    assert rows(ws, "SELECT is_missing FROM instance") == [{"is_missing": 0}]
    assert len(on_disk(ws)) == 1
    assert_consistent(ws)


def test_a_lost_file_is_healed_although_its_folder_is_gone(tmp_path: Path) -> None:
    """The whole scan folder was taken away: it is made again."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    path = ws.root.path / first.path
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    change(ws, "UPDATE instance SET is_missing = 1")

    again = send(ws, [image()])[0]

    assert (again.outcome, again.path) == (Outcome.STORED, first.path)
    assert_consistent(ws)


def test_a_lost_file_whose_name_holds_other_bytes_is_healed_beside_them(tmp_path: Path) -> None:
    """Foreign bytes under the lost file's name are not overwritten, and one dataset sent twice is no conflict."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    (ws.root.path / first.path).write_bytes(b"somebody's")
    change(ws, "UPDATE instance SET is_missing = 1")

    again = send(ws, [image()])[0]

    assert again.outcome is Outcome.STORED
    assert again.path is not None and again.path != first.path
    assert (ws.root.path / first.path).read_bytes() == b"somebody's"
    assert (ws.root.path / again.path).read_bytes().endswith(encoded(image()))
    assert rows(ws, "SELECT file_name, is_missing FROM instance") == [
        {"file_name": Path(again.path).name, "is_missing": 0}
    ]
    assert sessions.details(ws, 1).findings == ()
    assert sessions.close(ws, 1).finding_kinds == ("FILE_UNLISTED",)  # the foreign bytes, and nothing else


def test_a_lost_file_is_healed_by_another_application(tmp_path: Path) -> None:
    """The healing file has its own group 2: the row says its size and prefix, not those of the lost one."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    (ws.root.path / first.path).unlink()
    change(ws, "UPDATE instance SET is_missing = 1")

    again = Sender(ws).store(image(), calling="ANOTHER_SCANNER")

    assert (again.outcome, again.path) == (Outcome.STORED, first.path)
    assert_prefix_is_listed(ws)
    assert sessions.close(ws, 1).status is SessionStatus.READY
    assert_consistent(ws)


def test_another_dataset_never_takes_the_name_of_a_lost_one(tmp_path: Path) -> None:
    """A lost file's name stays its own: other bytes under its UID are held beside it, and its resend still heals it."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    assert first.path is not None
    (ws.root.path / first.path).unlink()
    change(ws, "UPDATE instance SET is_missing = 1")

    other = send(ws, [image(pixel_seed=1)])[0]
    again = send(ws, [image()])[0]

    assert (other.outcome, again.outcome) == (Outcome.HELD, Outcome.STORED)
    assert again.path == first.path
    assert other.path is not None and "~" in other.path
    assert len(on_disk(ws)) == 2
    assert_consistent(ws)


def assert_prefix_is_listed(ws: Workspace) -> None:
    """Every row's prefix digest is its file's."""
    for path in on_disk(ws):
        (row,) = rows(ws, "SELECT dataset_offset, prefix_sha256 FROM instance WHERE file_name = ?", path.name)
        assert hashlib.sha256(path.read_bytes()[: row["dataset_offset"]]).hexdigest() == row["prefix_sha256"]


@pytest.mark.parametrize("calling", ["SCANNER", "SCANN_2"])
def test_a_file_without_a_row_is_taken_over_by_a_resend(tmp_path: Path, calling: str) -> None:
    """A commit in doubt leaves a file without a row: a retry gives it one, with the prefix that is in the file."""
    ws = labelled_workspace(tmp_path)
    first = send(ws, [image()])[0]
    with ws.catalogue.write() as tx:
        tx.execute("DELETE FROM receipt")
        tx.execute("DELETE FROM instance")
        tx.execute("UPDATE scan SET instance_count = 0, size_bytes = 0")
        tx.execute("UPDATE session SET instance_count = 0, size_bytes = 0")

    again = Sender(ws).store(image(), calling=calling)

    assert (again.outcome, again.path) == (Outcome.STORED, first.path)
    assert len(on_disk(ws)) == 1
    assert_prefix_is_listed(ws)
    assert_consistent(ws)


class Stores(RuleBasedStateMachine):
    """Random stores of few UIDs with few contents, in and out of associations, with losses: a model of what is kept."""

    folder: Path

    @initialize()
    def open(self) -> None:
        number = len(list(self.folder.iterdir()))
        self.ws = labelled_workspace(self.folder / str(number))
        self.sender = Sender(self.ws)
        self.kept: dict[tuple[str, str], str] = {}  # (UID, digest) -> path
        self.bytes: dict[str, bytes] = {}
        self.told: Counter[str] = Counter()

    @rule(instance=st.integers(0, 1), pixel_seed=st.integers(0, 2), is_long=st.booleans())
    def store(self, instance: int, pixel_seed: int, is_long: bool) -> None:
        series = [SeriesSpec(number=1, instances=2)]
        dataset = visit(STUDY_1, series=series, pixel_seed=pixel_seed)[instance]
        uid, digest = str(dataset.SOPInstanceUID), hashlib.sha256(encoded(dataset)).hexdigest()

        receipt = self.sender.store_all([dataset])[0] if is_long else self.sender.store(dataset)

        if (uid, digest) in self.kept:
            assert receipt.outcome is Outcome.ALREADY_STORED
        else:
            has_others = any(known == uid for known, _ in self.kept)
            assert receipt.outcome is (Outcome.HELD if has_others else Outcome.STORED)
            assert receipt.path is not None and receipt.path not in self.bytes
            self.kept[uid, digest] = receipt.path
            self.bytes[receipt.path] = (self.ws.root.path / receipt.path).read_bytes()
        assert (receipt.status, receipt.dataset_sha256) == (0, digest)
        self.told[str(receipt.outcome)] += 1

    @rule()
    def complete(self) -> None:
        if self.kept:
            sessions.close(self.ws, 1)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if not self.kept:
            return
        key = data.draw(st.sampled_from(sorted(self.kept)))
        if len([uid for uid, _ in self.kept if uid == key[0]]) > 1:
            return
        path = self.kept.pop(key)
        name = Path(path).name
        (self.ws.root.path / path).unlink()
        with self.ws.catalogue.write() as tx:
            tx.execute("UPDATE instance SET is_missing = 1 WHERE file_name = ?", (name,))
        lost = self.bytes.pop(path)
        receipt = self.sender.store_all([_dataset_of(lost)])[0]
        assert (receipt.outcome, receipt.path) == (Outcome.STORED, path)
        self.told["STORED"] += 1
        self.kept[key] = path
        self.bytes[path] = (self.ws.root.path / path).read_bytes()

    @invariant()
    def nothing_is_overwritten(self) -> None:
        if not hasattr(self, "ws"):
            return
        found = {str(path.relative_to(self.ws.root.path)): path.read_bytes() for path in on_disk(self.ws)}
        assert found == self.bytes
        told = {row["outcome"]: row["n"] for row in rows(self.ws, _COUNTS)}
        assert told == self.told
        assert_consistent(self.ws)


_COUNTS = "SELECT outcome, count(*) AS n FROM receipt GROUP BY outcome"


def _dataset_of(data: bytes) -> Dataset:
    from io import BytesIO

    from pydicom import dcmread

    return dcmread(BytesIO(data))


def test_random_stores_never_overwrite_anything(tmp_path: Path) -> None:
    """Whatever is stored in whatever order: each distinct dataset once, its bytes for good, one receipt a store."""
    Stores.folder = tmp_path
    run_state_machine_as_test(
        Stores,
        settings=hypothesis_settings(max_examples=15, stateful_step_count=12, deadline=None, derandomize=True),
    )
