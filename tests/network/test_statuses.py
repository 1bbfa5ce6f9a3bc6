"""What each C-STORE is answered with."""

import re
from collections.abc import Iterator

import pytest

from archive.model import Refusal
from scp.status import MAX_COMMENT, PROCESSING_FAILURE, STATUSES, SUCCESS, status_of
from scp.text import error_comment, printable
from tests.network.fake_intake import FakeIntake, Running, running
from tests.network.raw_peer import (
    DATA,
    EXPLICIT,
    MR,
    VERIFICATION,
    RawPeer,
    echo_rq,
    message,
    pdu,
    pdv,
    response_elements,
    store_rq,
    ui,
    us,
)

pytestmark = pytest.mark.usefixtures("both_paths")

DESIGN = {
    Refusal.OUT_OF_RESOURCES: 0xA700,
    Refusal.CLASS_MISMATCH: 0xA900,
    Refusal.CANNOT_UNDERSTAND: 0xC000,
    Refusal.TRUNCATED: 0xC001,
    Refusal.EMPTY: 0xC002,
    Refusal.OVER_LIMIT: 0xC003,
    Refusal.UID_INVALID: 0x0117,
    Refusal.NOT_NEGOTIATED: 0x0122,
    Refusal.NOT_COMPOSITE: 0x0122,
    Refusal.NOT_AUTHORISED: 0x0124,
}


@pytest.fixture
def node() -> Iterator[Running]:
    with running() as each:
        yield each


def _statuses(node: Running, *messages: bytes, contexts: object = ((1, MR, [EXPLICIT]),)) -> list[int]:
    with RawPeer(node.port) as peer:
        peer.associate(contexts)  # type: ignore[arg-type]
        peer.send(b"".join(messages))
        return [peer.status() for _ in messages]


def test_every_refusal_has_its_status() -> None:
    """The table has an entry for each refusal, with the code of the design and a source."""
    assert {refusal: status_of(refusal) for refusal in Refusal} == DESIGN
    assert status_of(None) == 0x0000
    assert all(entry.source.startswith("PS3.") for entry in [*STATUSES.values(), SUCCESS, PROCESSING_FAILURE])


def test_every_comment_fits() -> None:
    """An Error Comment has at most 64 characters and no path."""
    for entry in [*STATUSES.values(), PROCESSING_FAILURE]:
        assert 0 < len(entry.text) <= MAX_COMMENT
        assert error_comment(entry.text) == entry.text
        assert "/" not in entry.text


def test_no_refusal_looks_like_success_or_a_warning() -> None:
    """A refused instance is never answered with 0000 or Bxxx."""
    for refusal in Refusal:
        assert status_of(refusal) != 0
        assert status_of(refusal) >> 12 != 0xB


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", "a\\x0Ab"),
        ("\x1b[31m", "\\x1B[31m"),
        ("é", "\\xC3\\xA9"),
        ("a\\b", "a\\x5Cb"),
        ("plain text!", "plain text!"),
        ("\udc80", "\\x80"),
    ],
)
def test_text_from_the_network_is_escaped(text: str, expected: str) -> None:
    """What is not printable ASCII is shown as its bytes."""
    assert printable(text) == expected


def test_escaped_text_is_bounded_and_printable() -> None:
    """However long and wild the text, the line stays short and printable."""
    assert re.fullmatch(r"[\x20-\x7e]{128}", printable("\x00" * 10_000))
    assert re.fullmatch(r"[\x20-\x7e]{1,64}", error_comment("é\n\\" * 100))


def test_a_stored_instance_is_success(node: Running) -> None:
    """0000, with the UIDs of the request and without a comment."""
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq("1.2.3.4"), b"x"))
        kind, content = peer.receive()

    assert kind == DATA
    assert response_elements(content)[0x0900] == 0x0000
    assert response_elements(content)[0x0120] == 7
    assert ui("1.2.3.4") in content
    assert ui(MR) in content


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_is_answered_with_status_and_comment(node: Running, refusal: Refusal) -> None:
    """Whatever the use case refuses for reaches the sender as code and comment."""
    node.intake.outcome = refusal
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq(), b"x"))
        _, content = peer.receive()

    assert response_elements(content)[0x0900] == DESIGN[refusal]
    assert b"because the test says so" in content


def test_a_failing_use_case_is_a_processing_failure(node: Running) -> None:
    """An unexpected exception is 0110, tells the peer nothing about it, and the association goes on."""
    node.intake.error = KeyError("/secret/path")
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq(), b"x"))
        _, content = peer.receive()
        node.intake.error = None
        peer.send(message(store_rq("1.2.3.2"), b"x"))

        assert peer.status() == 0x0000

    assert response_elements(content)[0x0900] == 0x0110
    assert b"secret" not in content
    assert len(node.events("store.failed")) == 1
    assert len(node.intake.abandoned) == 1


@pytest.mark.parametrize(
    ("changed", "status", "refusal"),
    [
        pytest.param({"instance": None}, 0x0117, Refusal.UID_INVALID, id="no-instance-uid"),
        pytest.param({"instance": b""}, 0x0117, Refusal.UID_INVALID, id="empty-instance-uid"),
        pytest.param({"sop_class": None}, 0x0122, Refusal.NOT_NEGOTIATED, id="no-class"),
        pytest.param({"sop_class": ui("1.2.3")}, 0x0122, Refusal.NOT_NEGOTIATED, id="another-class"),
    ],
)
def test_missing_command_elements_are_answered(
    node: Running, changed: dict[str, bytes | None], status: int, refusal: Refusal
) -> None:
    """The data set is read and thrown away, the refusal traced and answered, the next instance stored."""
    statuses = _statuses(node, message(store_rq(**changed), b"x" * 50_000), message(store_rq("1.2.3.2"), b"y"))

    assert statuses == [status, 0x0000]
    assert [each[1] for each in node.intake.refused] == [refusal]
    assert node.intake.uids == ["1.2.3.2"]


def test_a_missing_priority_is_no_reason(node: Running) -> None:
    """Priority means nothing here; a request without it is stored."""
    assert _statuses(node, message(store_rq(priority=None), b"x")) == [0x0000]


def test_a_request_without_data_set_is_refused(node: Running) -> None:
    """It is answered at once, and the next instance stored."""
    statuses = _statuses(node, message(store_rq(dataset=us(0x0101))), message(store_rq("1.2.3.2"), b"y"))

    assert statuses == [0xC002, 0x0000]
    assert [each[1] for each in node.intake.refused] == [Refusal.EMPTY]


@pytest.mark.parametrize("sop_class", [MR, VERIFICATION])
def test_a_store_in_a_verification_context_is_refused(node: Running, sop_class: str) -> None:
    """The context is not for storage, whatever class the request names."""
    contexts = ((1, VERIFICATION, [EXPLICIT]),)

    assert _statuses(node, message(store_rq(sop_class=ui(sop_class)), b"x"), contexts=contexts) == [0x0122]
    assert not node.intake.stored


def test_a_uid_that_is_too_long_reaches_the_use_case(node: Running) -> None:
    """Real files carry UIDs of 67 characters: the use case sees them as sent, and the answer leaves them out."""
    long = "1." + "2" * 65
    statuses = _statuses(node, message(store_rq(long), b"x"))

    assert statuses == [0x0000]
    assert node.intake.uids == [long]


def test_echo_is_answered(node: Running) -> None:
    """C-ECHO is 0000, also between instances."""
    contexts = ((1, MR, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT]))
    echo = message(echo_rq(), context_id=3)

    assert _statuses(node, echo, message(store_rq(), b"x"), echo, contexts=contexts) == [0, 0, 0]


def test_a_dataset_reaches_the_part_unchanged(node: Running) -> None:
    """Byte for byte, in as many fragments as it takes."""
    data = bytes(range(256)) * 4000
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)))
        for start in range(0, len(data), 16_000):
            piece = data[start : start + 16_000]
            peer.send(pdu(DATA, pdv(piece, is_command=False, is_last=start + 16_000 >= len(data))))
        assert peer.status() == 0

    [(_, part)] = node.intake.stored
    assert bytes(part.content) == data


def test_begin_that_fails_is_answered() -> None:
    """A use case that cannot even begin is 0110; the dataset is swallowed first."""

    class Failing(FakeIntake):
        @property
        def part_type(self) -> type:  # type: ignore[override]
            raise RuntimeError("no part")

        @part_type.setter
        def part_type(self, value: object) -> None: ...

    with running(intake=Failing()) as node:
        assert _statuses(node, message(store_rq(), b"x" * 100_000)) == [0x0110]
