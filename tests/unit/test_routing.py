"""Routing: XNAT's expressions, assignments and order, the project list, and the rule that decided."""

import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import ConfigurationError
from archive.model import Autoarchive, InstanceHeader, Route
from archive.rules.expressions import (
    ConnectionInput,
    RuleSet,
    parse_expression,
    parse_rules,
    rules_from_lists,
)
from archive.rules.routing import Project, ProjectList, ReceiverRouting, RouteInput, Router

EXAMPLE_RULES = Path(__file__).parents[2] / "conf" / "routes.rules"
ANY_TEXT = st.text(alphabet=st.characters(), max_size=200)
MATERIAL_NOTES = 0x00140046
THREE_GROUPS = r"(0014,0046):Project:(\w+)\s*Subject:(\w+)\s*Session:(\w+)"


def header(other: dict[int, str] | None = None, **values: str) -> InstanceHeader:
    return InstanceHeader(
        transfer_syntax_uid="1.2.840.10008.1.2",
        other=MappingProxyType(other or {}),
        **values,  # type: ignore[arg-type]
    )


def router(
    *,
    receiver: dict[str, Any] | None = None,
    rules: str = "",
    site: RuleSet | None = None,
    projects: tuple[Project, ...] = (),
) -> Router:
    return Router(
        receiver=ReceiverRouting(ae_title="PREARC", **(receiver or {})),
        rules=parse_rules(rules, "routes.rules"),
        site=site or RuleSet(),
        projects=ProjectList(entries=projects),
    )


def route(seen: InstanceHeader, origin: RouteInput | None = None, **settings: Any) -> Route:
    return router(**settings).route(seen, origin or RouteInput())


def labels(found: Route) -> tuple[str | None, str | None, str | None]:
    return found.project.value, found.subject.value, found.session.value


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        parse_rules(text, "routes.rules")
    return caught.value.problems


class TestExpressions:
    @pytest.mark.parametrize(
        ("expression", "value", "expected"),
        [
            (r"(0010,4000):\s*(\w+)\s*", "a b", None),
            (r"(0010,4000):\s*(\w+)\s*", " ab", "ab"),
            (r"(0010,4000):\s*(\w+)\s*", "", None),
            (r"(0008,1030):Project:\s*(\w+)", "Project: ProjectA", "ProjectA"),
            (r"(0010,0010):^(.*)$:1 t:^(.*)$ r:Hotel", "DOE^JOHN", "Hotel"),
            (THREE_GROUPS + ":1", "Project:P Subject:S Session:S_MR1", "P"),
            (THREE_GROUPS + ":2", "Project:P Subject:S Session:S_MR1", "S"),
            (THREE_GROUPS + ":3", "Project:P Subject:S Session:S_MR1", "S_MR1"),
            (THREE_GROUPS, "Project:P Subject:S Session:S_MR1", "P"),
            ("(0008,0050):(.*)", "ACC1", "ACC1"),
        ],
    )
    def test_xnats_examples_match_as_in_xnat(self, expression: str, value: str, expected: str | None) -> None:
        """The rules of XNAT's own tests and manual give XNAT's labels."""
        assert parse_expression(expression).extract(value) == expected

    @pytest.mark.parametrize(
        ("expression", "value", "expected"),
        [
            (r"(0008,1030):.*:0", "whole", "whole"),
            (r"(0008,1030):(\w+)", "ab cd", None),
            (r"(0008,1030):(\w+)", "bä", None),
            (r"(0008,1030):(?<p>[a-z]+)-\k<p>", "ab-ab", "ab"),
            (r"(0008,1030):(a+)\z", "aa", "aa"),
            (r"(0008,1030):(a+)\Z", "aa", "aa"),
            (r"(0008,1030):(\\?)", "\\", "\\"),
            (r"(0008,1030):(x)|(y)", "y", None),
            (r"(0008,1030):(?i)site(\d+)", "SITE7", "7"),
            (r"(0008,1030):T(\d{1,2}:\d{2})", "T12:30", "12:30"),
        ],
    )
    def test_a_java_regex_means_the_same(self, expression: str, value: str, expected: str | None) -> None:
        """Whole match, ASCII classes, Java's named groups and anchors."""
        assert parse_expression(expression).extract(value) == expected

    @pytest.mark.parametrize(
        ("replacement", "expected"),
        [
            ("t:_ r:-", "a-b-1"),
            ("t:[ab]_ r:", "1"),
            ("t:(a)_(b) r:$2$1", "ba_1"),
            ("t:(?<x>a)_ r:${x}", "ab_1"),
            (r"t:a r:\$", "$_b_1"),
            ("t:(a) r:$12", "a2_b_1"),
            (f"t:{'(a?)' * 11}_ r:$12", "a2b21"),
            (f"t:{'()' * 10}a r:$10x", "x_b_1"),
            ("t:zz r:x", "a_b_1"),
        ],
    )
    def test_a_replacement_is_javas(self, replacement: str, expected: str) -> None:
        """Every match of TARGET in the captured text is replaced, with Java's group references."""
        assert parse_expression(f"(0008,1030):(.*) {replacement}").extract("a_b_1") == expected

    def test_a_result_is_cut_to_64_characters_unless_replaced(self) -> None:
        """XNAT's length limit holds for expressions without t: and r:."""
        assert parse_expression("(0010,4000):x(.*)").extract("x" + "9" * 100) == "9" * 64
        assert parse_expression("(0010,4000):(.*) t:x r:").extract("x" + "9" * 100) == "9" * 100

    def test_a_regex_sees_at_most_1024_characters(self) -> None:
        """A long value cannot make a polynomial regex slow."""
        assert parse_expression("(0010,4000):(.*) t:x r:x").extract("9" * 5000) == "9" * 1024

    @pytest.mark.parametrize(
        ("text", "source"),
        [
            ("(F215,1050):(.*)", 0xF2151050),
            ("(f215,1050):(.*)", 0xF2151050),
            ("StudyDescription:(.*)", 0x00081030),
            ("CallingAETitle:(.*)", ConnectionInput.CALLING_AE_TITLE),
            ("CalledAETitle:(.*)", ConnectionInput.CALLED_AE_TITLE),
            ("Peer:(.*)", ConnectionInput.PEER),
        ],
    )
    def test_an_expression_names_its_input(self, text: str, source: int | ConnectionInput) -> None:
        """A tag (above 8000,0000 too), a keyword, or a fact of the connection."""
        assert parse_expression(text).source == source

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("nonsense", "the form is"),
            ("(0008,103):(.*)", "the form is"),
            ("(0008,1030):", "the form is"),
            ("(0008,1030):(", "unterminated subpattern"),
            ("(0008,1030):[a-z&&[^b]](.*)", "set"),
            (r"(0008,1030):(\p{Alpha}+)", "bad escape"),
            ("(0008,1030):(?u)(.*)", "incompatible"),
            ("(0008,1030):(a{99999999999999999999})", "repetition number is too large"),
            (r"(0008,1030):\w+", "no group 1"),
            (r"(0008,1030):(\w+):2", "no group 2"),
            ("NoSuchKeyword:(.*)", "neither a DICOM keyword nor one of CallingAETitle, CalledAETitle, Peer"),
            ("(0002,0010):(.*)", "file meta"),
            ("(7fe0,0010):(.*)", "pixel data"),
            ("(0008,1030):(.*) t: r:x", "t: is empty"),
            ("(0008,1030):(.*) t:( r:x", "unterminated subpattern"),
            ("(0008,1030):(.*) t:a r:$1", "names no group"),
            ("(0008,1030):(.*) t:a r:$x", "names no group"),
            ("(0008,1030):(.*) t:a r:${x}", "names no group"),
            ("(0008,1030):(.*) t:a r:x\\", "names no group"),
        ],
    )
    def test_a_wrong_expression_is_refused_in_xnats_words(self, text: str, reason: str) -> None:
        """A rule that could never work stops the start, with the reason."""
        with pytest.raises(ConfigurationError) as caught:
            parse_expression(text)

        assert caught.value.problems[0].startswith(f"Failed to parse routing expression '{text}': ")
        assert reason in caught.value.problems[0]

    @given(text=ANY_TEXT)
    def test_any_text_is_an_expression_or_a_configuration_error(self, text: str) -> None:
        """No rule text makes the parser fail in another way."""
        for candidate in (text, f"(0008,1030):{text}", f"(0008,1030):(.*) t:{text} r:{text}"):
            try:
                parse_expression(candidate)
            except ConfigurationError as error:
                assert error.problems


class TestRulesFile:
    def test_rules_are_read_in_order_with_their_lines(self) -> None:
        """Sections, comments, blank lines, CRLF and a byte order mark."""
        text = "\ufeff# comment\r\n\r\n[project]\r\n(0008,1030):(.*)\r\n (0008,0050):(.*) \r\n[Session]\nPatientID:(.*)"

        found = parse_rules(text, "routes.rules")

        assert [rule.name for rule in found.project] == [
            "routes.rules line 4: (0008,1030):(.*)",
            "routes.rules line 5: (0008,0050):(.*)",
        ]
        assert [rule.name for rule in found.session] == ["routes.rules line 7: PatientID:(.*)"]
        assert found.subject == ()

    def test_every_wrong_line_is_named(self) -> None:
        """All problems come at once, each with file and line."""
        problems = problems_of("(0008,1030):(.*)\n[projects]\n[project\n[subject]\n(0008,1030):(\nbad\n")

        assert [problem.split(":")[0] for problem in problems] == [
            f"routes.rules line {number}" for number in (1, 2, 3, 5, 6)
        ]
        assert "Failed to parse routing expression 'bad'" in problems[-1]

    def test_lists_of_expressions_make_rules(self) -> None:
        """The site's settings name list and position; one item may hold several lines."""
        found = rules_from_lists("prearc.toml [routing]", project=["Peer:(.*)\n\nPatientID:(.*)"])

        assert [rule.where for rule in found.project] == [
            "prearc.toml [routing] project rule 1",
            "prearc.toml [routing] project rule 2",
        ]

    def test_lists_of_expressions_report_every_problem(self) -> None:
        """A wrong expression of the site's settings is found by its place."""
        with pytest.raises(ConfigurationError) as caught:
            rules_from_lists("prearc.toml [routing]", project=["x"], session=["PatientID:(.*)", "y"])

        assert [problem.split(":")[0] for problem in caught.value.problems] == [
            "prearc.toml [routing] project rule 1",
            "prearc.toml [routing] session rule 2",
        ]

    def test_the_example_file_changes_nothing(self) -> None:
        """The delivered file is all comments."""
        assert parse_rules(EXAMPLE_RULES.read_text(encoding="utf-8"), "routes.rules") == RuleSet()

    def test_the_examples_in_the_example_file_are_right(self) -> None:
        """Every commented-out expression compiles once its mark is removed."""
        body = EXAMPLE_RULES.read_text(encoding="utf-8").split("\n[project]")[1]

        found = parse_rules("[project]" + body.replace("# ", ""), "routes.rules")

        assert [len(rules) for rules in (found.project, found.subject, found.session)] == [4, 2, 2]


class TestOrder:
    def test_the_receivers_rules_come_before_the_assignments(self) -> None:
        """XNAT's receiver test: MaterialNotes of the receiver's expressions win over PatientComments."""
        seen = header(
            {MATERIAL_NOTES: "Project:P_rtd Subject:subj_rtd Session:sess_rtd"},
            patient_comments="Project:P Subject:subj Session:sess",
        )
        receiver = {
            "project": (THREE_GROUPS + ":1",),
            "subject": (THREE_GROUPS + ":2",),
            "session": (THREE_GROUPS + ":3",),
        }

        assert labels(route(seen, receiver=receiver)) == ("P_rtd", "subj_rtd", "sess_rtd")
        assert labels(route(seen)) == ("P", "subj", "sess")

    def test_a_receivers_missing_rule_falls_back_to_the_assignment(self) -> None:
        """XNAT's receiver test with a blank subject expression."""
        seen = header(
            {MATERIAL_NOTES: "Project:P_rtd Subject:subj_rtd Session:sess_rtd"},
            patient_comments="Project:P Subject:subj Session:sess",
        )
        receiver = {"project": (THREE_GROUPS + ":1",), "session": (THREE_GROUPS + ":3",)}

        assert labels(route(seen, receiver=receiver)) == ("P_rtd", "subj", "sess_rtd")

    @pytest.mark.parametrize("silenced", range(8))
    def test_the_next_rule_decides_when_those_before_say_nothing(self, silenced: int) -> None:
        """Receiver, site, rules file, three comments, then the patient's attributes, in this order."""
        speaks = [index >= silenced for index in range(8)]
        say = lambda index, text: text if speaks[index] else ""  # noqa: E731
        seen = header(
            {0x00400254: say(0, "A0"), 0x00400280: say(1, "A1"), 0x00401400: say(2, "A2")},
            patient_comments=say(3, "Subject:A3"),
            study_comments=say(4, "Subject:A4"),
            additional_patient_history=say(5, "Subject:A5"),
            patient_name=say(6, "A6"),
            patient_id=say(7, "A7"),
        )

        found = route(
            seen,
            receiver={"subject": ("(0040,0254):(.*)",)},
            site=rules_from_lists("prearc.toml [routing]", subject=["(0040,0280):(.*)"]),
            rules="[subject]\n(0040,1400):(.*)",
        )

        assert found.subject.value == f"A{silenced}"
        assert (
            found.subject.rule
            == (
                "receiver PREARC: (0040,0254):(.*)",
                "prearc.toml [routing] subject rule 1: (0040,0280):(.*)",
                "routes.rules line 2: (0040,1400):(.*)",
                "PatientComments Subject:",
                "StudyComments Subject:",
                "AdditionalPatientHistory Subject:",
                "PatientName",
                "PatientID, as PatientName gives no label",
            )[silenced]
        )

    def test_of_several_rules_the_first_match_wins(self) -> None:
        """A rule that does not match is passed by."""
        rules = "[project]\n(0008,1030):A(\\d+)\n(0008,1030):(\\w\\d)\n(0008,1030):(.*)"

        found = route(header(study_description="B2"), rules=rules)

        assert found.project.value == "B2"
        assert found.project.rule == "routes.rules line 3: (0008,1030):(\\w\\d)"

    def test_a_fixed_value_is_a_label_made_safe(self) -> None:
        """A receiver's plain text is taken as it is."""
        found = route(header(), receiver={"project": ("My Project",)})

        assert found.project.value == "My_Project"
        assert found.project.rule == "receiver PREARC: fixed value"

    def test_the_connection_can_decide(self) -> None:
        """Calling and called AE title and peer are inputs like any attribute."""
        rules = "[project]\nCallingAETitle:SCANNER_(\\w+)\n[subject]\nPeer:(.*)\n[session]\nCalledAETitle:(.*)"
        origin = RouteInput(calling_ae_title="SCANNER_7T", called_ae_title="PREARC", peer_host="10.0.0.7")

        assert labels(route(header(), origin, rules=rules)) == ("7T", "10_0_0_7", "PREARC")

    def test_a_router_says_which_tags_it_needs(self) -> None:
        """Only attributes that every header lacks are asked for, from all three places."""
        built = router(
            receiver={"project": ("(0014,0046):(.*)", "fixed")},
            site=rules_from_lists("site", subject=["(F215,1050):(.*)", "PatientID:(.*)"]),
            rules="[session]\nProtocolName:(.*)\nPeer:(.*)",
        )

        assert built.tags == {0x00140046, 0xF2151050, 0x00181030}

    def test_every_wrong_receiver_value_is_named(self) -> None:
        """What looks like an expression and is none stops the start."""
        with pytest.raises(ConfigurationError) as caught:
            router(receiver={"project": ("(0008,1030:x", "Studydescription:(.*)"), "session": ("..",)})

        assert [problem.split(": ")[0] for problem in caught.value.problems] == [
            "receiver PREARC project",
            "receiver PREARC project",
            "receiver PREARC session",
        ]


class TestAssignments:
    @pytest.mark.parametrize(
        ("text", "project", "session"),
        [
            ("Project:MR1 Subject:S01 Session:S01_MR1 AA:true", "MR1", "S01_MR1"),
            ("project : P1;SESSION:X-1", "P1", "X-1"),
            ("see Project:P1,Session:X", "P1", "X"),
            ("Project:P1\r\nSession:X\r\n", "P1", "X"),
            ("Project:A Project:B Session:X", "B", "X"),
            ("Project:P/1 Session:X", None, "X"),
            ("MyProject:P1 Session:X", None, "X"),
            ("Project: Session:X", None, "X"),
            ("Project=P1 Session:X", None, "X"),
        ],
    )
    def test_an_assignment_is_read_as_xnat_reads_it(self, text: str, project: str | None, session: str) -> None:
        """Any case, any of XNAT's separators, the last of several, nothing half-read."""
        found = route(header(patient_comments=text))

        assert (found.project.value, found.session.value) == (project, session)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("AA:true", Autoarchive.AUTO),
            ("aa:T", Autoarchive.AUTO),
            ("AA:false", Autoarchive.MANUAL),
            ("AA:F", Autoarchive.MANUAL),
        ],
    )
    def test_aa_decides_before_receiver_and_project(self, text: str, expected: Autoarchive) -> None:
        """What the sender states wins."""
        other = Autoarchive.MANUAL if expected is Autoarchive.AUTO else Autoarchive.AUTO

        found = route(
            header(study_comments=f"Project:P {text}"),
            receiver={"autoarchive": other},
            projects=(Project(id="P", autoarchive=other),),
        )

        assert (found.autoarchive, found.autoarchive_rule) == (expected, "StudyComments AA:")

    @pytest.mark.parametrize(
        ("receiver", "project", "expected", "rule"),
        [
            (Autoarchive.AUTO, Autoarchive.MANUAL, Autoarchive.AUTO, "receiver PREARC"),
            (None, Autoarchive.AUTO, Autoarchive.AUTO, "project P"),
            (None, None, Autoarchive.MANUAL, "default"),
        ],
    )
    def test_without_a_stated_aa_receiver_then_project_decide(
        self, receiver: Autoarchive | None, project: Autoarchive | None, expected: Autoarchive, rule: str
    ) -> None:
        """AA:maybe states nothing; the default is manual."""
        found = route(
            header(patient_comments="Project:p AA:maybe"),
            receiver={"autoarchive": receiver},
            projects=(Project(id="P", autoarchive=project),),
        )

        assert (found.autoarchive, found.autoarchive_rule) == (expected, rule)

    def test_an_unassigned_session_is_never_archived_automatically(self) -> None:
        """XNAT: no project, no autoarchive."""
        found = route(header(patient_comments="AA:true"), receiver={"autoarchive": Autoarchive.AUTO})

        assert found.autoarchive is Autoarchive.MANUAL
        assert found.autoarchive_rule == "Unassigned is never archived automatically"


class TestProjects:
    def test_any_explicit_project_counts_while_none_is_configured(self) -> None:
        """But free text in StudyDescription does not."""
        assert route(header(study_comments="Project:FOO")).project.value == "FOO"
        unassigned = route(header(study_description="FOO", accession_number="FOO")).project
        assert (unassigned.value, unassigned.rule) == (None, "no rule named a project")

    def test_an_unlisted_project_is_passed_over_and_told(self) -> None:
        """Once a project is configured, only listed ones count; the rule says what was passed over."""
        found = route(header(patient_comments="Project:FOO"), projects=(Project(id="P1"),)).project

        assert found.value is None
        assert found.rule == (
            "no rule named a configured project (PatientComments Project: named 'FOO', which is not configured)"
        )

    def test_the_next_rule_decides_after_an_unlisted_project(self) -> None:
        """Passing over is told with the rule that decided."""
        seen = header(patient_comments="Project:FOO", accession_number="p1")

        found = route(seen, projects=(Project(id="P1"),)).project

        assert found.value == "P1"
        assert found.rule == "AccessionNumber (PatientComments Project: named 'FOO', which is not configured)"

    def test_what_an_expression_took_from_the_header_is_not_quoted(self) -> None:
        """A rule over a patient attribute must not carry the patient into the logs."""
        rules = "[project]\n(0010,0010):(.*)"

        found = route(header(patient_name="DOE^JOHN"), rules=rules, projects=(Project(id="P1"),)).project

        assert found.value is None
        assert "DOE" not in found.rule
        assert "routes.rules line 2: (0010,0010):(.*) named a project, which is not configured" in found.rule

    @pytest.mark.parametrize("text", ["P1", "p1", "Knee Study", "knee study", " Knee Study "])
    @pytest.mark.parametrize("field", ["study_description", "accession_number"])
    def test_a_whole_attribute_may_name_a_known_project(self, text: str, field: str) -> None:
        """By id or alias, whatever the case; the label is the id."""
        found = route(header(**{field: text}), projects=(Project(id="P1", aliases=("Knee Study",)),))

        assert found.project.value == "P1"

    def test_an_attribute_that_only_resembles_a_project_names_none(self) -> None:
        """StudyDescription is not made safe before it is looked up; an explicit value is."""
        projects = (Project(id="Knee_Study"),)

        assert route(header(study_description="Knee Study"), projects=projects).project.value is None
        fixed = route(header(), receiver={"project": ("Knee Study",)}, projects=projects)
        assert fixed.project.value == "Knee_Study"

    @pytest.mark.parametrize("name", ["Unassigned", "unassigned", "UNASSIGNED"])
    @pytest.mark.parametrize("projects", [(), (Project(id="P1"),)])
    def test_unassigned_means_no_project(self, name: str, projects: tuple[Project, ...]) -> None:
        """The word ends the search and never becomes a project beside the folder of that name."""
        seen = header(patient_comments=f"Project:{name}", study_comments="Project:P1")

        found = route(seen, projects=projects).project

        assert (found.value, found.rule) == (None, "PatientComments Project: Unassigned")

    @pytest.mark.parametrize(
        ("entries", "problem"),
        [
            ((Project(id="unassigned"),), "means that there is no project"),
            ((Project(id="P", aliases=("Unassigned",)),), "means that there is no project"),
            ((Project(id="a b"),), "an id is 1 to 64"),
            ((Project(id="../x"),), "an id is 1 to 64"),
            ((Project(id=""),), "an empty name"),
            ((Project(id="P"), Project(id="p", autoarchive=Autoarchive.AUTO)), "both answer to 'p'"),
            ((Project(id="P"), Project(id="Q", aliases=("P",))), "both answer to 'p'"),
        ],
    )
    def test_an_ambiguous_project_list_is_refused(self, entries: tuple[Project, ...], problem: str) -> None:
        """A list in which a name has no or two meanings stops the start."""
        with pytest.raises(ConfigurationError) as caught:
            ProjectList(entries=entries)

        assert problem in caught.value.problems[0]


class TestFallbacks:
    @pytest.mark.parametrize(
        ("values", "subject", "session"),
        [
            ({"patient_name": "DOE^J", "patient_id": "S.1"}, "DOE_J", "S_1"),
            ({"patient_id": "S1", "study_instance_uid": "1.2"}, "S1", "S1"),
            ({"patient_name": "^^^", "patient_id": "S1"}, "S1", "S1"),
            ({"patient_name": "山田^太郎", "patient_id": "S1"}, "S1", "S1"),
            ({"study_instance_uid": "1.2.3"}, "1_2_3", "1_2_3"),
            ({}, "unknown", "dicom_upload"),
        ],
    )
    def test_labels_fall_back_and_are_never_empty(self, values: dict[str, str], subject: str, session: str) -> None:
        """PatientName, PatientID, study UID for the subject; PatientID, study UID for the session."""
        found = route(header(**values))

        assert (found.subject.value, found.session.value) == (subject, session)

    @given(values=st.lists(ANY_TEXT, min_size=9, max_size=9), configured=st.booleans())
    def test_labels_are_safe_for_every_header(self, values: list[str], configured: bool) -> None:
        """Whatever a sender writes, labels are 1 to 64 safe characters, always the same, never quoted raw."""
        seen = header(
            {MATERIAL_NOTES: values[0]},
            patient_comments=f"Project:{values[1]}",
            study_comments=f"Session:{values[2]}",
            study_description=values[3],
            accession_number=values[4],
            patient_name=values[5],
            patient_id=values[6],
            study_instance_uid=values[7],
        )
        built = router(
            rules="[project]\n(0014,0046):(.*)\n[subject]\nPeer:(.*) t:a r:aaaa",
            projects=(Project(id="P1"),) if configured else (),
        )
        origin = RouteInput(peer_host=values[8])

        found = built.route(seen, origin)

        for label in (found.subject, found.session):
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", label.value or "")
        assert found.project.value is None or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found.project.value)
        assert (found.project.value or "").casefold() != "unassigned"
        assert all(rule.isprintable() for rule in (found.project.rule, found.subject.rule, found.session.rule))
        assert found == built.route(seen, origin)
