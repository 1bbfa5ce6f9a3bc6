"""`conflict explain` as a page for a colleague: what happened, the sides, what clashes, and ways out that work."""

import json
import re
import shlex
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive import conflicts, sessions
from archive.conflicts import Explanation
from archive.findings import FindingKind
from archive.model import MergeMode, Session, SessionStatus
from archive.workspace import Workspace
from cli import main
from cli.conflict_page import emphasised, page
from scp.synthetic import SeriesSpec, study
from tests.docs.test_links import problem_of
from tests.quick_disk import quick_disk
from tests.story import (
    STUDY_1,
    STUDY_2,
    archive_session,
    assert_consistent,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import close_since, make_workspace, opened, rows

STRICT = {"id": "STRICT", "filter_lines": ["localizer"]}
LONG = "1.2.826.0.1.3680043.8.498.291703648581947201847362519403857261."


def archived(ws: Workspace, datasets: Sequence[Dataset] | None = None) -> Session:
    """The first study, archived as PI/S1_MR."""
    session = ready(ws, datasets if datasets is not None else visit(STUDY_1))
    assert archive_session(ws, session.id).status == "ARCHIVED"
    return sessions.resolve(ws, str(session.id))


def declined(ws: Workspace, datasets: Sequence[Dataset], **labels: str) -> Explanation:
    """The page of a session that was to be archived as well."""
    session = ready(ws, datasets)
    if labels:
        sessions.relabel(ws, session.id, **labels)
    assert archive_session(ws, session.id).status in ("CONFLICT", "ERROR")
    return conflicts.explain(ws, session.id)


def commands(of: Explanation) -> list[str]:
    return [way.command for way in of.ways_out]


def changed(datasets: Sequence[Dataset], **values: str) -> list[Dataset]:
    """Copies of datasets with other values; the synthetic ones share their elements."""
    copies = [deepcopy(each) for each in datasets]
    for each in copies:
        for keyword, value in values.items():
            setattr(each, keyword, value)
    return copies


def two_people(ws: Workspace) -> Explanation:
    archived(ws)
    other = {"patient_id": "P2", "patient_name": "Roe^Richard", "patient_birth_date": "19700303"}
    return declined(ws, study(**other, study_instance_uid=STUDY_2, study_date="20260106"))


def two_ids(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, study(patient_id="P9", patient_name="Doe^Jane", study_instance_uid=STUDY_2))


def restart(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_2, study_time="104500"))


def two_visits(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_2, study_date="20260301"))


def another_modality(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_2, series=[SeriesSpec(number=9, modality="CT")]))


def resend(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_1))


def later_part(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_1, series=[SeriesSpec(number=7)]))


def reanonymised(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, changed(visit(STUDY_1), PatientName="ANON", PatientID="0259"))


def other_pixels(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_1, pixel_seed=7))


def routed_elsewhere(ws: Workspace) -> Explanation:
    first = ready(ws, visit(STUDY_1))
    sessions.relabel(ws, first.id, label="ELSE")
    archive_session(ws, first.id)
    other = labelled_copy(ws)
    assert archive_session(ws, other.id).status == "CONFLICT"
    return conflicts.explain(ws, other.id)


def labelled_copy(ws: Workspace) -> Session:
    """The same study by way of another receiver, which files it under a label of its own."""
    again = reopened(ws, session="OTHER")
    datasets = visit(STUDY_1)
    session_id = send(again, datasets)[0].session_id
    assert session_id is not None
    return sessions.close(again, session_id)


def reopened(ws: Workspace, **receiver: str) -> Workspace:
    table = {"ae_title": "PREARC", "port": 0, "project": "PI", "subject": "S1", **receiver}
    return make_workspace(ws.root.path.parent, receiver=[table])


def another_subject(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_1, series=[SeriesSpec(number=7)]), subject="S2")


def another_label(ws: Workspace) -> Explanation:
    archived(ws)
    return declined(ws, visit(STUDY_1, series=[SeriesSpec(number=7)]), label="OTHER")


def anothers_label(ws: Workspace) -> Explanation:
    """The late part of one that is archived as DEV_A, under the label DEV, which somebody else has meanwhile."""
    first = ready(ws, visit(STUDY_1))
    sessions.relabel(ws, first.id, label="DEV_A")
    archive_session(ws, first.id)
    other = ready(ws, study(patient_id="P2", patient_name="Roe^Richard", study_instance_uid=STUDY_2))
    sessions.relabel(ws, other.id, label="DEV")
    archive_session(ws, other.id)
    return declined(ws, visit(STUDY_1, series=[SeriesSpec(number=7)]), subject="S2", label="DEV")


def filtered(ws: Workspace) -> Explanation:
    """Moved by mistake to a project that takes no localizers."""
    again = filtering(ws)
    series = [SeriesSpec(number=1, description="t1"), SeriesSpec(number=2, description="localizer")]
    session = ready(again, visit(STUDY_1, series=series))
    sessions.move(again, session.id, project="STRICT")
    assert archive_session(again, session.id).status == "CONFLICT"
    return conflicts.explain(again, session.id)


def filtering(ws: Workspace) -> Workspace:
    tables = {
        "receiver": [{"ae_title": "PREARC", "port": 0, "project": "PI", "subject": "S1", "session": "S1_MR"}],
        "project": [{"id": "NONE", "filter_lines": ["."]}, {"id": "PI"}, {"id": "LAX"}, STRICT],
    }
    return make_workspace(ws.root.path.parent, **tables)


def changed_file(ws: Workspace) -> Explanation:
    session = ready(ws, visit(STUDY_1))
    next((ws.root.path / session.path).rglob("*.dcm")).write_bytes(b"not what was received")
    assert archive_session(ws, session.id).status == "ERROR"
    return conflicts.explain(ws, session.id)


STORIES: list[tuple[Callable[[Workspace], Explanation], str, str]] = [
    (two_people, "two people under one label", "prearc session relabel 2 --subject P2 --label S1_MR_2"),
    (
        two_ids,
        "registered twice",
        "prearc session archive 2 --mode append --override PATIENT_DIFFERS --override STUDY_UID_DIFFERS"
        " --reason 'scanner restarted'",
    ),
    (
        restart,
        "the same scanner, 30 minutes apart",
        "prearc session archive 2 --mode append --override STUDY_UID_DIFFERS --reason 'scanner restarted'",
    ),
    (two_visits, "the same patient, 55 days apart", "prearc session relabel 2 --label S1_MR_2"),
    (another_modality, "one label was used for two examinations", "prearc session relabel 2 --label S1_MR_2"),
    (resend, "a resend with nothing new", "prearc session archive 2 --mode append"),
    (later_part, "a later part, which can be appended", "prearc session archive 2 --mode append"),
    (
        reanonymised,
        "re-anonymised or corrected copy",
        "prearc session archive 2 --mode overwrite --override PATIENT_DIFFERS"
        " --reason 'replaced by the corrected copy'",
    ),
    (
        other_pixels,
        "The pixels differ",
        "prearc session archive 2 --mode append --override INSTANCE_DIFFERS --reason 'keep both'",
    ),
    (
        routed_elsewhere,
        "routed to another label",
        "prearc session relabel 2 --subject S1 --label ELSE && prearc session archive 2 --mode append",
    ),
    (
        another_subject,
        "belongs to subject S2",
        "prearc session relabel 2 --subject S1 && prearc session archive 2 --mode append",
    ),
    (
        another_label,
        "continues session 1, archived as PI/S1_MR",
        "prearc session relabel 2 --label S1_MR && prearc session archive 2 --mode append",
    ),
    (
        anothers_label,
        "continues session 1, archived as PI/DEV_A",
        "prearc session relabel 3 --subject S1 --label DEV_A && prearc session archive 3 --mode append",
    ),
    (filtered, "moved here from project PI", "prearc session move 1 --project PI"),
    (changed_file, "not as they were received", "prearc doctor"),
]
NAMES = [made.__name__ for made, _, _ in STORIES]


Made = Callable[[Workspace], Explanation]
Told = Callable[[Made], Explanation]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The explanation of a situation, which is made once for all that only read it."""

    @cache
    def explained(made: Made) -> Explanation:
        with quick_disk(otherwise=tmp_path_factory.mktemp("told")) as folder:
            before = opened()
            try:
                return made(labelled_workspace(folder))
            finally:
                close_since(before)

    return explained


@pytest.mark.parametrize(("made", "story", "first"), STORIES, ids=NAMES)
def test_what_happened_and_the_first_way_out(told: Told, made: Made, story: str, first: str) -> None:
    """Two sentences say what probably went wrong; the best way out comes first, ranked from 1."""
    found = told(made)

    assert story in found.summary
    assert len(re.findall(r"\.(?: |$)", found.summary)) <= 3, found.summary
    assert commands(found)[0] == first
    assert [way.rank for way in found.ways_out] == list(range(1, len(found.ways_out) + 1))
    assert all(way.why for way in found.ways_out)


@pytest.mark.parametrize("made", [made for made, _, _ in STORIES], ids=NAMES)
def test_the_commands_of_the_page_can_be_pasted(told: Told, made: Made) -> None:
    """Nothing unprintable; each command stands there, whole once its lines are joined, and parses."""
    found = told(made)

    text = page(found)

    assert all(line.isprintable() for line in text.splitlines())
    pasted = " ".join(text.replace("\\\n", " ").split())
    for way in found.ways_out:
        assert way.command in pasted
        for command in way.command.split(" && "):
            assert not (problem := problem_of(command.removeprefix("prearc "))), f"{command}: {problem}"


def run(ws: Workspace, command: str) -> int:
    """Type a command as it stands, each part of it."""
    for part in command.split(" && "):
        words = shlex.split(part)
        assert words[0] == "prearc"
        needs_yes = "--override" in words or "overwrite" in words
        if code := typed(ws, *words[1:], *(["--yes"] if needs_yes else [])):
            return code
    return 0


def typed(ws: Workspace, *words: str) -> int:
    """Run one command on the root, as the console script does."""
    (ws.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n")
    return main.run(words, {"PREARC_ROOT": str(ws.root.path)})


@pytest.mark.parametrize(
    ("made", "story", "first"),
    [each if n % 3 == 0 else pytest.param(*each, marks=pytest.mark.campaign) for n, each in enumerate(STORIES[:-1])],
    ids=NAMES[:-1],
)
def test_every_way_out_works_as_it_stands(tmp_path: Path, made: Made, story: str, first: str) -> None:
    """Each of them, typed, ends with 0 and leaves everything consistent."""
    for number in range(len(made(labelled_workspace(tmp_path / "first")).ways_out)):
        ws = labelled_workspace(tmp_path / str(number))
        way = made(ws).ways_out[number]

        assert run(ws, way.command) == 0, way.command
        assert_consistent(ws)


def test_after_the_first_way_out_the_session_can_be_archived(tmp_path: Path) -> None:
    """Two people: relabelled as proposed, the second is archived without a further question."""
    ws = labelled_workspace(tmp_path)
    found = two_people(ws)

    assert run(ws, commands(found)[0]) == 0

    assert archive_session(ws, found.session.id).status == "ARCHIVED"


def test_a_proposed_label_is_free(tmp_path: Path) -> None:
    """Neither an archived session nor one that waits has it."""
    ws = labelled_workspace(tmp_path)
    archived(ws)
    second = ready(ws, visit(STUDY_2, study_date="20260201"))
    sessions.relabel(ws, second.id, label="S1_MR_2")
    archive_session(ws, second.id)
    third = ready(ws, visit(f"{STUDY_1}.3", study_date="20260301"))
    sessions.relabel(ws, third.id, label="S1_MR_3")

    found = declined(ws, visit(f"{STUDY_1}.4", study_date="20260401"))

    assert any(command.endswith("--label S1_MR_4") for command in commands(found))


def table(text: str) -> list[str]:
    return text.partition("BOTH SIDES")[2].partition("WHAT WAS FOUND")[0].splitlines()


def test_what_differs_is_marked_and_nothing_else(tmp_path: Path) -> None:
    """A mark that needs no colour stands before each row whose values differ."""
    found = two_people(labelled_workspace(tmp_path))

    marked = {line[4:22].strip() for line in table(page(found)) if line.startswith("*")}

    assert {"study UID", "patient id", "patient name", "birth date", "study date, time"} <= marked
    assert not marked & {"sex", "subject", "label", "status", "received", "serial number"}
    assert {"study_instance_uids", "patient_id", "patient_name", "patient_birth_date"} <= found.differs


def test_on_a_terminal_the_rows_that_differ_are_bold(tmp_path: Path) -> None:
    """Titles and marked rows; without the bold the text is the same."""
    text = page(two_people(labelled_workspace(tmp_path)))

    shown = emphasised(text)

    assert shown.replace("\x1b[1m", "").replace("\x1b[0m", "") == text
    bold = [line for line in shown.splitlines() if line.startswith("\x1b[1m")]
    assert len([line for line in bold if line.startswith("\x1b[1m*   ")]) >= 5
    assert any("WHAT HAPPENED" in line for line in bold)


@pytest.mark.parametrize("room", [60, 80, 100])
def test_a_long_uid_can_be_copied(tmp_path: Path, room: int) -> None:
    """Both UIDs are on the page whole, each on a line of its own below the session that has it."""
    ws = labelled_workspace(tmp_path)
    archived(ws, visit(LONG + "1"))

    lines = page(declined(ws, visit(LONG + "2")), room).splitlines()

    start = lines.index("*   study UID")
    assert [line.strip() for line in lines[start + 1 : start + 5]] == ["session 2", LONG + "2", "session 1", LONG + "1"]


@pytest.mark.parametrize("room", [60, 100])
@pytest.mark.parametrize("made", [made for made, _, _ in STORIES], ids=NAMES)
def test_the_page_fits_the_terminal(told: Told, made: Made, room: int) -> None:
    """Only what has to stay whole is wider: a path, a UID, an option with its value."""
    found = told(made)

    wide = [line.strip().removesuffix(" \\") for line in page(found, room).splitlines() if len(line) > room]

    assert not [line for line in wide if " " in line and "--" not in line]


def test_other_archived_sessions_are_further_sides(tmp_path: Path) -> None:
    """A study that is archived elsewhere: that session stands beside this one."""
    found = routed_elsewhere(labelled_workspace(tmp_path))

    assert [(side.title, side.label) for side in found.sides] == [("incoming", "OTHER"), ("archived elsewhere", "ELSE")]
    assert "archived elsewhere: session 1" in page(found)


def test_a_reanonymised_copy_shows_each_attribute_once(tmp_path: Path) -> None:
    """Old and new value; instances that differ the same way are counted."""
    found = reanonymised(labelled_workspace(tmp_path))

    text = page(found)

    assert text.count("(0010,0010) PatientName: 'Doe^Jane' -> 'ANON'") == 1
    assert text.count("(0010,0020) PatientID: 'P1' -> '0259'") == 1
    assert "and 3 instances more that differ just so" in text
    assert [each["kind"] for each in found.differences] == ["HEADER_ONLY"] * 4


def test_nothing_a_scanner_sent_steers_the_terminal(tmp_path: Path) -> None:
    """Escape sequences and overrides of direction are shown, not sent; wide characters keep the columns."""
    ws = labelled_workspace(tmp_path)
    archived(ws, changed(visit(STUDY_1), PatientName="\x1b[31mred\u202e", StudyDescription="頭部" * 20))

    text = page(declined(ws, changed(visit(STUDY_2), SeriesDescription="\x1b]0;title\x07", PatientID="\u2066P1")))

    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b[31mred\\u202e" in text
    assert "頭部" in text


def test_one_visit_that_waits_in_two_parts_is_joined_first(tmp_path: Path) -> None:
    """The same patient, device and station, another study, half an hour apart: `session join`."""
    ws = labelled_workspace(tmp_path)
    one, two = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, study_time="104500"))

    first, second = conflicts.explain(ws, one.id), conflicts.explain(ws, two.id)

    expected = f"prearc session join {one.id} {two.id} --reason 'scanner restarted'"
    assert commands(first)[0] == commands(second)[0] == expected
    assert "probably one visit that a restart of the scanner split" in first.summary
    assert [(join.other_id, join.gap_seconds) for join in first.joins] == [(two.id, 1800.0)]
    assert [side.title for side in first.sides] == ["incoming", "waiting too"]


def test_a_session_that_is_received_is_closed_before_it_is_joined(tmp_path: Path) -> None:
    """The command closes first what still waits for instances."""
    ws = labelled_workspace(tmp_path)
    one = ready(ws, visit(STUDY_1))
    other_id = send(ws, visit(STUDY_2, study_time="104500"))[0].session_id

    (join,) = conflicts.explain(ws, one.id).joins

    assert join.command.startswith(f"prearc session close {other_id} && prearc session join {one.id} {other_id} ")


@pytest.mark.parametrize(
    "facts",
    [
        {"study_time": "153000"},  # more than four hours
        {"study_date": "20260106"},
        {"device_serial_number": "10002"},
    ],
)
def test_what_does_not_agree_is_not_joined(tmp_path: Path, facts: dict[str, str]) -> None:
    """Another day, another scanner: no suggestion."""
    ws = labelled_workspace(tmp_path)
    one, _ = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, **facts))

    assert conflicts.explain(ws, one.id).joins == ()


def test_name_and_birth_date_stand_in_for_the_patient_id(tmp_path: Path) -> None:
    """A patient who got a new id after the restart is the same by name and birth date; another one is not."""
    ws = labelled_workspace(tmp_path)
    one = ready(ws, visit(STUDY_1))
    same = study(patient_id="TEMP1", patient_name="DOE^JANE", study_instance_uid=STUDY_2)
    other = study(patient_id="P2", patient_name="Roe^Richard", study_instance_uid=f"{STUDY_2}.1")
    two, _ = ready(ws, same), ready(ws, other)

    assert [join.other_id for join in conflicts.explain(ws, one.id).joins] == [two.id]


def test_without_study_times_the_reception_tells_the_gap(tmp_path: Path) -> None:
    """No Study Time: how long after the one the other came."""
    ws = labelled_workspace(tmp_path)
    one = ready(ws, changed(visit(STUDY_1), StudyTime=""))
    ws.clock.advance(3600)  # type: ignore[attr-defined]
    two = ready(ws, changed(visit(STUDY_2), StudyTime=""))
    ws.clock.advance(5 * 3600)  # type: ignore[attr-defined]
    ready(ws, changed(visit(f"{STUDY_2}.1"), StudyTime=""))

    (join,) = conflicts.explain(ws, one.id).joins

    assert (join.other_id, join.gap_seconds) == (two.id, 3600.0)


def test_session_show_suggests_the_join_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As text and in the JSON."""
    ws = labelled_workspace(tmp_path)
    one, two = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, study_time="104500"))

    typed(ws, "session", "show", str(one.id))
    text = capsys.readouterr().out
    typed(ws, "session", "show", str(one.id), "--json")
    document = json.loads(capsys.readouterr().out)

    assert f"session {two.id}: prearc session join {one.id} {two.id} --reason 'scanner restarted'" in text
    assert [join["other_session"] for join in document["joins"]] == [two.id]


def test_the_json_has_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field of before, and sides, differences, ranked ways out and joins."""
    ws = labelled_workspace(tmp_path)
    found = reanonymised(ws)

    assert typed(ws, "conflict", "explain", str(found.session.id), "--json") == 0
    document = json.loads(capsys.readouterr().out)

    assert set(document) == {
        *("session", "summary", "findings", "incoming", "archived"),
        *("sides", "differs", "differences", "ways_out", "joins"),
    }
    assert [side["session"] for side in document["sides"]] == [2, 1]
    assert document["sides"][0] == document["incoming"] and document["sides"][1] == document["archived"]
    assert document["differences"][0]["tags"][0]["keyword"] == "PatientName"
    assert [set(way) for way in document["ways_out"]] == [{"command", "why", "cost", "rank"}] * len(found.ways_out)


def test_the_looks_beside_go_by_index(tmp_path: Path) -> None:
    """Neither the suggestion of joins nor the count of what is archived already looks at every session or instance."""
    from archive.store.catalogue import neighbours

    ws = labelled_workspace(tmp_path)

    asked: list[tuple[str, tuple[object, ...]]] = [(neighbours.SELECT, ("PI", 1)), (neighbours.LABELS, ("PI", 1))]
    asked += [(neighbours.IDENTICAL, (1, 2)), (neighbours.ELSEWHERE, (1,)), (neighbours.PARTED, (1,))]
    for sql, values in asked:
        plan = [row["detail"] for row in rows(ws, f"EXPLAIN QUERY PLAN {sql}", *values)]
        assert not [step for step in plan if step.startswith("SCAN ")], plan


def test_what_no_longer_waits_has_no_ways_out_of_waiting(tmp_path: Path) -> None:
    """An archived session has none, a deleted one is restored."""
    ws = labelled_workspace(tmp_path)
    first = archived(ws)
    second = ready(ws, visit(STUDY_2))
    sessions.delete(ws, second.id)

    assert commands(conflicts.explain(ws, first.id)) == []
    assert commands(conflicts.explain(ws, second.id)) == [f"prearc session restore {second.id}"]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """Explained twice, the session is what it was."""
    ws = labelled_workspace(tmp_path)
    found = two_people(ws)
    again = conflicts.explain(ws, found.session.id)

    assert again == found
    assert again.session.status is SessionStatus.CONFLICT
    assert FindingKind.STUDY_UID_DIFFERS in {each.kind for each in again.findings}
    assert archive_session(ws, again.session.id, mode=MergeMode.APPEND).status == "CONFLICT"


def test_what_is_more_of_an_archived_study_is_no_half_of_another_visit(tmp_path: Path) -> None:
    """A changed resend and the second part of a visit wait together: neither is to be joined with the other."""
    ws = labelled_workspace(tmp_path)
    archived(ws)
    changed_copy = declined(ws, visit(STUDY_1, pixel_seed=3))
    second_part = declined(ws, visit(STUDY_2, study_time="104500"))

    again = conflicts.explain(ws, changed_copy.session.id)

    assert second_part.joins == again.joins == ()
    assert commands(second_part)[0].startswith("prearc session archive ")


def test_a_late_part_under_somebody_elses_label_can_only_go_home(tmp_path: Path) -> None:
    """No relabelling to another label, no return of the session that has nothing to do with it."""
    found = anothers_label(labelled_workspace(tmp_path))

    assert FindingKind.LABEL_CHANGED in {each.kind for each in found.findings}
    assert commands(found)[1:] == ["prearc session delete 3"]
    assert "What is archived as PI/DEV, session 2, is something else." in found.summary
    assert [(side.title, side.session_id) for side in found.sides] == [
        ("incoming", 3),
        ("archived", 2),
        ("continued", 1),
    ]


def test_what_a_filter_declines_has_a_project_a_split_and_a_key(tmp_path: Path) -> None:
    """Back, elsewhere, split, the key of the filter; to be thrown away last. No word stands for a project."""
    found = filtered(labelled_workspace(tmp_path))

    first, second, split, check, last = found.ways_out
    assert (first.command, second.command) == (
        "prearc session move 1 --project PI",
        "prearc session move 1 --project LAX",
    )
    assert "Back to the project it came from" in first.why
    uid = next(scan.series_instance_uid for scan in found.incoming.scans if scan.description == "t1")
    assert split.command == f"prearc session split 1 --series {uid} --label S1_MR"
    assert check.command == "prearc config check" and "filter_lines of [[project]] STRICT" in check.why
    assert last.command == "prearc session delete 1"
    hints = {each.hint for each in found.findings if each.kind is FindingKind.SERIES_FILTERED}
    assert hints == {"prearc session move 1 --project PI"}


def test_what_is_archived_elsewhere_is_joined_with_nothing(tmp_path: Path) -> None:
    """A study that was sent again under another label, beside a first part of another: neither side proposes it."""
    ws = labelled_workspace(tmp_path)
    copy = routed_elsewhere(ws).session
    sessions.relabel(ws, copy.id, label="S1_MR")
    other = ready(ws, visit(STUDY_2, study_time="104500"))

    for session_id in (copy.id, other.id):
        assert conflicts.explain(ws, session_id).joins == ()


def test_instances_that_are_archived_elsewhere_are_joined_with_nothing(tmp_path: Path) -> None:
    """Copied into a new study by an anonymiser that kept their UIDs."""
    ws = labelled_workspace(tmp_path)
    archived(ws)
    copy = ready(ws, changed(visit(STUDY_1), StudyInstanceUID=STUDY_2))
    other = ready(ws, visit(f"{STUDY_2}.1", study_time="104500"))

    assert [conflicts.explain(ws, each.id).joins for each in (copy, other)] == [(), ()]


def test_what_was_split_on_purpose_is_not_joined_again(tmp_path: Path) -> None:
    """Neither from the one side nor from the other."""
    ws = labelled_workspace(tmp_path)
    one, _ = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, study_time="104500"))
    assert run(ws, f"{commands(conflicts.explain(ws, one.id))[0]} --yes") == 0
    assert run(ws, f"prearc session split {one.id} --study {STUDY_2} --yes") == 0

    assert [conflicts.explain(ws, each).joins for each in (one.id, 3)] == [(), ()]


def test_a_join_comes_behind_what_fits_the_findings(tmp_path: Path) -> None:
    """Two visits under one label: a label of its own first, then the other half that waits."""
    ws = labelled_workspace(tmp_path)
    archived(ws)
    found = declined(ws, visit(STUDY_2, study_date="20260301"))
    ready(ws, visit(f"{STUDY_2}.1", study_date="20260301", study_time="104500"))

    again = commands(conflicts.explain(ws, found.session.id))

    assert again[0] == "prearc session relabel 2 --label S1_MR_2"
    assert "prearc session join 2 3 --reason 'scanner restarted'" in again[1:]
