"""Who may send is a list of the configuration with commands on top: it holds at once, is recorded, and is bounded."""

import _thread
import json
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from archive import audit, senders
from archive.callers import Caller, Certificate
from archive.config import ReceiverSettings
from archive.errors import StoreError
from archive.intake import doorman as doormen
from archive.intake.doorman import Doorman
from archive.intake.sightings import FAR, MOST_PENDING
from archive.rules.admitting import Standing
from archive.store.catalogue import senders as table
from archive.store.catalogue.senders import MOST_SEEN, OTHERS, TITLES_PER_ADDRESS
from archive.workspace import Workspace
from cli.main import run
from cli.opening import Options, actor
from tests.network.raw_peer import ACCEPT, REJECT, RawPeer, associate_rq
from tests.network.real_node import real_node
from tests.workbench import event_kinds, make_workspace, rows

LISTED = {"ae_title": "LISTED", "port": 0, "allow": ["MR1@127.0.0.1"]}
OBSERVING = {"ae_title": "OBSERVING", "port": 0, "callers": "observe", "allow": ["MR1@127.0.0.1"]}
CLOSED = {"ae_title": "CLOSED", "port": 0, "callers": "enforce"}
OPEN = {"ae_title": "OPEN", "port": 0}
RECEIVERS = (LISTED, OBSERVING, CLOSED, OPEN)
REJECTED = (REJECT, 1, 1, 3)

Answer = tuple[int, str, str]
Prearc = Callable[..., Answer]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A root with one receiver of each kind."""
    workspace = make_workspace(tmp_path, receiver=list(RECEIVERS))
    tables = [
        "[[receiver]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in each.items())
        for each in RECEIVERS
    ]
    (workspace.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n" + "".join(tables))
    return workspace


@pytest.fixture
def prearc(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Prearc:
    def command(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(arguments, {"PREARC_ROOT": str(ws.root.path)})
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


@pytest.fixture
def doorman(ws: Workspace) -> Iterator[Doorman]:
    each = Doorman(ws.catalogue, ws.clock)
    yield each
    each.close()


def receiver(ws: Workspace, ae_title: str) -> ReceiverSettings:
    return next(each for each in ws.settings.receiver if each.ae_title == ae_title)


def calls(
    ws: Workspace, doorman: Doorman, called: str, calling: str = "CT9", host: str = "127.0.0.1", **more: Any
) -> Standing:
    caller = Caller(called_ae_title=called, calling_ae_title=calling, peer_host=host, **more)
    return doorman.judge(receiver(ws, called), caller)


def seen(ws: Workspace) -> list[tuple[str, str, str, str, int]]:
    """(called, calling, host, standing, count) of all that is listed."""
    with ws.catalogue.read() as connection:
        found = table.seen(connection)
    return sorted(
        (each.caller.called_ae_title, each.caller.calling_ae_title, each.caller.peer_host, each.standing, each.count)
        for each in found
    )


def listed(prearc: Prearc, *options: str) -> list[dict[str, Any]]:
    code, out, _ = prearc("sender", "list", "--json", *options)
    assert code == 0
    items: list[dict[str, Any]] = json.loads(out)
    return items


# Who may be let in at all


@pytest.mark.parametrize(
    "words", [{"allow": ["*"]}, {"allow": ["MR1"]}, {"callers": "observe"}, {"callers": "enforce"}]
)
def test_a_network_is_listened_on_when_it_is_said_who_may_call(words: dict[str, Any]) -> None:
    """Any caller, some, all for now, or those that are allowed by command."""
    assert ReceiverSettings.model_validate({"bind": "0.0.0.0", **words}).bind == "0.0.0.0"


def test_a_network_is_not_listened_on_without_a_word() -> None:
    """A scanner that nobody thought of is not let in by leaving a key out; the message says what can be written."""
    with pytest.raises(ValidationError) as caught:
        ReceiverSettings(bind="0.0.0.0")

    assert "allow" in str(caught.value) and 'callers = "observe"' in str(caught.value)


# How a caller stands


@pytest.mark.parametrize(
    ("called", "calling", "expected"),
    [
        ("LISTED", "MR1", Standing.ALLOWED),
        ("LISTED", "CT9", Standing.REFUSED),
        ("OBSERVING", "MR1", Standing.ALLOWED),
        ("OBSERVING", "CT9", Standing.OBSERVED),
        ("CLOSED", "MR1", Standing.REFUSED),
        ("OPEN", "CT9", Standing.ALLOWED),
    ],
)
def test_a_caller_on_no_list_is_rejected_or_observed(
    ws: Workspace, doorman: Doorman, called: str, calling: str, expected: Standing
) -> None:
    """Enforce rejects, observe lets in; both list who it was, and a listed caller is not listed again."""
    assert calls(ws, doorman, called, calling) is expected

    doorman.close()
    wanted = [] if expected is Standing.ALLOWED else [(called, calling, "127.0.0.1", str(expected), 1)]
    assert seen(ws) == wanted


@pytest.mark.parametrize("called", ["LISTED", "OBSERVING", "CLOSED", "OPEN"])
def test_a_denial_wins_over_everything(ws: Workspace, doorman: Doorman, prearc: Prearc, called: str) -> None:
    """Whatever the configuration says, at every receiver, and although the caller is allowed by another command."""
    assert prearc("sender", "allow", "MR1@127.0.0.1")[0] == 0
    assert calls(ws, doorman, called, "MR1") is Standing.ALLOWED

    assert prearc("sender", "deny", "MR1")[0] == 0

    assert calls(ws, doorman, called, "MR1") is Standing.DENIED
    assert calls(ws, doorman, "OPEN", "CT9") is Standing.ALLOWED
    doorman.close()
    assert seen(ws) == [(called, "MR1", "127.0.0.1", "DENIED", 1)]


@pytest.mark.parametrize(
    ("allowed", "denied"),
    [("MR1", "MR1@127.0.0.1"), ("MR1@127.0.0.1", "MR1"), ("127.0.0.0/8", "MR1"), ("MR1", "127.0.0.0/8")],
)
def test_a_denial_wins_however_broad_or_narrow(
    ws: Workspace, doorman: Doorman, prearc: Prearc, allowed: str, denied: str
) -> None:
    """No rule is better than another by what it looks like or where it is sorted."""
    prearc("sender", "allow", allowed)
    prearc("sender", "deny", denied)

    assert calls(ws, doorman, "CLOSED", "MR1") is Standing.DENIED


def test_allowing_and_forgetting_hold_from_the_next_association_on(
    ws: Workspace, doorman: Doorman, prearc: Prearc
) -> None:
    """A running node hears of each command through the catalogue; the receiver that was named alone is concerned."""
    assert calls(ws, doorman, "CLOSED") is Standing.REFUSED

    prearc("sender", "allow", "CT9@127.0.0.0/8", "--receiver", "CLOSED")
    assert calls(ws, doorman, "CLOSED") is Standing.ALLOWED
    assert calls(ws, doorman, "LISTED") is Standing.REFUSED
    assert calls(ws, doorman, "CLOSED", host="10.0.0.1") is Standing.REFUSED

    prearc("sender", "forget", "CT9@127.0.0.0/8", "--receiver", "CLOSED")
    assert calls(ws, doorman, "CLOSED") is Standing.REFUSED


def test_a_list_alone_does_not_prove_a_caller_tied_to_a_certificate(tmp_path: Path) -> None:
    """Where AE titles are tied to certificates, the title must be one of the certificate that was shown."""
    tied = ReceiverSettings.model_validate(
        {
            "ae_title": "TIED", "port": 0, "allow": ["MR1", "CT9"], "callers": "enforce",
            "tls_certificate": "c", "tls_key": "k", "tls_client_ca": "a",
            "tls_callers": {"mr1.example.org": ["MR1"], "SHA256:" + ":".join(["AB"] * 32): ["CT9"]},
        }
    )  # fmt: skip
    ws = make_workspace(tmp_path, receiver=[tied.model_dump(exclude_unset=True)])
    doorman = Doorman(ws.catalogue, ws.clock)
    mr = Certificate(sha256="0" * 64, names=("MR1.example.org",))
    ct = Certificate(sha256="ab" * 32, names=("whoever",))

    assert calls(ws, doorman, "TIED", "MR1", certificate=mr) is Standing.ALLOWED
    assert calls(ws, doorman, "TIED", "CT9", certificate=ct) is Standing.ALLOWED
    assert calls(ws, doorman, "TIED", "CT9", certificate=mr) is Standing.REFUSED
    assert calls(ws, doorman, "TIED", "MR1") is Standing.REFUSED

    doorman.close()
    with ws.catalogue.read() as connection:
        notes = {each.item: each.note for each in senders.listing(ws.settings, connection) if each.seen}
    assert "showed no certificate" in notes["MR1@127.0.0.1"]
    assert f'"sha256:{"0" * 64}" = ["CT9"]' in notes["CT9@127.0.0.1"]


def test_who_is_denied_must_be_known(ws: Workspace, doorman: Doorman, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a catalogue that cannot be read nobody is let in by what was read before."""
    assert calls(ws, doorman, "OPEN") is Standing.ALLOWED

    @contextmanager
    def broken() -> Iterator[None]:
        raise StoreError("the disk is gone")
        yield

    monkeypatch.setattr(ws.catalogue, "read", broken)

    with pytest.raises(StoreError):
        calls(ws, doorman, "OPEN")


def test_a_look_at_the_rules_costs_next_to_nothing(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """Less than 0.2 ms an association, also when there are some hundred rules and others write meanwhile."""
    prearc("sender", "allow", *[f"S{number}@10.0.0.0/24" for number in range(100)])
    calls(ws, doorman, "OPEN")

    best = min(_seconds_of_a_look(ws, doorman) for _ in range(5))

    assert best < 0.001  # measured 0.13 ms with a hundred rules to match; room for a busy machine


def _seconds_of_a_look(ws: Workspace, doorman: Doorman) -> float:
    started = time.thread_time()
    for _ in range(20):
        calls(ws, doorman, "OPEN", "MR1")
    return (time.thread_time() - started) / 20


# What is listed


def test_a_caller_is_listed_once_with_its_count(ws: Workspace, doorman: Doorman) -> None:
    """However often it calls: since when, when last, how often."""
    for _ in range(5):
        calls(ws, doorman, "OBSERVING")
    doorman.close()

    assert seen(ws) == [("OBSERVING", "CT9", "127.0.0.1", "OBSERVED", 5)]


def test_a_caller_is_listed_while_the_node_runs(ws: Workspace, doorman: Doorman) -> None:
    """The list does not wait for the end of the process."""
    calls(ws, doorman, "OBSERVING")

    until = time.monotonic() + 60
    while not seen(ws) and time.monotonic() < until:
        time.sleep(0.01)

    assert seen(ws) == [("OBSERVING", "CT9", "127.0.0.1", "OBSERVED", 1)]


def test_a_flood_of_titles_from_one_address_is_counted_together(ws: Workspace, doorman: Doorman) -> None:
    """The first ones are listed by name, the others in one row; a caller from elsewhere is still listed."""
    for number in range(TITLES_PER_ADDRESS + 100):
        calls(ws, doorman, "OBSERVING", f"RANDOM{number}", host="10.0.0.66")
    calls(ws, doorman, "OBSERVING", "HONEST", host="10.0.0.1")
    doorman.close()

    found = seen(ws)
    assert len(found) == TITLES_PER_ADDRESS + 2
    assert ("OBSERVING", "HONEST", "10.0.0.1", "OBSERVED", 1) in found
    assert ("OBSERVING", OTHERS, "10.0.0.66", "OBSERVED", 100) in found
    assert sum(each[4] for each in found) == TITLES_PER_ADDRESS + 101


def test_a_flood_between_two_writes_is_bounded(
    ws: Workspace, doorman: Doorman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds so many callers; the number of the others is kept, not who they were."""
    monkeypatch.setattr(doorman._sightings, "_run", lambda: None)
    for number in range(MOST_PENDING + 50):
        calls(ws, doorman, "OBSERVING", "CT9", host=f"10.1.{number // 250}.{number % 250}")

    assert len(doorman._sightings._pending) == MOST_PENDING + 1
    doorman.close()
    assert ("OBSERVING", OTHERS, FAR, "OBSERVED", 50) in seen(ws)


def test_the_list_is_bounded(ws: Workspace) -> None:
    """Beyond its bound the caller that was seen longest ago goes."""
    with ws.catalogue.write() as tx:
        table.note(tx, [_sighting(number) for number in range(MOST_SEEN + 7)])

    found = {each[2] for each in seen(ws)}
    assert len(found) == MOST_SEEN
    assert found == {f"10.2.{number // 250}.{number % 250}" for number in range(7, MOST_SEEN + 7)}


def _sighting(number: int) -> table.Seen:
    caller = Caller(called_ae_title="LISTED", calling_ae_title="X", peer_host=f"10.2.{number // 250}.{number % 250}")
    at = f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000000Z"
    return table.Seen(caller=caller, standing=Standing.REFUSED, first_at=at, last_at=at, count=1)


def test_a_list_that_finds_no_thread_keeps_no_caller_out(
    ws: Workspace, doorman: Doorman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who called meanwhile is listed with the next one that calls."""

    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        assert calls(ws, doorman, "OBSERVING") is Standing.OBSERVED
    assert seen(ws) == []

    calls(ws, doorman, "OBSERVING", "CT10")

    until = time.monotonic() + 60
    while len(seen(ws)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert [each[1] for each in seen(ws)] == ["CT10", "CT9"]


def test_what_cannot_be_written_is_written_later(
    ws: Workspace, doorman: Doorman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk keeps no caller out, and the list catches up."""
    write = ws.catalogue.write

    @contextmanager
    def broken(**_: Any) -> Iterator[None]:
        raise StoreError("no space")
        yield

    monkeypatch.setattr(ws.catalogue, "write", broken)
    assert calls(ws, doorman, "OBSERVING") is Standing.OBSERVED
    doorman._sightings._write()
    assert seen(ws) == []

    monkeypatch.setattr(ws.catalogue, "write", write)
    doorman.close()
    assert seen(ws) == [("OBSERVING", "CT9", "127.0.0.1", "OBSERVED", 1)]


def test_the_log_warns_of_an_observed_caller_once(
    ws: Workspace, doorman: Doorman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a caller and process, with what to type."""
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(doormen.log, "warning", lambda event, **facts: said.append({"event": event, **facts}))
    for _ in range(3):
        calls(ws, doorman, "OBSERVING", "CT9")
    calls(ws, doorman, "OBSERVING", "CT8")
    calls(ws, doorman, "LISTED", "CT9")

    assert [(each["event"], each["calling"]) for each in said] == [
        ("caller.observed", "CT9"),
        ("caller.observed", "CT8"),
    ]
    assert said[0]["hint"] == "prearc sender list"


# The commands


def test_everything_is_listed_with_the_next_command(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """Configuration, commands and who called, in this order; what can be changed by a command names it."""
    prearc("sender", "deny", "BAD", "--reason", "stolen")
    calls(ws, doorman, "OBSERVING")
    calls(ws, doorman, "LISTED")
    doorman.close()

    items = listed(prearc)

    told = [(each["standing"], each["sender"], each["receiver"], each["source"]) for each in items]
    assert told[:3] == [
        ("ALLOWED", "MR1@127.0.0.1", "LISTED", "configuration"),
        ("ALLOWED", "MR1@127.0.0.1", "OBSERVING", "configuration"),
        ("DENIED", "BAD", None, "command"),
    ]
    assert set(told[3:]) == {
        ("OBSERVED", "CT9@127.0.0.1", "OBSERVING", "network"),
        ("REFUSED", "CT9@127.0.0.1", "LISTED", "network"),
    }
    commands = {each["receiver"]: each["command"] for each in items if each["source"] != "configuration"}
    assert commands == {
        None: "prearc sender forget BAD",
        "OBSERVING": "prearc sender allow CT9@127.0.0.1 --receiver OBSERVING",
        "LISTED": "prearc sender allow CT9@127.0.0.1 --receiver LISTED",
    }
    assert [each["sender"] for each in listed(prearc, "--receiver", "LISTED")] == [
        "MR1@127.0.0.1", "BAD", "CT9@127.0.0.1"
    ]  # fmt: skip
    assert items[2]["reason"] == "stolen"
    assert items[2]["set_by"]


@pytest.mark.parametrize("title", ["-x", "--help", "A B", "$(id)", "a'b\"c", "[red]X[/]"])
def test_whoever_called_the_command_beside_it_works(
    ws: Workspace, doorman: Doorman, prearc: Prearc, title: str
) -> None:
    """A title may look like an option or like the shell's business: as it is told, the command lets its caller in."""
    calls(ws, doorman, "OBSERVING", title)
    doorman.close()

    command = next(each["command"] for each in listed(prearc) if each["source"] == "network")
    first, *typed = shlex.split(command)

    assert (first, prearc(*typed)[0]) == ("prearc", 0)
    assert (command_of(prearc, title), calls(ws, Doorman(ws.catalogue, ws.clock), "OBSERVING", title)) == (
        None, Standing.ALLOWED
    )  # fmt: skip


def command_of(prearc: Prearc, title: str) -> str | None:
    """What the list has to suggest about a caller with this title."""
    found = [each["command"] for each in listed(prearc) if each["sender"] == f"{title}@127.0.0.1"]
    return found[0] if found else None


def test_a_denial_of_an_odd_title_is_taken_back_as_it_is_told(prearc: Prearc) -> None:
    """The same for a denial, whose command forgets it."""
    assert prearc("sender", "deny", "--", "-x")[0] == 0

    denied = next(each for each in listed(prearc) if each["standing"] == "DENIED")

    assert prearc(*shlex.split(denied["command"])[1:])[0] == 0
    assert not [each for each in listed(prearc) if each["standing"] == "DENIED"]


def test_people_read_a_table_and_hints(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """Who it is on the screen, what to type beside it."""
    calls(ws, doorman, "OBSERVING")
    doorman.close()

    code, out, err = prearc("sender", "list")

    assert code == 0
    assert "OBSERVED  CT9@127.0.0.1" in out
    assert f"prearc --root {ws.root.path} sender allow" in err or "prearc sender allow CT9@127.0.0.1" in err


def test_nobody_is_said_to_be_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is a sentence."""
    ws = make_workspace(tmp_path)

    assert run(["--root", str(ws.root.path), "sender", "list"], {}) == 0

    assert "nobody is listed" in capsys.readouterr().out


def test_a_denied_caller_that_calls_is_listed_with_what_keeps_it_out(
    ws: Workspace, doorman: Doorman, prearc: Prearc
) -> None:
    """The way to let it in again is to forget the denial, not to allow it."""
    prearc("sender", "deny", "CT9@127.0.0.0/8")
    calls(ws, doorman, "OPEN")
    doorman.close()

    code, out, err = prearc("sender", "list")

    assert code == 0
    assert "DENIED    CT9@127.0.0.1" in out
    assert "note: CT9@127.0.0.1: denied by command" in err
    assert "sender forget CT9@127.0.0.0/8" in err
    assert "sender allow" not in err


def test_a_caller_that_was_let_in_leaves_the_list(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """What was promoted is not asked for again."""
    calls(ws, doorman, "OBSERVING")
    calls(ws, doorman, "OBSERVING", "CT8")
    calls(ws, doorman, "LISTED", "CT7")
    doorman.close()

    code, out, _ = prearc("sender", "allow", "--from-observed", "--yes", "--json")

    assert code == 0
    done = [(each["sender"], each["receiver"], each["status"]) for each in json.loads(out)["results"]]
    assert sorted(done) == [
        ("CT8@127.0.0.1", "OBSERVING", "ALLOWED"),
        ("CT9@127.0.0.1", "OBSERVING", "ALLOWED"),
    ]
    assert [each["sender"] for each in listed(prearc) if each["source"] == "network"] == ["CT7@127.0.0.1"]
    assert calls(ws, Doorman(ws.catalogue, ws.clock), "OBSERVING") is Standing.ALLOWED


def test_promoting_asks_first(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """Without a person to ask and without --yes nothing is done; a dry run does nothing either."""
    calls(ws, doorman, "OBSERVING")
    doorman.close()

    assert prearc("sender", "allow", "--from-observed")[0] == 2
    code, out, _ = prearc("sender", "allow", "--from-observed", "--dry-run", "--json")

    assert code == 0
    assert json.loads(out)["results"][0]["status"] == "WOULD_ALLOW"
    assert rows(ws, "SELECT * FROM sender_rule") == []
    assert event_kinds(ws) == []


def test_only_observed_callers_that_can_be_named_are_promoted(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """A title that no list can hold, and what was counted together, are left, and said to be."""
    calls(ws, doorman, "OBSERVING", "A@B")
    for number in range(TITLES_PER_ADDRESS + 1):
        calls(ws, doorman, "OBSERVING", f"R{number}", host="10.0.0.66")
    doorman.close()

    code, out, err = prearc("sender", "allow", "--from-observed", "--dry-run", "--json")

    assert code == 0
    assert len(json.loads(out)["results"]) == TITLES_PER_ADDRESS
    assert "A@B@127.0.0.1: its AE title cannot be written in a list" in err
    assert "@10.0.0.66: further AE titles, counted together" in err


def test_nobody_observed_is_said(prearc: Prearc) -> None:
    """Not silence."""
    code, out, _ = prearc("sender", "allow", "--from-observed", "--yes", "--json")

    assert code == 1
    assert json.loads(out)["error"]["kind"] == "NotFound"


def test_every_change_is_an_event_with_its_reason(ws: Workspace, prearc: Prearc) -> None:
    """Who, when, what and why, in the chained audit; what is so already leaves none."""
    prearc("sender", "allow", "CT9", "--reason", "new scanner")
    prearc("sender", "allow", "CT9")
    prearc("sender", "deny", "CT9", "--receiver", "OPEN")
    prearc("sender", "deny", "CT9", "--reason", "sold")
    prearc("sender", "forget", "CT9")

    details = [json.loads(row["detail"]) for row in rows(ws, "SELECT detail FROM event ORDER BY id")]
    assert event_kinds(ws) == ["SENDER_ALLOWED", "SENDER_DENIED", "SENDER_DENIED", "SENDER_FORGOTTEN"]
    assert details == [
        {"sender": "CT9", "receiver": None, "was": None, "reason": "new scanner"},
        {"sender": "CT9", "receiver": "OPEN", "was": None, "reason": ""},
        {"sender": "CT9", "receiver": None, "was": "ALLOWED", "reason": "sold"},
        {"sender": "CT9", "receiver": None, "was": "DENIED", "reason": ""},
    ]
    assert {row["actor"] for row in rows(ws, "SELECT actor FROM event")} == {actor(Options())}
    (rule,) = rows(ws, "SELECT set_by FROM sender_rule")
    assert rule["set_by"] == actor(Options())
    assert audit.verify(ws.catalogue).is_whole


@pytest.mark.parametrize("verb", ["allow", "deny", "forget"])
def test_a_dry_run_changes_nothing(ws: Workspace, prearc: Prearc, verb: str) -> None:
    """It says what would be, for each verb that writes."""
    prearc("sender", "deny" if verb != "deny" else "allow", "CT9")
    before = rows(ws, "SELECT * FROM sender_rule"), event_kinds(ws)

    code, out, _ = prearc("sender", verb, "CT9", "--dry-run", "--json")

    assert code == 0
    assert json.loads(out)["results"][0]["status"] == f"WOULD_{verb.upper()}"
    assert (rows(ws, "SELECT * FROM sender_rule"), event_kinds(ws)) == before


def test_what_still_keeps_a_caller_out_is_named(ws: Workspace, prearc: Prearc) -> None:
    """Allowing one address of a denied AE title is no use, and the command that helps is told."""
    prearc("sender", "deny", "CT9")

    code, out, err = prearc("sender", "allow", "CT9@10.0.0.5")

    assert code == 0
    assert "CT9@10.0.0.5 at every receiver: allowed" in out
    assert "still kept out by a denial of CT9" in err
    assert "sender forget CT9" in err


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (("allow",), 2, "--from-observed"),
        (("allow", "CT9", "--from-observed"), 2, "--from-observed"),
        (("allow", "*"), 2, "every caller"),
        (("allow", "CT9@10.0.0.300"), 2, "Invalid Ip Address"),
        (("allow", "CT9@10.0.0.5/8"), 2, "the network is 10.0.0.0/8"),
        (("deny", "TOO_LONG_FOR_AN_AE"), 2, "Invalid AE-title"),
        (("allow", "CT9", "--receiver", "NOBODY"), 2, "No receiver is called NOBODY"),
        (("list", "--receiver", "NOBODY"), 2, "No receiver is called NOBODY"),
        (("forget", "CT9"), 1, "neither allowed nor denied"),
        (("deny", "CT9", "--reason", "<WHY>"), 2, "stands for your reason"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ws: Workspace, prearc: Prearc, arguments: tuple[str, ...], code: int, fragment: str
) -> None:
    """In words, with a hint, and nothing is written."""
    found, out, _ = prearc("sender", *arguments, "--json")

    assert found == code
    assert fragment in json.dumps(json.loads(out)["error"])
    assert rows(ws, "SELECT * FROM sender_rule") == []


def test_status_tells_of_observed_callers(ws: Workspace, doorman: Doorman, prearc: Prearc) -> None:
    """Each is a question to a person until it is allowed or denied."""
    calls(ws, doorman, "OBSERVING")
    calls(ws, doorman, "LISTED")
    doorman.close()

    document = json.loads(prearc("status", "--json")[1])
    assert document["callers"] == {"observed": 1, "refused": 1, "denied": 0}
    assert "prearc sender list" in [each["command"] for each in document["needs"]]
    assert "1 observed, 1 refused" in prearc("status")[1]
    assert "not listening, callers on no list are let in" in prearc("status")[1]

    prearc("sender", "allow", "--from-observed", "--yes")
    document = json.loads(prearc("status", "--json")[1])
    assert document["callers"]["observed"] == 0
    assert "prearc sender list" not in [each["command"] for each in document["needs"]]


def test_a_rebuild_takes_over_who_is_denied(ws: Workspace, prearc: Prearc) -> None:
    """A denial outlives the catalogue it was written to, while that can be read; else it is said to be lost."""
    prearc("sender", "deny", "CT9", "--reason", "stolen")
    before = rows(ws, "SELECT receiver, item, is_allowed, set_at, set_by, reason FROM sender_rule")
    ws.catalogue.close()

    code, out, _ = prearc("doctor", "--rebuild", "--yes", "--json")

    assert code == 0, out
    assert any("1 rule of who may send taken over" in line for line in json.loads(out)["lines"])
    with closing(sqlite3.connect(ws.root.catalogue_path)) as connection:
        after = connection.execute(
            "SELECT receiver, item, is_allowed, set_at, set_by, reason FROM sender_rule"
        ).fetchall()
    assert after == [tuple(row.values()) for row in before]


def test_a_rebuild_says_when_nobody_knows_who_is_denied(ws: Workspace, prearc: Prearc) -> None:
    """What cannot be read is not taken for nothing."""
    prearc("sender", "deny", "CT9")
    ws.catalogue.close()
    ws.root.catalogue_path.write_bytes(b"no database at all, " * 400)

    _, out, _ = prearc("doctor", "--rebuild", "--yes", "--json")

    assert any("not known any more" in line and "prearc sender list" in line for line in json.loads(out)["lines"]), out


# Through the network


def test_a_running_node_observes_and_enforces(tmp_path: Path) -> None:
    """Real associations: observed, listed, denied, let in again; the audit and the list agree."""
    tables = [dict(each, allow=[]) if each is OBSERVING else each for each in (OBSERVING, CLOSED)]
    with _node(tmp_path, tables) as (port, ws):
        assert _answer(port, b"OBSERVING") == (ACCEPT,)
        assert _answer(port, b"CLOSED") == REJECTED
        with ws.catalogue.snapshot() as connection:
            deny = senders.planned(ws.settings, connection, "RAW@127.0.0.1", "", is_allowed=False)
        senders.carry_out(ws.catalogue, [deny], reason="a test")
        assert _answer(port, b"OBSERVING") == REJECTED
        with ws.catalogue.snapshot() as connection:
            allow = senders.planned(ws.settings, connection, "RAW@127.0.0.1", "", is_allowed=True)
        senders.carry_out(ws.catalogue, [allow], reason="a test")
        assert _answer(port, b"CLOSED") == (ACCEPT,)

    with closing(sqlite3.connect(tmp_path / "root" / "catalogue.sqlite3")) as connection:
        found = connection.execute(
            "SELECT called_ae_title, calling_ae_title, standing, count FROM sender_seen ORDER BY 1"
        ).fetchall()
    assert found == [("CLOSED", "RAW", "REFUSED", 1), ("OBSERVING", "RAW", "DENIED", 2)]


@contextmanager
def _node(path: Path, receivers: list[dict[str, Any]]) -> Iterator[tuple[int, Workspace]]:
    with real_node(path, receiver=receivers) as (node, ws):
        yield node.addresses[0].port, ws


def _answer(port: int, called: bytes) -> tuple[int, ...]:
    with RawPeer(port) as peer:
        peer.send(associate_rq(called=called))
        kind, content = peer.receive()
    return (kind, *content[1:4]) if kind == REJECT else (kind,)
