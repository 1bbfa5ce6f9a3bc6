"""Series import filters: what they decline is never silently gone, and is told again before archiving."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from archive import failpoints, sessions
from archive.archiving import preview
from archive.config_file import load_settings
from archive.errors import ConfigurationError
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind, Severity
from archive.model import Outcome, Receipt
from archive.rules.filters import FilterMode, SeriesFilter
from archive.rules.header import read_header
from archive.rules.policy import Policy
from archive.store.catalogue import receipts
from archive.workspace import Workspace
from cli.main import run
from scp.sender import send
from scp.synthetic import SeriesSpec
from tests.network.real_node import real_node
from tests.spec.test_findings import the
from tests.story import TO_LABEL, archive_session, assert_consistent, kinds, labelled_workspace, ready, visit
from tests.workbench import Sender, close_since, encoded, make_settings, make_workspace, opened, rows, tree

T1_AND_SCOUT = [SeriesSpec(number=1, description="T1 mprage"), SeriesSpec(number=2, description="Scout LOCALIZER")]
NO_LOCALIZER = {"mode": "blacklist", "lines": ["# scouts are not wanted", "^.*localizer.*$"]}


def send_one(ws: Workspace, dataset: Dataset) -> Receipt:
    """Store one dataset over an association of its own."""
    sender = Sender(ws)
    try:
        return sender.store(dataset)
    finally:
        sender.intake.close()


def declines(mode: str, lines: Sequence[str], **values: Any) -> str | None:
    """What a filter says of a stored dataset with these values, read as the receiver reads it."""
    (dataset, *_) = visit(series=[SeriesSpec(number=1)])
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    found = SeriesFilter.compile(lines, FilterMode(mode), "site filter")
    assert found is not None
    data = encoded(dataset)
    tags = frozenset(line.tag for line in found.lines)
    header = read_header(
        lambda offset, size: data[offset : offset + size],
        len(data),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        also=tags,
    )
    return found.declines(header)


def test_a_filtered_instance_is_answered_with_success_and_listed(tmp_path: Path) -> None:
    """Nothing of it is stored, and its receipt with the rule is durable before the sender hears success."""
    ws = labelled_workspace(tmp_path, filters=NO_LOCALIZER)
    t1, _, scout, _ = visit(series=T1_AND_SCOUT)
    before = {path for path in tree(ws) if not path.endswith("/")}

    receipt = send_one(ws, scout)

    assert (receipt.outcome, receipt.status, receipt.session_id, receipt.path) == (Outcome.FILTERED, 0x0000, None, None)
    assert receipt.rule.endswith("filter: blacklist of site filter line 2: ^.*localizer.*$")
    assert receipt.rule.startswith("project: receiver PREARC: fixed value")
    assert {path for path in tree(ws) if not path.endswith("/")} == before
    assert [rows(ws, f"SELECT * FROM {table}") for table in ("session", "scan", "instance")] == [[], [], []]
    with ws.catalogue.read() as connection:
        (traced,) = receipts.trace(connection, str(scout.SOPInstanceUID))
    assert (traced.outcome, traced.status, traced.rule, traced.message) == (
        Outcome.FILTERED,
        0,
        receipt.rule,
        "not stored: blacklist of site filter line 2: ^.*localizer.*$",
    )
    assert traced.dataset_sha256 and traced.calling_ae_title == "SCANNER"
    assert rows(ws, "SELECT is_open FROM association") == [{"is_open": 0}]
    assert send_one(ws, t1).outcome is Outcome.STORED


def test_the_receipt_of_a_filtered_instance_outlives_the_process(tmp_path: Path) -> None:
    """A restarted node still answers where the scan is."""
    ws = labelled_workspace(tmp_path, filters=NO_LOCALIZER)
    scout = visit(series=T1_AND_SCOUT)[2]
    count = opened()
    sender = Sender(ws)
    assert sender.store(scout).outcome is Outcome.FILTERED
    sender.die()
    close_since(count)

    again = make_workspace(tmp_path, receiver=[TO_LABEL])

    with again.catalogue.read() as connection:
        (traced,) = receipts.trace(connection, str(scout.SOPInstanceUID))
    assert traced.outcome is Outcome.FILTERED


def test_a_filter_may_answer_with_a_refusal(tmp_path: Path) -> None:
    """`answer = "refused"`: 0x0124 for the sender, the same trace for us."""
    ws = labelled_workspace(tmp_path, filters={**NO_LOCALIZER, "answer": "refused"})

    receipt = send_one(ws, visit(series=T1_AND_SCOUT)[2])

    assert (receipt.outcome, receipt.status) == (Outcome.FILTERED, 0x0124)
    assert [(row["outcome"], row["status"]) for row in rows(ws, "SELECT * FROM receipt")] == [("FILTERED", 0x0124)]


def test_no_success_without_a_trace(tmp_path: Path) -> None:
    """When the receipt cannot be written, the sender is told to try again: it may not believe that all is well."""
    ws = labelled_workspace(tmp_path, filters=NO_LOCALIZER)
    failpoints.arm("P7=errno:ENOSPC@1")

    try:
        receipt = send_one(ws, visit(series=T1_AND_SCOUT)[2])
    finally:
        failpoints.arm("")

    assert [row["outcome"] for row in rows(ws, "SELECT outcome FROM receipt")] == ["REFUSED"]
    assert (receipt.outcome, receipt.status) == (Outcome.REFUSED, 0xA700)


@pytest.mark.parametrize(("mode", "taken"), [("whitelist", ["T1 mprage"]), ("blacklist", ["Scout LOCALIZER"])])
def test_site_and_project_must_both_take_it(tmp_path: Path, mode: str, taken: list[str]) -> None:
    """The project's filter holds beside the site's; another project is not asked."""
    ws = labelled_workspace(
        tmp_path,
        filters={"lines": ["^derived"]},
        project=[{"id": "PI", "filter_mode": mode, "filter_lines": ["t1"]}, {"id": "OTHER", "filter_lines": ["."]}],
    )
    datasets = visit(series=[*T1_AND_SCOUT, SeriesSpec(number=3, description="derived T1")])

    outcomes = {str(each.SeriesDescription): send_one(ws, each).outcome for each in datasets}

    assert [name for name, outcome in outcomes.items() if outcome is Outcome.STORED] == taken


def test_an_instance_without_project_is_asked_for_by_the_site_alone(tmp_path: Path) -> None:
    """Unassigned has no filter of its own."""
    to_label = {key: value for key, value in TO_LABEL.items() if key != "project"}
    projects = [{"id": "PI", "filter_lines": ["."]}]
    ws = make_workspace(tmp_path, receiver=[to_label], project=projects, filters=NO_LOCALIZER)
    t1, _, scout, _ = visit(series=T1_AND_SCOUT)

    assert send_one(ws, t1).outcome is Outcome.STORED
    assert send_one(ws, scout).outcome is Outcome.FILTERED


def test_series_filtered(tmp_path: Path) -> None:
    """A session moved to a project that does not take one of its scans is XNAT's failure 22, naming scan and rule."""
    rules = [{"id": "PI"}, {"id": "OTHER", "filter_lines": ["[Modality]", "CT", "[(0008,103E)]", "localizer"]}]
    ws = labelled_workspace(tmp_path, project=rules)
    session = ready(ws, visit(series=T1_AND_SCOUT))
    assert kinds(preview(ws, session.id, ArchiveOrder())) == ["SUBJECT_NEW"]
    sessions.move(ws, session.id, project="OTHER")

    result = archive_session(ws, session.id)

    finding = the(result, FindingKind.SERIES_FILTERED)
    rule = "blacklist of project OTHER filter line 4: localizer"
    assert (result.status, kinds(result)) == ("CONFLICT", ["SUBJECT_NEW", "SERIES_FILTERED"])
    assert finding.severity is Severity.FAIL
    assert finding.message == (f"Scan 2 is non-compliant with this project's DICOM whitelist/blacklist. Rule: {rule}.")
    assert finding.detail == {"scan": "2", "count": 2, "rule": rule}
    assert finding.hint == f"prearc conflict explain {session.id}"
    assert finding.message in "\n".join(text for _, text in sessions.details(ws, session.id).log).replace("..", ".")
    sessions.move(ws, session.id, project="PI")
    assert archive_session(ws, session.id).status == "ARCHIVED"
    assert_consistent(ws)


@pytest.mark.parametrize(
    ("lines", "values", "matches"),
    [
        (["LOCAL"], {"SeriesDescription": "my localizer"}, True),  # searched for, case aside
        (["^LOCAL"], {"SeriesDescription": "my localizer"}, False),
        (["a", "^my"], {"SeriesDescription": "my loc"}, True),  # one line is enough
        (["x"], {"SeriesDescription": None}, False),  # what is absent matches nothing
        (
            [
                """ a
            b """
            ],
            {"SeriesDescription": "xbx"},
            True,
        ),  # several lines in one text, as XNAT keeps them
        (["[(0008,0060)]", "^MR$"], {}, True),
        (["[0008,0060]", "^CT$"], {}, False),
        (["[Modality]", "mr"], {}, True),
        (["[ImageType]", r"ORIGINAL\\PRIMARY"], {}, True),
        (["[BurnedInAnnotation]", "EXISTS"], {}, False),
        (["[BurnedInAnnotation]", "EXISTS"], {"BurnedInAnnotation": "NO"}, True),
        (["[BurnedInAnnotation]", "EXISTS"], {"BurnedInAnnotation": ""}, True),  # empty is there
        (["[BurnedInAnnotation]", "!EXISTS"], {}, True),
        (["[BurnedInAnnotation]", "!EXISTS"], {"BurnedInAnnotation": ""}, False),
        (["!EXISTS"], {"SeriesDescription": None}, True),
        (["[PatientID]", "!EXISTS"], {"PatientID": ""}, False),
        (["[Modality]", "CT", "[SeriesDescription]", "t1"], {}, True),  # any element's line
        ([r"(?<n>t)1_\k<n>*mp"], {}, True),  # Java's named groups
    ],
)
def test_the_grammar_is_xnats(lines: list[str], values: dict[str, Any], matches: bool) -> None:
    """A line that matches is declined by a blacklist and taken by a whitelist; the other way round if none does."""
    assert (declines("blacklist", lines, **values) is not None) == matches
    assert (declines("whitelist", lines, **values) is None) == matches


def test_a_whitelist_says_that_no_line_matches() -> None:
    """There is no line to name then."""
    assert declines("whitelist", ["xyz"]) == "whitelist of site filter: no line matches"


def test_a_filter_without_expressions_is_none() -> None:
    """An empty whitelist does not close the node."""
    assert SeriesFilter.compile(["", "# a comment", "[Modality]"], FilterMode.WHITELIST, "site filter") is None


def test_every_problem_of_every_filter_is_told_at_the_start(tmp_path: Path) -> None:
    """A bad filter stops the start, exit code 5, and names filter, line and text of each problem."""
    settings = make_settings(
        filters={"lines": ["ok", "a(", "[NoSuchKeyword]", "(told once", "[0002,0010]"]},
        project=[{"id": "PI", "filter_lines": ["*", "[a-z]"]}],
    )

    with pytest.raises(ConfigurationError) as caught:
        Policy.compile(settings)

    assert caught.value.exit_code == 5
    places = [problem.split(":")[0] for problem in caught.value.problems]
    assert places == [
        "project PI filter line 1",
        "project PI filter line 2",
        "site filter line 2",
        "site filter line 3",
        "site filter line 5",
    ]
    assert "'a(' is no regular expression" in caught.value.problems[2]
    assert "names no DICOM attribute" in caught.value.problems[3]


def test_unknown_modes_and_answers_are_told(tmp_path: Path) -> None:
    """With file and key, as every other problem of the configuration."""
    path = tmp_path / "prearc.toml"
    path.write_text(
        '[filters]\nmode = "modalityMap"\nanswer = "A700"\n[archiver]\nelsewhere_scope = "world"\n'
        '[[project]]\nid = "PI"\nfilter_mode = "grey"\n'
    )

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)

    told = "\n".join(caught.value.problems)
    for key in ("filters.mode", "filters.answer", "archiver.elsewhere_scope", "project[1].filter_mode"):
        assert key in told


def test_what_was_filtered_is_listed_and_foretold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`trace UID`, `trace --refused` and `route explain` all name it."""
    ws = labelled_workspace(tmp_path, filters=NO_LOCALIZER)
    scout = visit(series=T1_AND_SCOUT)[2]
    receipt = send_one(ws, scout)
    scout.save_as(tmp_path / "scout.dcm", enforce_file_format=True)
    tables = '[filters]\nlines = ["# scouts are not wanted", "^.*localizer.*$"]\n[[receiver]]\nproject = "PI"\n'
    (ws.root.path / "prearc.toml").write_text(tables)

    def answer(*arguments: str) -> Any:
        capsys.readouterr()
        assert run([*arguments, "--json"], {"PREARC_ROOT": str(ws.root.path)}) == 0
        return json.loads(capsys.readouterr().out)

    rule = "blacklist of site filter line 2: ^.*localizer.*$"
    for traced in (answer("trace", receipt.sop_instance_uid), answer("trace", "--refused", "--since", "2020-01-01")):
        assert [(each["outcome"], each["status"]) for each in traced] == [("FILTERED", 0)]
        assert traced[0]["message"] == f"not stored: {rule}"
    assert answer("route", "explain", str(tmp_path / "scout.dcm"))["filtered"] == rule


@pytest.mark.parametrize(("answer", "status"), [("success", 0x0000), ("refused", 0x0124)])
def test_a_sender_on_the_network_hears_it(tmp_path: Path, answer: str, status: int) -> None:
    """Over a real association: the status that is configured, and the trace beside it."""
    filters = {**NO_LOCALIZER, "answer": answer}
    with real_node(tmp_path, filters=filters) as (node, ws):
        told = send("127.0.0.1", node.addresses[0].port, "PREARC", "SCANNER", visit(series=T1_AND_SCOUT))
        outcomes = [(row["outcome"], row["status"]) for row in rows(ws, "SELECT * FROM receipt ORDER BY id")]

    assert told == [0, 0, status, status]
    assert outcomes == [("STORED", 0), ("STORED", 0), ("FILTERED", status), ("FILTERED", status)]
