"""The audit: every change is an event with who, when, what and why, and nobody takes one out unseen."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archive import audit, sessions
from archive.findings import FindingKind
from archive.model import MergeMode, Session
from archive.rebuild import rebuild
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.rules.chain import BreakKind
from archive.store.catalogue import events, findings
from archive.store.catalogue.events import Wanted
from archive.workspace import Workspace
from cli.audit import change as told
from cli.main import run
from cli.process import command, environment
from tests.story import STUDY_1, STUDY_2, archive_session, labelled_workspace, ready, send, visit
from tests.workbench import change, event_kinds, rows

Verify = Callable[..., audit.Verification]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A root with one READY session and its handful of events."""
    workspace = labelled_workspace(tmp_path, project=[{"id": "PI"}, {"id": "OTHER"}])
    ready(workspace, visit())
    return workspace


def details(ws: Workspace, kind: str) -> list[dict[str, Any]]:
    """What the events of one kind say."""
    return [json.loads(row["detail"]) for row in rows(ws, "SELECT detail FROM event WHERE kind = ? ORDER BY id", kind)]


def last_id(ws: Workspace) -> int:
    return audit.last_id(ws.catalogue)


# Every change


def _shown(ws: Workspace) -> dict[int, dict[str, Any]]:
    sql = "SELECT id, status, project, subject, label, path, merged_into_id FROM session"
    return {row["id"]: row for row in rows(ws, sql)}


def _undecided(ws: Workspace, before: dict[int, dict[str, Any]], mark: int) -> list[str]:
    """The changes since `before` that no event after `mark` tells, with the value that holds now."""
    silent: list[str] = []
    for session_id, now in _shown(ws).items():
        told = " ".join(
            row["detail"]
            for row in rows(ws, "SELECT detail FROM event WHERE session_id = ? AND id > ?", session_id, mark)
        )
        was = before.get(session_id, {})
        for name, value in now.items():
            if name != "id" and value is not None and was.get(name) != value and f"{value}" not in told:
                silent.append(f"session {session_id}: {name} is {value}")
    return silent


def test_every_change_of_a_session_is_told_by_an_event(ws: Workspace) -> None:
    """Whatever a step changes of status, project, labels and folder, an event of the session names the new value."""
    first = sessions.resolve(ws, "1")

    def second() -> Session:
        return ready(ws, visit(STUDY_2))

    steps: list[Callable[[], object]] = [
        lambda: sessions.relabel(ws, 1, subject="S9", label="S9_MR", reason="typing error"),
        lambda: sessions.move(ws, 1, project="OTHER", reason="wrong project"),
        lambda: sessions.move(ws, 1, project="PI"),
        lambda: sessions.delete(ws, 1, reason="a test"),
        lambda: sessions.restore(ws, 1, reason="no test"),
        lambda: sessions.relabel(ws, 1, subject=first.subject, label=first.label),
        lambda: archive_session(ws, 1),
        second,
        lambda: archive_session(ws, 2),
        lambda: archive_session(
            ws, 2, mode=MergeMode.APPEND, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="scanner restarted"
        ),
    ]
    for step in steps:
        before, mark = _shown(ws), last_id(ws)

        step()

        assert _shown(ws) != before
        if not any(row["merged_into_id"] for row in _shown(ws).values()):
            assert _undecided(ws, before, mark) == []
    assert details(ws, "ARCHIVE_DONE")[-1]["merged_into"] == 1
    assert audit.verify(ws.catalogue).is_whole


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        (lambda ws, why: sessions.relabel(ws, 1, label="NEW", reason=why), "RELABELLED"),
        (lambda ws, why: sessions.move(ws, 1, project="OTHER", reason=why), "MOVE_DONE"),
        (lambda ws, why: sessions.delete(ws, 1, reason=why), "DELETE_DONE"),
    ],
)
def test_a_reason_is_in_the_event_and_in_the_log(
    ws: Workspace, verb: Callable[[Workspace, str], Session], kind: str
) -> None:
    """Why it was done stands where it is looked for."""
    verb(ws, "told by phone")

    assert details(ws, kind)[-1]["reason"] == "told by phone"
    assert any("told by phone" in text for _, text in sessions.details(ws, 1).log)


def test_restoring_and_closing_take_a_reason(ws: Workspace) -> None:
    """The two other verbs that change a session."""
    sessions.delete(ws, 1)
    sessions.restore(ws, 1, reason="needed after all")
    later = send(ws, visit(STUDY_2))[0].session_id
    assert later is not None
    sessions.close(ws, later, reason="scanner is off")

    assert details(ws, "RESTORE")[-1]["reason"] == "needed after all"
    assert details(ws, "CLOSE_REQUESTED")[-1]["reason"] == "scanner is off"


def test_a_decision_is_an_event_of_both_sides(ws: Workspace) -> None:
    """Kinds, reason and the sessions; the manifests' digests too when the decision has them."""
    archive_session(ws, 1)
    ready(ws, visit(STUDY_2))
    overrides = [FindingKind.STUDY_UID_DIFFERS]

    archive_session(ws, 2, mode=MergeMode.APPEND, overrides=overrides, reason="scanner restarted")

    (mine, theirs) = details(ws, "DECISION")
    for detail in (mine, theirs):
        assert detail["kinds"] == ["STUDY_UID_DIFFERS"] and detail["reason"] == "scanner restarted"
        assert (detail["incoming"], detail["archived"]) == (2, 1)
    assert [row["session_id"] for row in rows(ws, "SELECT session_id FROM event WHERE kind = 'DECISION'")] == [1, 2]


def test_a_forced_merge_names_the_manifests_it_was_decided_upon(ws: Workspace) -> None:
    """Both sides as they were, by the digests of their manifests."""
    archive_session(ws, 1)
    ready(ws, visit(STUDY_2))

    archive_session(ws, 2, mode=MergeMode.APPEND, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="one visit")

    for detail in details(ws, "DECISION"):
        assert set(detail["manifests"]) >= {"incoming", "archived"}


def test_replaced_files_are_told_with_their_backup(ws: Workspace) -> None:
    """An overwriting names how many went, whose came, and where the old ones are."""
    archive_session(ws, 1)
    corrected = visit()
    for dataset in corrected:
        dataset.PatientComments = "corrected"
    ready(ws, corrected)

    archive_session(ws, 2, mode=MergeMode.OVERWRITE)

    (replaced,) = details(ws, "REPLACED")
    assert (replaced["from"], replaced["instances"]) == (2, len(corrected))
    assert (ws.root.path / replaced["backup"]).is_dir()


def test_the_manifests_of_a_decision_are_in_its_event(ws: Workspace) -> None:
    """What a decision was taken upon can be told from the audit alone."""
    manifests = {"incoming": "a" * 64, "archived": "b" * 64}
    with ws.catalogue.write() as tx:
        findings.decide(tx, 1, kinds=["FILE_MISSING"], reason="lost", detail={"manifests": manifests})

    assert details(ws, "DECISION")[-1] == {"kinds": ["FILE_MISSING"], "reason": "lost", "manifests": manifests}


def test_a_difference_that_a_scanner_sends_is_an_event(ws: Workspace) -> None:
    """The finding came with an instance, not with a verb: it is told as well, once."""
    other = visit()
    for dataset in other:
        dataset.PatientComments = "other bytes"

    send(ws, other)

    assert details(ws, "FOUND") == [{"findings": ["INSTANCE_DIFFERS"]}]


def test_what_the_doctor_does_is_in_the_audit(ws: Workspace) -> None:
    """A stranger set aside, counters put right, a lost file marked: each with the session and the paths."""
    folder = ws.root.path / sessions.resolve(ws, "1").path
    (folder / "notes.txt").write_text("hello")
    lost = next(folder.rglob("*.dcm"))
    lost.unlink()
    change(ws, "UPDATE session SET instance_count = 99 WHERE id = 1")

    reconcile(ws, repair=True)

    (aside,) = details(ws, "FILE_SET_ASIDE")
    assert aside["path"][0].endswith("notes.txt") and aside["path"][1].startswith("quarantine/unlisted-")
    assert "99" in details(ws, "RECOUNTED")[0]["was"][0]
    assert details(ws, "INSTANCE_MISSING")[0]["path"] == str(lost.relative_to(ws.root.path))


def test_a_part_that_nobody_was_promised_is_named_when_it_is_set_aside(ws: Workspace) -> None:
    """Bytes of a dead receiver: where they were and where they are."""
    (ws.root.path / "spool" / "dead.1.part").write_bytes(b"half an image")

    recover(ws)

    (aside,) = details(ws, "PART_SET_ASIDE")
    assert aside["path"] == ["spool/dead.1.part", "spool/lost+found/dead.1.part"]
    assert (ws.root.path / aside["path"][1]).read_bytes() == b"half an image"


def test_a_lost_file_that_came_again_is_an_event(ws: Workspace) -> None:
    """The row took the new file: the audit tells that what was missing is there."""
    lost = next((ws.root.path / sessions.resolve(ws, "1").path).rglob("*.dcm"))
    lost.unlink()
    reconcile(ws, repair=True)

    send(ws, visit())

    (found,) = details(ws, "INSTANCE_FOUND")
    assert found["reason"] == "it came again"


def test_a_session_deleted_without_files_names_each_lost_one(ws: Workspace) -> None:
    """The rows stay, marked missing; each mark is an event."""
    shutil.rmtree(ws.root.path / sessions.resolve(ws, "1").path)

    sessions.delete(ws, 1, reason="taken away")

    assert len(details(ws, "INSTANCE_MISSING")) == sessions.resolve(ws, "1").instance_count
    assert details(ws, "DELETE_DONE")[-1]["reason"] == "taken away"


def test_a_rebuilt_catalogue_names_the_head_of_the_old_chain(ws: Workspace) -> None:
    """A new chain begins; where it was readable, the end of the old one is told by its last event."""
    old = audit.verify(ws.catalogue)
    ws.catalogue.close()

    rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    again = Workspace.open(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    try:
        said = details(again, "CATALOGUE_REBUILT")[-1]
        now = audit.verify(again.catalogue)
        expected = audit.verify(again.catalogue, expect=old.head)
    finally:
        again.close()

    assert (said["old_head"], said["old_head_id"], said["old_head_at"]) == (old.head, old.head_id, old.last_at)
    assert now.is_whole
    assert expected.broken is not None and expected.broken.kind is BreakKind.NOT_THE_CHAIN


def test_a_rebuild_of_what_cannot_be_read_names_no_head(ws: Workspace) -> None:
    """The old file is no database: there is nothing to name, and the rebuild goes on."""
    ws.catalogue.close()
    ws.root.catalogue_path.write_bytes(b"not a database" * 100)

    rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    again = Workspace.open(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    try:
        assert "old_head" not in details(again, "CATALOGUE_REBUILT")[-1]
    finally:
        again.close()


# verify


def test_a_whole_chain_says_how_many_from_when_and_its_head(ws: Workspace) -> None:
    """What is to be noted elsewhere."""
    stored = rows(ws, "SELECT * FROM event ORDER BY id")

    found = audit.verify(ws.catalogue)

    assert found.is_whole and found.count == len(stored)
    assert (found.first_at, found.last_at) == (stored[0]["happened_at"], stored[-1]["happened_at"])
    assert (found.head_id, found.head) == (stored[-1]["id"], stored[-1]["hash"])


def test_an_empty_chain_is_whole(tmp_path: Path) -> None:
    """A root in which nothing has happened yet."""
    found = audit.verify(labelled_workspace(tmp_path).catalogue)

    assert found.is_whole and (found.count, found.head_id, found.head) == (0, 0, "")


def _insert_a_copy(ws: Workspace, *, after: int) -> None:
    """Make room for a row and put one in."""
    last = last_id(ws)
    for number in range(last, after, -1):
        change(ws, "UPDATE event SET id = id + 1 WHERE id = ?", number)
    columns = "happened_at, actor, kind, session_id, detail, previous_hash, hash"
    change(ws, f"INSERT INTO event(id, {columns}) SELECT ?, {columns} FROM event WHERE id = ?", after + 1, after)


TAMPERING: list[tuple[str, Callable[[Workspace], None], BreakKind, int]] = [
    ("actor", lambda ws: change(ws, "UPDATE event SET actor = 'nobody' WHERE id = 2"), BreakKind.CHANGED, 2),
    ("detail", lambda ws: change(ws, "UPDATE event SET detail = '{}' WHERE id = 1"), BreakKind.CHANGED, 1),
    ("hash", lambda ws: change(ws, "UPDATE event SET hash = 'x' WHERE id = 3"), BreakKind.CHANGED, 3),
    ("middle", lambda ws: change(ws, "DELETE FROM event WHERE id = 2"), BreakKind.REMOVED, 2),
    ("first", lambda ws: change(ws, "DELETE FROM event WHERE id = 1"), BreakKind.BEGINS_LATE, 2),
    ("last", lambda ws: change(ws, "DELETE FROM event WHERE id = (SELECT max(id) FROM event)"), BreakKind.CUT_OFF, 4),
    ("all", lambda ws: change(ws, "DELETE FROM event"), BreakKind.CUT_OFF, 1),
    ("inserted", lambda ws: _insert_a_copy(ws, after=2), BreakKind.INSERTED, 3),
]


@pytest.mark.parametrize(("name", "tamper", "kind", "at"), TAMPERING, ids=[each[0] for each in TAMPERING])
def test_tampering_is_found_and_named(
    ws: Workspace,
    capsys: pytest.CaptureFixture[str],
    name: str,
    tamper: Callable[[Workspace], None],
    kind: BreakKind,
    at: int,
) -> None:
    """Exit code 1, the first bad event, what it means, and the next command; the doctor says the same."""
    assert last_id(ws) == 4
    tamper(ws)

    found = audit.verify(ws.catalogue)
    code = run(["audit", "verify"], {"PREARC_ROOT": str(ws.root.path)})

    assert found.broken is not None and (found.broken.kind, found.broken.event_id) == (kind, at)
    assert code == 1
    said = capsys.readouterr().out
    assert f"broken at event {at}: {kind}" in said and "prearc doctor" in said
    with ws.catalogue.read() as connection:
        assert events.first_broken_link(connection) == at


def test_a_cut_that_hides_its_count_is_found_by_the_noted_head(ws: Workspace) -> None:
    """Who also resets the database's own count is only caught by what was noted elsewhere."""
    head = audit.verify(ws.catalogue)
    change(ws, "DELETE FROM event WHERE id = ?", head.head_id)
    change(ws, "UPDATE sqlite_sequence SET seq = ? WHERE name = 'event'", head.head_id - 1)

    assert audit.verify(ws.catalogue).is_whole
    whole = audit.verify(ws.catalogue, expect=head.head)
    since = audit.verify(ws.catalogue, expect=head.head, since_id=head.head_id)

    assert whole.broken is not None and whole.broken.kind is BreakKind.NOT_THE_CHAIN
    assert since.broken is not None and (since.broken.kind, since.broken.event_id) == (BreakKind.CUT_OFF, head.head_id)


def test_a_noted_head_stays_proven_while_the_chain_grows(ws: Workspace) -> None:
    """The head of yesterday is in the chain of today."""
    head = audit.verify(ws.catalogue)
    sessions.relabel(ws, 1, label="NEW")

    assert audit.verify(ws.catalogue, expect=head.head).is_whole
    later = audit.verify(ws.catalogue, expect=head.head, since_id=head.head_id)

    assert later.is_whole and later.count == 2


def test_a_rewritten_chain_is_not_the_noted_one(ws: Workspace) -> None:
    """Since an event that is another one now; or since one that is gone."""
    head = audit.verify(ws.catalogue)

    other = audit.verify(ws.catalogue, expect=head.head, since_id=2)
    change(ws, "DELETE FROM event WHERE id = 2")
    gone = audit.verify(ws.catalogue, since_id=2)
    changed = (change(ws, "UPDATE event SET actor = 'x' WHERE id = 3"), audit.verify(ws.catalogue, since_id=3))[1]

    assert other.broken is not None and other.broken.kind is BreakKind.NOT_THE_CHAIN
    assert gone.broken is not None and (gone.broken.kind, gone.broken.event_id) == (BreakKind.REMOVED, 2)
    assert changed.broken is not None and changed.broken.kind is BreakKind.CHANGED


@pytest.mark.parametrize("arguments", [["--expect", "xyz"], ["--since-id", "0"]])
def test_what_cannot_be_a_head_is_a_usage_error(ws: Workspace, arguments: list[str]) -> None:
    """A typing error is not a broken chain."""
    assert run(["audit", "verify", *arguments], {"PREARC_ROOT": str(ws.root.path)}) == 2


def test_a_long_chain_is_walked_in_pieces(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many events are never in memory at once; the pieces join, breaks between them are seen."""
    monkeypatch.setattr(audit, "BATCH", 3)
    with ws.catalogue.write() as tx:
        for number in range(20):
            events.append(tx, "NOTED", None, {"number": number})

    assert audit.verify(ws.catalogue).count == 24
    assert [each.detail["number"] for each in audit.all_of(ws.catalogue, Wanted(kind="NOTED"))] == list(range(20))
    change(ws, "DELETE FROM event WHERE id = 10")
    broken = audit.verify(ws.catalogue).broken

    assert broken is not None and (broken.kind, broken.event_id) == (BreakKind.REMOVED, 10)


def test_verify_prints_a_command_that_proves_it_later(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The line to note can be typed."""
    where = {"PREARC_ROOT": str(ws.root.path)}
    assert run(["audit", "verify", "--json"], where) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["is_whole"] is True and document["events"] == 4 and document["broken"] is None

    assert run(document["hint"].split()[1:], where) == 0

    assert "whole" in capsys.readouterr().out


# tail


@pytest.fixture
def tail(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """`prearc audit tail` on that root: what it printed."""

    def call(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["audit", "tail", *arguments], {"PREARC_ROOT": str(ws.root.path)}) == 0
        return capsys.readouterr().out

    yield call


def test_tail_shows_newest_last_with_who_what_and_why(ws: Workspace, tail: Callable[..., str]) -> None:
    """One line an event: time, who, kind, session, from -> to, reason."""
    sessions.relabel(ws, 1, label="NEW", reason="typing error")

    lines = tail().splitlines()

    assert lines[-1] == "2026-01-05 10:15:00  tester  RELABELLED  session 1  label S1_MR -> NEW; reason: typing error"
    assert "RECEIVING -> BUILDING" in lines[-3]
    assert len(lines) == 5


def test_tail_chooses(ws: Workspace, tail: Callable[..., str]) -> None:
    """By number, session, kind and time; several at once."""
    ready(ws, visit(STUDY_2))

    assert len(tail("-n", "2").splitlines()) == 2
    assert len(tail("--session", "1").splitlines()) == 4
    assert len(tail("--kind", "built").splitlines()) == 2
    assert len(tail("--kind", "BUILT", "--session", "2").splitlines()) == 1
    assert tail("--since", "2026-01-06") == ""
    assert len(tail("--since", "2026-01-05").splitlines()) == 8
    assert len(tail("--since", "2026-01-05", "-n", "3").splitlines()) == 3
    (one,) = json.loads(tail("-n", "1", "--json"))
    assert (one["session"], one["kind"], one["actor"]) == (2, "BUILT", "tester")


def test_nothing_of_an_event_steers_the_terminal(ws: Workspace, tail: Callable[..., str]) -> None:
    """A reason is typed by a person, and a label was sent by a scanner."""
    sessions.relabel(ws, 1, label="NEW", reason="\x1b[2Jgone\nforged line")

    said = tail("-n", "1")

    assert "\x1b" not in said and len(said.splitlines()) == 1
    assert r"\x1b[2Jgone\nforged line" in said


def test_follow_gives_what_happens_next(ws: Workspace) -> None:
    """Each event once, in order, as it is written."""
    mark = last_id(ws)
    labels = iter(["A", "B"])
    followed = audit.follow(
        ws.catalogue, Wanted(after_id=mark), wait=lambda: sessions.relabel(ws, 1, label=next(labels)) and None
    )

    first, second = next(followed), next(followed)

    assert [each.detail["label"] for each in (first, second)] == [["S1_MR", "A"], ["A", "B"]]


def test_follow_ends_well_with_an_interrupt(ws: Workspace) -> None:
    """`--follow` prints what was, then what happens, one document a line with --json; Ctrl-C is its ordinary end."""
    arguments = command("--root", str(ws.root.path), "--json", "audit", "tail", "-n", "1", "--follow")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment(os.environ)) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["kind"] == "BUILT"
            sessions.relabel(ws, 1, label="NEW")
            assert json.loads(process.stdout.readline())["detail"]["label"] == ["S1_MR", "NEW"]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ({"from": "READY", "to": "MOVING"}, "READY -> MOVING"),
        ({"from": 2, "instances": 3}, "from 2; instances 3"),
        ({"project": [None, "PI"], "label": ["A", "A"]}, "project - -> PI"),
        ({"kinds": ["A", "B"], "reason": "why"}, "kinds A, B; reason: why"),
        ({"manifests": {"incoming": "x", "archived": "y"}}, "manifests incoming=x, archived=y"),
        ({"follows": None, "reason": ""}, ""),
    ],
)
def test_a_change_is_told_from_what_to_what(detail: dict[str, Any], text: str) -> None:
    """Equal values are left out, the reason comes last."""
    assert told(detail) == text


# who


def _actor_of(ws: Workspace, **variables: str) -> str:
    where = {"PREARC_ROOT": str(ws.root.path), **variables}
    assert run(["session", "relabel", "1", "--label", "NEW", "--reason", "typing error"], where) == 0
    return str(rows(ws, "SELECT actor FROM event ORDER BY id DESC LIMIT 1")[0]["actor"])


def test_a_command_is_its_users_whatever_the_environment_says(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word for the user, and the host."""
    monkeypatch.setenv("LOGNAME", "somebody-else")
    me = pwd.getpwuid(os.geteuid()).pw_name

    assert _actor_of(ws) == f"{me}@{socket.gethostname()}"


def test_who_was_behind_sudo_is_noted(ws: Workspace) -> None:
    """Everybody runs prearc as the node's user: the person is who called sudo."""
    me = pwd.getpwuid(os.geteuid()).pw_name

    assert _actor_of(ws, SUDO_USER="alice") == f"{me}@{socket.gethostname()} (sudo: alice)"


def test_a_sudo_user_that_is_no_name_is_not_noted(ws: Workspace) -> None:
    """The environment can hold anything."""
    assert "sudo" not in _actor_of(ws, SUDO_USER="alice) forged\n")


def test_show_still_tells_the_events(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`session show` has the events of its session."""
    assert run(["session", "show", "1", "--json"], {"PREARC_ROOT": str(ws.root.path)}) == 0

    shown = json.loads(capsys.readouterr().out)["events"]
    assert [each["kind"] for each in shown] == event_kinds(ws, 1)
    assert rows(ws, "SELECT 1 FROM session_study WHERE study_instance_uid = ?", STUDY_1)
