"""Promises of `archive.rules.header` that need no real file."""

import io
import struct
import time
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from archive.attributes import HEADER_TAGS, header_value
from archive.errors import HeaderError, LimitExceeded
from archive.model import InstanceHeader
from archive.rules.header import (
    EmptyDataset,
    HeaderLimits,
    ReadAt,
    TruncatedHeader,
    encode_file_prefix,
    file_reader,
    keyword_of,
    read_file_header,
    read_file_meta,
    read_header,
    tag_of,
)
from tests.examples import examples

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.70"
ENCODINGS = (IMPLICIT, EXPLICIT, BIG, DEFLATED)
LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT"}
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def explicit(tag: int, vr: bytes, value: bytes = b"", *, length: int | None = None) -> bytes:
    """One explicit little endian element, as it is."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HL", 0, size) if vr in LONG else struct.pack("<H", size)) + value


def plain(tag: int, value: bytes = b"", *, length: int | None = None) -> bytes:
    """One implicit little endian element, item or delimiter."""
    size = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, size) + value


def memory(data: bytes) -> ReadAt:
    return lambda offset, size: data[offset : offset + size]


def header_of(data: bytes, syntax: str = EXPLICIT, **more: object) -> InstanceHeader:
    return read_header(memory(data), len(data), transfer_syntax_uid=syntax, **more)  # type: ignore[arg-type]


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """`dataset` as pydicom writes it."""
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR = syntax == IMPLICIT
    buffer.is_little_endian = syntax != BIG
    write_dataset(buffer, dataset)
    return deflate(buffer.getvalue()) if syntax == DEFLATED else buffer.getvalue()


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


STUDY = explicit(0x0020000D, b"UI", b"1.2.3\0")
NAME = explicit(0x00100010, b"PN", b"Doe^Jane")


class TestValues:
    """What becomes of the bytes of one value."""

    def test_padding_is_stripped_and_nothing_else(self) -> None:
        """Text is as sent but for NULs and spaces at its ends; leading spaces of a long text stay."""
        data = explicit(0x00080018, b"UI", b"1.2.3\0") + explicit(0x00080060, b"CS", b" MR ")
        data += explicit(0x00100020, b"LO", b"a  b\\c ") + explicit(0x00104000, b"LT", b"  two\r\nlines ")

        header = header_of(data)

        assert header.sop_instance_uid == "1.2.3"
        assert header.modality == "MR"
        assert header.patient_id == "a  b\\c"
        assert header.patient_comments == "  two\r\nlines"

    def test_a_nul_inside_a_uid_does_not_make_another_uid(self) -> None:
        """A NUL inside a value shows as U+FFFD."""
        header = header_of(explicit(0x0020000D, b"UI", b"1.2\x003\0"))

        assert header.study_instance_uid == "1.2\ufffd3"

    @pytest.mark.parametrize(
        ("charset", "value", "text"),
        [
            (b"ISO_IR 100", b"M\xfcller", "Müller"),
            (b"ISO_IR 192", "Мюллер".encode(), "Мюллер"),
            (b"ISO_IR_192", "Ü".encode(), "Ü"),
            (b"UTF-8 ", "Ü".encode(), "Ü"),
            (b"ISO_IR 144", b"\xbb\xee", "Лю"[:1] + "ю"),
            (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
            (b"GB18030 ", "王^小东".encode("gb18030"), "王^小东"),
            (b"NO SUCH SET", b"M\xfcller", "Müller"),
            (b"unicode_escape", b"\\u0041", "\\u0041"),
            (b"", b"M\xfcller", "Müller"),
            (b"ISO_IR 192\\ISO 2022 IR 87", "Ü".encode(), "Ü"),
            (b"ISO_IR 192", b"M\xfcller", "M\ufffdller"),
        ],
    )
    def test_text_is_decoded_by_its_character_set(self, charset: bytes, value: bytes, text: str) -> None:
        """Misspelt character sets are taken as meant, unknown ones as latin-1, and nothing raises."""
        data = explicit(0x00080005, b"CS", charset) + explicit(0x00100010, b"PN", value)

        assert header_of(data).patient_name == text

    def test_a_uid_is_not_in_the_character_set(self) -> None:
        """UIDs, codes, dates and numbers use the default repertoire."""
        data = explicit(0x00080005, b"CS", b"ISO_IR 192") + explicit(0x0020000D, b"UI", b"1.2.\xfc")

        assert header_of(data).study_instance_uid == "1.2.ü"

    @pytest.mark.parametrize("syntax", ENCODINGS)
    def test_further_attributes_come_as_decimal_text(self, syntax: str) -> None:
        """Attributes asked for with `also` are decoded by their VR, in every encoding."""
        dataset = Dataset()
        dataset.Rows = 512
        dataset.EchoTime = "2.5"
        dataset.ReferencePixelX0 = -7
        dataset.FrameIncrementPointer = 0x00181063
        dataset.DiffusionBValue = 0.5
        dataset.RescaleType = "HU"
        tags = {name: tag_of(name) or 0 for name in dir(dataset) if tag_of(name)}

        header = header_of(encoded(dataset, syntax), syntax, also=frozenset(tags.values()))

        assert {name: header.other[tag] for name, tag in tags.items()} == {
            "Rows": "512",
            "EchoTime": "2.5",
            "ReferencePixelX0": "-7",
            "FrameIncrementPointer": str(0x00181063),
            "DiffusionBValue": "0.5",
            "RescaleType": "HU",
        }

    def test_a_value_is_cut_at_64_kib(self) -> None:
        """A text longer than any VR allows does not fill the catalogue."""
        data = explicit(0x00200010, b"UT", b"x" * 100_000)

        assert header_of(data).study_id == "x" * 65_536

    def test_missing_names_what_is_absent_or_empty(self) -> None:
        """`missing` holds the keywords of all attributes without a value."""
        header = header_of(explicit(0x00100020, b"LO", b"  ") + STUDY)

        assert "PatientID" in header.missing
        assert "SOPInstanceUID" in header.missing
        assert "StudyInstanceUID" not in header.missing
        assert len(header.missing) == len(HEADER_TAGS) - 1


class TestElements:
    """How elements are found."""

    def test_the_first_of_two_elements_with_one_tag_counts(self) -> None:
        """A second value cannot replace the first."""
        assert header_of(STUDY + explicit(0x0020000D, b"UI", b"9.9\0")).study_instance_uid == "1.2.3"

    def test_elements_may_be_out_of_order(self) -> None:
        """Up to the highest wanted tag the order does not matter."""
        header = header_of(STUDY + NAME + explicit(0x00080060, b"CS", b"MR"))

        assert (header.patient_name, header.modality) == ("Doe^Jane", "MR")

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
    def test_a_wrong_transfer_syntax_is_seen_at_the_first_element(self, syntax: str) -> None:
        """Explicit data under an implicit syntax is read as it is, and the other way round."""
        implicit_data = plain(0x00100010, b"Doe^Jane") + plain(0x0020000D, b"1.2.3\0")

        assert header_of(NAME + STUDY, syntax).study_instance_uid == "1.2.3"
        assert header_of(implicit_data, syntax).study_instance_uid == "1.2.3"

    def test_an_unknown_transfer_syntax_is_explicit_little_endian(self) -> None:
        """Private syntaxes are (PS3.5 A.4), but for GE's, which is implicit; the first element may not tell."""
        tricky = plain(0x00080001, length=0x4141, value=bytes(0x4141)) + plain(0x0020000D, b"1.2.3\0")

        assert header_of(NAME + STUDY, "1.3.46.670589.33.1.4.1").study_instance_uid == "1.2.3"
        assert header_of(tricky, "1.2.840.113619.5.2").study_instance_uid == "1.2.3"

    @pytest.mark.parametrize("inside", [b"SQ", b"UN"])
    def test_attributes_of_items_are_not_the_instance_s(self, inside: bytes) -> None:
        """A sequence of undefined length is walked, and nothing of it is taken."""
        nested = explicit if inside == b"SQ" else lambda tag, _vr, value: plain(tag, value)
        item = plain(ITEM, length=UNDEFINED) + nested(0x0020000D, b"UI", b"6.6.6\0") + plain(ITEM_END)
        sequence = explicit(0x00081140, inside, length=UNDEFINED) + item * 3 + plain(SEQUENCE_END)

        assert header_of(sequence + STUDY).study_instance_uid == "1.2.3"

    def test_explicit_items_inside_an_unknown_value_are_followed(self) -> None:
        """Some writers keep explicit VR inside a UN of undefined length."""
        item = plain(ITEM, length=UNDEFINED) + explicit(0x00091001, b"OB", b"1234") + plain(ITEM_END)
        data = explicit(0x00091000, b"UN", length=UNDEFINED) + item + plain(SEQUENCE_END) + STUDY

        assert header_of(data).study_instance_uid == "1.2.3"

    def test_a_vr_of_the_future_has_a_long_length(self) -> None:
        """New VRs have the form of OB (PS3.5 6.2); an odd one without reserved bytes has a short length."""
        future = struct.pack("<HH2sHL", 0x0009, 0x1001, b"ZZ", 0, 4) + b"abcd"
        odd = struct.pack("<HH2sH", 0x0009, 0x1002, b"YY", 4) + b"abcd"

        assert header_of(future + odd + STUDY).study_instance_uid == "1.2.3"

    def test_a_large_private_value_is_stepped_over_unread(self) -> None:
        """A value nobody wants costs no reading."""
        data = explicit(0x00091001, b"OB", bytes(3 << 20)) + STUDY
        reads: list[int] = []

        def read_at(offset: int, size: int) -> bytes:
            reads.append(size)
            return data[offset : offset + size]

        header = read_header(read_at, len(data), transfer_syntax_uid=EXPLICIT)

        assert header.study_instance_uid == "1.2.3"
        assert sum(reads) < 16_384

    def test_padding_at_the_end_is_accepted(self) -> None:
        """A few NULs behind the last element are no element."""
        assert header_of(STUDY + bytes(600)).study_instance_uid == "1.2.3"
        assert header_of(deflate(STUDY + bytes(600)), DEFLATED).study_instance_uid == "1.2.3"

    def test_a_hole_in_the_header_is_refused(self) -> None:
        """A file whose end a power cut turned into NULs is not a complete dataset."""
        with pytest.raises(HeaderError):
            header_of(STUDY + bytes(8192))

    def test_a_stray_delimiter_is_refused(self) -> None:
        """A delimiter outside a sequence means that the walk lost its way."""
        with pytest.raises(HeaderError, match="delimiter"):
            header_of(NAME + plain(ITEM_END) + STUDY)

    def test_a_sequence_without_items_is_refused(self) -> None:
        """Between items of a sequence nothing may stand."""
        with pytest.raises(HeaderError, match="item"):
            header_of(explicit(0x00081140, b"SQ", length=UNDEFINED) + STUDY + NAME + plain(SEQUENCE_END))


class TestTruncation:
    """What is said of datasets that were cut."""

    def test_no_bytes_are_no_dataset(self) -> None:
        """An empty dataset has its own name."""
        with pytest.raises(EmptyDataset):
            header_of(b"")
        with pytest.raises(EmptyDataset):
            header_of(deflate(b""), DEFLATED)
        with pytest.raises(EmptyDataset):
            header_of(bytes(40))

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
    def test_a_cut_inside_any_element_is_seen(self, syntax: str) -> None:
        """A dataset cut at any byte is truncated, but between elements, where it reads as a shorter one.

        A lone NUL, with which every big endian element starts, counts as padding.
        """
        dataset = Dataset()
        dataset.PatientName = "Doe^Jane"
        dataset.StudyInstanceUID = "1.2.3"
        dataset.Rows = 2
        dataset.PixelData = b"1234567890"
        dataset["PixelData"].VR = "OW"
        data = encoded(dataset, syntax)
        ends = {0}
        for element in dataset:
            part = Dataset()
            part.add(element)
            ends.add(max(ends) + len(encoded(part, syntax)))
        if syntax == BIG:
            ends |= {end + 1 for end in ends if data[end : end + 1] == b"\0"}

        seen = {cut for cut in range(2, len(data)) if is_truncated(data[:cut], syntax)}

        assert seen == set(range(2, len(data))) - ends
        assert header_of(data, syntax).study_instance_uid == "1.2.3"

    def test_a_cut_deflated_stream_is_seen(self) -> None:
        """A deflate stream that breaks off inside the header is truncated."""
        data = deflate(NAME + STUDY + explicit(0x00204000, b"LT", bytes(range(256)) * 40))

        assert is_truncated(data[:40], DEFLATED)

    def test_a_cut_inside_a_sequence_is_seen(self) -> None:
        """A sequence that never ends is truncated."""
        start = explicit(0x00081140, b"SQ", length=UNDEFINED) + plain(ITEM, length=UNDEFINED)

        assert is_truncated(start, EXPLICIT)
        assert is_truncated(start + STUDY + plain(ITEM_END), EXPLICIT)

    def test_cut_fragments_are_seen(self) -> None:
        """Encapsulated pixel data is cut when a fragment runs past the end, and only then."""
        pixels = explicit(0x7FE00010, b"OB", length=UNDEFINED) + plain(ITEM)
        fragment = plain(ITEM, b"\xff\xd8" + bytes(200))
        whole = STUDY + pixels + fragment * 3
        end = plain(SEQUENCE_END)

        assert header_of(whole + end, JPEG).study_instance_uid == "1.2.3"
        assert header_of(whole + end + b"\0", JPEG).study_instance_uid == "1.2.3"
        assert header_of(whole, JPEG).study_instance_uid == "1.2.3"  # the delimiter alone is missing
        assert header_of(whole + end + b"garbage" * 9, JPEG).study_instance_uid == "1.2.3"
        assert is_truncated(whole[:-1], JPEG)
        assert is_truncated(whole + fragment[:5], JPEG)

    @pytest.mark.parametrize("behind", [explicit(0xFFFCFFFC, b"OB", bytes(64)), bytes(64), b"\r\n", b"junk" * 9])
    def test_what_follows_the_pixel_data_does_not_matter(self, behind: bytes) -> None:
        """Padding, signatures and garbage behind the pixel data are accepted."""
        data = STUDY + explicit(0x7FE00010, b"OW", bytes(100)) + behind

        assert header_of(data).study_instance_uid == "1.2.3"

    def test_a_source_shorter_than_it_says_is_truncated(self) -> None:
        """A file that shrank between stat and read is truncated, not misread."""
        data = NAME + STUDY

        with pytest.raises(TruncatedHeader):
            read_header(memory(data[:-3]), len(data), transfer_syntax_uid=EXPLICIT)


def is_truncated(data: bytes, syntax: str) -> bool:
    try:
        header_of(data, syntax)
    except TruncatedHeader:
        return True
    return False


class TestLimits:
    """What a hostile dataset can cost."""

    def test_too_many_elements_are_refused(self) -> None:
        """The top level is bounded."""
        with pytest.raises(LimitExceeded):
            header_of(explicit(0x00091001, b"OB") * 2001 + STUDY)

    def test_deep_nesting_neither_recurses_nor_passes(self) -> None:
        """A hundred thousand open sequences end at the limit of depth."""
        opening = explicit(0x00081140, b"SQ", length=UNDEFINED) + plain(ITEM, length=UNDEFINED)

        with pytest.raises(LimitExceeded):
            header_of(opening * 100_000)

    def test_nesting_up_to_the_limit_passes(self) -> None:
        """64 levels are read, 65 are not."""
        opening = explicit(0x00081140, b"SQ", length=UNDEFINED) + plain(ITEM, length=UNDEFINED)
        closing = plain(ITEM_END) + plain(SEQUENCE_END)

        assert header_of(opening * 64 + closing * 64 + STUDY).study_instance_uid == "1.2.3"
        with pytest.raises(LimitExceeded):
            header_of(opening * 65 + closing * 65 + STUDY)

    def test_too_many_nested_elements_are_refused(self) -> None:
        """All levels together are bounded."""
        items = plain(ITEM) * 100_001
        data = explicit(0x00081140, b"SQ", length=UNDEFINED) + items + plain(SEQUENCE_END) + STUDY

        with pytest.raises(LimitExceeded):
            header_of(data)

    def test_a_bomb_is_refused_at_once(self) -> None:
        """A private value of a gigabyte, deflated, is given up after 4 MiB."""
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = deflater.compress(explicit(0x00091001, b"OB", length=1 << 30))
        bomb += b"".join(deflater.compress(bytes(1 << 20)) for _ in range(64)) + deflater.flush()

        started = time.process_time()
        with pytest.raises(LimitExceeded):
            header_of(bomb, DEFLATED)

        assert time.process_time() - started < 1

    def test_the_rest_of_a_deflated_dataset_is_not_inflated(self) -> None:
        """Pixel data behind the header may be as large as it likes."""
        data = deflate(NAME + STUDY + explicit(0x7FE00010, b"OW", bytes(32 << 20)))

        assert header_of(data, DEFLATED).study_instance_uid == "1.2.3"

    @pytest.mark.parametrize("syntax", ENCODINGS)
    @given(data=st.binary(min_size=1, max_size=2000), budget=st.integers(0, 3000))
    @settings(max_examples=examples(100), deadline=None)
    def test_no_more_is_read_than_allowed(self, syntax: str, data: bytes, budget: int) -> None:
        """`read_bytes` bounds what a header reads, whatever the bytes are."""
        total = 0

        def read_at(offset: int, size: int) -> bytes:
            nonlocal total
            assert offset >= 0
            assert size > 0
            total += size
            return data[offset : offset + size]

        limits = HeaderLimits(read_bytes=budget)
        try:
            read_header(read_at, len(data), transfer_syntax_uid=syntax, limits=limits)
        except HeaderError:
            pass

        assert total <= budget


class TestFiles:
    """Part 10 files."""

    PREFIX = encode_file_prefix(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="1.2.3.4",
        transfer_syntax_uid=EXPLICIT,
        calling_ae_title=" SCANNER\x1b1 ",
        implementation_class_uid="1.2.826.0.1",
        implementation_version_name="A_NAME_OF_MORE_THAN_16",
    )

    def test_pydicom_reads_the_prefix(self) -> None:
        """Group 2 is complete, conformant (PS3.10 7.1) and safe whatever the caller's title holds."""
        meta = pydicom.dcmread(io.BytesIO(self.PREFIX)).file_meta

        assert meta.FileMetaInformationGroupLength == len(self.PREFIX) - 132 - 12
        assert meta.FileMetaInformationVersion == b"\0\1"
        assert meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
        assert meta.TransferSyntaxUID == EXPLICIT
        assert meta.ImplementationClassUID == "1.2.826.0.1"
        assert meta.ImplementationVersionName == "A_NAME_OF_MORE_T"
        assert meta.SourceApplicationEntityTitle == "SCANNER?1"
        assert self.PREFIX[:128] == bytes(128)

    def test_an_empty_calling_title_is_left_out(self) -> None:
        """There is no empty Source Application Entity Title, and odd text never fails."""
        prefix = encode_file_prefix(
            sop_class_uid="1.2",
            sop_instance_uid="1.\u2603",
            transfer_syntax_uid=IMPLICIT,
            calling_ae_title="  ",
            implementation_class_uid="1.2",
            implementation_version_name="é",
        )

        meta = pydicom.dcmread(io.BytesIO(prefix)).file_meta
        assert "SourceApplicationEntityTitle" not in meta
        assert meta.ImplementationVersionName == "?"

    def test_a_file_is_read_back(self, tmp_path: Path) -> None:
        """What was written with a prefix is read through a file descriptor."""
        path = tmp_path / "a.dcm"
        path.write_bytes(self.PREFIX + NAME + explicit(0x00091001, b"OB", bytes(20_000)) + STUDY)

        with path.open("rb") as file:
            meta, header = read_file_header(file_reader(file.fileno()), path.stat().st_size)

        assert meta.dataset_offset == len(self.PREFIX)
        assert meta.media_storage_sop_instance_uid == "1.2.3.4"
        assert meta.media_storage_sop_class_uid == "1.2.840.10008.5.1.4.1.1.4"
        assert header.transfer_syntax_uid == EXPLICIT
        assert (header.patient_name, header.study_instance_uid) == ("Doe^Jane", "1.2.3")

    @given(reads=st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 70_000)), max_size=20))
    @settings(max_examples=30, deadline=None)
    def test_a_file_reader_gives_what_the_file_holds(
        self, tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int]]
    ) -> None:
        """Whatever the order of reads, the bytes are the file's."""
        data = bytes(i * 7 % 251 for i in range(150_000))
        path = tmp_path_factory.getbasetemp() / "window.bin"
        path.write_bytes(data)

        with path.open("rb") as file:
            read_at = file_reader(file.fileno())
            assert all(read_at(offset, size) == data[offset : offset + size] for offset, size in reads)

    @pytest.mark.parametrize(
        ("dataset", "syntax"),
        [
            (plain(0x00080060, b"MR") + plain(0x0020000D, b"1.2.3\0"), IMPLICIT),
            (explicit(0x00080060, b"CS", b"MR") + STUDY, EXPLICIT),
            (bytes.fromhex("00080060435300024d52") + bytes.fromhex("0020000d55490006312e322e3300"), BIG),
        ],
    )
    def test_a_bare_dataset_is_recognised(self, dataset: bytes, syntax: str) -> None:
        """Without group 2 the first element tells the transfer syntax."""
        meta, header = read_file_header(memory(dataset), len(dataset))

        assert (meta.transfer_syntax_uid, meta.dataset_offset) == (syntax, 0)
        assert (header.modality, header.study_instance_uid) == ("MR", "1.2.3")

    def test_behind_a_preamble_any_group_may_be_first(self) -> None:
        """Where the file says that it is DICOM, a dataset of private elements alone is one."""
        data = bytes(128) + b"DICM" + explicit(0x00990010, b"LO", b"OWNER ")

        assert read_file_meta(memory(data), len(data)).transfer_syntax_uid == EXPLICIT

    @pytest.mark.parametrize("data", [b"", b"MZ", b"\x89PNG\r\n\x1a\n" + bytes(200), b"{}" * 99, bytes(500)])
    def test_other_files_are_no_dicom_files(self, data: bytes) -> None:
        """What does not start as DICOM does is refused."""
        with pytest.raises(HeaderError):
            read_file_meta(memory(data), len(data))

    def test_a_file_without_dataset_is_empty(self) -> None:
        """A prefix alone holds no dataset."""
        with pytest.raises(EmptyDataset):
            read_file_header(memory(self.PREFIX), len(self.PREFIX))

    def test_a_file_cut_in_group_2_is_truncated(self) -> None:
        """A cut inside an element of group 2 is seen."""
        with pytest.raises(TruncatedHeader):
            read_file_meta(memory(self.PREFIX[:200]), 200)


def test_tags_and_keywords() -> None:
    """Keywords are DICOM's; what has none is shown by its numbers."""
    assert tag_of("PatientID") == 0x00100020
    assert tag_of("NoSuchThing") is None
    assert keyword_of(0x00100020) == "PatientID"
    assert keyword_of(0x00091001) == "(0009,1001)"


@given(data=st.binary(max_size=600), syntax=st.sampled_from(ENCODINGS), also=st.sets(st.integers(0, UNDEFINED)))
@settings(max_examples=examples(80), deadline=None)
def test_any_bytes_give_a_header_or_a_header_error(data: bytes, syntax: str, also: set[int]) -> None:
    """Nothing but `HeaderError` comes out, and every value can be stored as text."""
    for read in (
        lambda: header_of(data, syntax, also=frozenset(also)),
        lambda: header_of(deflate(data), DEFLATED, also=frozenset(also)),
        lambda: read_file_header(memory(data), len(data))[1],
        lambda: read_file_header(memory(TestFiles.PREFIX + data), len(TestFiles.PREFIX + data))[1],
    ):
        try:
            header = read()
        except HeaderError:
            continue
        assert_storable(header)


def assert_storable(header: InstanceHeader) -> None:
    for tag in [*HEADER_TAGS, *header.other]:
        value = header_value(header, tag)
        assert "\0" not in value
        value.encode()


TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\\\0\x1b", exclude_categories=["Cc"]), max_size=30)
UID = st.from_regex(r"[0-2](\.[1-9][0-9]{0,6}){1,7}", fullmatch=True)


@st.composite
def datasets(draw: st.DrawFn, depth: int = 3) -> Dataset:
    """Datasets with our attributes, others between them, and sequences of both kinds of length."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword in draw(st.sets(st.sampled_from(["PatientID", "StationName", "PatientComments", "StudyID"]))):
        setattr(dataset, keyword, draw(TEXT)[:16])
    for keyword in draw(st.sets(st.sampled_from(["SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]))):
        setattr(dataset, keyword, draw(UID))
    for keyword in draw(st.sets(st.sampled_from(["Rows", "SeriesNumber", "InstanceNumber", "EchoTime"]))):
        setattr(dataset, keyword, draw(st.integers(0, 60_000)))
    for tag in draw(st.sets(st.sampled_from([0x00091010, 0x00191010, 0x00211010, 0x00411010]))):
        dataset.add_new(tag, "OB", bytes(2 * draw(st.integers(0, 4000))))
    if depth:
        for keyword in draw(st.sets(st.sampled_from(["ReferencedStudySequence", "RequestAttributesSequence"]))):
            items = draw(st.lists(datasets(depth=depth - 1), max_size=2))
            for item in items:
                item.is_undefined_length_sequence_item = draw(st.booleans())
            setattr(dataset, keyword, Sequence(items))
            dataset[keyword].is_undefined_length = draw(st.booleans())
    return dataset


@given(dataset=datasets(), syntax=st.sampled_from(ENCODINGS))
@settings(max_examples=examples(80), deadline=None)
def test_a_generated_dataset_reads_as_pydicom_wrote_it(dataset: Dataset, syntax: str) -> None:
    """Every attribute is the one that was written, in all four encodings."""
    header = header_of(encoded(dataset, syntax), syntax, also=frozenset({0x00280010, 0x00200052}))

    for tag, name in HEADER_TAGS.items():
        expected = str(dataset[tag].value) if tag in dataset else ""
        is_long_text = name.endswith(("comments", "history"))
        assert getattr(header, name) == (expected.rstrip(" ") if is_long_text else expected.strip(" "))
    assert header.other.get(0x00280010, "") == str(dataset.get("Rows", ""))
    assert header.other.get(0x00200052, "") == dataset.get("FrameOfReferenceUID", "")


@given(dataset=datasets(depth=1), syntax=st.sampled_from(ENCODINGS), rng=st.randoms(use_true_random=False))
@settings(max_examples=examples(80), deadline=None)
def test_a_damaged_dataset_never_fails_otherwise(dataset: Dataset, syntax: str, rng: object) -> None:
    """Flipped bytes and cuts give a header or a `HeaderError`."""
    data = bytearray(encoded(dataset, syntax))
    for _ in range(rng.randint(1, 6)):  # type: ignore[attr-defined]
        data[rng.randrange(len(data))] = rng.randrange(256)  # type: ignore[attr-defined]
    try:
        header = header_of(bytes(data), syntax)
    except HeaderError:
        return
    assert_storable(header)
