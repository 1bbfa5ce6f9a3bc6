"""Command sets read and written here are those the library would read and write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import dimse_messages
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from scp.commands import Command, CommandReader, _read_any, encode_store_response, read_plain
from tests.network.raw_peer import MR, command, element, store_rq, ui, us

UIDS = st.one_of(
    st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,12}", fullmatch=True), st.text("0123456789. \0\\aé\n", max_size=20)
)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(store_rq(), id="plain"),
        pytest.param(store_rq("1.2.3"), id="padded-uid"),
        pytest.param(store_rq() + element(0, 0x1030, b"MOVER   ") + element(0, 0x1031, us(3)), id="move-originator"),
        pytest.param(store_rq(instance=b""), id="empty-uid"),
        pytest.param(store_rq(instance=b"1.2 "), id="blank-padded-uid"),
        pytest.param(store_rq(instance=None, message_id=None), id="missing-elements"),
    ],
)
def test_a_plain_command_is_read_here(encoded: bytes) -> None:
    """What senders send needs no library, and is what the library reads."""
    plain = read_plain(encoded)

    assert plain is not None
    assert plain == _read_any(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(store_rq()[:-1], id="cut"),
        pytest.param(store_rq()[:13], id="cut-header"),
        pytest.param(element(0, 0x110, us(7)) + element(0, 0x100, us(1)), id="descending"),
        pytest.param(element(0, 0x100, us(1)) * 2, id="twice"),
        pytest.param(element(8, 0x100, us(1)), id="another-group"),
        pytest.param(store_rq(message_id=b""), id="empty-number"),
        pytest.param(store_rq(message_id=b"\1\2\3\4"), id="two-numbers"),
        pytest.param(store_rq(instance=b"1.2\\3.4 "), id="two-uids"),
        pytest.param(store_rq(instance="1.é".encode()), id="not-ascii"),
        pytest.param(store_rq(instance=b" 1.2"), id="blank-before"),
    ],
)
def test_an_unusual_command_is_left_to_the_library(encoded: bytes) -> None:
    """Nothing is guessed here."""
    assert read_plain(encoded) is None


@given(
    sop_class=UIDS,
    instance=UIDS,
    message_id=st.integers(0, 0xFFFF),
    dataset=st.integers(0, 0xFFFF),
    noise=st.binary(max_size=12),
    at=st.integers(0, 200),
)
def test_both_readers_agree(
    sop_class: str, instance: str, message_id: int, dataset: int, noise: bytes, at: int
) -> None:
    """Whatever is read here, of sound and of damaged commands, is what the library reads."""
    encoded = command(
        sop_class=ui(sop_class), instance=ui(instance), field=us(1), message_id=us(message_id), dataset=us(dataset)
    )
    for each in (encoded, encoded[:at], encoded[:at] + noise + encoded[at + len(noise) :]):
        plain = read_plain(each)
        if plain is not None:
            assert plain == _read_any(each)


def _request(sop_class: str, instance: str, message_id: int) -> bytes:
    return command(
        sop_class=ui(sop_class), instance=ui(instance), field=us(1), message_id=us(message_id), dataset=us(0)
    )


CLASSES = st.sampled_from(["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"])
REQUESTS = st.builds(_request, CLASSES, UIDS, st.integers(0, 0xFFFF))


@given(requests=st.lists(REQUESTS, min_size=2, max_size=6), noise=st.binary(max_size=6), at=st.integers(0, 200))
def test_a_request_is_read_alike_whatever_came_before(requests: list[bytes], noise: bytes, at: int) -> None:
    """One reader for all of them, of damaged ones too, reads each as one that has seen nothing."""
    reader = CommandReader()
    for each in requests:
        damaged = (each[:at], each[:-1], each + noise, each[:at] + noise + each[at + len(noise) :])
        for encoded in (each, *damaged, each):
            plain = read_plain(encoded)
            if plain is not None:
                assert reader.read(encoded) == plain


def test_a_damaged_request_after_a_sound_one_is_left_to_the_library() -> None:
    """A request that is as the one before, but cut, longer, or with another UID than its header says."""
    sound = store_rq()
    uid = sound.index(b"\x00\x00\x00\x10") + 8

    for damaged in (sound[:-2], sound[: uid + 1], sound + b"\0\0", sound[:-3] + b"x" + sound[-2:]):
        reader = CommandReader()
        assert reader.read(sound) == read_plain(sound)
        assert read_plain(damaged) is None
        assert reader.read(damaged) == _read_any(damaged)


@given(
    context_id=st.integers(0, 127).map(lambda n: 2 * n + 1),
    message_id=st.integers(0, 0xFFFF),
    uid=st.sampled_from(["", "1.2.3", "1.2.33"]),
    status=st.sampled_from([0x0000, 0xA700, 0xC002, 0x0117]),
    comment=st.text("abc D-/", max_size=64).map(str.strip),
)
def test_an_answer_is_the_librarys(context_id: int, message_id: int, uid: str, status: int, comment: str) -> None:
    """Byte for byte, with and without what is optional."""
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo = message_id
    primitive.AffectedSOPClassUID = MR if uid else None
    primitive.AffectedSOPInstanceUID = uid or None
    primitive.Status = status
    primitive.ErrorComment = comment or None
    message = dimse_messages.C_STORE_RSP()
    message.primitive_to_message(primitive)
    [fragment] = message.encode_msg(context_id, 16384)

    ours = encode_store_response(
        context_id=context_id,
        message_id=message_id,
        sop_class_uid=MR if uid else "",
        sop_instance_uid=uid,
        status=status,
        comment=comment,
    )

    assert ours == P_DATA_TF(fragment).encode()


def test_an_answer_can_be_read() -> None:
    """By the reader of commands, with the request's UIDs."""
    encoded = encode_store_response(
        context_id=1, message_id=7, sop_class_uid=MR, sop_instance_uid="1.2.3", status=0, comment=""
    )

    assert read_plain(encoded[12:]) == Command(
        field=0x8001, message_id=None, dataset_type=0x0101, sop_class_uid=MR, sop_instance_uid="1.2.3"
    )
    assert encoded[:6] == b"\x04\0" + (len(encoded) - 6).to_bytes(4, "big")
