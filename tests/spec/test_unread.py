"""A session that cannot be looked at after a crash keeps no node from receiving, and never passes for whole."""

import errno
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from archive import failpoints
from archive.archiving import archive, preview
from archive.daemon import Daemon
from archive.dead_processes import settle_dead_processes
from archive.errors import Refused, RootError, StoreError
from archive.examination.building import build
from archive.examination.review import ArchiveOrder
from archive.joining import join, preview_join
from archive.model import Outcome
from archive.rebuild import ensure_catalogue, rebuild
from archive.reconcile import Reconciliation, reconcile
from archive.recovery import last_report, recover
from archive.returning import give_back, preview_return
from archive.sessions import close, delete, move, relabel
from archive.splitting import SplitOrder, preview_split, split
from archive.store import files
from archive.store.catalogue import events
from archive.store.root import prepare
from archive.upkeep.discrepancies import Discrepancy
from archive.upkeep.leftovers import LOST_AND_FOUND
from archive.workspace import Workspace
from cli.main import run
from scp import synthetic
from tests.spec.test_recovery import forget_row, state, status_of_session, stored, study
from tests.workbench import Sender, SteppedClock, change, event_kinds, make_workspace, rows, tree


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    workspace = make_workspace(tmp_path)
    yield workspace
    workspace.close()


@contextmanager
def broken(path: str, number: int = errno.EIO) -> Iterator[None]:
    """No folder from this one on downwards can be opened."""
    opened = files.open_folder

    @contextmanager
    def open_folder(root_fd: int, relative: str, *, create: bool = False) -> Iterator[int]:
        if f"{relative}/".startswith(f"{path}/"):
            raise OSError(number, os.strerror(number), relative)
        with opened(root_fd, relative, create=create) as fd:
            yield fd

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "open_folder", open_folder)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """Two sessions, RECEIVING, with an instance each whose row was never committed."""

    bad: str
    orphan: Path
    other: Path


@pytest.fixture
def crashed(ws: Workspace) -> Crashed:
    orphan = stored(ws, study())[1]
    other = stored(ws, study(patient_id="P2"))[1]
    for path in (orphan, other):
        forget_row(ws, path)
    return Crashed(bad=rows(ws, "SELECT path FROM session WHERE id = 1")[0]["path"], orphan=orphan, other=other)


def relative(ws: Workspace, path: Path) -> str:
    return str(path.relative_to(ws.root.path))


def unread(ws: Workspace) -> list[tuple[int, str, str]]:
    found = rows(ws, "SELECT session_id, path, error FROM session_unread ORDER BY session_id")
    return [(row["session_id"], row["path"], row["error"]) for row in found]


def instances(ws: Workspace, session_id: int = 1) -> int:
    return int(rows(ws, "SELECT instance_count AS n FROM session WHERE id = ?", session_id)[0]["n"])


def archiver(ws: Workspace) -> Daemon:
    return Daemon(ws, stop=threading.Event())


def clock_of(ws: Workspace) -> SteppedClock:
    assert isinstance(ws.clock, SteppedClock)
    return ws.clock


# --- the start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("below", ["", "/SCANS", "/SCANS/1/DICOM"])
def test_one_session_that_cannot_be_looked_at_does_not_stop_the_start(
    ws: Workspace, crashed: Crashed, below: str, number: int
) -> None:
    """The others are recovered; it is in the report with path, error and what to type, in its log and in the audit."""
    with broken(crashed.bad + below, number):
        report = recover(ws)
        again = recover(ws)

    path, why = crashed.bad + below, os.strerror(number)
    assert report.adopted == (relative(ws, crashed.other),)
    assert unread(ws) == [(1, path, why)]
    [line] = report.unread
    assert line.startswith(f"session 1 cannot be looked at: {path}: {why}.")
    assert ("dmesg" if number == errno.EIO else f"namei -l {ws.root.path}/{path}") in line
    assert again.unread == report.unread and not report.is_clean
    told = last_report(ws)
    assert told is not None and told["unread"] == [line] and told["is_clean"] is False
    assert event_kinds(ws, 1).count("SESSION_UNREAD") == 1
    assert any(why in row["text"] for row in rows(ws, "SELECT text FROM session_log WHERE session_id = 1"))
    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 0}]
    assert crashed.orphan.exists()


def test_the_next_start_looks_again(ws: Workspace, crashed: Crashed) -> None:
    """What was a passing error is over: the file gets its row, the report is clean, a further run changes nothing."""
    with broken(crashed.bad):
        recover(ws)

    report = recover(ws)

    assert report.adopted == (relative(ws, crashed.orphan),)
    assert report.is_clean and unread(ws) == []
    assert event_kinds(ws, 1).count("SESSION_READ") == 1
    before = state(ws)
    assert recover(ws).lines == ()
    assert state(ws) == before


@pytest.mark.parametrize("status", ["BUILDING", "MOVING"])
def test_a_folder_that_cannot_be_opened_is_not_gone(ws: Workspace, crashed: Crashed, status: str) -> None:
    """A working session that nobody works on is let go when its folder can be seen, and looked at before it goes on."""
    change(ws, "UPDATE session SET status = ? WHERE id = 1", status)

    with broken(crashed.bad):
        report = recover(ws)

    assert (report.alarms, len(report.unread), status_of_session(ws)) == ((), 1, status)
    daemon = archiver(ws)
    daemon.tick()
    clock_of(ws).advance(11)
    daemon.tick()
    daemon.tick()
    assert unread(ws) == []
    if status == "BUILDING":
        assert (status_of_session(ws), instances(ws)) == ("READY", 2)


def file_instead(folder: Path) -> None:
    folder.write_bytes(b"x")


def loop_instead(folder: Path) -> None:
    folder.symlink_to(folder.name)


def link_instead(folder: Path) -> None:
    folder.symlink_to(folder.with_name("away"))


@pytest.mark.parametrize("put", [file_instead, loop_instead, link_instead])
def test_what_is_no_folder_is_no_empty_folder(ws: Workspace, crashed: Crashed, put: Callable[[Path], None]) -> None:
    """Somebody put something else in its place: nothing is called missing, and it is not set aside by the doctor."""
    folder = ws.root.path / crashed.bad
    folder.rename(folder.with_name("away"))
    put(folder)

    report = recover(ws)
    found = reconcile(ws, repair=True)

    assert unread(ws) == [(1, crashed.bad, "Not a directory")] and len(report.unread) == 1
    assert report.missing == ()
    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 0}]
    assert [(each.kind, each.path) for each in found.discrepancies if not each.repaired] == [
        ("SESSION_UNREAD", crashed.bad),
        ("FOLDER_UNKNOWN", str(Path(crashed.bad).with_name("away"))),
    ]
    assert os.path.lexists(folder)

    folder.unlink()
    folder.with_name("away").rename(folder)
    assert reconcile(ws, repair=True).is_clean
    assert unread(ws) == [] and instances(ws) == 2


def test_a_file_without_a_row_that_cannot_be_read_is_not_given_up(
    ws: Workspace, crashed: Crashed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk does not give one file: its session waits, what else it holds is adopted, and nothing is set aside."""
    [second] = stored(ws, study(3)[2:])
    forget_row(ws, second)
    path = relative(ws, crashed.orphan)
    opened = files.open_file

    def open_file(root_fd: int, name: str) -> int:
        if name == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(root_fd, name)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open_file", open_file)
        report = recover(ws)
        found = reconcile(ws, repair=True)

    assert report.adopted == (relative(ws, second), relative(ws, crashed.other))
    assert unread(ws) == [(1, path, "it cannot be opened: Input/output error")]
    assert report.unlisted == () and not found.is_clean
    assert crashed.orphan.exists()
    assert reconcile(ws, repair=True).is_clean
    assert instances(ws) == 3


def test_a_session_whose_row_makes_no_sense_does_not_stop_the_start(ws: Workspace, crashed: Crashed) -> None:
    """A path that is none: the command that makes the row anew is named."""
    change(ws, "UPDATE session SET path = 'prearchive/../' WHERE id = 1")

    report = recover(ws)
    found = reconcile(ws)

    assert report.adopted == (relative(ws, crashed.other),)
    [line] = report.unread
    assert "row in the catalogue is damaged" in line and "prearc doctor --rebuild" in line
    assert {each.kind for each in found.discrepancies} == {"SESSION_UNREAD", "FOLDER_UNKNOWN"}


def test_a_session_of_the_whole_prearchive_takes_no_files_of_others(ws: Workspace, crashed: Crashed) -> None:
    """One at the place itself would have everybody's files for strangers, and a repair would set them aside."""
    change(ws, "UPDATE session SET path = 'prearchive' WHERE id = 1")
    recover(ws)
    before = tree(ws)

    reconcile(ws, repair=True)

    assert tree(ws) == before


@pytest.mark.parametrize("status", ["RECEIVING", "BUILDING", "MOVING"])
def test_a_lock_that_is_a_folder_stops_nobody_else(ws: Workspace, crashed: Crashed, status: str) -> None:
    """Whoever made it: the session waits, and goes on when it is gone."""
    change(ws, "UPDATE session SET status = ? WHERE id = 1", status)
    lock = ws.root.path / "locks" / "session-1"
    lock.unlink(missing_ok=True)
    lock.mkdir()

    report = recover(ws)

    assert report.adopted == (relative(ws, crashed.other),)
    assert unread(ws) == [(1, "locks/session-1", "Is a directory")]
    assert f"namei -l {lock}" in report.unread[0]
    lock.rmdir()
    recover(ws)
    assert unread(ws) == []
    if status != "MOVING":  # there nothing is received, and what has no row is named
        assert instances(ws) == 2


def test_what_the_journal_touched_and_cannot_be_looked_at_is_noted_too(ws: Workspace, crashed: Crashed) -> None:
    """What the journal touched is compared at start; where that cannot be, nobody works on it before."""
    recover(ws)
    close(ws, 1)
    with broken(crashed.bad):
        change(
            ws,
            "INSERT INTO intent(op, kind, session_id, plan_digest, phase, owner, planned_at, detail)"
            " VALUES ('1-a', 'MOVE', 1, '', 'PLANNED', 'x', '2026-01-01T00:00:00+00:00', '{}')",
        )
        report = recover(ws)

    assert len(report.unread) == 1 and status_of_session(ws) == "READY"
    with pytest.raises(Refused, match="could not be looked at"):
        archive(ws, 1, ArchiveOrder())
    assert recover(ws).is_clean and unread(ws) == []


# --- what everything depends on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["spool", "prearchive"])
def test_a_place_that_receiving_depends_on_stops_the_start(ws: Workspace, crashed: Crashed, place: str) -> None:
    """Nothing could be received: no node begins, and it is said what everything depends on."""
    with broken(place), pytest.raises(StoreError, match="Input/output") as refused:
        recover(ws)
    assert refused.value.message.startswith(f"{place} cannot be worked with") and "dmesg" in refused.value.hint
    assert recover(ws).is_clean


@pytest.mark.parametrize("name", ["node", "catalogue", "catalogue-open", "archiver", "receiver-1", "listening"])
@pytest.mark.parametrize("is_link", [False, True])
def test_a_lock_of_the_node_that_is_no_file_is_named(ws: Workspace, name: str, is_link: bool) -> None:
    """No node begins, and the command that ends it is the hint."""
    lock = ws.root.path / "locks" / name
    lock.unlink(missing_ok=True)
    lock.symlink_to("nowhere") if is_link else lock.mkdir()

    with pytest.raises(RootError, match=f"locks/{name} is no file") as refused:
        prepare(ws.root.path)

    assert refused.value.hint == f"rm -d {lock}"
    subprocess.run(shlex.split(refused.value.hint), check=True)
    prepare(ws.root.path).close()


def test_a_catalogue_that_fails_stops_the_start(ws: Workspace, crashed: Crashed) -> None:
    """It is of no session alone, whichever was looked at when it failed."""
    change(ws, "CREATE TRIGGER fails BEFORE INSERT ON instance BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")

    with pytest.raises(StoreError, match="the disk is full"):
        recover(ws)

    change(ws, "DROP TRIGGER fails")
    assert unread(ws) == []
    assert len(recover(ws).adopted) == 2


# --- nothing is done with it before ----------------------------------------------------------------------------------


_ORDER = ArchiveOrder(is_automatic=True)
_VERBS: dict[str, Callable[[Workspace], object]] = {
    "build": lambda ws: build(ws, 1),
    "close": lambda ws: close(ws, 1),
    "archive": lambda ws: archive(ws, 1, _ORDER),
    "archive --dry-run": lambda ws: preview(ws, 1, _ORDER),
    "move": lambda ws: move(ws, 1, project="PI"),
    "relabel": lambda ws: relabel(ws, 1, label="other"),
    "delete": lambda ws: delete(ws, 1),
    "join": lambda ws: join(ws, 2, 1, reason="test"),
    "join, as the target": lambda ws: join(ws, 1, 2, reason="test"),
    "join --dry-run": lambda ws: preview_join(ws, 2, 1, reason="test"),
    "split": lambda ws: split(ws, 1, SplitOrder(series="1.2")),
    "split --dry-run": lambda ws: preview_split(ws, 1, SplitOrder(series="1.2")),
    "return": lambda ws: give_back(ws, 1),
    "return --dry-run": lambda ws: preview_return(ws, 1),
}


@pytest.mark.parametrize("verb", _VERBS)
def test_nothing_is_done_with_a_session_before_it_was_looked_at(ws: Workspace, crashed: Crashed, verb: str) -> None:
    """Also when the disk gives its folder again: the file without a row would be left behind. The hint says what is."""
    with broken(crashed.bad):
        recover(ws)
    close(ws, 2)
    before = state(ws)

    with pytest.raises(Refused, match="could not be looked at") as refused:
        _VERBS[verb](ws)

    assert refused.value.hint.startswith("prearc doctor --repair")
    assert state(ws) == before


def test_it_is_neither_built_nor_archived_by_itself(tmp_path: Path) -> None:
    """However long it waits; when it was looked at it goes on, whole."""
    ws = make_workspace(tmp_path, receiver=[{"ae_title": "PREARC", "project": "PI", "autoarchive": "auto"}])
    orphan = stored(ws, study())[1]
    forget_row(ws, orphan)
    daemon = archiver(ws)
    folder = rows(ws, "SELECT path FROM session")[0]["path"]
    with broken(folder):
        recover(ws)
        clock_of(ws).advance(301)
        daemon.tick()
        assert status_of_session(ws) == "RECEIVING"

    clock_of(ws).advance(301)
    daemon.tick()
    daemon.tick()

    assert status_of_session(ws) == "ARCHIVED"
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 2}]
    assert len(list((ws.root.path / "archive/PI/arc001").rglob("*.dcm"))) == 2


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_what_comes_for_it_meanwhile_is_refused_and_all_else_stored(
    ws: Workspace, crashed: Crashed, number: int
) -> None:
    """In one association: A700 for a known and for a new series of it; the node stays open, and what is sent again
    when the folder is back is stored."""
    late = study(3)[2]
    series = [synthetic.SeriesSpec(number=2, instances=1)]
    other_series = synthetic.study(patient_id="P1", patient_name="Test^One", series=series)
    sender = Sender(ws)
    with broken(crashed.bad, number), sender:
        recover(ws)
        refused = [sender.store(each) for each in (late, *other_series)]
        others = [sender.store(each) for each in study(3, patient_id="P2")[2:] + study(patient_id="P3")]
        assert sender.intake.admission() is None

    assert [each.status for each in refused] == [0xA700, 0xA700]
    assert {each.outcome for each in others} == {Outcome.STORED}
    assert not list((ws.root.path / "spool").glob("*.part"))
    assert {each.outcome for each in sender.store_all([late, *other_series])} == {Outcome.STORED}
    recover(ws)
    assert (instances(ws, 1), instances(ws, 2), instances(ws, 3)) == (4, 3, 2)


# --- it is looked at again -------------------------------------------------------------------------------------------


def test_the_running_node_looks_again_with_growing_pauses(ws: Workspace, crashed: Crashed) -> None:
    """After 10, 20, 40 ... seconds, in the end every ten minutes; then its files get their rows, and the report says
    so and asks for nobody any more."""
    daemon = archiver(ws)
    failpoints.arm("R_LOOK=errno:EIO")
    try:
        recover(ws)
        looks: list[int] = []
        for second in range(0, 4000, 5):
            before = failpoints._hits["R_LOOK"]
            daemon.tick()
            looks += [second] * (failpoints._hits["R_LOOK"] - before)
            clock_of(ws).advance(5)
    finally:
        failpoints.arm("")
    told = last_report(ws)

    assert sorted(set(looks)) == [10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030, 3630]
    assert told is not None and len(told["unread"]) == 2 and len(told["lines"]) == 2
    clock_of(ws).advance(600)
    daemon.tick()

    told = last_report(ws)
    assert told is not None and (told["unread"], told["is_clean"]) == ([], True)
    assert told["adopted"] == [relative(ws, crashed.orphan), relative(ws, crashed.other)]
    assert "session 1 could be looked at again: it goes on" in told["lines"]
    assert unread(ws) == [] and (instances(ws, 1), instances(ws, 2)) == (2, 2)
    with ws.catalogue.read() as connection:
        assert events.first_broken_link(connection) is None


def test_one_that_is_received_into_is_looked_at_when_that_has_ended(ws: Workspace, crashed: Crashed) -> None:
    """A living association's files look like orphans for a moment: they are left alone."""
    with broken(crashed.bad):
        recover(ws)
    daemon = archiver(ws)
    daemon.tick()
    sender = Sender(ws)
    with sender:
        sender.store(study(3)[2])
        clock_of(ws).advance(11)
        daemon.tick()
        assert [session for session, *_ in unread(ws)] == [1]

    clock_of(ws).advance(21)
    daemon.tick()

    assert unread(ws) == [] and instances(ws) == 3


def said(found: Reconciliation) -> list[Discrepancy]:
    return [each for each in found.discrepancies if each.kind == "SESSION_UNREAD"]


def test_the_doctor_names_it_and_looks_again_when_asked_to_repair(ws: Workspace, crashed: Crashed) -> None:
    """Without a repair nothing is changed; one that fails says what is in the way, one that works adopts."""
    with broken(crashed.bad, errno.EACCES):
        recover(ws)
        before = state(ws)
        looked, failed = reconcile(ws), reconcile(ws, repair=True)
        assert state(ws) == before
    one = said(looked)[0]
    assert (one.session_id, one.path, one.hint) == (1, crashed.bad, "prearc doctor --repair")
    assert said(failed)[0].hint.startswith(f"namei -l {ws.root.path}/{crashed.bad} ")
    assert "Permission denied" in said(failed)[0].message and not failed.is_clean

    mended = reconcile(ws, repair=True)

    assert mended.is_clean and said(mended)[0].repaired
    assert "had no row: adopted" in said(mended)[0].message
    assert unread(ws) == [] and instances(ws) == 2
    told = last_report(ws)
    assert told is not None and told["is_clean"] and relative(ws, crashed.orphan) in told["adopted"]
    assert reconcile(ws).discrepancies == ()


def test_the_doctor_goes_on_past_what_it_cannot_look_at(ws: Workspace, crashed: Crashed) -> None:
    """A session, a folder of the archive, the quarantine: each is named, the rest is compared."""
    recover(ws)
    for path in ("archive/PI/arc001/S", "quarantine/x"):
        (ws.root.path / path).mkdir(parents=True)

    with broken(crashed.bad), broken("archive/PI/arc001/S"), broken("quarantine/x"):
        found = reconcile(ws)

    assert [(each.kind, each.path) for each in found.discrepancies] == [
        ("SESSION_UNREAD", crashed.bad),
        ("PATH_UNREAD", "archive/PI/arc001/S"),
        ("PATH_UNREAD", "quarantine/x"),
    ]
    assert found.instances == 2 and not found.is_clean


def test_of_a_dead_process_beside_living_ones_it_is_the_same(ws: Workspace) -> None:
    """A receiver died, and its session cannot be looked at: it is noted, not held for ever, and looked at again."""
    sender = Sender(ws)
    sender._is_entered = True
    orphan = ws.root.path / str(sender.store_all(study())[1].path)
    forget_row(ws, orphan)
    sender.die()
    daemon = archiver(ws)
    with broken(rows(ws, "SELECT path FROM session")[0]["path"]):
        daemon.tick()
        assert rows(ws, "SELECT count(*) AS n FROM association WHERE is_open = 1") == [{"n": 0}]
        clock_of(ws).advance(301)
        daemon.tick()
        assert (status_of_session(ws), [session for session, *_ in unread(ws)]) == ("RECEIVING", [1])

    clock_of(ws).advance(600)
    daemon.tick()

    assert unread(ws) == [] and instances(ws) == 2
    assert settle_dead_processes(ws) is None


# --- what concerns no session ----------------------------------------------------------------------------------------


def test_a_folder_of_nobody_that_cannot_be_looked_at_is_an_alarm(ws: Workspace, crashed: Crashed) -> None:
    """It is no session's: named, and the sessions are all recovered."""
    (ws.root.path / "prearchive/PI/20260101_000000000/X").mkdir(parents=True)

    with broken("prearchive/PI"):
        report = recover(ws)

    assert len(report.adopted) == 2 and report.unread == ()
    [alarm] = report.alarms
    assert alarm.startswith("prearchive/PI cannot be looked at: Input/output error. Type: ")


@pytest.mark.parametrize("place", ["archive", "trash", "quarantine", "backup", LOST_AND_FOUND])
def test_a_place_that_receiving_does_not_depend_on_is_an_alarm(ws: Workspace, crashed: Crashed, place: str) -> None:
    """Nothing is received worse without it."""
    with broken(place):
        report = recover(ws)

    assert len(report.adopted) == 2
    assert report.alarms[0].startswith(f"{place} cannot be looked at: Input/output error. Type: ")


def test_a_part_that_cannot_go_stays_and_is_told_once(ws: Workspace, crashed: Crashed) -> None:
    """``lost+found`` is a file: the part stays in the spool, the node starts; it goes when it can."""
    lost = ws.root.path / LOST_AND_FOUND
    lost.rmdir()
    lost.write_bytes(b"")
    part = ws.root.path / "spool" / "0123.part"
    part.write_bytes(b"half")

    report = recover(ws)

    [alarm] = report.alarms
    assert alarm.startswith("spool/0123.part is of a dead process and stays where it is: Not a directory")
    assert len(report.adopted) == 2 and part.exists()
    assert settle_dead_processes(ws) is None
    assert not reconcile(ws, repair=True).is_clean
    lost.unlink()
    lost.mkdir()
    settled = settle_dead_processes(ws)
    assert settled is not None and settled.lost_parts == (f"{LOST_AND_FOUND}/0123.part",)
    assert (lost / "0123.part").read_bytes() == b"half"


def test_a_part_whose_name_is_taken_in_lost_and_found_gets_another(ws: Workspace) -> None:
    """Nothing is replaced, and nobody is stopped."""
    kept = ws.root.path / LOST_AND_FOUND / "0123.part"
    kept.write_bytes(b"first")
    (ws.root.path / "spool" / "0123.part").write_bytes(b"second")

    report = recover(ws)

    assert report.lost_parts == (f"{LOST_AND_FOUND}/0123.part", f"{LOST_AND_FOUND}/0123.part~1")
    assert kept.read_bytes() == b"first"
    assert kept.with_name("0123.part~1").read_bytes() == b"second"


def test_a_build_whose_lock_became_a_folder_waits_and_is_done_in_the_end(ws: Workspace, crashed: Crashed) -> None:
    """The archiver died while it built, and its lock is no file: the session is noted once, not logged at each tick."""
    recover(ws)
    change(ws, "UPDATE session SET status = 'BUILDING' WHERE id = 1")
    lock = ws.root.path / "locks" / "session-1"
    lock.unlink()
    lock.mkdir()
    daemon = archiver(ws)
    for _ in range(3):
        daemon.tick()
    assert unread(ws) == [(1, "locks/session-1", "Is a directory")]
    assert event_kinds(ws, 1).count("SESSION_UNREAD") == 1

    lock.rmdir()
    clock_of(ws).advance(11)
    daemon.tick()
    daemon.tick()

    assert (unread(ws), status_of_session(ws), instances(ws)) == ([], "READY", 2)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_lock_of_a_process_that_is_no_file_stops_nobody(ws: Workspace, crashed: Crashed, is_link: bool) -> None:
    """Nobody can tell whether that process lives, so what it holds stays held; the command to end that is named."""
    change(ws, "UPDATE association SET is_open = 1, owner = 'odd' WHERE id = (SELECT min(id) FROM association)")
    lock = ws.root.path / "locks" / "process-odd"
    lock.symlink_to("nowhere") if is_link else lock.mkdir()

    report = recover(ws)

    assert len(report.adopted) == 2
    [alarm] = report.alarms
    assert alarm.endswith(f"Type: rm -d {lock}")
    assert [(each.kind, each.hint) for each in reconcile(ws).discrepancies] == [("PATH_UNREAD", f"rm -d {lock}")]
    lock.unlink() if is_link else lock.rmdir()
    assert recover(ws).is_clean
    assert rows(ws, "SELECT count(*) AS n FROM association WHERE is_open = 1") == [{"n": 0}]


@pytest.mark.parametrize(("column", "value"), [("kind", "DANCE"), ("detail", "{"), ("detail", "7")])
def test_a_damaged_row_of_the_journal_keeps_its_session_waiting_and_no_other(
    ws: Workspace, crashed: Crashed, column: str, value: str
) -> None:
    """What the operation was nobody knows: it is told, nothing is done with its session, all else goes on."""
    recover(ws)
    for session_id in (1, 2):
        close(ws, session_id)
    change(
        ws,
        "INSERT INTO intent(op, kind, session_id, plan_digest, phase, owner, planned_at, detail)"
        " VALUES ('1-a', 'MOVE', 1, '', 'PLANNED', 'x', '2026-01-01T00:00:00+00:00', '{}')",
    )
    change(ws, f"UPDATE intent SET {column} = ?", value)

    report = recover(ws)

    assert "The row of operation 1-a in the catalogue is damaged." in report.alarms[0]
    with pytest.raises(StoreError, match="damaged") as refused:
        delete(ws, 1)
    assert refused.value.hint.startswith("prearc doctor --rebuild")
    assert delete(ws, 2).status == "DELETED"
    assert [each.kind for each in reconcile(ws, repair=True).discrepancies] == ["OPERATION_UNFINISHED"]


def test_an_operation_that_makes_no_sense_does_not_stop_the_start(ws: Workspace, crashed: Crashed) -> None:
    """Its paths are none: it is told, its session stays as it is, the others are recovered."""
    change(
        ws,
        "INSERT INTO intent(op, kind, session_id, plan_digest, phase, owner, planned_at, detail)"
        " VALUES ('1-a', 'MOVE', 1, '', 'PLANNED', 'x', '2026-01-01T00:00:00+00:00', '{}')",
    )
    change(
        ws,
        "INSERT INTO intent_item(op, n, src, dst, dataset_sha256, dataset_offset, size_bytes, inode, mtime_ns, action,"
        " is_copy) VALUES ('1-a', 0, '../x', '/y', '', 0, 0, 1, 0, 'RENAME', 0)",
    )

    report = recover(ws)

    assert len(report.adopted) == 2
    assert report.alarms[0].startswith("MOVE of session 1 was interrupted and cannot be settled now")
    with pytest.raises(StoreError, match="damaged") as refused:
        delete(ws, 1)
    assert refused.value.hint.startswith("prearc doctor --rebuild")


def test_the_doctor_goes_on_past_an_operation_whose_session_cannot_be_locked(ws: Workspace, crashed: Crashed) -> None:
    """The session is named, and the others are compared."""
    recover(ws)
    change(
        ws,
        "INSERT INTO intent(op, kind, session_id, plan_digest, phase, owner, planned_at, detail)"
        " VALUES ('1-a', 'MOVE', 1, '', 'PLANNED', 'x', '2026-01-01T00:00:00+00:00', '{}')",
    )
    lock = ws.root.path / "locks" / "session-1"
    lock.unlink()
    lock.mkdir()

    found = reconcile(ws)

    assert [(each.kind, each.session_id) for each in found.discrepancies] == [("SESSION_UNREAD", 1)]
    assert found.sessions == 2


# --- a rebuild -------------------------------------------------------------------------------------------------------


def test_a_rebuild_goes_on_past_a_folder_that_cannot_be_looked_at(ws: Workspace, crashed: Crashed) -> None:
    """The catalogue is lost and a folder is bad: the node starts with all others; the folder is named, and what to
    type when it can be read."""
    facts = {"settings": ws.settings, "policy": ws.policy, "actor": "tester", "clock": ws.clock}
    ws.close()
    before = tree(ws)
    for name in ("catalogue.sqlite3", "catalogue.sqlite3-wal", "catalogue.sqlite3-shm"):
        (ws.root.path / name).unlink(missing_ok=True)

    with broken(crashed.bad):
        rebuilt = ensure_catalogue(ws.root.path, **facts)  # type: ignore[arg-type]
        assert rebuilt is not None
        again = make_workspace(ws.root.path.parent)
        report = recover(again, rebuilt=rebuilt)

    assert rebuilt.unlisted == (crashed.bad,) and rebuilt.sessions == 1
    assert any("prearc doctor --rebuild" in line and crashed.bad in line for line in report.lines)
    assert not report.is_clean
    assert rows(again, "SELECT label, instance_count FROM session") == [{"label": "P2", "instance_count": 2}]
    assert {name: what for name, what in before.items() if name not in tree(again)} == {}
    again.close()
    whole = rebuild(ws.root.path, **facts)  # type: ignore[arg-type]
    assert (whole.sessions, whole.instances, whole.unlisted) == (2, 4, ())


def test_a_rebuild_takes_no_file_for_archived_whose_other_name_it_cannot_see(ws: Workspace) -> None:
    """An archiving was interrupted, the catalogue is lost, the prearchive's folder cannot be read: what has a second
    name and is in no manifest stays where it is, in no session; with the folder again it is where it was."""
    first = stored(ws, study())[0]
    folder = rows(ws, "SELECT path FROM session")[0]["path"]
    twin = ws.root.path / "archive/PI/arc001/S/SCANS/1/DICOM" / first.name
    twin.parent.mkdir(parents=True)
    os.link(first, twin)
    facts = {"settings": ws.settings, "policy": ws.policy, "actor": "tester", "clock": ws.clock}
    ws.close()

    with broken(folder):
        blind = rebuild(ws.root.path, **facts)  # type: ignore[arg-type]
    assert (blind.sessions, blind.adopted) == (0, ())
    assert sorted(blind.unlisted) == sorted([str(twin.relative_to(ws.root.path)), folder])

    seeing = rebuild(ws.root.path, **facts)  # type: ignore[arg-type]
    assert (seeing.sessions, seeing.instances) == (1, 2)
    assert not twin.exists() and first.exists()


def test_a_folder_that_is_moved_away_ends_the_waiting(ws: Workspace, crashed: Crashed) -> None:
    """It cannot be mended: its instances are called missing, as after any loss, and the session may be deleted."""
    with broken(crashed.bad):
        recover(ws)
    (ws.root.path / crashed.bad).rename(ws.root.path.parent / "away")

    found = reconcile(ws, repair=True)

    assert said(found)[0].repaired and unread(ws) == []
    assert rows(ws, "SELECT is_missing FROM instance WHERE session_id = 1") == [{"is_missing": 1}]
    assert delete(ws, 1).status == "DELETED"


# --- what a person sees ----------------------------------------------------------------------------------------------


def status(ws: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    (ws.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n[[receiver]]\nport = 0\n")
    capsys.readouterr()
    code = run(["status", *arguments], {"PREARC_ROOT": str(ws.root.path)})
    return code, " ".join(capsys.readouterr().out.split())


def test_status_names_it_until_it_was_looked_at(
    ws: Workspace, crashed: Crashed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Path, error, since when, the command, exit code 3; and nothing of it afterwards."""
    with broken(crashed.bad, errno.EACCES):
        recover(ws)

    code, text = status(ws, capsys)
    machine_code, document = status(ws, capsys, "--json")

    told = json.loads(document)
    [one] = told["unread"]
    command = f"namei -l {ws.root.path}/{crashed.bad}"
    assert (code, machine_code) == (3, 3)
    assert (one["session"], one["path"], one["error"], one["command"]) == (1, crashed.bad, "Permission denied", command)
    assert one["since"].startswith("2026-01-05T10:15")
    [need] = [each for each in told["needs"] if each["session"] == 1]
    assert need["what"] == f"session 1 waits, it cannot be looked at: {crashed.bad}: Permission denied"
    assert command in text and "1 session cannot be looked at" in text
    assert "the last recovery found trouble" not in text

    reconcile(ws, repair=True)
    _, document = status(ws, capsys, "--json")
    told = json.loads(document)
    assert told["unread"] == [] and told["recovery"]["is_clean"]
    assert [each for each in told["needs"] if each["session"] is not None and "looked at" in each["what"]] == []
