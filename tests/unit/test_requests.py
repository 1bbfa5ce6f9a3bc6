"""What is remembered of association requests: the same bytes, a bounded number, the latest."""

from scp.requests import Agreed, KnownRequest, KnownRequests, digest_of


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
