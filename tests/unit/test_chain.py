"""The chain of the audit, as values: every break is told, and told where it is."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from archive.rules.chain import BreakKind, Link, digest, first_break, judge, judge_end


def linked(count: int) -> list[Link]:
    """A whole chain of so many events."""
    chain: list[Link] = []
    previous = ""
    for number in range(1, count + 1):
        noted = digest(previous, f"at {number}", "tester", "KIND", number, "{}")
        chain.append(Link(id=number, at=f"at {number}", previous_hash=previous, hash=noted, digest=noted))
        previous = noted
    return chain


@given(st.integers(0, 12))
def test_a_chain_that_was_written_is_whole(count: int) -> None:
    """From no event to many."""
    assert first_break(linked(count), count or None) is None


@given(st.integers(2, 12), st.data())
def test_a_removed_event_is_named(count: int, data: st.DataObject) -> None:
    """Whichever is taken out: the first, one in the middle, the last."""
    chain = linked(count)
    gone = data.draw(st.integers(1, count))
    del chain[gone - 1]

    broken = first_break(chain, count)

    assert broken is not None
    expected = {1: BreakKind.BEGINS_LATE, count: BreakKind.CUT_OFF}.get(gone, BreakKind.REMOVED)
    assert broken.kind is expected
    assert broken.event_id == (gone if gone != 1 else 2)


@given(st.integers(1, 12), st.data())
def test_a_changed_event_is_named(count: int, data: st.DataObject) -> None:
    """Its content gives another hash than the one it holds."""
    chain = linked(count)
    changed = data.draw(st.integers(1, count))
    chain[changed - 1] = replace(chain[changed - 1], digest="another")

    broken = first_break(chain, count)

    assert broken is not None and (broken.kind, broken.event_id) == (BreakKind.CHANGED, changed)


def test_a_gap_is_told_with_both_sides() -> None:
    """What is gone, and after which event."""
    first, _, third = linked(3)

    broken = first_break([first, third], 3)

    assert broken is not None and (broken.kind, broken.event_id) == (BreakKind.REMOVED, 2)
    assert "event 3 comes right after 1" in broken.message


def test_an_event_with_a_hash_of_its_own_does_not_follow() -> None:
    """Who rewrites an event with its hash breaks the link to the next one."""
    chain = linked(3)
    forged = digest(chain[0].hash, "at 2", "tester", "ANOTHER", 2, "{}")
    chain[1] = replace(chain[1], hash=forged, digest=forged)

    broken = first_break(chain, 3)

    assert broken is not None and (broken.kind, broken.event_id) == (BreakKind.INSERTED, 3)


def test_the_first_event_follows_no_other() -> None:
    """An event 1 that names a predecessor was not the first."""
    (only,) = linked(1)

    broken = judge(None, replace(only, previous_hash="x"))

    assert broken is not None and broken.kind is BreakKind.BEGINS_LATE
    assert "not the first" in broken.message


def test_events_that_were_all_removed_are_missed() -> None:
    """The last number that was given out tells how many there were."""
    broken = judge_end(0, 7)

    assert broken is not None and (broken.kind, broken.event_id) == (BreakKind.CUT_OFF, 1)
    assert "Events 1 to 7" in broken.message
    assert judge_end(7, 7) is None and judge_end(7, None) is None
