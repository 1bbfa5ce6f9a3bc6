"""Whether a dataset is the instance that was announced."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.model import InstanceHeader, Refusal, StoreRequest
from archive.rules.identity import MEDIA_STORAGE_DIRECTORY, identity_problem
from archive.rules.uids import is_uid

MR = "1.2.840.10008.5.1.4.1.1.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAX = "1.2.840.10008.1.2"
REQUEST = StoreRequest(sop_class_uid=MR, sop_instance_uid="1.2.3", transfer_syntax_uid=SYNTAX)
HEADER = InstanceHeader(transfer_syntax_uid=SYNTAX, sop_class_uid=MR, sop_instance_uid="1.2.3")


def test_the_announced_instance_has_no_problem() -> None:
    """Class and instance are the same on both sides."""
    assert identity_problem(REQUEST, HEADER) is None


@pytest.mark.parametrize(
    ("request_changes", "header_changes", "refusal", "word"),
    [
        ({}, {"sop_class_uid": MEDIA_STORAGE_DIRECTORY}, Refusal.NOT_COMPOSITE, "DICOMDIR"),
        ({"sop_class_uid": MEDIA_STORAGE_DIRECTORY}, {}, Refusal.NOT_COMPOSITE, "DICOMDIR"),
        ({"sop_instance_uid": ""}, {}, Refusal.UID_INVALID, "request's"),
        ({}, {"sop_instance_uid": "1.2.x"}, Refusal.UID_INVALID, "dataset's"),
        ({"sop_instance_uid": "1.2.4"}, {}, Refusal.UID_INVALID, "not the request's"),
        ({}, {"sop_class_uid": CT}, Refusal.CLASS_MISMATCH, "Class"),
    ],
)
def test_anything_else_is_refused_for_its_reason(
    request_changes: dict[str, str], header_changes: dict[str, str], refusal: Refusal, word: str
) -> None:
    """The first reason, in words that may go over the network: no value of the dataset is in them."""
    found = identity_problem(replace(REQUEST, **request_changes), replace(HEADER, **header_changes))

    assert found is not None
    assert found[0] is refusal and word in found[1]
    assert "1.2" not in found[1]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_digits_and_dots_are_a_uid(parts: list[int]) -> None:
    """DICOM PS3.5 9.1."""
    text = ".".join(map(str, parts))

    assert is_uid(text)
    assert not is_uid(f"{text}.") and not is_uid(f".{text}") and not is_uid(f"{text}\n")
    assert not is_uid(text + ".1" * 32)
