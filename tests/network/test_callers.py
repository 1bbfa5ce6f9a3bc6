"""Who may come in: called and calling AE titles, addresses, limits, admission; and how the node ends."""

import fcntl
import socket
import sys
import termios
import threading
import time

import pytest
from pynetdicom import AE
from pynetdicom.association import Association

from archive.config import ReceiverSettings
from archive.errors import ConfigurationError
from scp.limits import POLITE_REFUSALS
from scp.sender import AssociationError, echo, send
from scp.synthetic import study
from scp.transport import ReceiverSocket
from tests.network.fake_intake import FakeIntake, running
from tests.network.raw_peer import (
    ABORT,
    ACCEPT,
    CLOSED,
    DATA,
    REJECT,
    RawPeer,
    associate_rq,
    message,
    pdu,
    pdv,
    store_rq,
)


def _answer(port: int, **options: object) -> tuple[int, ...]:
    with RawPeer(port) as peer:
        peer.send(associate_rq(**options))  # type: ignore[arg-type]
        kind, content = peer.receive()
    return (kind, *content[1:4]) if kind == REJECT else (kind,)


def test_several_ae_titles_share_a_port() -> None:
    """Each called AE title is its own receiver; any other is rejected."""
    first = ReceiverSettings(ae_title="FIRST", port=0)
    second = ReceiverSettings(ae_title="SECOND", port=0)
    with running(first, second) as node:
        assert len(node.node.addresses) == 1
        assert node.node.addresses[0].ae_titles == ("FIRST", "SECOND")
        assert _answer(node.port, called=b"FIRST") == (ACCEPT,)
        assert _answer(node.port, called=b"  SECOND ") == (ACCEPT,)
        assert _answer(node.port, called=b"first") == (REJECT, 1, 1, 7)
        node.intake.wait(lambda: len(node.intake.opened) == 2)

    assert [each.called_ae_title for each in node.intake.opened] == ["FIRST", "SECOND"]


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        ((), (ACCEPT,)),
        (("*",), (ACCEPT,)),
        (("RAW",), (ACCEPT,)),
        (("RAW@127.0.0.0/8",), (ACCEPT,)),
        (("RAW@10.0.0.0/8",), (REJECT, 1, 1, 3)),
        (("OTHER",), (REJECT, 1, 1, 3)),
    ],
)
def test_callers_are_checked(allow: tuple[str, ...], expected: tuple[int, ...]) -> None:
    """Calling AE title and address must be allowed; a rejected caller opens nothing."""
    with running(ReceiverSettings(ae_title="PREARC", port=0, allow=allow)) as node:
        assert _answer(node.port) == expected
    assert len(node.intake.opened) == (expected == (ACCEPT,))


def test_an_association_is_told_its_caller() -> None:
    """The use case learns both AE titles without padding, and the address."""
    with running() as node:
        assert _answer(node.port, calling=b" SCANNER 1") == (ACCEPT,)
        node.intake.wait(lambda: len(node.intake.opened) == 1)

    [association] = node.intake.opened
    assert (association.calling_ae_title, association.called_ae_title) == ("SCANNER 1", "PREARC")
    assert association.peer_host == "127.0.0.1"


def test_a_node_that_cannot_store_rejects_for_now() -> None:
    """A known outage is a transient reject, so that senders retry the connection."""
    with running(intake=FakeIntake(busy="low water")) as node:
        assert _answer(node.port) == (REJECT, 2, 3, 1)
        node.intake.busy = None
        assert _answer(node.port) == (ACCEPT,)


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
def test_connections_beyond_the_limit_are_rejected(limit: str) -> None:
    """Half-open ones that have said something count; the next is rejected, local limit exceeded; a closed one makes
    room."""
    with running(**{limit: 2}, half_open_seconds=60) as node:
        half_open = [_begun(node.port) for _ in range(2)]
        assert _until_full(node.port) == (REJECT, 2, 3, 2)
        for each in half_open:
            each.socket.close()

        assert _until(node.port, (ACCEPT,)) == (ACCEPT,)


def _begun(port: int) -> RawPeer:
    """Somebody who has begun to ask for an association."""
    peer = RawPeer(port)
    peer.send(associate_rq()[:4])
    return peer


def _until(port: int, expected: tuple[int, ...]) -> tuple[int, ...]:
    """The answer, asked again until it is `expected` or 20 s are over: accepting is another thread's work."""
    until = time.monotonic() + 20
    while (answer := _answer(port)) != expected and time.monotonic() < until:
        pass
    return answer


def _until_full(port: int) -> tuple[int, ...]:
    return _until(port, (REJECT, 2, 3, 2))


def test_connections_far_beyond_the_limit_are_closed() -> None:
    """Not even a reject is worth a thread then."""
    with running(connections=1, half_open_seconds=60) as node:
        peers = [_begun(node.port) for _ in range(1 + POLITE_REFUSALS)]
        with _begun(node.port) as last:
            assert last.receive() == (CLOSED, b"")
        for each in peers:
            each.socket.close()


def test_a_taken_port_is_named() -> None:
    """The error says which receiver's port is taken, and no other port stays open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free, second = ReceiverSettings(ae_title="A", port=0), ReceiverSettings(ae_title="B", port=port)

        with pytest.raises(ConfigurationError) as caught, running(free, second):
            pass

    assert caught.value.problems == (f"receiver[2].port: {port} on 127.0.0.1 is taken by another process",)


def test_an_address_that_is_not_ours_is_named() -> None:
    """An address of another machine cannot be listened on."""
    with (
        pytest.raises(ConfigurationError, match=r"receiver\[1\]\.bind: 192\.0\.2\.1 .* cannot be listened on"),
        running(ReceiverSettings(bind="192.0.2.1", port=0, allow=("*",))),
    ):
        pass


def test_draining_lets_an_open_instance_end() -> None:
    """No new connection; an instance under way is stored and answered, then its association is aborted."""
    with running() as node, RawPeer(node.port) as idle, RawPeer(node.port) as busy:
        idle.associate()
        busy.associate()
        busy.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)))
        node.intake.wait(lambda: any(each.begun for each in node.intake.opened))
        port = node.port
        drain = threading.Thread(target=node.node.drain, args=(20.0,))
        drain.start()
        assert idle.receive()[0] == ABORT
        with pytest.raises(ConnectionRefusedError):
            RawPeer(port)
        busy.send(pdu(DATA, pdv(b"x", is_command=False, is_last=True)))

        assert busy.status() == 0
        assert busy.receive()[0] == ABORT
        drain.join(20)
        assert not drain.is_alive()

    assert len(node.intake.stored) == 1
    assert all(each.is_closed for each in node.intake.opened)


@pytest.mark.usefixtures("both_paths")
@pytest.mark.parametrize(
    "data", [b"", pdu(DATA, pdv(b"x" * 100, is_command=False, is_last=False))[:60]], ids=["between-pdus", "in-a-pdu"]
)
def test_draining_ends_in_time(data: bytes) -> None:
    """A peer that stops in the middle of an instance is aborted; draining again does nothing."""
    with running() as node, RawPeer(node.port) as peer, RawPeer(node.port):
        peer.associate()
        peer.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)) + data)
        node.intake.wait(lambda: any(each.begun for each in node.intake.opened))

        started = time.monotonic()
        node.node.drain(0.3)
        node.node.drain(0.3)

        assert time.monotonic() - started < 10
        assert len(node.intake.abandoned) == 1
        assert peer.receive()[0] == ABORT


def test_draining_does_not_wait_for_who_takes_no_abort() -> None:
    """A peer that streams on and reads nothing is cut, and nothing of it is stored."""
    with running() as node, RawPeer(node.port, receive_bytes=4096) as peer:
        peer.associate()
        peer.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)))
        is_over = threading.Event()
        streaming = threading.Thread(target=_stream, args=(peer, is_over))
        streaming.start()
        node.intake.wait(lambda: any(each.begun for each in node.intake.opened))

        started = time.monotonic()
        node.node.drain(0.3)

        assert time.monotonic() - started < 10
        assert is_over.wait(20)
        streaming.join()
        assert not node.intake.stored
        assert all(each.is_closed for each in node.intake.opened)


def _stream(peer: RawPeer, is_over: threading.Event) -> None:
    """Send fragments of one data set until the node hears no more."""
    fragment = pdu(DATA, pdv(bytes(8000), is_command=False, is_last=False))
    try:
        while True:
            peer.socket.sendall(fragment)
    except ConnectionError:
        is_over.set()


def test_a_study_is_received_from_a_library_sender() -> None:
    """pynetdicom's sender stores a study; an echo is answered; the log tells begin and end."""
    with running() as node:
        assert echo("127.0.0.1", node.port, "PREARC").is_success
        statuses = send("127.0.0.1", node.port, "PREARC", "SCANNER", study(patient_id="P", patient_name="N"))
        node.intake.wait(lambda: all(each.is_closed for each in node.intake.opened))
        assert len(node.told("association.accepted", 2)) == 2
        ended = node.told("association.ended", 2)

    assert statuses == [0x0000, 0x0000]
    assert sorted((each["how"], each["stored"]) for each in ended) == [("released", 0), ("released", 2)]


def test_many_senders_at_once() -> None:
    """Twenty associations in parallel lose nothing."""
    with running() as node:
        results: list[list[int]] = []

        def store(number: int) -> None:
            datasets = study(patient_id=f"P{number}", patient_name="N", seed=number)
            results.append(send("127.0.0.1", node.port, "PREARC", f"S{number}", datasets))

        threads = [threading.Thread(target=store, args=(number,)) for number in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)

    assert results == [[0, 0]] * 20
    assert len(set(node.intake.uids)) == 40


def test_a_rejected_sender_is_told_why() -> None:
    """The sender's error names the reason."""
    with (
        running() as node,
        pytest.raises(AssociationError, match="rejected the association: Called AE title not recognised"),
    ):
        send("127.0.0.1", node.port, "NOBODY", "ME", study(patient_id="P", patient_name="N"))


def test_no_thread_outlives_its_association() -> None:
    """After connections of all kinds the node has the threads it started with."""
    with running(pdu_seconds=0.3) as node:
        before = threading.active_count()
        for data in (b"", b"\x09junk", associate_rq(called=b"OTHER"), associate_rq(), message(store_rq(), b"x")):
            with RawPeer(node.port) as peer:
                peer.send(data)
                if data:
                    peer.receive()
        until = time.monotonic() + 20
        while threading.active_count() > before and time.monotonic() < until:
            threading.Event().wait(0.02)

        assert threading.active_count() <= before


@pytest.mark.parametrize("is_aborted", [True, False], ids=["aborted", "cut"])
def test_who_waits_for_room_when_the_node_ends_hears_of_it(is_aborted: bool) -> None:
    """A peer that filled the connection and was told to wait is reset when it is closed, although all was read: once
    reading is shut down the kernel never tells it that there is room again."""
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket() as peer:
        peer.connect(door.getsockname())
        accepted, _ = door.accept()
        connection = ReceiverSocket(Association(AE(), "acceptor"), accepted, 30.0)
        _fill(peer, accepted)

        if is_aborted:
            connection.cut(socket.SHUT_RD)
            connection.mute()
            connection.send(pdu(ABORT, bytes(4)))
        else:
            connection.cut()
            connection.start_pdu()
            connection.recv(64 << 20)
        connection._shutdown_socket()

        peer.settimeout(20)
        with pytest.raises(ConnectionError):
            peer.sendall(bytes(8 << 20))


def _fill(peer: socket.socket, accepted: socket.socket) -> None:
    """Send until the other end, which nobody reads, has no room any more, and says so."""
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            peer.send(bytes(1 << 16))
    before = -1
    while (now := _unread_bytes(accepted)) != before:
        before = now
        time.sleep(0.3)  # TCP tries again after 0.2


def _unread_bytes(connection: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), sys.byteorder)
