"""The page of a survey: whole, self-contained, and deaf to what is in a name."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from archive.model import Study
from archive.rules import survey_html
from archive.rules.survey_html import Page
from archive.rules.survey_report import Moment, Reported, growth, masked, summaries
from archive.rules.survey_style import SCRIPT, STYLE
from archive.surveys import SurveyStatus as S
from tests.unit.test_survey_csv import TOTALS, resource

EVIL = "<img src=x onerror=alert(1)>\"'&\x1b[31m\u202e.dcm"
MOMENTS = [
    Moment(day="2026-01-03", files=10, findings=4),
    Moment(day="2026-01-10", files=17, findings=9),
    Moment(day="2026-01-17", files=15, findings=2),
]
VOID = {"meta", "input", "br", "img"}


def page(*resources: Reported, is_masked: bool = True, moments: list[Moment] | None = None) -> str:
    found = Page(
        scope="the archive",
        made_at="2026-01-17 10:15 UTC",
        is_masked=is_masked,
        projects=summaries(resources),
        growth=MOMENTS if moments is None else moments,
    )
    return "".join(survey_html.pieces(found, resources))


def report(**members: Any) -> dict[str, Any]:
    return {**TOTALS, "totalConformingFiles": 3, **members}


class _Elements(HTMLParser):
    """Every element and attribute, and whether what is opened is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


FULL = report(
    mismatchedFiles={EVIL: "right.dcm"},
    duplicates={"1.2": {"1.2.3": {"a.dcm": "a.dcm", EVIL: "a.dcm"}}},
    nonActionableDuplicates={"1.2": {"1.2.4": {"c.dcm": "c.dcm", "d.dcm": "e.dcm"}}},
    duplicateDifferences={
        "1.2": {"1.2.3": {"difference": "HEADER_ONLY", "tags": ["PatientName"], "actionable": False}}
    },
    badFileReasons={EVIL: EVIL},
    missingFiles=["gone.dcm"],
    unlistedFiles=[EVIL],
    uidDifferences={"u.dcm": {"listed": "1.9", "found": "1.8"}},
    changedFiles={"changed.dcm": "its dataset is not the one that was archived"},
    schemes={EVIL: "original"},
    disclosures={EVIL: ["PatientName"]},
    remarks=[EVIL],
)
TROUBLED = resource(label=EVIL, scan=EVIL, uri=EVIL, message=EVIL, project=EVIL, report=FULL)


def test_the_page_is_well_formed() -> None:
    """Every element is closed, in order, whatever the names hold."""
    assert _Elements(page(TROUBLED)).open == []


def test_nothing_from_outside_becomes_an_element() -> None:
    """A file called like an element is text; no handler, no image, no style of its own anywhere."""
    elements = _Elements(page(TROUBLED)).found

    assert not {"img", "a", "link", "iframe", "object", "form"} & {tag for tag, _ in elements}
    assert all(not name.startswith("on") and name != "style" for _, attributes in elements for name in attributes)
    assert [tag for tag, _ in elements].count("script") == 1


def test_nothing_is_fetched() -> None:
    """No address of anything else; the policy allows this style and this script alone."""
    text = page(TROUBLED)
    elements = _Elements(text).found

    assert not {"src", "href", "action", "srcset"} & {name for _, attributes in elements for name in attributes}
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in STYLE
    [policy] = [each["content"] for tag, each in elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not re.search(r"fetch|XMLHttp|innerHTML|eval|import", SCRIPT)


def test_what_is_not_printable_is_shown() -> None:
    """No escape sequence and no bidirectional override reaches the page."""
    text = page(TROUBLED)

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b" in text


def test_every_class_of_finding_is_there() -> None:
    """Each finding of a report can be found on the page, with why."""
    told = " ".join(_Elements(page(resource(report=FULL))).texts)

    for word in (
        *("right.dcm", "gone.dcm", "1.2.3", "1.2.4", "HEADER_ONLY", "PatientName", "listed as 1.9, is 1.8"),
        *("its dataset is not", "name of scheme original", "prearc mitigate plan 7 --output PLAN.json"),
    ):
        assert word in told


def test_no_chart_without_its_numbers() -> None:
    """What a bar or a line shows is told as text beside it."""
    text = page(*(resource(project=name, report=FULL) for name in ("A", "B", "B")))
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)

    assert len(charts) == 6  # of bars, each for wide and for narrow windows, and two lines
    for chart in charts:
        assert 'role="img"' in chart
        assert "aria-label=" in chart
        assert 'class="number"' in chart
    assert [f">{number}<" in charts[4] for number in (10, 17, 15)] == [True] * 3
    assert ">9<" in charts[5]


def test_nothing_found_is_said_in_words() -> None:
    """No chart of zeros; one day is no line."""
    text = page(
        resource(status=S.CONFORMING, totals={"totalEntries": 1200, "totalConformingFiles": 1200}), moments=MOMENTS[:1]
    )

    assert "None: every file that was read is as it should be." in text
    assert f"All surveys were on one day, {MOMENTS[0].day}" in text
    assert len(re.findall("<svg", text)) == 2


@pytest.mark.parametrize("moments", [[], MOMENTS[:1], MOMENTS])
def test_few_surveys_are_enough(moments: list[Moment]) -> None:
    """None, one or many days give a page."""
    assert _Elements(page(resource(report=FULL), moments=moments)).open == []


def test_an_empty_archive_gives_a_page() -> None:
    """It says what to type."""
    assert "prearc survey run" in page(moments=[])


def test_long_lists_are_cut_and_say_so() -> None:
    """A page stays readable; the number is the whole one."""
    files = {f"{number}.dcm": f"{number}-right.dcm" for number in range(5000)}
    text = page(resource(report=report(mismatchedFiles=files)))

    assert "5\u202f000" in text
    assert "and 4\u202f800 more" in text
    assert len(text) < 100_000


def test_files_as_they_should_be_are_never_rounded_up() -> None:
    """100 % means all of them."""
    totals = {**TOTALS, "totalEntries": 100_000, "totalConformingFiles": 99_999}

    assert "99.9\u202f%" in page(resource(totals=totals, report=report()))


def test_names_that_disclose_are_withheld() -> None:
    """The same file the same number throughout; other names stay."""
    found = masked(resource(report=FULL), [])

    assert found.report is not None
    assert list(found.report["mismatchedFiles"]) == ["withheld-1"]
    assert found.report["unlistedFiles"] == ["withheld-1"]
    assert set(found.report["duplicates"]["1.2"]["1.2.3"]) == {"a.dcm", "withheld-1"}
    assert found.report["missingFiles"] == ["gone.dcm"]


def test_names_of_files_without_header_are_withheld() -> None:
    """A missing file has no header to compare with: the patients of its session decide."""
    studies = [Study(study_instance_uid="1.2", patient_name="Doe^Jane", patient_id="4711")]
    members = {
        "missingFiles": ["Doe_Jane_1.dcm", "1.dcm"],
        "badFiles": ["4711.dcm"],
        "badFileReasons": {"4711.dcm": "x"},
    }

    found = masked(resource(report=report(**members)), studies).report

    assert found is not None
    assert found["missingFiles"] == ["withheld-2", "1.dcm"]
    assert (found["badFiles"], found["badFileReasons"]) == (["withheld-1"], {"withheld-1": "x"})


def test_labels_that_are_a_patients_name_are_withheld() -> None:
    """The path too; the session's id stays and is enough to type."""
    studies = [Study(study_instance_uid="1.2", patient_name="Doe^Jane", patient_id="4711")]

    found = masked(resource(label="Doe_Jane", subject="4711", uri="archive/PI/arc001/Doe_Jane/SCANS/1/DICOM"), studies)
    plain = masked(resource(), studies)

    assert (found.label, found.subject) == ("withheld", "withheld")
    assert found.uri == "archive/PI/arc001/withheld/SCANS/1/DICOM"
    assert plain == resource()


def test_overall_status() -> None:
    """IN_PROGRESS while anything is open, then the worst; never CONFORMING with an error in it."""

    def overall(*statuses: S) -> str:
        [summary] = summaries(resource(status=status) for status in statuses)
        return summary.overall_status

    assert overall(S.CONFORMING, S.DIVERGENT) == "IN_PROGRESS"
    assert overall(S.CONFORMING, S.QUEUED_FOR_SURVEY) == "IN_PROGRESS"
    assert overall(S.CONFORMING, S.CANCELED) == "CONFORMING"
    assert overall(S.CONFORMING, S.NEEDS_REVIEW, S.NONCOMPLIANT) == "NEEDS_REVIEW"
    assert overall(S.NEEDS_REVIEW, S.ERROR) == "ERROR"


def test_growth_is_what_was_known_each_day() -> None:
    """A resource counts by its last survey; a day that looked at one of them keeps what is known of the others."""
    results = [
        ("2026-01-01T02:00", "a", {"totalEntries": 10, "totalBadFiles": 1}),
        ("2026-01-01T03:00", "b", {"totalEntries": 5}),
        ("2026-01-02T02:00", "a", {"totalEntries": 12}),
    ]

    assert list(growth(results)) == [
        Moment(day="2026-01-01", files=15, findings=1),
        Moment(day="2026-01-02", files=17, findings=0),
    ]


def test_long_lists_of_sets_are_cut_and_say_so() -> None:
    """As lists of files are, over all SOP classes."""
    sets = {
        sop_class: {f"{sop_class}.{number}": {"a.dcm": "a.dcm", "b.dcm": "a.dcm"} for number in range(150)}
        for sop_class in ("1.2", "1.3", "1.4")
    }
    text = page(resource(report=report(duplicates=sets)))

    assert "Instances with several files: 450" in text
    assert text.count("2 files,") == survey_html.FILES_SHOWN
    assert "and 250 more" in text


def test_many_resources_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are in the export."""
    monkeypatch.setattr(survey_html, "RESOURCES_SHOWN", 2)
    text = page(*(resource(report=FULL) for _ in range(3)))

    assert text.count('class="resource"') == 2
    assert "Only the first 2 of 3 are shown: prearc survey export" in text
    assert _Elements(text).open == []
