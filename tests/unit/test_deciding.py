"""Routing once for a series: what decides is looked at again whenever it may differ."""

from dataclasses import replace

import pytest

from archive.intake.deciding import Deciding, Decision
from archive.model import InstanceHeader
from archive.rules.policy import Policy
from archive.store.catalogue.intake import AssociationFacts
from tests.workbench import make_settings

HEADER = InstanceHeader(
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
    sop_instance_uid="1.2.3.1",
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.4",
    patient_id="P1",
    patient_name="P^1",
    instance_number="1",
    other={0x00185100: "HFS"},
)
FACTS = AssociationFacts(
    id=1, owner="o", calling_ae_title="SCANNER", called_ae_title="PREARC", peer_host="192.0.2.7", source="SCP"
)


def deciding(rules_text: str = "") -> Deciding:
    settings = make_settings()
    policy = Policy.compile(settings, rules_text=rules_text)
    return Deciding(policy.router(settings.receiver[0]), settings.receiver[0], FACTS)


def test_the_next_instance_of_a_series_is_not_routed_again() -> None:
    """The very same decision."""
    decisions = deciding()

    first = decisions.decide(HEADER)

    assert decisions.decide(replace(HEADER, sop_instance_uid="1.2.3.2", instance_number="2")) is first


@pytest.mark.parametrize(
    "name",
    sorted(set(InstanceHeader.__dataclass_fields__) - {"sop_instance_uid", "instance_number", "other", "missing"}),
)
def test_whatever_else_differs_is_looked_at(name: str) -> None:
    """As if nothing had been decided before."""
    decisions, other = deciding(), replace(HEADER, **{name: "X7"})
    decisions.decide(HEADER)

    assert decisions.decide(other) == deciding().decide(other)


def test_a_further_attribute_that_a_rule_asks_for_is_looked_at() -> None:
    """Attributes beyond the usual ones count as well."""
    rules = "[session]\n(0018,5100):^(.+)$\n"
    decisions = deciding(rules)

    labels = [decisions.decide(each).claim.label for each in (HEADER, replace(HEADER, other={0x00185100: "FFS"}))]

    assert labels == ["HFS", "FFS"]


@pytest.mark.parametrize("source", ["(0008,0018)", "(0020,0013)"])
def test_a_rule_that_looks_at_each_instance_is_asked_each_time(source: str) -> None:
    """SOP Instance UID and instance number tell instances apart."""
    decisions = deciding(f"[session]\n{source}:.*(.)$\n")
    second = replace(HEADER, sop_instance_uid="1.2.3.2", instance_number="2")

    labels: list[Decision] = [decisions.decide(each) for each in (HEADER, second)]

    assert [decision.claim.label for decision in labels] == ["1", "2"]
