"""The walk over P-DATA: any split of the bytes gives the same fragments, and nothing malformed passes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scp.fragments import FragmentWalk, PduRefusedError, Piece
from scp.receive_buffer import BUFFER_BYTES, KEPT_BUFFERS, ReceiveBuffer, _kept

MAX_PDU_BYTES = 1000

Fragment = tuple[int, int, bytes]
"""Context id, message control header, content."""


def pdv(context_id: int, control: int, content: bytes) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context_id, control) + content


def p_data(*fragments: Fragment) -> bytes:
    body = b"".join(pdv(*each) for each in fragments)
    return struct.pack(">BBL", 4, 0, len(body)) + body


def walked(data: bytes, cuts: list[int]) -> tuple[list[Fragment], FragmentWalk]:
    """The fragments of `data` that arrives in pieces ending at `cuts`, put together again, and the walk."""
    walk, buffer = FragmentWalk(MAX_PDU_BYTES), ReceiveBuffer()
    fragments: list[Fragment] = []
    content = b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        _put(buffer, data[start:end])
        for piece in walk.pieces(buffer):
            content += piece.content
            if not walk._is_in_fragment:
                fragments.append((piece.context_id, piece.is_command | piece.is_last << 1, content))
                content = b""
            else:
                assert not piece.is_last
    assert walk._is_in_fragment or not content
    return fragments, walk


def _put(buffer: ReceiveBuffer, data: bytes) -> None:
    buffer.room()[: len(data)] = data
    buffer.end += len(data)


fragments_of_a_pdu = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 3), st.binary(max_size=40)), min_size=1, max_size=5
)
streams = st.lists(fragments_of_a_pdu, max_size=5)


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[list[Fragment], bytes, list[int]]:
    pdus = draw(streams)
    data = b"".join(p_data(*each) for each in pdus)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [fragment for each in pdus for fragment in each], data, cuts


@given(split_streams())
def test_any_split_gives_the_same_fragments(stream: tuple[list[Fragment], bytes, list[int]]) -> None:
    """However the bytes arrive, what was put into the PDUs comes out, and nothing is left open."""
    fragments, data, cuts = stream

    found, walk = walked(data, cuts)

    assert found == fragments
    assert not walk.is_inside


@given(st.binary(max_size=300), st.data())
def test_any_bytes_give_the_same_in_any_split(noise: bytes, data: st.DataObject) -> None:
    """Bytes of any kind are refused in every split or in none, and give the same fragments if not."""
    stream = p_data((1, 3, b"ab")) + noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))

    assert _outcome(stream, cuts) == _outcome(stream, [])


def _outcome(stream: bytes, cuts: list[int]) -> object:
    try:
        fragments, walk = walked(stream, cuts)
    except PduRefusedError as error:
        return str(error)
    return fragments, walk.is_inside, walk.is_at_another, walk.begun


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0", id="type-0"),
        pytest.param(b"\x08\0\0\0\0\0", id="type-8"),
        pytest.param(b"GET / HTTP/1.1", id="http"),
        pytest.param(struct.pack(">BBL", 4, 0, MAX_PDU_BYTES + 1), id="too-long"),
        pytest.param(struct.pack(">BBL", 5, 0, 0xFFFFFFFF), id="a-release-of-4-gib"),
        pytest.param(struct.pack(">BBL", 4, 0, 0), id="no-fragment"),
        pytest.param(struct.pack(">BBL", 4, 0, 5), id="no-whole-fragment-header"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 6, 0, 1, 0), id="fragment-of-length-0"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 6, 1, 1, 0), id="fragment-without-control-header"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 6, 3, 1, 0), id="fragment-beyond-the-pdu"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 20, 0xFFFFFFFF, 1, 0), id="fragment-of-4-gib"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 11, 2, 1, 3), id="rest-too-short-for-a-fragment"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    """A wrong header is refused as soon as it is there, before anything behind it has come."""
    with pytest.raises(PduRefusedError):
        walked(data, [])


@pytest.mark.parametrize("pdu_type", [1, 2, 3, 5, 6, 7])
def test_another_pdu_stops_the_walk_unread(pdu_type: int) -> None:
    """What is no P-DATA-TF stays in the buffer for the library; after that the walk goes on."""
    another = struct.pack(">BBL", pdu_type, 0, 4) + b"abcd"
    walk, buffer = FragmentWalk(MAX_PDU_BYTES), ReceiveBuffer()
    _put(buffer, p_data((1, 0, b"x")) + another + p_data((3, 2, b"y")))

    before = [Piece(*each[:3], memoryview(bytes(each.content))) for each in walk.pieces(buffer)]
    stopped = walk.is_at_another
    read = bytes(buffer.take(len(another)))
    walk.resume()
    behind = [Piece(*each[:3], memoryview(bytes(each.content))) for each in walk.pieces(buffer)]

    assert before == [Piece(1, False, False, memoryview(b"x"))]
    assert stopped and read == another
    assert behind == [Piece(3, False, True, memoryview(b"y"))]
    assert walk.begun == 3


def test_a_walk_can_be_left_and_taken_up_again() -> None:
    """A message that is served between two pieces does not lose what is behind it."""
    walk, buffer = FragmentWalk(MAX_PDU_BYTES), ReceiveBuffer()
    _put(buffer, p_data((1, 3, b"a"), (1, 2, b"b")) + p_data((3, 3, b"c")))

    found = []
    for _ in range(3):
        for piece in walk.pieces(buffer):
            found.append(bytes(piece.content))
            break

    assert found == [b"a", b"b", b"c"]
    assert not buffer.unread_bytes and not walk.is_inside


def test_a_pdu_begins_with_its_first_byte() -> None:
    """Its time runs from there, and is not counted again when its header is complete."""
    walk, buffer = FragmentWalk(MAX_PDU_BYTES), ReceiveBuffer()
    begun = []
    for byte in p_data((1, 3, b"a")):
        _put(buffer, bytes([byte]))
        list(walk.pieces(buffer))
        begun.append(walk.begun)

    assert set(begun) == {1}


def test_an_idle_connection_holds_no_buffer() -> None:
    """Memory is borrowed for reading and given back when all is read; few are kept for the next."""
    _kept.clear()
    buffers = [ReceiveBuffer() for _ in range(KEPT_BUFFERS + 3)]
    assert all(len(each.view) == 0 for each in buffers)
    for each in buffers:
        assert len(each.room()) == BUFFER_BYTES
    _put(buffers[0], b"unread")

    for each in buffers:
        each.rest()

    assert bytes(buffers[0].take(100)) == b"unread"
    assert [len(each.view) for each in buffers[1:]] == [0] * (len(buffers) - 1)
    assert len(_kept) == KEPT_BUFFERS
    _kept.clear()
