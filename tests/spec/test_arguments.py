"""Arguments that are no UTF-8: refused at the door, unless they name a file."""

import json
import os
from pathlib import Path

import pytest

from cli import main
from tests.story import labelled_workspace, ready, visit
from tests.workbench import dump

ODD = os.fsdecode(b"caf\xe9")
TEXTS = [
    ["session", "close", "1", "--reason", ODD],
    ["session", "relabel", "1", f"--label={ODD}"],
    ["session", "show", ODD],
    ["trace", ODD],
    ["import", "--project", ODD, "."],
    [ODD],
]


@pytest.mark.parametrize("words", TEXTS, ids=[each[0] + str(n) for n, each in enumerate(TEXTS)])
def test_text_that_is_no_utf8_is_a_usage_error(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, a sentence and a hint; nothing is done."""
    ws = labelled_workspace(tmp_path)
    ready(ws, visit())
    before = dump(ws)

    code = main.run(["--root", str(ws.root.path), "--json", *words], {})

    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["kind"]) == (2, "UsageError")
    assert "no UTF-8" in error["message"]
    assert dump(ws) == before


def test_a_file_may_have_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Import and route explain take it as it is."""
    ws = labelled_workspace(tmp_path)
    path = tmp_path / f"{ODD}.dcm"
    visit()[0].save_as(path, enforce_file_format=True)

    for words in (["route", "explain", str(path)], ["import", "--dry-run", str(path)]):
        code = main.run(["--root", str(ws.root.path), *words], {})
        told = capsys.readouterr()
        assert code == 0, told
        assert "no UTF-8" not in told.err
