"""Association requests with what a receiver has to ignore: unknown items, and what devices say of themselves."""

import struct
from collections.abc import Iterator

import pytest

from tests.network.fake_intake import Running, running
from tests.network.raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    RawPeer,
    associate_rq,
    context_item,
    context_results,
    item,
    message,
    store_rq,
)

pytestmark = pytest.mark.usefixtures("both_paths")

TOO_LONG = "1." * 40 + "1"


@pytest.fixture
def node() -> Iterator[Running]:
    with running() as each:
        yield each


def _role_item(scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(MR)) + MR.encode() + bytes((scu, scp)))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"user_items": item(0x5A, b"new")}, id="unknown-user-item"),
        pytest.param({"user_items": item(0x50, b"")}, id="user-information-inside"),
        pytest.param({"extra": item(0x99, b"new")}, id="unknown-item"),
        pytest.param({"extra": item(0x21, b"\3\0\0\0")}, id="item-of-an-answer"),
        pytest.param({"extra": item(0x20, b"\3\0\0\0" + item(0x41, b"new"))}, id="unknown-item-of-a-context"),
        pytest.param({"version": 3}, id="a-newer-version-as-well"),
        pytest.param({"version": 0xFFFF}, id="every-version"),
        pytest.param({"user_items": item(0x55, b"DEVICE_1\0")}, id="version-name-with-nul"),
        pytest.param({"user_items": item(0x55, b"DEVICE_2.10.4_SP1")}, id="version-name-too-long"),
        pytest.param({"user_items": item(0x55, b"APPAREIL \xe9")}, id="version-name-not-ascii"),
        pytest.param({"user_items": item(0x55, b"\x1b[2J\r\n")}, id="version-name-of-control-characters"),
        pytest.param({"user_items": item(0x52, TOO_LONG.encode())}, id="class-uid-too-long"),
        pytest.param({"user_items": item(0x52, b"\xff")}, id="class-uid-not-ascii"),
        pytest.param({"user_items": _role_item(2, 0)}, id="role-that-is-none"),
        pytest.param({"user_items": item(0x58, b"\7\0\0\1x\0\0")}, id="identity-of-an-unknown-type"),
        pytest.param({"extra": context_item(3, TOO_LONG, [EXPLICIT])}, id="another-context-too-long"),
        pytest.param({"extra": item(0x20, b"\3\0\0\0" + item(0x30, b"\xff\n"))}, id="another-context-not-ascii"),
        pytest.param({"extra": context_item(3, CT, [TOO_LONG, IMPLICIT])}, id="another-transfer-syntax-too-long"),
    ],
)
def test_what_is_to_be_ignored_keeps_nobody_out(node: Running, options: dict[str, object]) -> None:
    """The association is accepted as without it (PS3.8 9.3.1, 9.3.2), the second time too, and instances are stored."""
    for number in range(2):
        with RawPeer(node.port) as peer:
            results = context_results(peer.associate(**options))
            peer.send(message(store_rq(f"1.2.3.{number}"), b"x"))

            assert results[1] == (0, EXPLICIT)
            assert peer.status() == 0

    assert [request.sop_instance_uid for request, _ in node.intake.stored] == ["1.2.3.0", "1.2.3.1"]
    assert not node.events("pdu.refused")


def test_a_class_that_is_no_uid_is_not_supported(node: Running) -> None:
    """Each context has its answer: one that cannot be a class is refused, and the others stand."""
    with RawPeer(node.port) as peer:
        results = context_results(
            peer.associate([(1, TOO_LONG, [EXPLICIT]), (3, MR, [TOO_LONG, IMPLICIT]), (5, MR, [TOO_LONG])])
        )

    assert {key: result for key, (result, _) in results.items()} == {1: 3, 3: 0, 5: 4}
    assert results[3] == (0, IMPLICIT)


def test_a_request_that_only_ignores_is_not_read_as_another(node: Running) -> None:
    """Who asks is never changed: titles that cannot be are refused as before."""
    with RawPeer(node.port) as peer:
        peer.send(associate_rq(calling=b"A\nB", user_items=item(0x5A, b"new")))

        assert peer.receive()[0] == 7
