"""Every file of the open corpus: sent as it lies there, kept as it was sent or refused for a stated defect,
then archived, then sent again.

The sender is pynetdicom below its dataset encoder: the bytes behind a file's group 2 go on the wire untouched.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from archive import sessions
from archive.archiving import ArchiveResult, archive
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind, Severity
from archive.model import MergeMode, Outcome, Session
from archive.store.catalogue import instances
from archive.workspace import Workspace
from tests.interop.corpus import CorpusFile, corpus
from tests.interop.peers import Peered, Stored, listening, stored
from tests.story import assert_consistent
from tests.workbench import rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SUCCESS, CLASS_DIFFERS, UID_INVALID, NOT_NEGOTIATED = 0x0000, 0xA900, 0x0117, 0x0122
NOT_UNDERSTOOD, TRUNCATED = 0xC000, 0xC001
CONTEXTS_AT_ONCE: Final = 128  # the odd numbers below 256, DICOM PS3.8 9.3.2.2
SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
INVENTED: Final = "1.2.826.0.1.3680043.10.1.99"
"""What a sender says of a file that names no SOP instance anywhere."""

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"

SYNTAX_OF_FILES_WITHOUT_ONE: Final = {
    "pypi-pydicom-data/OT-PAL-8-face.dcm": "1.2.840.10008.1.2",
    "pypi-pydicom/test_files/ExplVR_BigEndNoMeta.dcm": "1.2.840.10008.1.2.2",
    "pypi-pydicom/test_files/ExplVR_LitEndNoMeta.dcm": "1.2.840.10008.1.2.1",
    "pypi-pydicom/test_files/meta_missing_tsyntax.dcm": "1.2.840.10008.1.2",
    "pypi-pydicom/test_files/no_meta.dcm": "1.2.840.10008.1.2",
    "pypi-pydicom/test_files/rtstruct.dcm": "1.2.840.10008.1.2",
}
DAMAGED: Final = {
    # PixelData claims 8,192 bytes, the file ends before
    "pypi-pydicom/test_files/MR_truncated.dcm": TRUNCATED,
    # the file ends inside the last sequence, which has a defined length
    "pypi-pydicom/test_files/rtplan_truncated.dcm": TRUNCATED,
    # a stray byte stands before the first element: what then reads as one does not end
    "pypi-pydicom/test_files/no_meta.dcm": TRUNCATED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One C-STORE to make: a file and what its request says of it."""

    file: CorpusFile
    sop_class_uid: str
    sop_instance_uid: str

    @property
    def context(self) -> tuple[str, str]:
        """A directory's class is in no storage service: who sends one all the same does it over another's context."""
        is_directory = self.sop_class_uid == MEDIA_STORAGE_DIRECTORY
        syntax = self.file.transfer_syntax_uid or SYNTAX_OF_FILES_WITHOUT_ONE[self.file.name]
        return SECONDARY_CAPTURE if is_directory else self.sop_class_uid, syntax

    @property
    def expected(self) -> int:
        """The status for the defect of the file or of this request for it; success without one."""
        if self.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
            return NOT_NEGOTIATED
        if self.file.name in DAMAGED:
            return DAMAGED[self.file.name]
        if "bad_sop_uid" in self.file.features or self.sop_instance_uid != self.file.sop_instance_uid:
            return UID_INVALID
        return SUCCESS if self.sop_class_uid == self.file.sop_class_uid else CLASS_DIFFERS


def by_dataset() -> list[Sending]:
    """Each file with its dataset's UIDs; its meta information's where the dataset has none, as senders do."""
    return [
        Sending(
            file=each,
            sop_class_uid=each.sop_class_uid or _meta(each)[0] or SECONDARY_CAPTURE,
            sop_instance_uid=each.sop_instance_uid or _meta(each)[1] or INVENTED,
        )
        for each in corpus()
    ]


def by_meta() -> list[Sending]:
    """Each file whose meta information names another instance or class than its dataset, by the former."""
    both = [(each, *_meta(each)) for each in corpus() if each.sop_instance_uid]
    return [
        Sending(file=each, sop_class_uid=class_uid, sop_instance_uid=instance_uid)
        for each, class_uid, instance_uid in both
        if class_uid and instance_uid and (class_uid, instance_uid) != (each.sop_class_uid, each.sop_instance_uid)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage of the story saw: what was sent and answered, then the catalogue and the disk behind it."""

    sendings: list[Sending]
    statuses: list[int | None]
    receipts: list[dict[str, Any]]
    files: list[Stored]
    before: Counter[tuple[str, str]]
    prearchive: Counter[tuple[str, str]]
    archive: Counter[tuple[str, str]]
    questions: tuple["Question", ...] = ()

    @property
    def accepted(self) -> list[Sending]:
        return [each for each, status in zip(self.sendings, self.statuses, strict=True) if status == SUCCESS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What archiving asked about one session, and what it had reason to ask; by name, warnings left out."""

    session: str
    asked: frozenset[str]
    expected: frozenset[str]


@pytest.fixture(scope="module", params=[3, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"])
def step(request: pytest.FixtureRequest) -> int:
    """Every file that is difficult, and of the others all or every third."""
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def peered(step: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peered]:
    """One node for the whole story: its stages are made in order, each from what the one before it left."""
    with listening(tmp_path_factory.mktemp("corpus")) as each:
        yield each


@pytest.fixture(scope="module")
def sent(peered: Peered, step: int) -> Stage:
    """The files, with every UID they can be announced by."""
    return _stage(peered, [*_every(by_dataset(), step), *by_meta()])


@pytest.fixture(scope="module")
def sent_again(peered: Peered, sent: Stage, step: int) -> Stage:
    """Every file that was stored, once more."""
    return _stage(peered, [each for each in _every(by_dataset(), step) if each.expected == SUCCESS])


@pytest.fixture(scope="module")
def archived(peered: Peered, sent_again: Stage) -> Stage:
    """Everything moved to one project and archived."""
    return _archive_all(peered, MergeMode.NONE, _stage(peered, []))


@pytest.fixture(scope="module")
def sent_after_archiving(peered: Peered, sent: Stage, archived: Stage) -> Stage:
    """Of what was sent the difficult files and some others, once more, archived onto what is there."""
    known = {(each.sop_instance_uid, each.file.dataset_sha256) for each in sent.sendings}
    again = [each for each in _difficult() if (each.sop_instance_uid, each.file.dataset_sha256) in known]
    return _archive_all(peered, MergeMode.APPEND, _stage(peered, again))


def test_every_file_is_stored_or_refused_for_its_defect(sent: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """No file is refused without a defect, none with one is stored, and each defect has its status."""
    with capsys.disabled():
        print(summary(sent))

    assert unexplained(sent) == []
    assert len(sent.accepted) >= len({each.file.name for each in sent.sendings}) - 24


def test_every_request_has_its_receipt(peered: Peered, sent: Stage) -> None:
    """One receipt for each request, with its status; of what was stored, with the digest of the file's dataset."""
    assert Counter((row["sop_instance_uid"], row["status"]) for row in sent.receipts) == Counter(
        (each.sop_instance_uid, status) for each, status in zip(sent.sendings, sent.statuses, strict=True)
    )
    stored_rows = Counter(
        (row["sop_instance_uid"], row["dataset_sha256"]) for row in sent.receipts if not row["status"]
    )
    assert stored_rows == Counter((each.sop_instance_uid, each.file.dataset_sha256) for each in sent.accepted)
    refused = [row for row in sent.receipts if row["status"]]
    assert all(row["outcome"] == Outcome.REFUSED and row["message"] for row in refused)


def test_refused_bytes_are_in_the_quarantine(peered: Peered, sent: Stage) -> None:
    """What was not understood, or is not what its request said, is kept as it was sent, for a person to look at."""
    root = peered.workspace.root.path
    kept = [row for row in sent.receipts if row["status"] in (UID_INVALID, NOT_UNDERSTOOD, TRUNCATED)]
    assert kept

    for row in kept:
        assert stored(root, root / row["path"]).sha256 == row["dataset_sha256"]
    refused = {each.file.dataset_sha256 for each, status in zip(sent.sendings, sent.statuses, strict=True) if status}
    assert {row["dataset_sha256"] for row in kept} <= refused


def test_datasets_are_on_the_disk_as_they_were_sent(peered: Peered, sent: Stage) -> None:
    """The datasets on the disk are those of the acknowledged files, each in the transfer syntax it was sent in."""
    wanted = {(each.sop_instance_uid, each.context[1], each.file.dataset_sha256) for each in sent.accepted}
    found = [(each.sop_instance_uid, each.transfer_syntax_uid, each.sha256) for each in sent.files]

    assert set(found) == wanted
    outcomes = Counter(row["outcome"] for row in sent.receipts)
    assert len(found) == outcomes[Outcome.STORED] + outcomes[Outcome.HELD]
    assert not list((peered.workspace.root.path / "spool").rglob("*.part"))
    assert_consistent(peered.workspace)


def test_a_uid_that_carries_two_datasets_is_held(sent: Stage) -> None:
    """In each session the first dataset of a UID is stored, the same one again is known, another one is held."""
    seen: dict[tuple[int, str], set[str]] = defaultdict(set)
    for row in sent.receipts:
        if not row["status"]:
            known = seen[row["session_id"], row["sop_instance_uid"]]
            digest = row["dataset_sha256"]
            expected = Outcome.ALREADY_STORED if digest in known else Outcome.HELD if known else Outcome.STORED
            assert row["outcome"] == expected, row
            known.add(digest)
    collisions = {each.sop_instance_uid for each in sent.accepted if "sop_uid_collision" in each.file.features}
    held = {row["sop_instance_uid"] for row in sent.receipts if row["outcome"] == Outcome.HELD}
    assert held and held <= collisions


def test_a_second_time_nothing_is_stored(sent_again: Stage) -> None:
    """Sent again, every file is acknowledged as known, and neither disk nor sessions hold more."""
    assert unexplained(sent_again) == []
    assert {row["outcome"] for row in sent_again.receipts} == {Outcome.ALREADY_STORED}
    assert len(sent_again.receipts) == len(sent_again.sendings)
    assert sent_again.prearchive == sent_again.before


def test_everything_stored_is_archived(peered: Peered, archived: Stage, step: int) -> None:
    """All sessions of the corpus reach the archive with every dataset, and leave nothing in the prearchive."""
    assert archived.before.total() > 500 / step
    assert archived.archive == archived.before
    assert archived.prearchive == Counter()
    assert_consistent(peered.workspace)


def test_archiving_asks_where_there_is_a_question(archived: Stage) -> None:
    """Each finding has a reason in the data: a UID with two datasets, a label that another study has; no others."""
    assert [each for each in archived.questions if each.asked != each.expected] == []
    assert Counter(kind for each in archived.questions for kind in each.asked).keys() >= {
        FindingKind.INSTANCE_DIFFERS,
        FindingKind.STUDY_UID_DIFFERS,
        FindingKind.SUBJECT_CHANGED,
    }


@pytest.mark.campaign
def test_sent_after_archiving_it_merges_into_what_is_there(peered: Peered, sent_after_archiving: Stage) -> None:
    """Files that are archived already become a new session, filed like the archived one, and merge without a new file.

    No label or study is asked about again, whatever was relabelled and moved before it was archived: only a UID that
    comes with two datasets.
    """
    stage = sent_after_archiving
    assert unexplained(stage) == []
    assert [each for each in stage.questions if each.asked != each.expected] == []
    assert {kind for each in stage.questions for kind in each.asked} <= {FindingKind.INSTANCE_DIFFERS}
    assert stage.archive == stage.before
    assert stage.prearchive == Counter()
    assert_consistent(peered.workspace)


def test_series_without_uid_merge_too(tmp_path: Path) -> None:
    """A series without Series Instance UID that is sent again after archiving merges into its archived scan."""
    files = [each for each in by_dataset() if each.expected == SUCCESS and "missing_series_uid" in each.file.features]
    assert len(files) > 10
    with listening(tmp_path) as peered:
        first = _archive_all(peered, MergeMode.NONE, _stage(peered, files))

        again = _archive_all(peered, MergeMode.APPEND, _stage(peered, files))

        assert again.archive == first.archive
        assert again.prearchive == Counter()
        assert_consistent(peered.workspace)


def store(port: int, sendings: Iterable[Sending]) -> list[int | None]:
    """Send everything over as few associations as its contexts need; the statuses, in order of `sendings`."""
    waiting = list(enumerate(sendings))
    contexts = sorted({each.context for _, each in waiting})
    statuses: dict[int, int | None] = {}
    for start in range(0, len(contexts), CONTEXTS_AT_ONCE):
        chosen = contexts[start : start + CONTEXTS_AT_ONCE]
        with _association(port, chosen) as (association, ids):
            for number, each in waiting:
                if each.context in ids:
                    statuses[number] = _store(association, ids[each.context], each)
    assert len(statuses) == len(waiting)
    return [statuses[number] for number, _ in waiting]


def unexplained(stage: Stage) -> list[str]:
    """What was not answered as its defect asks for."""
    return [
        f"{each.file.name} as {each.sop_instance_uid}: {_hex(status)}, expected {_hex(each.expected)}"
        for each, status in zip(stage.sendings, stage.statuses, strict=True)
        if status != each.expected
    ]


def summary(stage: Stage) -> str:
    """Counts by transfer syntax and status."""
    columns = sorted({_hex(status) for status in stage.statuses})
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for each, status in zip(stage.sendings, stage.statuses, strict=True):
        table[UID(each.context[1]).name][_hex(status)] += 1
    lines = [f"{'':60}" + "".join(f"{column:>6}" for column in columns)]
    for name, counts in [*sorted(table.items()), ("total", sum(table.values(), Counter()))]:
        lines.append(f"{name[:58]:60}" + "".join(f"{counts[column] or '':>6}" for column in columns))
    return "\n" + "\n".join(lines)


def _every(sendings: list[Sending], step: int) -> list[Sending]:
    """Every file with a defect, and of the others each `step`-th."""
    return [
        each for n, each in enumerate(sendings) if n % step == 0 or each.expected != SUCCESS or not each.file.is_regular
    ]


def _difficult() -> list[Sending]:
    """Files whose session or name is not their UIDs' alone to decide, and every tenth of the others."""
    storable = [each for each in by_dataset() if each.expected == SUCCESS]
    odd = {"sop_uid_collision", "missing_study_uid", "bad_study_uid", "missing_patient_id", "odd_charset"}
    chosen = [each for n, each in enumerate(storable) if n % 10 == 0 or odd & each.file.features]
    return [each for each in chosen if "missing_series_uid" not in each.file.features]


def _stage(peered: Peered, sendings: list[Sending]) -> Stage:
    before, receipts_before = _datasets(peered), len(peered.receipts())
    statuses = store(peered.node_port, sendings) if sendings else []
    return Stage(
        sendings=sendings,
        statuses=statuses,
        receipts=peered.receipts()[receipts_before:],
        files=peered.files(),
        before=before,
        prearchive=_datasets(peered, "prearchive"),
        archive=_datasets(peered, "archive"),
    )


def _archive_all(peered: Peered, mode: MergeMode, stage: Stage) -> Stage:
    """Close everything, move it to one project, archive it; answer what is asked."""
    ws = peered.workspace
    incoming = [row["id"] for row in rows(ws, "SELECT id FROM session WHERE status = 'RECEIVING' ORDER BY id")]
    assert incoming
    questions = []
    for session_id in incoming:
        sessions.close(ws, session_id)
        questions.append(_archive(ws, sessions.move(ws, session_id, project="CORPUS"), mode))
    return replace(
        stage,
        questions=tuple(questions),
        prearchive=_datasets(peered, "prearchive"),
        archive=_datasets(peered, "archive"),
    )


def _archive(ws: Workspace, session: Session, mode: MergeMode) -> Question:
    """Archive one session; another study's label is left to it, and both datasets of one UID are kept."""
    expected = _expected_questions(ws, session, mode)
    result = archive(ws, session.id, ArchiveOrder(mode=mode), wait_seconds=1.0)
    asked = frozenset(_blocking(result, mode)) if result.status != "ARCHIVED" else frozenset()
    question = Question(session=session.path, asked=asked, expected=expected)
    if FindingKind.STUDY_UID_DIFFERS in asked:
        session = sessions.relabel(ws, session.id, label=_own_label(session))
        expected = _expected_questions(ws, session, mode)
    if asked:
        overrides = tuple(_ANSWERED & expected)
        order = ArchiveOrder(mode=mode, overrides=overrides, reason="both are kept" if overrides else "")
        result = archive(ws, session.id, order, wait_seconds=1.0)
    assert result.status == "ARCHIVED", (session.path, result)
    return question


def _blocking(result: ArchiveResult, mode: MergeMode) -> set[FindingKind]:
    accepted = {FindingKind.SESSION_EXISTS, FindingKind.SCAN_EXISTS} if mode is MergeMode.APPEND else set()
    return {each.kind for each in result.findings if each.severity is not Severity.WARN} - accepted


def _expected_questions(ws: Workspace, session: Session, mode: MergeMode) -> frozenset[FindingKind]:
    """What the rows of both sides give reason to ask."""
    expected = set()
    if rows(ws, _TWO_DATASETS, session.id):
        expected.add(FindingKind.INSTANCE_DIFFERS)
    existing = rows(
        ws, "SELECT * FROM session WHERE is_archived = 1 AND project = 'CORPUS' AND label = ?", session.label
    )
    if existing:
        expected |= _disagreements(ws, session, existing[0])
    expected |= _elsewhere(ws, session, existing[0]["id"] if existing else -1)
    if mode is MergeMode.APPEND:
        expected -= {FindingKind.SESSION_EXISTS, FindingKind.SCAN_EXISTS}
    return frozenset(expected)


_TWO_DATASETS: Final = (
    "SELECT sop_instance_uid FROM instance WHERE session_id = ? GROUP BY sop_instance_uid"
    " HAVING count(DISTINCT dataset_sha256) > 1"
)


_ANSWERED: Final = {
    FindingKind.INSTANCE_DIFFERS,
    FindingKind.STUDY_ARCHIVED_ELSEWHERE,
    FindingKind.SOP_INSTANCE_ELSEWHERE,
    FindingKind.PATIENT_DIFFERS,
}
"""What is answered by a decision: both are kept, and whoever made these files had several patients in one study."""

_STUDIES: Final = "SELECT study_instance_uid FROM session_study WHERE study_instance_uid != '' AND session_id"
_ARCHIVED: Final = "SELECT id FROM session WHERE status = 'ARCHIVED' AND is_archived = 1 AND merged_into_id IS NULL"


def _elsewhere(ws: Workspace, session: Session, existing_id: int) -> set[FindingKind]:
    """What other archived sessions, and the patients of all files concerned, give reason to ask."""
    found = set[FindingKind]()
    homes = f"({_ARCHIVED} AND id != {existing_id})"
    sql = f"{_STUDIES} = ? INTERSECT {_STUDIES} IN {homes} EXCEPT {_STUDIES} = ?"
    elsewhere = rows(ws, sql, session.id, existing_id)
    if elsewhere:
        found.add(FindingKind.STUDY_ARCHIVED_ELSEWHERE)
    uids = "SELECT sop_instance_uid FROM instance WHERE session_id"
    if rows(ws, f"{uids} = ? INTERSECT {uids} IN {homes}", session.id):
        found.add(FindingKind.SOP_INSTANCE_ELSEWHERE)
    ours = _patients(ws, [session.id])
    others = [_patients(ws, [existing_id])]
    for row in elsewhere:
        uid = row["study_instance_uid"]
        sql = f"SELECT session_id FROM session_study WHERE study_instance_uid = ? AND session_id IN {homes}"
        holders = rows(ws, sql, uid)
        others += [_patients(ws, [each["session_id"]], uid) for each in holders]
    if any(len(values) > 1 for values in ours.values()) or any(
        theirs[name] and ours[name] - theirs[name] for theirs in others for name in ours
    ):
        found.add(FindingKind.PATIENT_DIFFERS)
    return found


def _patients(ws: Workspace, session_ids: list[int], study_instance_uid: str | None = None) -> dict[str, set[str]]:
    """The values of the patient's attributes in all files of these sessions, as far as case and padding matter."""
    values: dict[str, set[str]] = {name: set() for name in _PATIENT}
    for session_id in session_ids:
        with ws.catalogue.read() as connection:
            found = instances.of_session(connection, session_id)
        for each in found:
            if study_instance_uid is None or each.study_instance_uid == study_instance_uid:
                if each.file.dataset_sha256 not in _READ:
                    _READ[each.file.dataset_sha256] = _patient(ws.root.path / each.path)
                for name, text in _READ[each.file.dataset_sha256].items():
                    values[name].add(text)
    return {name: found - {""} for name, found in values.items()}


_READ: Final[dict[str, dict[str, str]]] = {}
"""What was read of each dataset, by its digest."""


def _patient(path: Path) -> dict[str, str]:
    dataset = pydicom.dcmread(path, specific_tags=list(_PATIENT), force=True)
    texts = {name: str(dataset.get(name, "") or "").casefold() for name in _PATIENT}
    return {name: " ".join(text.split()).rstrip("^ ") for name, text in texts.items()}


_PATIENT: Final = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")


def _disagreements(ws: Workspace, session: Session, existing: dict[str, Any]) -> set[FindingKind]:
    found = {FindingKind.SESSION_EXISTS}
    if existing["subject"] != session.subject:
        found.add(FindingKind.SUBJECT_CHANGED)
    theirs = rows(ws, "SELECT study_instance_uid FROM session_study WHERE session_id = ?", existing["id"])
    if not set(session.study_instance_uids) & {row["study_instance_uid"] for row in theirs}:
        found.add(FindingKind.STUDY_UID_DIFFERS)
    ours, others = (_images(ws, each) for each in (session.id, existing["id"]))
    is_hybrid = FindingKind.STUDY_UID_DIFFERS not in found and {"PT", "NM"} & (ours | others)
    if ours and others and not ours & others and not is_hybrid:
        found.add(FindingKind.MODALITY_DIFFERS)
    series = "SELECT study_instance_uid, series_key FROM scan WHERE session_id = ?"
    if rows(ws, f"{series} INTERSECT {series}", session.id, existing["id"]):
        found.add(FindingKind.SCAN_EXISTS)
    return found


def _images(ws: Workspace, session_id: int) -> set[str]:
    """The modalities of a session's images."""
    without = {
        "",
        "SR",
        "PR",
        "KO",
        "SEG",
        "RTSTRUCT",
        "RTPLAN",
        "RTDOSE",
        "RTRECORD",
        "REG",
        "DOC",
        "OT",
        "SC",
        "RWV",
        "PLAN",
    }
    return {row["modality"] for row in rows(ws, "SELECT modality FROM scan WHERE session_id = ?", session_id)} - without


def _datasets(peered: Peered, *places: str) -> Counter[tuple[str, str]]:
    """(SOP Instance UID of the meta information, SHA-256 of the dataset) of every instance in these places."""
    root = peered.workspace.root.path
    paths = [path for place in places or ("prearchive", "archive") for path in (root / place).rglob("*.dcm")]
    found = (stored(root, path) for path in paths)
    return Counter((each.sop_instance_uid, each.sha256) for each in found)


def _own_label(session: Session) -> str:
    """A label for this study alone, the same each time it comes."""
    digest = hashlib.sha256(session.study_instance_uids[0].encode()).hexdigest()
    return f"{session.label[:50]}_{digest[:8]}"


@lru_cache(maxsize=1024)
def _meta(file: CorpusFile) -> tuple[str, str]:
    """SOP class and instance UID of the meta information."""
    meta = pydicom.dcmread(file.path, force=True, specific_tags=[], stop_before_pixels=True).file_meta
    return str(meta.get("MediaStorageSOPClassUID", "")), str(meta.get("MediaStorageSOPInstanceUID", ""))


@contextmanager
def _association(
    port: int, contexts: list[tuple[str, str]]
) -> Iterator[tuple[Association, dict[tuple[str, str], int]]]:
    entity = AE(ae_title="CORPUS")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    for sop_class_uid, transfer_syntax_uid in contexts:
        entity.add_requested_context(sop_class_uid, transfer_syntax_uid)
    association = entity.associate("127.0.0.1", port, ae_title="PREARC", max_pdu=0)
    assert association.is_established
    ids = {
        (str(each.abstract_syntax), str(each.transfer_syntax[0])): int(each.context_id or 0)
        for each in association.accepted_contexts
    }
    assert sorted(ids) == contexts
    association._reactor_checkpoint.clear()  # the library's loop would take our answers
    try:
        yield association, ids
    finally:
        association._reactor_checkpoint.set()
        association.release()


def _store(association: Association, context_id: int, sending: Sending) -> int | None:
    dataset = sending.file.dataset()
    assert hashlib.sha256(dataset).hexdigest() == sending.file.dataset_sha256
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = UID(sending.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(sending.sop_instance_uid)
    request.DataSet = BytesIO(dataset)
    association.dimse.send_msg(request, context_id)
    answer: Any = association.dimse.get_msg(block=True)[1]
    return None if answer is None else int(answer.Status)


def _hex(status: int | None) -> str:
    return "none" if status is None else f"{status:04X}"
