"""``docs/conformance.md`` promises what the network side does, value by value."""

import re

from pynetdicom._globals import APPLICATION_CONTEXT_NAME

from archive.config import LimitSettings, NodeSettings, ReceiverSettings
from archive.receive import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scp import lobby
from scp.contexts import VERIFICATION
from scp.messages import MAX_COMMAND_BYTES
from scp.negotiator import Rejection
from scp.status import MAX_COMMENT, PROCESSING_FAILURE, STATUSES, SUCCESS
from scp.upper_layer import MAX_ASSOCIATE_BYTES, P_DATA_SLACK_BYTES
from tests.docs.markdown import HOME, read

PAGE = read(HOME / "docs" / "conformance.md")
NO_REFUSAL = "-"


def test_the_statuses_of_the_page_are_those_of_the_code() -> None:
    """Every refusal has one row with its code and its place in the standard; so have success and failure."""
    rows = PAGE.table("status", "refusal", "source", "meaning")

    shown = [(row["status"], row["refusal"], row["source"]) for row in rows]

    expected = [(f"{each.code:04X}", str(refusal), each.source) for refusal, each in STATUSES.items()]
    expected += [(f"{each.code:04X}", NO_REFUSAL, each.source) for each in (SUCCESS, PROCESSING_FAILURE)]
    assert sorted(shown) == sorted(expected)


def test_the_meanings_of_the_page_are_those_of_the_code() -> None:
    """A status is explained in the words of the table in the code."""
    rows = PAGE.table("status", "refusal", "source", "meaning")

    shown = {(row["status"], row["refusal"]): row["meaning"] for row in rows if row["status"] != "0000"}

    expected = {(f"{each.code:04X}", str(refusal)): each.text for refusal, each in STATUSES.items()}
    expected[f"{PROCESSING_FAILURE.code:04X}", NO_REFUSAL] = PROCESSING_FAILURE.text
    assert shown == expected


def test_the_rejections_of_the_page_are_those_of_the_code() -> None:
    """Result, source and reason of every A-ASSOCIATE-RJ."""
    rows = PAGE.table("reason", "result", "source", "reason code", "when")

    shown = {row["reason"]: (int(row["result"]), int(row["source"]), int(row["reason code"])) for row in rows}

    assert shown == {each.name: each.value for each in Rejection}


def test_the_identification_of_the_page_is_the_codes() -> None:
    """Who we say we are in every A-ASSOCIATE-AC and in every file."""
    shown = {row["name"]: row["value"] for row in PAGE.table("name", "value")}

    assert shown["Application context"] == APPLICATION_CONTEXT_NAME
    assert shown["Implementation Class UID"] == IMPLEMENTATION_CLASS_UID
    assert shown["Implementation Version Name"] == IMPLEMENTATION_VERSION_NAME


def test_the_policies_of_the_page_are_the_defaults_of_the_code() -> None:
    """Every number of the association policies, with the key that changes it."""
    limits = LimitSettings()
    shown = {row["item"]: row["value"] for row in PAGE.table("item", "value")}

    expected = {
        "maximum PDU announced": (limits.max_pdu_bytes, "limits.max_pdu_bytes"),
        "connections to one port": (limits.connections, "limits.connections"),
        "connections from one address": (limits.connections_per_address, "limits.connections_per_address"),
        "connections that have said nothing, while half of those places are taken": (lobby.PLACES, ""),
        "a connection without A-ASSOCIATE-RQ, where there are too many": (
            limits.half_open_seconds,
            "limits.half_open_seconds",
        ),
        "largest A-ASSOCIATE-RQ": (MAX_ASSOCIATE_BYTES, ""),
        "time for one PDU to be complete": (limits.pdu_seconds, "limits.pdu_seconds"),
        "silence after which an association is aborted": (
            limits.idle_association_seconds,
            "limits.idle_association_seconds",
        ),
        "at shutdown": (NodeSettings().drain_seconds, "node.drain_seconds"),
    }
    for item, (number, key) in expected.items():
        assert re.findall(r"\b\d+\b", shown[item])[:1] == [f"{number:.0f}"], item
        assert not key or f"`{key}`" in shown[item], item


def test_the_limits_of_the_page_are_the_defaults_of_the_code() -> None:
    """What a dataset may cost before it is refused."""
    limits = LimitSettings()

    for row in PAGE.table("limit", "default", "key"):
        assert int(row["default"]) == getattr(limits, row["key"]), row


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    """The tolerances and lengths that stand in sentences."""
    receiver = ReceiverSettings()

    assert f"({P_DATA_SLACK_BYTES} bytes of tolerance)" in PAGE.prose
    assert f"a command set of more than {MAX_COMMAND_BYTES} bytes" in PAGE.prose
    assert f"at most {MAX_COMMENT} printable characters" in PAGE.prose
    assert f"`{receiver.ae_title}` on port {receiver.port}, bound to {receiver.bind}" in PAGE.prose
    assert VERIFICATION in {row["UID"] for row in PAGE.table("SOP class", "UID", "role")}
