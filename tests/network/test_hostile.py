"""Sixty ways and more to hurt a node, one by one, with an honest sender beside each (`tests.network.hostile`)."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Final

import pytest

from scp.status import status_of
from tests.certificates import make_authority
from tests.crash.node import REPOSITORY
from tests.network.hostile import associations, commands, connections, datasets, handshakes, pdus
from tests.network.hostile.attacked import Attacked, Window, facts_of
from tests.network.hostile.case import Case
from tests.network.raw_peer import associate_rq

LIMITS: Final = {
    "pdu_seconds": connections.PDU_SECONDS,
    "idle_association_seconds": 20.0,
    "connections_per_address": connections.PER_ADDRESS,
    "half_open_seconds": connections.PDU_SECONDS / 3,
}
REST_SECONDS: Final = 0.06
MOST_ROUNDS: Final = 10
LONGEST_SECONDS: Final = 20.0
"""No answer may take longer, on a machine that is busy with other tests as well."""
PLAIN: Final = re.compile(r"[A-Za-z0-9._~+/-]*", re.ASCII)
WAYS: Final = {"fast": {"fast_path": True}, "stock": {"fast_path": False}, "tls": {"fast_path": True}}
"""How PDUs are read: by our own reader, by the library's, by our own out of TLS."""
CASES: Final = [
    *pdus.cases(),
    *associations.cases(),
    *commands.cases(),
    *datasets.cases(),
    *connections.cases(),
]
OVER_TLS: Final = [*handshakes.cases(), *(each for each in (*pdus.cases(), *connections.cases()) if each.is_core)]
"""What is above PDUs never sees what they came out of."""


Nodes = Callable[[str], Attacked]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """One node for all attacks on each of the ways, started when it is first wanted."""
    with ExitStack() as stack:

        @cache
        def node(way: str) -> Attacked:
            folder = tmp_path_factory.mktemp(way)
            authority = make_authority(tmp_path_factory.mktemp("certificates")) if way == "tls" else None
            return stack.enter_context(Attacked(folder, node=WAYS[way], limits=LIMITS, authority=authority))

        yield node


@pytest.fixture(params=["fast", "stock"])
def attacked(request: pytest.FixtureRequest, nodes: Nodes) -> Attacked:
    return nodes(request.param)


@pytest.fixture
def fast(nodes: Nodes) -> Attacked:
    """What is asked once is asked here."""
    return nodes("fast")


def chosen() -> list[object]:
    first = next(iter(WAYS))
    return [
        pytest.param(way, case, id=f"{way}-{case.id}")
        for way in WAYS
        for case in (OVER_TLS if way == "tls" else CASES)
        if way in (first, "tls") or case.is_core
    ]


@pytest.mark.parametrize(("attacked", "case"), chosen(), indirect=["attacked"])
def test_an_attack_is_answered_and_leaves_nothing(attacked: Attacked, case: Case) -> None:
    """The peer sees what it must, log and catalogue say so, and the node is as it was."""
    attacked.begin()

    with attacked.honest.sending(attacked.disturbed.append), attacked.attacker() as peer:
        heard = case.run(peer)

    assert case.expects(heard), heard
    assert case.logged is None or attacked.await_event(peer.address, case.logged), attacked.events(peer.address)
    attacked.assert_unharmed()
    assert_traced(attacked, case, peer.address)


def assert_traced(attacked: Attacked, case: Case, address: str) -> None:
    """What was stored and what was refused has its receipt, and nothing else has."""
    receipts = attacked.receipts(address)
    refused = [each for each in receipts if each["outcome"] == "REFUSED"]
    stored = [each for each in receipts if each["outcome"] != "REFUSED"]
    if case.refused is not None:
        assert [each["message"].split(":")[0] for each in refused] == list(case.refused)
        assert [each["status"] for each in refused] == [status_of(each) for each in case.refused]
    if case.stores is not None:
        assert len(stored) == case.stores


@pytest.mark.parametrize("attacked", WAYS, indirect=True)
def test_the_honest_sender_is_served_meanwhile(attacked: Attacked) -> None:
    """It is answered while others attack, waits for no answer long, and nothing it sent is lost."""
    with attacked.honest.sending(attacked.disturbed.append):
        for case in quick(attacked):
            with attacked.attacker() as peer:
                case.run(peer)

    assert attacked.disturbed[-1].acknowledged > 0
    assert max(each.longest_seconds for each in attacked.disturbed) < LONGEST_SECONDS
    attacked.assert_all_kept()


@pytest.mark.campaign
@pytest.mark.parametrize("attacked", WAYS, indirect=True)
def test_the_honest_sender_keeps_its_pace(attacked: Attacked) -> None:
    """It has half of its undisturbed throughput at least: nothing but this must run on the machine."""
    beside: list[Window] = []
    for n in range(MOST_ROUNDS):
        for case in quick(attacked)[n % 2 :: 2]:
            attacked.rest(REST_SECONDS)
            with attacked.honest.sending(beside.append), attacked.attacker() as peer:
                case.run(peer)
        disturbed, undisturbed = rate(beside), rate(attacked.undisturbed)
        if disturbed >= undisturbed / 2:
            break

    print(f"honest sender: {undisturbed:.0f} instances/s alone, {disturbed:.0f} beside {len(beside)} attacks")
    assert disturbed >= undisturbed / 2


def quick(attacked: Attacked) -> list[Case]:
    """The attacks that are over as soon as they are answered."""
    return [each for each in (OVER_TLS if attacked.is_tls else CASES) if each.does is None and each.is_core]


def test_nothing_was_named_after_an_attacker(fast: Attacked) -> None:
    """Every file below and beside the root has a name that prearc makes."""
    run_if_new(fast, "injected-patient-id", "request-uid-path")

    paths = [str(each.relative_to(fast.folder)) for each in fast.folder.rglob("*")]

    assert [each for each in paths if not PLAIN.fullmatch(each)] == []
    assert {each.split("/")[0] for each in paths} == {"root", "prearc.toml", "ledger"}


@pytest.mark.parametrize("attacked", WAYS, indirect=True)
def test_the_log_is_plain_text(attacked: Attacked) -> None:
    """Each line is one that prearc wrote: printable, beginning with its time, with no event that a peer made up."""
    run_if_new(
        attacked, "called-title-escape", "calling-title-newline", "implementation-name-escape", "identity-password"
    )

    attacked.assert_plain_log()

    facts = [facts_of(each) for each in attacked.node.lines()]
    assert not [each for each in facts if each.get("event") == "forged" or "hunter2" in str(each)]


@pytest.mark.parametrize("option", [(), ("--json",)], ids=["text", "json"])
def test_every_refusal_is_traced(fast: Attacked, option: tuple[str, ...]) -> None:
    """`prearc trace --refused` lists each, in plain text."""
    run_if_new(fast, "request-uid-escape", "dataset-empty")
    refused = [each for each in fast.receipts() if each["outcome"] == "REFUSED"]

    ended = subprocess.run(
        [sys.executable, "-m", "cli", "--root", fast.node.root, *option, "trace", "--refused"],
        cwd=REPOSITORY,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    )

    assert ended.stdout.replace("\n", "").isprintable()
    if option:
        assert [each["sop_instance_uid"] for each in json.loads(ended.stdout)] == [
            each["sop_instance_uid"] for each in refused
        ]
    else:
        assert ended.stdout.count("\n") > len(refused)


def test_who_is_turned_away_writes_no_row(fast: Attacked) -> None:
    """Rejected and broken associations, however many, leave the catalogue as it is."""
    tables = ("association", "receipt", "event", "session")
    count = " UNION ALL ".join(f"SELECT count(*) AS n FROM {each}" for each in tables)
    before = fast.query(count)

    for data in (
        associate_rq(called=b"NOBODY"),
        associate_rq(()),
        associate_rq(application_context="1.2"),
        b"\xff" * 10,
    ):
        for _ in range(50):
            with fast.attacker() as peer:
                peer.push(data)
                assert peer.hears().split()[0] in ("reject", "abort")

    assert fast.query(count) == before


def test_the_cases_are_what_they_claim() -> None:
    """Every case has a name of its own, and there are more than sixty."""
    names = [each.id for each in CASES]

    assert len(names) == len(set(names)) > 60


def rate(windows: list[Window]) -> float:
    """Instances a second over all of them."""
    return sum(each.acknowledged for each in windows) / sum(each.seconds for each in windows)


def run_if_new(attacked: Attacked, *ids: str) -> None:
    """What these tests look at, also when they run alone."""
    assert set(ids) <= {each.id for each in CASES}
    for case in CASES:
        if case.id in ids:
            with attacked.attacker() as peer:
                case.run(peer)
