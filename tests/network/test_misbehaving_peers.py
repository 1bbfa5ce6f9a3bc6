"""Peers that do it wrong get an answer or an abort, never silence; and what was sent half is not received."""

import struct
import time
from collections.abc import Iterator

import pytest

from archive.model import Refusal
from scp import messages, transport
from scp.messages import ECHO_SECONDS
from tests.network.fake_intake import FakeIntake, Running, running
from tests.network.raw_peer import (
    ABORT,
    CLOSED,
    CT,
    DATA,
    EXPLICIT,
    MR,
    REJECT,
    RELEASE_RP,
    VERIFICATION,
    RawPeer,
    associate_rq,
    context_item,
    context_results,
    echo_rq,
    item,
    message,
    pdu,
    pdv,
    store_rq,
    us,
)

pytestmark = pytest.mark.usefixtures("both_paths")


@pytest.fixture
def node() -> Iterator[Running]:
    with running() as each:
        yield each


@pytest.fixture
def impatient() -> Iterator[Running]:
    """A node that waits a second for a PDU: who is to keep that must be able to on a busy machine."""
    with running(pdu_seconds=1.0) as each:
        yield each


def _start_instance(peer: RawPeer) -> None:
    peer.associate()
    peer.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)))
    peer.send(pdu(DATA, pdv(b"x" * 1000, is_command=False, is_last=False)))


def _is_all_given_back(intake: FakeIntake) -> None:
    intake.wait(lambda: all(each.is_closed for each in intake.opened))


# --- before the association ---------------------------------------------------------------------


def test_an_unknown_pdu_is_aborted(node: Running) -> None:
    """A PDU of an unknown type, such as an HTTP request, is answered with an abort."""
    with RawPeer(node.port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert peer.receive()[0] == ABORT


def test_an_endless_association_request_is_not_read(node: Running) -> None:
    """A length of 4 GiB before the association is refused when its header is read."""
    with RawPeer(node.port) as peer:
        peer.send(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(1000))

        assert peer.receive()[0] == ABORT


def test_a_slow_request_is_cut_off(impatient: Running) -> None:
    """A peer that trickles a PDU is aborted at the PDU's deadline, however often a byte comes."""
    request = associate_rq()
    with RawPeer(impatient.port) as peer:
        peer.send(request[:20])

        assert _trickle(peer, request[20:-1], seconds=0.1) in (ABORT, CLOSED)  # all of it would take twenty seconds


def _trickle(peer: RawPeer, data: bytes, *, seconds: float) -> int | None:
    """Send byte after byte, as long as the node says nothing: the kind of what it says; None when all is sent."""
    peer.socket.settimeout(seconds)
    for byte in data:
        try:
            peer.send(bytes([byte]))
            return peer.receive()[0]
        except TimeoutError:
            continue
        except ConnectionError:
            return CLOSED
    return None


def test_a_silent_connection_is_closed(impatient: Running) -> None:
    """A connection that says nothing is closed after the time for a PDU."""
    with RawPeer(impatient.port) as peer:
        assert peer.receive() == (CLOSED, b"")


def test_echoes_without_end_wait(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are answered, those beyond so many at a pace, and the node can end in the middle of them."""
    monkeypatch.setattr(messages, "ECHOES_AT_ONCE", 20)
    with RawPeer(node.port) as peer:
        peer.associate([(1, VERIFICATION, [EXPLICIT])])
        peer.send(message(echo_rq()) * 5000)
        started = time.monotonic()

        statuses = [peer.status() for _ in range(20 + 10)]
        took = time.monotonic() - started
        node.node.drain(30.0)

        assert set(statuses) == {0}
        assert took >= 9 * ECHO_SECONDS
        assert time.monotonic() - started < 30
        kinds = iter(lambda: peer.receive()[0], CLOSED)
        assert next(each for each in kinds if each != DATA) == ABORT


def test_data_before_the_association_is_aborted(node: Running) -> None:
    """P-DATA without association is answered with an abort."""
    with RawPeer(node.port) as peer:
        peer.send(message(store_rq(), b"x"))

        assert peer.receive()[0] == ABORT
    assert not node.intake.opened


@pytest.mark.parametrize(
    ("request_", "kind", "reason"),
    [
        pytest.param(associate_rq(application_context="1.2.3"), REJECT, (1, 1, 2), id="application-context"),
        pytest.param(associate_rq(called=b"OTHER"), REJECT, (1, 1, 7), id="called"),
        pytest.param(associate_rq(version=2), REJECT, (1, 2, 2), id="protocol-version"),
        pytest.param(associate_rq(()), REJECT, (1, 1, 1), id="no-context"),
        pytest.param(associate_rq([(1, MR, [EXPLICIT]), (1, CT, [EXPLICIT])]), REJECT, (1, 1, 1), id="id-twice"),
        pytest.param(associate_rq([(2, MR, [EXPLICIT])]), ABORT, None, id="even-id"),
        pytest.param(associate_rq(calling=b"\xff\xfe"), ABORT, None, id="calling-not-ascii"),
        pytest.param(associate_rq(calling=b"A\nB"), ABORT, None, id="calling-newline"),
        pytest.param(pdu(1, b"\0\1\0\0" + bytes(64) + item(0x10, b"1.2")), ABORT, None, id="no-user-information"),
        pytest.param(associate_rq(extra=b"\x20\x00\xff\xff\x01"), ABORT, None, id="item-beyond-the-end"),
        pytest.param(pdu(1, b"\0\1"), ABORT, None, id="too-short"),
    ],
)
def test_a_wrong_request_is_rejected_or_aborted(
    node: Running, request_: bytes, kind: int, reason: tuple[int, ...] | None
) -> None:
    """Every wrong A-ASSOCIATE-RQ gets a reject with its reason, or an abort."""
    with RawPeer(node.port) as peer:
        peer.send(request_)

        received, content = peer.receive()

    assert received == kind
    if reason is not None:
        assert tuple(content[1:4]) == reason


@pytest.mark.parametrize("rest", [b"", b" \0", b"\0\0"], ids=["all", "behind-a-space", "two"])
def test_titles_that_are_filled_up_with_nul_are_titles(node: Running, rest: bytes) -> None:
    """Some callers do not pad with spaces; their instances are received, and the titles are without it."""
    with RawPeer(node.port) as peer:
        peer.associate(called=(b"PREARC" + rest).ljust(16, b"\0"), calling=(b"SCANNER" + rest).ljust(16, b"\0"))
        peer.send(message(store_rq(), b"x"))

        assert peer.status() == 0

    assert node.intake.opened[0].calling_ae_title == "SCANNER"


@pytest.mark.parametrize("size", [0, 3, 9, 20, 30, 41])
def test_a_request_that_ends_in_its_titles_is_aborted(node: Running, size: int) -> None:
    """There is nothing to pad."""
    with RawPeer(node.port) as peer:
        peer.send(pdu(1, bytes(size)))

        assert peer.receive()[0] == ABORT


def test_a_context_without_transfer_syntax_is_answered(node: Running) -> None:
    """It is rejected for its transfer syntaxes; the others are accepted."""
    extra = context_item(3, CT, [])
    with RawPeer(node.port) as peer:
        content = peer.associate([(1, MR, [EXPLICIT])], extra=extra)

    assert {key: result for key, (result, _) in context_results(content).items()} == {1: 0, 3: 4}


def test_a_context_without_abstract_syntax_is_answered(node: Running) -> None:
    """It is rejected for its abstract syntax."""
    with RawPeer(node.port) as peer:
        content = peer.associate([(1, MR, [EXPLICIT])], extra=context_item(3, None, [EXPLICIT]))

    assert context_results(content)[3][0] == 3


@pytest.mark.parametrize("max_length", [None, 0, 1, 6, 7, 20])
def test_odd_maximum_lengths_get_answers(node: Running, max_length: int | None) -> None:
    """Missing, unlimited and tiny maximum PDU lengths do not keep an instance from being answered."""
    with RawPeer(node.port) as peer:
        peer.associate(max_length=max_length)
        peer.send(message(store_rq(), b"x" * 10))
        node.intake.wait(lambda: len(node.intake.stored) == 1)

        assert peer.receive()[0] == DATA


# --- in the middle of a data set ----------------------------------------------------------------


def test_a_peer_that_vanishes_leaves_nothing(node: Running) -> None:
    """An instance whose peer is gone in the middle is abandoned, not stored."""
    with RawPeer(node.port) as peer:
        _start_instance(peer)

    node.intake.wait(lambda: len(node.intake.abandoned) == 1)
    _is_all_given_back(node.intake)
    assert not node.intake.stored


def test_a_release_in_the_middle_loses_the_instance(node: Running) -> None:
    """A release is answered, the instance was not received."""
    with RawPeer(node.port) as peer:
        _start_instance(peer)

        assert peer.release() == RELEASE_RP

    node.intake.wait(lambda: len(node.intake.abandoned) == 1)
    assert not node.intake.stored


def test_an_abort_in_the_middle_loses_the_instance(node: Running) -> None:
    """After an abort the instance was not received."""
    with RawPeer(node.port) as peer:
        _start_instance(peer)
        peer.send(pdu(ABORT, bytes(4)))

        assert peer.receive()[0] == CLOSED

    node.intake.wait(lambda: len(node.intake.abandoned) == 1)
    assert not node.intake.stored


@pytest.mark.parametrize("command_set", [echo_rq(), store_rq("1.2.3.2")], ids=["echo", "store"])
def test_a_command_in_the_middle_is_aborted(node: Running, command_set: bytes) -> None:
    """A message inside another's data set ends the association; the instance was not received."""
    with RawPeer(node.port) as peer:
        _start_instance(peer)
        peer.send(pdu(DATA, pdv(command_set, is_command=True, is_last=True)))

        assert peer.receive()[0] == ABORT

    node.intake.wait(lambda: len(node.intake.abandoned) == 1)
    assert not node.intake.stored


def test_a_data_set_in_another_context_is_aborted(node: Running) -> None:
    """A data set has its command's context."""
    with RawPeer(node.port) as peer:
        peer.associate([(1, MR, [EXPLICIT]), (3, CT, [EXPLICIT])])
        peer.send(message(store_rq()))
        peer.send(pdu(DATA, pdv(b"x", is_command=False, is_last=True, context_id=3)))

        assert peer.receive()[0] == ABORT

    node.intake.wait(lambda: len(node.intake.abandoned) == 1)


def test_a_stalled_pdu_is_aborted(impatient: Running) -> None:
    """A peer that stops inside a PDU is aborted at its deadline and its instance abandoned."""
    with RawPeer(impatient.port) as peer:
        _start_instance(peer)
        peer.send(struct.pack(">BBL", DATA, 0, 10_000) + bytes(100))

        assert peer.receive()[0] == ABORT

    impatient.intake.wait(lambda: len(impatient.intake.abandoned) == 1)


def test_a_trickled_pdu_is_aborted(impatient: Running) -> None:
    """A peer that sends the bytes of a PDU one by one is aborted at its deadline, and its instance abandoned."""
    with RawPeer(impatient.port) as peer:
        _start_instance(peer)
        peer.send(struct.pack(">BBL", DATA, 0, 10_000) + struct.pack(">LBB", 9_996, 1, 0))

        assert _trickle(peer, b"x" * 1500, seconds=0.02) in (ABORT, CLOSED)  # all of it would take half a minute

    impatient.intake.wait(lambda: len(impatient.intake.abandoned) == 1)


def test_a_silent_association_is_aborted() -> None:
    """An association without traffic ends after the configured time, and what it began with it."""
    with running(idle_association_seconds=1.0) as node, RawPeer(node.port) as peer:
        _start_instance(peer)

        assert peer.receive()[0] == ABORT

        node.intake.wait(lambda: len(node.intake.abandoned) == 1)


def test_a_wait_for_our_answer_is_no_silence() -> None:
    """An instance that takes longer to store than the idle time is answered all the same."""
    intake = FakeIntake()
    with running(intake=intake) as node, RawPeer(node.port) as peer:
        intake.gate.clear()
        peer.associate()
        peer.send(message(store_rq(), b"x"))
        intake.wait(lambda: bool(intake.opened and intake.opened[0].begun))
        assert node.node._associations is not None
        for association in node.node._associations._members.members():
            association.network_timeout = 0.2  # only now: until then this peer could be too late
        peer.socket.settimeout(0.6)
        with pytest.raises(TimeoutError):
            peer.receive()
        intake.gate.set()
        peer.socket.settimeout(20)

        assert peer.status() == 0x0000


# --- wrong messages -----------------------------------------------------------------------------


def test_an_oversized_pdu_is_aborted_unread(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A P-DATA beyond the negotiated maximum is refused when its header is read.

    The connection then ends without a reset, with which some systems throw the unread abort away.
    """
    monkeypatch.setattr(transport, "LINGER_SECONDS", 20.0)  # until this peer closes, however slow the machine is
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(struct.pack(">BBL", DATA, 0, 1 << 30) + bytes(100_000))

        assert peer.receive()[0] == ABORT
        assert peer.socket.recv(1) == b""
        for _ in range(10):
            peer.socket.sendall(bytes(1000))  # a reset connection would break here


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pdu(DATA, pdv(b"x", is_command=False, is_last=True)), id="data-without-command"),
        pytest.param(pdu(DATA, b""), id="no-fragment"),
        pytest.param(pdu(DATA, struct.pack(">LB", 1, 1)), id="no-control-header"),
        pytest.param(pdu(DATA, struct.pack(">LB", 99, 1) + b"\3"), id="fragment-beyond-the-pdu"),
        pytest.param(pdu(DATA, struct.pack(">LB", 0, 1)), id="fragment-of-length-0"),
        pytest.param(pdu(DATA, pdv(b"\xff" * 50, is_command=True, is_last=True)), id="no-command-set"),
        pytest.param(message(b""), id="empty-command-set"),
        pytest.param(pdu(DATA, pdv(bytes(9000), is_command=True, is_last=False)) * 3, id="endless-command"),
        pytest.param(message(store_rq(message_id=None), b"x"), id="no-message-id"),
        pytest.param(message(store_rq(dataset=None), b"x"), id="no-data-set-type"),
        pytest.param(message(store_rq(field=None), b"x"), id="no-command-field"),
        pytest.param(message(store_rq(field=us(0x20)), b"x"), id="c-find"),
        pytest.param(message(store_rq(field=us(0x8001)), b"x"), id="a-response"),
        pytest.param(message(store_rq(message_id=b""), b"x"), id="empty-message-id"),
        pytest.param(message(store_rq(message_id=b"\1"), b"x"), id="message-id-of-one-byte"),
        pytest.param(message(store_rq(), b"x", context_id=9), id="context-not-accepted"),
        pytest.param(message(echo_rq()), id="echo-in-a-storage-context"),
        pytest.param(associate_rq(), id="second-association-request"),
        pytest.param(pdu(RELEASE_RP, bytes(4)), id="release-answer-without-question"),
        pytest.param(pdu(2, bytes(100)), id="associate-accept"),
    ],
)
def test_a_violation_is_aborted(node: Running, data: bytes) -> None:
    """What breaks the protocol ends the association with an abort, and nothing is stored."""
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(data)

        assert peer.receive()[0] == ABORT

    _is_all_given_back(node.intake)
    assert not node.intake.stored


def test_a_request_that_cannot_be_answered_leaves_a_trace(node: Running) -> None:
    """A C-STORE in a context that was not accepted is noted before the association is aborted."""
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq("1.2.3.9"), b"x", context_id=9))

        assert peer.receive()[0] == ABORT

    [(request, refusal, _)] = node.intake.refused
    assert (request.sop_instance_uid, refusal) == ("1.2.3.9", Refusal.NOT_NEGOTIATED)


def test_requests_without_waiting_are_answered_one_by_one(node: Running) -> None:
    """A peer that does not wait for answers gets each one; while one is open nothing more is begun."""
    node.intake.gate.clear()
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(b"".join(message(store_rq(f"1.2.3.{n}"), b"x" * n) for n in range(1, 51)))
        node.intake.wait(lambda: bool(node.intake.opened and node.intake.opened[0].begun))
        begun_while_open = len(node.intake.opened[0].begun)
        node.intake.gate.set()

        assert [peer.status() for _ in range(50)] == [0] * 50

    assert begun_while_open == 1
    assert node.intake.uids == [f"1.2.3.{n}" for n in range(1, 51)]


def test_two_messages_in_one_pdu_are_two_instances(node: Running) -> None:
    """Fragments of consecutive messages may share a PDU."""
    both = b"".join(
        pdv(store_rq(f"1.2.3.{n}"), is_command=True, is_last=True) + pdv(b"x" * n, is_command=False, is_last=True)
        for n in (1, 2)
    )
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(DATA, both))

        assert [peer.status(), peer.status()] == [0, 0]

    assert [bytes(part.content) for _, part in node.intake.stored] == [b"x", b"xx"]


def test_fragments_of_any_size_are_put_together(node: Running) -> None:
    """Command set and data set cut into single bytes, with empty fragments between, are one instance."""
    data = b"abcdef"
    fragments = [pdv(bytes([each]), is_command=True, is_last=False) for each in store_rq()]
    fragments += [pdv(b"", is_command=True, is_last=True)]
    fragments += [pdv(bytes([each]), is_command=False, is_last=False) for each in data]
    fragments += [pdv(b"", is_command=False, is_last=True)]
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(b"".join(pdu(DATA, each) for each in fragments))

        assert peer.status() == 0

    [(_, part)] = node.intake.stored
    assert bytes(part.content) == data


def test_an_unread_answer_does_not_hold_the_node(impatient: Running) -> None:
    """A peer that never reads is ended after the time for a PDU, others are served meanwhile."""
    with RawPeer(impatient.port) as deaf:
        deaf.associate([(1, VERIFICATION, [EXPLICIT])])
        deaf.socket.settimeout(0.2)
        flood = message(echo_rq()) * 200
        try:
            for _ in range(400):
                deaf.socket.sendall(flood)
        except (TimeoutError, ConnectionError):
            pass
        with RawPeer(impatient.port) as other:
            other.associate()
            other.send(message(store_rq(), b"x"))

            assert other.status() == 0


def test_a_session_of_wrong_then_right(node: Running) -> None:
    """After all that the node still takes an instance."""
    for wrong in (b"\0" * 10, associate_rq()[:30], pdu(1, b"")):
        with RawPeer(node.port) as peer:
            peer.send(wrong)

    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq(), b"x"))

        assert peer.status() == 0
        assert peer.release() == RELEASE_RP
        assert peer.receive()[0] == CLOSED


def test_text_from_the_network_is_escaped_in_the_log(node: Running) -> None:
    """A calling AE title with a backslash escape in it cannot forge a log line."""
    with RawPeer(node.port) as peer:
        peer.send(associate_rq(calling=b"A B", called=b"NO~WHERE"))
        assert peer.receive()[0] == REJECT

    assert node.told("association.rejected")[0]["called"] == "NO~WHERE"
    lines = [str(value) for entry in node.log.entries for value in entry.values()]
    assert all(character.isprintable() and character.isascii() for line in lines for character in line)
