"""What the configuration decides, compiled: all of it at once, or every problem at once."""

import pytest

from archive.config import Settings
from archive.errors import ConfigurationError
from archive.model import Autoarchive, InstanceHeader, MergeMode
from archive.rules.policy import Policy
from archive.rules.routing import RouteInput

HEADER = InstanceHeader(transfer_syntax_uid="1.2", patient_id="P1", study_instance_uid="1.2.3")


def settings(**tables: object) -> Settings:
    return Settings.model_validate({"receiver": [{"ae_title": "PREARC"}], **tables})


def problems(found: Settings, *, rules_text: str = "") -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as raised:
        Policy.compile(found, rules_text=rules_text)
    return raised.value.problems


def test_every_receiver_has_its_router() -> None:
    """Several titles on one port, and one title on two."""
    receivers = [
        {"ae_title": "A", "project": "ONE"},
        {"ae_title": "B", "project": "TWO"},
        {"ae_title": "A", "port": 8105, "project": "THREE"},
    ]
    found = settings(receiver=receivers)

    policy = Policy.compile(found)

    routed = [policy.router(each).route(HEADER, RouteInput()).project.value for each in found.receiver]
    assert routed == ["ONE", "TWO", "THREE"]


def test_every_problem_is_told_not_only_the_first() -> None:
    """Rules, site expressions, template, filters and receivers are all compiled, whichever is wrong."""
    found = settings(
        receiver=[{"ae_title": "BAD", "project": "(0010,0020):("}, {"ae_title": "GOOD", "project": "PI"}],
        routing={"subject": ["(0010,0020):["]},
        project=[{"id": "PI", "filter_lines": ["("]}],
        naming={"template": "${NoSuchKeyword}"},
        filters={"lines": ["[NoSuchKeyword]"]},
    )

    told = "\n".join(problems(found, rules_text="no rule at all"))

    for word in (
        "routes.rules",
        "[routing]",
        "naming.template",
        "site filter",
        "project PI filter",
        "receiver BAD",
    ):
        assert word in told
    assert "GOOD" not in told


def test_headers_are_read_with_what_rules_name_and_filters_ask() -> None:
    """An attribute that a rule, the template or a filter looks at is read; nothing else besides."""
    found = settings(
        receiver=[{"ae_title": "PREARC", "project": "(0014,0046):(.*)"}],
        naming={"template": "${SOPInstanceUID}-${AcquisitionNumber}"},
        filters={"lines": ["[(0018,1030)]", "EXISTS"]},
    )

    assert Policy.compile(found).also >= {0x00140046, 0x00200012, 0x00181030}


@pytest.mark.parametrize(
    ("project", "came_as", "mode"),
    [
        ("PLAIN", Autoarchive.AUTO, MergeMode.APPEND),
        ("PLAIN", Autoarchive.AUTO_OVERWRITE, MergeMode.OVERWRITE),
        ("STRICT", Autoarchive.AUTO_OVERWRITE, MergeMode.NONE),
        ("EAGER", Autoarchive.AUTO, MergeMode.OVERWRITE),
        (None, Autoarchive.AUTO, MergeMode.APPEND),
    ],
)
def test_autoarchive_merges_as_the_project_says(project: str | None, came_as: Autoarchive, mode: MergeMode) -> None:
    """Its mode, else its autoarchive, else what the session came with."""
    found = settings(
        project=[{"id": "PLAIN"}, {"id": "STRICT", "mode": "none"}, {"id": "EAGER", "autoarchive": "auto-overwrite"}]
    )

    assert Policy.compile(found).merge_mode(project, came_as) is mode
