"""A number that threads and processes count together."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archive.store.tally import SharedTally


def _given(path: Path) -> int:
    """How often four threads of this process are given 7, of 40 times; 255 where something went wrong."""
    try:
        tally = SharedTally(path)
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(lambda _: tally.add(7, limit=800), range(40)))
    except BaseException:  # a forked test must not go on
        return 255


def test_processes_and_threads_never_count_above_the_limit(tmp_path: Path) -> None:
    """Four processes of four threads ask for more than there is: exactly what there is is given."""
    path = tmp_path / "tally"
    SharedTally(path).set(100)
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(_given(path))
        children.append(pid)

    given = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)

    assert given == 100
    assert not SharedTally(path).add(1, limit=800)


def test_what_is_taken_back_can_be_given_again(tmp_path: Path) -> None:
    """Not below nothing; a file that is empty or says no number counts as nothing."""
    path = tmp_path / "tally"
    path.write_text("garbage")
    tally = SharedTally(path)

    assert tally.add(5, limit=5)
    assert not tally.add(1, limit=5)
    tally.take_back(9)
    assert tally.add(5, limit=5)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """The tally writes to its own file or not at all."""
    (tmp_path / "other").write_text("mine")
    (tmp_path / "tally").symlink_to(tmp_path / "other")

    with pytest.raises(OSError, match="symbolic"):
        SharedTally(tmp_path / "tally").set(1)

    assert (tmp_path / "other").read_text() == "mine"
