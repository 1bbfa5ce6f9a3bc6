"""What is remembered of association requests, and what is left out of them before the library reads them."""

from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from scp.library import quiet
from scp.requests import Agreed, KnownRequest, KnownRequests, condensed, digest_of
from tests.network.raw_peer import CT, EXPLICIT, IMPLICIT, MR, associate_rq, context_item, item


def _request(title: str) -> KnownRequest:
    return KnownRequest(
        calling_ae_title=title,
        called_ae_title="PREARC",
        max_pdu_bytes=16384,
        contexts={1: Agreed("1.2", "1.3")},
        rejected=0,
        answer=b"answer",
    )


def test_only_the_same_bytes_are_known() -> None:
    """One bit more and it is another request."""
    known = KnownRequests()
    known.keep(digest_of(b"request"), _request("A"))

    assert known.find(digest_of(bytearray(b"request"))) == _request("A")
    assert known.find(digest_of(b"requesu")) is None


def test_the_latest_are_kept() -> None:
    """What was not asked for longest goes, however many others come."""
    known = KnownRequests(limit=3)
    for title in "ABC":
        known.keep(title.encode(), _request(title))
    known.find(b"A")
    for title in "DE":
        known.keep(title.encode(), _request(title))

    assert [title for title in "ABCDE" if known.find(title.encode()) is not None] == ["A", "D", "E"]


def _as_negotiated(encoded: bytes | bytearray) -> object:
    """What is used of a request as the library reads it; None when it refuses to."""
    try:
        quiet()
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(bytes(encoded))
        primitive = pdu.to_primitive()
    except Exception:
        return None
    contexts = [
        (each.context_id, each.abstract_syntax, each.transfer_syntax[:1])
        for each in primitive.presentation_context_definition_list
    ]
    users = [(type(each), vars(each)) for each in primitive.user_information]
    return (primitive.calling_ae_title, primitive.called_ae_title, primitive.application_context_name, contexts, users)


def test_all_but_the_first_transfer_syntax_is_left_out() -> None:
    """Of each context; everything else is as it was."""
    several = associate_rq([(1, MR, [EXPLICIT, IMPLICIT, "1.2.3"]), (3, CT, [IMPLICIT]), (5, CT, [])])

    assert condensed(bytearray(several)) == associate_rq([(1, MR, [EXPLICIT]), (3, CT, [IMPLICIT]), (5, CT, [])])


def test_a_transfer_syntax_that_would_be_refused_stays() -> None:
    """The library refuses the request for it, first or not."""
    for wrong in ("1." * 40 + "1", "", "not\xe9"):
        context = item(0x20, b"\1\0\0\0" + item(0x30, MR.encode()) + item(0x40, b"1.2") + item(0x40, wrong.encode()))
        encoded = bytearray(associate_rq([(3, CT, [EXPLICIT])], extra=context))

        assert condensed(encoded) == encoded


def test_an_empty_transfer_syntax_is_not_the_first() -> None:
    """The library passes over it, and takes the next one."""
    empty_first = associate_rq([(1, MR, [EXPLICIT])], extra=context_item(3, CT, ["", IMPLICIT, EXPLICIT]))
    shorter = associate_rq([(1, MR, [EXPLICIT])], extra=context_item(3, CT, ["", IMPLICIT]))

    assert condensed(bytearray(empty_first)) == shorter


uids = st.sampled_from([MR, CT, EXPLICIT, IMPLICIT, "1." * 40, "", "1.2\0", "x"])
contexts = st.lists(
    st.builds(context_item, st.integers(0, 255), st.none() | uids, st.lists(uids, max_size=4)), max_size=4
)


@given(contexts, st.integers(0, 400), st.binary(max_size=4))
def test_the_library_reads_the_same(extra: list[bytes], at: int, noise: bytes) -> None:
    """Of a request sound or damaged it takes the same from what is left as from the whole, or refuses both."""
    encoded = bytearray(associate_rq([(1, MR, [EXPLICIT, IMPLICIT])], extra=b"".join(extra)))
    damaged = encoded[:at] + noise + encoded[at + len(noise) :]
    for each in (encoded, damaged):
        assert _as_negotiated(condensed(each)) == _as_negotiated(each)
