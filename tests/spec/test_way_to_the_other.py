"""A session whose study is archived as another one: it is sent there only where it would be taken."""

from pathlib import Path

import pytest

from archive import sessions
from archive.conflicts import explain
from archive.joining import join
from archive.model import MergeMode, Session
from archive.splitting import SplitOrder, split
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import changed
from tests.story import STUDY_2, archive_session, assert_consistent, labelled_workspace, ready, visit


def other_visit(ws: Workspace) -> Session:
    """Waits under a label of its own."""
    session = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=5)]))
    sessions.relabel(ws, session.id, label="L2")
    return session


def test_what_carries_another_study_too_is_parted_first(tmp_path: Path) -> None:
    """The append would ask about the other study; parted, the way there works as it stands."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit()).id)
    waiting = other_visit(ws)
    join(ws, waiting.id, ready(ws, visit(series=[SeriesSpec(number=6)])).id, reason="one visit")

    commands = [way.command for way in explain(ws, waiting.id).ways_out]

    assert not [each for each in commands if "relabel" in each and "S1_MR" in each]
    (parting,) = [each for each in commands if each.startswith(f"prearc session split {waiting.id} --study ")]
    parted = split(ws, waiting.id, SplitOrder(study=parting.split()[-1])).part
    assert parted is not None
    part = parted.id
    command = next(way.command for way in explain(ws, part).ways_out if "&&" in way.command)
    assert command.endswith(f"prearc session archive {part} --mode append")
    sessions.relabel(ws, part, subject="S1", label="S1_MR")
    assert archive_session(ws, part, mode=MergeMode.APPEND).status == "ARCHIVED"
    assert_consistent(ws)


@pytest.mark.parametrize("is_changed", [True, False])
def test_it_is_sent_there_only_when_nothing_differs(tmp_path: Path, is_changed: bool) -> None:
    """INSTANCE_DIFFERS would be asked there, and the line would fail when pasted."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit()).id)
    again = ready(ws, [changed(each) for each in visit()] if is_changed else visit())
    sessions.relabel(ws, again.id, label="L2")

    commands = [way.command for way in explain(ws, again.id).ways_out]

    assert any("--label S1_MR && " in each for each in commands) is not is_changed
