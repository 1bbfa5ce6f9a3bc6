"""The import map: what its rows say, whom they are for, and every way of writing them wrong."""

import pytest

from archive.config import ProjectSettings
from archive.errors import Refused, UsageError
from archive.model import Autoarchive, InstanceHeader
from archive.rules.expressions import RuleSet
from archive.rules.mapping import MAP_BYTES, ImportMap, MappedRouting, import_map
from archive.rules.routing import Project, ProjectList, ReceiverRouting, RouteInput, Router

IMPLICIT = "1.2.840.10008.1.2"


def header(study: str = "1.2.3", patient: str = "P1", **facts: str) -> InstanceHeader:
    return InstanceHeader(transfer_syntax_uid=IMPLICIT, study_instance_uid=study, patient_id=patient, **facts)  # type: ignore[arg-type]


def read(text: str, **options: object) -> ImportMap:
    return import_map(text.encode(), **options)  # type: ignore[arg-type]


def given(found: ImportMap, seen: InstanceHeader) -> dict[str, str | None] | None:
    """What the row of an instance states."""
    row = found.row(seen)
    return None if row is None else {name: choice.value for name, choice in row.stated.items()}


def problems(text: str | bytes, **options: object) -> list[str]:
    with pytest.raises(UsageError) as raised:
        import_map(text if isinstance(text, bytes) else text.encode(), **options)  # type: ignore[arg-type]
    return raised.value.message.splitlines()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_map_is_read_as_spreadsheets_write_it(delimiter: str, newline: str, mark: bytes) -> None:
    """Comma, semicolon or tab; with or without byte order mark; either line end; blank lines and cells behind."""
    lines = ["patient_id,project,subject,session", "P1,PI,S1,S1_MR,", "", ",,,,", "Müller,PI,S2,"]
    text = newline.join(lines).replace(",", delimiter)

    found = import_map(mark + text.encode())

    assert given(found, header(patient="P1")) == {"project": "PI", "subject": "S1", "session": "S1_MR"}
    assert given(found, header(patient="Müller")) == {"project": "PI", "subject": "S2"}
    assert given(found, header(patient="P3")) is None


def test_cells_may_be_quoted_and_columns_named_as_in_dicom() -> None:
    """A quoted cell may hold the delimiter, quotes and a line end; columns are known by their DICOM keywords too."""
    found = read('"StudyInstanceUID", "Patient ID",Session\n1.2.3,"a ""b"", c\nd",L1\n')

    assert given(found, header("1.2.3", 'a "b", c\nd')) == {"session": "L1"}
    assert given(found, header("1.2.3", "a")) is None


def test_the_row_that_says_most_wins() -> None:
    """Study and patient before study alone before patient alone; nothing is taken from the others."""
    found = read("study_instance_uid,patient_id,session\n,P1,patient\n1.2.3,,study\n1.2.3,P1,both\n")

    assert given(found, header("1.2.3", "P1")) == {"session": "both"}
    assert given(found, header("1.2.3", "P2")) == {"session": "study"}
    assert given(found, header("1.2.4", "P1")) == {"session": "patient"}
    assert given(found, header("", "")) is None


def test_all_problems_are_told_with_their_lines() -> None:
    """One reading names every wrong cell, by line, also behind a cell with line ends in it."""
    text = (
        "study_instance_uid,patient_id,project,subject,session\n"
        "abc,,PI,,\n"
        ',"P\n1",,,bad label\n'
        ",,PI,,\n"
        ",P2,,a/b,\n"
        ",P2,,,\n"
        ",P3,,,,,x\n"
    )

    found = problems(text, name="map.csv")

    assert [line.split(": ", 2)[1] for line in found] == ["line 2", "line 3", "line 5", "line 6", "line 7", "line 8"]
    assert all(line.startswith("map.csv: ") for line in found)
    assert "try bad_label" in found[1]
    assert "line 6" in found[4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "header row"),
        ("1.2.3,PI\n", "no column '1.2.3'"),
        ("patient_id,projekt\nP1,PI\n", "no column 'projekt'"),
        ("project,session\nPI,S\n", "study_instance_uid or patient_id"),
        ("patient_id\nP1\n", "project, subject, session"),
        ("patient_id,project,Project\nP1,PI,PI\n", "twice"),
        ('patient_id,project\n"P1,PI\n', "line 2"),
        ('patient_id,project\n"P1"x,PI\n', "line 2"),
        (b"patient_id,project\nP1,PI\n\xff\xfe,PI\n", "line 3: is not UTF-8"),
        ("patient_id,project\nP1,PI".encode("utf-16"), "UTF-8"),
        ("patient_id;project,session\nP1,PI\n", "no column"),
    ],
)
def test_what_is_no_map_is_refused(text: str | bytes, says: str) -> None:
    """A wrong or missing header row, broken quoting and other encodings are told, never guessed at."""
    assert any(says in line for line in problems(text))


def test_only_configured_projects_count() -> None:
    """Where projects are configured another one is a problem of its line; an alias means its project."""
    known = (ProjectSettings(id="PI", aliases=("alpha",)),)

    assert given(read("patient_id,project\nP1,ALPHA\n", known=known), header()) == {"project": "PI"}
    assert given(read("patient_id,project\nP1,Unassigned\n", known=known), header()) == {"project": None}
    (problem,) = problems("patient_id,project\nP1,XX\n", known=known)
    assert "line 2: project: Project XX is not configured; known: PI" in problem
    with pytest.raises(Refused):
        import_map(None, project="XX", known=known)


def test_only_the_first_problems_of_many_are_told() -> None:
    """A table that is wrong throughout does not fill the screen."""
    found = problems("patient_id,session\n" + "".join(f"P{n},a b\n" for n in range(300)))

    assert len(found) == 101
    assert found[-1].endswith("and 200 more")


def test_what_the_map_leaves_open_is_routed_as_usual() -> None:
    """The map wins over the receiver, `--project` over its rules but not over a row; rules say who decided."""
    router = Router(
        receiver=ReceiverRouting(ae_title="PREARC", project=("FIXED",), subject=("SUBJECT",)),
        rules=RuleSet(),
        site=RuleSet(),
        projects=ProjectList(entries=(Project(id="MAPPED", autoarchive=Autoarchive.AUTO), Project(id="REST"))),
    )
    routing = MappedRouting(router, read("patient_id,project,session\nP1,MAPPED,L1\nP2,,L2\nP9,,L9\n", project="REST"))

    first = routing.route(header(patient="P1"), RouteInput())
    second = routing.route(header(patient="P2"), RouteInput())
    third = routing.route(header(patient="P3"), RouteInput())

    assert (first.project.value, first.subject.value, first.session.value) == ("MAPPED", "SUBJECT", "L1")
    assert (first.autoarchive, first.project.rule) == (Autoarchive.AUTO, "import map line 2")
    assert (second.project.value, second.session.value) == ("REST", "L2")
    assert (third.project.value, third.session.value, third.project.rule) == ("REST", "P3", "import --project")
    assert [(row.line, row.patient_id) for row in routing.unused()] == [(4, "P9")]
    assert routing.tells_instances_apart is router.tells_instances_apart


def test_without_a_map_the_project_alone_is_stated() -> None:
    """`import --project` holds for every instance."""
    found = import_map(None, project="PI")

    assert found.project is not None and found.project.value == "PI"
    assert given(found, header()) is None
    assert import_map(None).project is None


def test_a_map_larger_than_any_map_is_refused() -> None:
    """It is read whole: there is a limit."""
    (problem,) = problems(b"x" * (MAP_BYTES + 1), name="map.csv")[:1]

    assert "larger than" in problem
