"""How many files the node may open decides how many connections it takes; it never finds out in the middle of one."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from scp.descriptors import needed
from tests.network.fake_intake import running


@pytest.fixture
def low_soft_limit() -> Iterator[int]:
    """The soft limit of open files is below the hard one; the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_node_raises_the_soft_limit_of_open_files(low_soft_limit: int) -> None:
    """What the administrator allows is used, without being asked for."""
    with running():
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (low_soft_limit, low_soft_limit)


PROGRAM = """
import json, os, resource, sys
from archive.config import ReceiverSettings
from archive.errors import ConfigurationError
from tests.network.fake_intake import running

def tell(limit, listeners):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    receivers = [ReceiverSettings(ae_title=f"A{n}", port=0, bind=f"127.0.0.{n + 1}") for n in range(listeners)]
    try:
        with running(*receivers, connections=100) as node:
            lowered = [each["to"] for each in node.events("node.connections_lowered")]
            totals = [each._total for each in node.node._door._counts]
            print(json.dumps({"lowered": lowered, "totals": totals}), flush=True)
    except ConfigurationError as error:
        print(json.dumps({"problems": error.problems}), flush=True)

for limit, listeners in json.loads(sys.argv[1]):
    if os.fork() == 0:
        tell(limit, listeners)
        os._exit(0)
    os.wait()
"""
ASKED = [*((needed(100, n) - missing, n) for n in (1, 2) for missing in (0, 1)), (needed(1, 1) - 1, 1)]
"""Hard limits, and how many listen."""

Told = dict[str, list[int]]
Started = Callable[[int, int], Told]


@pytest.fixture(scope="module")
def told() -> list[Told]:
    """What a node of 100 connections a port makes of each hard limit, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(ASKED)], capture_output=True, text=True, check=True, timeout=100
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def started(told: list[Told]) -> Started:
    return lambda limit, listeners: told[ASKED.index((limit, listeners))]


@pytest.mark.parametrize("listeners", [1, 2])
def test_enough_open_files_change_nothing(listeners: int, started: Started) -> None:
    """The limit is just enough for every port's connections."""
    assert started(needed(100, listeners), listeners) == {"lowered": [], "totals": [100] * listeners}


@pytest.mark.parametrize("listeners", [1, 2])
def test_too_few_open_files_lower_the_number_of_connections(listeners: int, started: Started) -> None:
    """One file fewer is one connection fewer at each port, and the log says so."""
    assert started(needed(100, listeners) - 1, listeners) == {"lowered": [99], "totals": [99] * listeners}


def test_a_node_that_could_take_no_connection_does_not_start(started: Started) -> None:
    """It says how many files it needs and what to raise."""
    answer = started(needed(1, 1) - 1, 1)

    (problem,) = answer["problems"]
    assert "limits.connections" in str(problem) and str(needed(100, 1)) in str(problem)
    assert "LimitNOFILE" in str(problem)
