"""Who has which role on a root, told by the locks that processes hold."""

from pathlib import Path

import pytest

from archive.errors import Busy
from archive.store.root import prepare
from cli.roles import (
    await_dead_receivers,
    held,
    holder,
    listening_addresses,
    pid_of,
    receiver_lock,
    receiver_pids,
)


def test_a_role_is_held_by_one_and_names_its_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second to ask for a role is told who has it; afterwards it is free."""
    monkeypatch.setattr("cli.roles.PREDECESSOR_SECONDS", 0.0)
    root = prepare(tmp_path / "root")
    other = prepare(tmp_path / "root")

    with held(root, "node", "node"), pytest.raises(Busy) as refused, held(other, "node", "node"):
        pass

    assert pid_of(refused.value.message.partition("(")[2]) is not None
    assert holder(root.path, "node") is None


def test_where_a_node_listens_is_read_from_its_lock(tmp_path: Path) -> None:
    """Addresses with their actual ports, IPv6 too; none once it is over."""
    root = prepare(tmp_path / "root")

    with held(root, "listening", "PREARC@127.0.0.1:45123,MY AE@[::1]:104"):
        found = [(each.ae_title, each.host, each.port) for each in listening_addresses(root.path)]

    assert found == [("PREARC", "127.0.0.1", 45123), ("MY AE", "::1", 104)]
    assert listening_addresses(root.path) == []


def test_the_receiver_processes_that_live_are_listed(tmp_path: Path) -> None:
    """One pid for each that holds its lock, by number; lock files of dead ones say nothing."""
    root = prepare(tmp_path / "root")
    others = [prepare(tmp_path / "root") for _ in range(3)]
    with held(others[2], receiver_lock(10), "receiver"):
        pass

    with held(others[0], receiver_lock(2), "receiver"), held(others[1], receiver_lock(1), "receiver"):
        found = receiver_pids(root.path)

    assert len(found) == 2
    assert receiver_pids(root.path) == []


def test_a_node_waits_for_the_receiver_processes_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is recovered while one may still write; one that does not end is named."""
    monkeypatch.setattr("cli.roles.PREDECESSOR_SECONDS", 0.0)
    root = prepare(tmp_path / "root")
    other = prepare(tmp_path / "root")

    with held(other, receiver_lock(1), "receiver"), pytest.raises(Busy, match=r"has not ended \(pid"):
        await_dead_receivers(root)
    await_dead_receivers(root)
