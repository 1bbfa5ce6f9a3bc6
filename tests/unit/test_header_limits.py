"""Where a header ends for another reason than its last element: cuts, limits, and what cannot be understood."""

import pytest

from archive.errors import HeaderError, LimitExceeded
from archive.model import InstanceHeader
from archive.rules.header import (
    HeaderLimits,
    TruncatedHeader,
    encode_file_prefix,
    read_file_meta,
    read_header,
)
from archive.rules.header_rest import REST_LIMITS
from archive.rules.header_text import value_kind, value_text
from tests.unit.test_header import (
    DEFLATED,
    EXPLICIT,
    ITEM,
    JPEG,
    NAME,
    STUDY,
    UNDEFINED,
    deflate,
    explicit,
    header_of,
    memory,
    plain,
)

COMMENTS = 0x00104000
PIXELS = 0x7FE00010


def limited(data: bytes, syntax: str = EXPLICIT, **limits: int) -> InstanceHeader:
    return header_of(data, syntax, limits=HeaderLimits(**limits))


def noise(size: int) -> bytes:
    """Bytes that do not deflate well."""
    return bytes((i * i * 31 + i // 7) % 251 for i in range(size))


class TestCuts:
    """A dataset that ends too early is never taken for a whole one."""

    def test_inside_a_header_with_a_long_length(self) -> None:
        """An unknown VR with zeros behind it has a 32-bit length, and that is not there."""
        with pytest.raises(TruncatedHeader):
            header_of(NAME + explicit(0x00100030, b"ZZ")[:8] + b"\0\0")

    def test_inside_a_value_longer_than_the_window(self) -> None:
        """A deflated dataset has no known length: the value itself tells that it was cut."""
        data = explicit(COMMENTS, b"LT", noise(5000), length=20_000)

        with pytest.raises(TruncatedHeader):
            header_of(deflate(data), DEFLATED)

    def test_inside_an_item_of_a_sequence(self) -> None:
        """The item says how long it is, and the dataset ends before."""
        sequence = explicit(0x00081110, b"SQ", length=UNDEFINED) + plain(ITEM, b"", length=5000)

        with pytest.raises(TruncatedHeader):
            header_of(sequence + STUDY)

    def test_behind_a_sequence_that_follows_the_header(self) -> None:
        """Sequences of undefined length behind the wanted elements are stepped over on the way to the pixels."""
        sequence = explicit(0x00409096, b"SQ", length=UNDEFINED) + plain(0xFFFEE0DD)
        private = explicit(0x00411001, b"ZZ", b"\x01\x02")[:6] + b"\x02\x00\x01\x02"
        whole = STUDY + sequence + private + explicit(PIXELS, b"OW", bytes(100))

        assert header_of(whole).study_instance_uid == "1.2.3"
        with pytest.raises(TruncatedHeader):
            header_of(whole[:-1])


class TestLimits:
    """What a header may cost."""

    def test_a_value_beyond_what_may_be_read(self) -> None:
        """A wanted value counts, too."""
        with pytest.raises(LimitExceeded):
            limited(explicit(COMMENTS, b"LT", bytes(10_000)), read_bytes=5000)

    @pytest.mark.parametrize("read_bytes", [4096, 4100])
    def test_an_element_beyond_what_may_be_read(self, read_bytes: int) -> None:
        """Nothing left, or less than an element's header: both are the limit, not the end."""
        data = explicit(0x00091001, b"OB", bytes(6000)) + STUDY

        with pytest.raises(LimitExceeded):
            limited(data, read_bytes=read_bytes)

    def test_a_deflated_header_larger_than_may_come_out(self) -> None:
        """`inflated_bytes` bounds what is held in memory."""
        data = explicit(0x00091001, b"OB", noise(6000)) + STUDY

        with pytest.raises(LimitExceeded, match="larger than a header may be"):
            limited(deflate(data), DEFLATED, inflated_bytes=2000)

    def test_a_deflated_header_longer_than_may_go_in(self) -> None:
        """`read_bytes` bounds what is read of it."""
        data = b"".join(explicit(0x00091000 + n, b"OB", noise(5000 + n)) for n in range(1, 20)) + STUDY

        with pytest.raises(LimitExceeded, match="more bytes"):
            limited(deflate(data), DEFLATED, read_bytes=1000)

    def test_what_is_not_deflated_is_said(self) -> None:
        """A transfer syntax that is not true."""
        with pytest.raises(HeaderError, match="not the deflated one"):
            header_of(b"\xff" * 200, DEFLATED)

    def test_a_uid_no_element_can_hold(self) -> None:
        """Group 2 has 16 bits for the length of a UID."""
        with pytest.raises(HeaderError, match="longer than an element"):
            encode_file_prefix(
                sop_class_uid="1" * 70_000,
                sop_instance_uid="1.2",
                transfer_syntax_uid=EXPLICIT,
                calling_ae_title="",
                implementation_class_uid="1.2",
                implementation_version_name="",
            )


class TestTheRest:
    """Behind the header only what is certain is said."""

    def test_more_elements_than_are_followed(self) -> None:
        """After so many elements nothing is said of a cut."""
        # an unknown VR each, so that every one is a step of its own
        some = b"".join(
            explicit(0x00510000 + n, b"ZZ")[:6] + b"\x02\x00ab" for n in range(1, REST_LIMITS.elements + 10)
        )
        cut = explicit(PIXELS, b"OW", bytes(100))[:-1]

        assert header_of(STUDY + some + cut).study_instance_uid == "1.2.3"

    def test_a_sequence_that_cannot_be_followed(self) -> None:
        """What is not understood is not called cut."""
        nonsense = explicit(0x00409096, b"SQ", length=UNDEFINED) + explicit(0x00080005, b"CS", b"ab")

        assert header_of(STUDY + nonsense + bytes(100)).study_instance_uid == "1.2.3"

    def test_more_fragments_than_are_followed(self) -> None:
        """Encapsulated pixel data without an end, in ten thousand pieces."""
        data = STUDY + explicit(PIXELS, b"OB", length=UNDEFINED) + plain(ITEM) * 10_001 + b"\x01\x02\x03"

        assert header_of(data, JPEG).study_instance_uid == "1.2.3"

    def test_a_group_2_that_does_not_say_its_length_is_walked(self) -> None:
        """An empty group length tells nothing; the elements do."""
        data = (
            bytes(128) + b"DICM" + explicit(0x00020000, b"UL") + explicit(0x00020010, b"UI", EXPLICIT.encode() + b"\0")
        )

        meta = read_file_meta(memory(data + STUDY), len(data + STUDY))

        assert (meta.transfer_syntax_uid, meta.dataset_offset) == (EXPLICIT, len(data))


class TestText:
    """Values of kinds that are not usually text."""

    PRIVATE = 0x00091001

    def test_an_unknown_value_is_text_when_it_is_ascii(self) -> None:
        """A private element that came as UN may hold a label."""
        data = explicit(self.PRIVATE, b"UN", b"LABEL ") + STUDY

        assert header_of(data, also=frozenset({self.PRIVATE})).other == {self.PRIVATE: "LABEL"}

    @pytest.mark.parametrize(("vr", "value"), [(b"UN", b"\xff\xfe"), (b"OB", b"text")])
    def test_bytes_are_no_text(self, vr: bytes, value: bytes) -> None:
        """Neither what is not ASCII nor what says that it is bytes."""
        data = explicit(self.PRIVATE, vr, value) + STUDY

        assert header_of(data, also=frozenset({self.PRIVATE})).other == {self.PRIVATE: ""}

    def test_the_vr_of_a_tag_nobody_knows_is_the_one_sent(self) -> None:
        """The dictionary has no word for it."""
        assert value_kind(self.PRIVATE, b"LO") == "LO"
        assert value_kind(self.PRIVATE, None) == "UN"

    def test_a_codec_python_lacks_is_answered_by_latin_1(self) -> None:
        """No character set stops an image."""
        text = value_text(0x00100010, b"PN", b"M\xfcller", encodings=("no such codec",), is_little=True)

        assert text == "Müller"


def test_an_offset_inside_a_file_is_where_its_dataset_begins() -> None:
    """The prefix is not read as a dataset."""
    data = b"x" * 10 + STUDY

    header = read_header(memory(data), len(data), transfer_syntax_uid=EXPLICIT, offset=10)

    assert header.study_instance_uid == "1.2.3"
