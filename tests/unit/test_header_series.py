"""Headers read by laying them on those before: the same answer as the walk, or none."""

import json
import os
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from archive.attributes import HEADER_TAGS
from archive.rules.header import DEFAULT_LIMITS, HeaderLimits, encode_file_prefix, read_file_header
from archive.rules.header_mould import GAPS, HEADS, places_of
from archive.rules.header_series import COST, CREDIT, MOULDS, SeriesHeader, SeriesReader, _File
from tests.unit.test_header import (
    EXPLICIT,
    IMPLICIT,
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    datasets,
    encoded,
    explicit,
    memory,
    plain,
)

CORPUS = Path(os.environ.get("PREARC_OPEN_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data/open")
WINDOW = 1 << 14
WANTED = frozenset(HEADER_TAGS)


def assert_the_same(found: SeriesHeader | None, data: bytes, *, also: frozenset[int] = frozenset()) -> bool:
    """Nothing was told, or what the walk tells; whether something was."""
    if found is None:
        return False
    meta, header = read_file_header(memory(data), len(data), also=also)  # it may not be refused either
    texts = {tag: getattr(header, name) for tag, name in HEADER_TAGS.items()} | header.other
    assert {tag: text for tag, text in texts.items() if text} == {t: v for t, v in found.texts.items() if v}
    assert (found.transfer_syntax_uid, found.dataset_offset) == (meta.transfer_syntax_uid, meta.dataset_offset)
    return True


def file_of(dataset: Dataset, syntax: str, *, pixels: int = 0) -> bytes:
    prefix = encode_file_prefix(
        sop_class_uid="1.2",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=syntax,
        calling_ae_title="A",
        implementation_class_uid="1.2.4",
        implementation_version_name="V",
    )
    dataset.SOPClassUID = "1.2"  # a dataset that starts in group 8, as all do
    if pixels:
        dataset.add_new(0x7FE00010, "OW", bytes(pixels))
    return prefix + encoded(dataset, syntax)


def damaged(data: bytes, rng: random.Random, places: int) -> bytes:
    """Some bytes other, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(128, min(places, len(changed)))] = rng.randrange(256)
    return bytes(changed if rng.random() < 0.6 else changed[: rng.randrange(140, len(changed))])


@pytest.fixture(scope="module")
def corpus() -> list[bytes]:
    manifest = CORPUS / "manifest.json"
    if not manifest.is_file():
        pytest.skip(f"NO CORPUS at {CORPUS}: set PREARC_OPEN_DATA to check against real files")
    found = [(CORPUS / entry["path"]).read_bytes()[: 1 << 18] for entry in json.loads(manifest.read_text())["files"]]
    return [data for data in found if len(data) > 200]


TEXTS = {"AE", "CS", "DA", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}


def in_series(limits: HeaderLimits = DEFAULT_LIMITS, *, also: frozenset[int] = frozenset()) -> SeriesReader:
    reader = SeriesReader(WANTED | also, limits)
    reader.next_folder()
    return reader


def read(reader: SeriesReader, data: bytes, window: int = WINDOW) -> SeriesHeader | None:
    return reader.read(data[:window], len(data), memory(data))


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What no mould was there for, as it is asked for."""
    found: list[bytes] = []
    moulded = SeriesReader._moulded

    def told(self: SeriesReader, file: _File) -> SeriesHeader | None:
        found.append(file.data)
        return moulded(self, file)

    monkeypatch.setattr(SeriesReader, "_moulded", told)
    return found


def leaves(dataset: Dataset) -> Iterator[tuple[Dataset, int]]:
    """The texts of a dataset and of its sequences."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from leaves(item)
        elif element.VR in TEXTS:
            yield dataset, element.tag


def other_values(dataset: Dataset, rng: random.Random) -> Dataset:
    """The same attributes, some with other values of other lengths."""
    other = deepcopy(dataset)
    for parent, tag in list(leaves(other)):
        if tag != 0x00080005 and rng.random() < 0.3:
            parent[tag]._value = "".join(rng.choice("0123456789") for _ in range(rng.randint(0, 9)))
    return other


def nested(number: int, *, is_undefined: bool = True) -> Dataset:
    """A dataset with sequences in sequences, whose innermost values and lengths depend on `number`."""
    inner, item, dataset = Dataset(), Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = f"1.2.{7**number}"
    inner.ReferencedSOPClassUID = "1.2.840"
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    item.ReferencedSOPInstanceUID = f"1.3.{5**number}"
    dataset.ReferencedImageSequence = Sequence([item, deepcopy(item)])
    dataset.SOPInstanceUID, dataset.PatientName = f"1.2.3.{3**number}", "Doe^Jane"
    for each in (dataset["ReferencedImageSequence"], item["PurposeOfReferenceCodeSequence"]):
        each.is_undefined_length = is_undefined
    for each in (*dataset.ReferencedImageSequence, inner):
        each.is_undefined_length_sequence_item = is_undefined
    return dataset


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=[pytest.mark.campaign, pytest.mark.timeout(0)])])
def test_the_corpus_reads_as_by_the_walk(corpus: list[bytes], step: int) -> None:
    """File by file, in another order, with other bytes in their values, and again."""
    rng = random.Random(5)
    reader = in_series()
    told = 0
    rng.shuffle(order := corpus[::step])
    for number, data in enumerate([*corpus[::step], *order]):
        if number % 5 == 0:
            reader.next_folder()
        changed = [damaged(data, rng, 6000) for _ in range(6)]
        told += sum(assert_the_same(read(reader, each), each) for each in [data, *changed, data])

    assert told > 2 * len(order)


@given(dataset=datasets(depth=2), syntax=st.sampled_from([EXPLICIT, IMPLICIT]), seed=st.integers(0, 1 << 32))
@settings(max_examples=20, deadline=None)
def test_a_generated_series_reads_as_by_the_walk(dataset: Dataset, syntax: str, seed: int) -> None:
    """Files of the same attributes with other values, whole and damaged, seen through windows of several sizes."""
    rng = random.Random(seed)
    also = frozenset({0x00280010, 0x00200052})
    for window in (WINDOW, 500):
        reader = in_series(also=also)
        for _ in range(4):
            data = file_of(other_values(dataset, rng), syntax, pixels=64)
            for each in (data, damaged(data, rng, len(data)), damaged(data, rng, 400), data[:-3], data):
                assert_the_same(read(reader, each, window), each, also=also)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_sequences_of_undefined_length_are_no_hindrance(syntax: str, walked: list[bytes]) -> None:
    """Values in them may differ, and their lengths."""
    reader = in_series()

    for number in range(12):
        data = file_of(nested(number), syntax, pixels=10)
        assert assert_the_same(read(reader, data), data)

    assert len(walked) == 1


def test_sequences_of_defined_length_are_values(walked: list[bytes]) -> None:
    """Whatever is in them."""
    reader = in_series()

    for number in range(12):
        data = file_of(nested(number, is_undefined=False), EXPLICIT, pixels=10)
        assert assert_the_same(read(reader, data), data)

    assert len(walked) == 1


def named(name: str, **more: str) -> bytes:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = name, "1"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return file_of(dataset, EXPLICIT, pixels=64)


def private(elements: bytes) -> bytes:
    """A file with more elements before its pixel data."""
    pixels = explicit(0x7FE00010, b"OW", bytes(64))
    return named("A").removesuffix(pixels) + elements + pixels


@pytest.mark.parametrize("number", [1, 5, 9])
def test_group_2_may_have_other_lengths(number: int, walked: list[bytes]) -> None:
    """Where the dataset starts follows the lengths; a group 2 that says that it ends earlier is for the walk."""
    reader = in_series()
    first, uid = named("A"), explicit(0x00020003, b"UI", b"1.2.3\0")
    assert uid in first
    longer = explicit(0x00020003, b"UI", b"1.2.3" + b"4" * (2 * number + 1))
    length = int.from_bytes(first[140:144], "little") + 2 * number

    right, wrong = (
        first[:140] + size.to_bytes(4, "little") + first[144:].replace(uid, longer) for size in (length, length - 2)
    )

    assert assert_the_same(read(reader, first), first)
    assert assert_the_same(read(reader, right), right)
    assert walked == [first[:WINDOW]]
    assert read(reader, wrong) is None
    assert assert_the_same(read(reader, first), first)


def test_a_group_2_unlike_others_makes_no_mould() -> None:
    """Its length stands where it always does, or nothing is learnt."""
    reader, data = in_series(), named("A")
    length = explicit(0x00020000, b"OB", (1000).to_bytes(4, "little"))
    data = data[:132] + length + data[144:]

    for _ in range(2):
        assert read(reader, data) is None

    assert not reader._known


def test_what_decides_how_values_are_read_is_compared(walked: list[bytes]) -> None:
    """Files in another character set are a kind of their own, and each keeps its texts."""
    reader = in_series()
    files = [
        named("Müller", SpecificCharacterSet=name) for name in ("ISO_IR 100", "ISO_IR 192", "ISO_IR 192", "ISO_IR 100")
    ]

    for data in files:
        assert assert_the_same(read(reader, data), data)

    assert len(walked) == 2


def test_a_file_that_ends_in_its_header_is_whole_only_with_all_of_it(walked: list[bytes]) -> None:
    """Without pixel data: cut behind an element it is another kind of file, cut anywhere else it is not told."""
    dataset = Dataset()
    dataset.PatientName, dataset.StudyDescription = "Doe", "a description"
    data = file_of(dataset, EXPLICIT)
    whole = {0, 8 + len("Doe "), 8 + len("Doe ") + 8 + len("a description ")}

    for cut in range(50):
        reader = in_series()
        assert assert_the_same(read(reader, data), data)
        assert assert_the_same(read(reader, data[: len(data) - cut]), data[: len(data) - cut]) is (cut in whole)


def test_a_file_that_ends_anywhere_in_the_header_of_its_kind_is_none_of_it() -> None:
    """The walk judges it."""
    reader, first, second = in_series(), named("A", StudyDescription="one"), named("B", StudyDescription="another")
    for data in (first, second):
        assert assert_the_same(read(reader, data), data)

    for end in range(132, first.index(b"one") + 3):
        assert_the_same(read(reader, first[:end]), first[:end])


def test_what_stands_behind_a_mould_is_judged(walked: list[bytes]) -> None:
    """Pixel data of another length fit; those that are not all there, or a wanted element there, do not."""
    reader, first = in_series(), named("A")
    head = first.removesuffix(pixels := explicit(0x7FE00010, b"OW", bytes(64)))

    assert assert_the_same(read(reader, first), first)
    for more in (explicit(0x7FE00010, b"OW", bytes(90)), explicit(0x7FE00010, b"OB", bytes(2)), b""):
        assert assert_the_same(read(reader, head + more), head + more)
    assert len(walked) == 1
    assert read(reader, first[:-1]) is None
    further = head + explicit(0x00200011, b"IS", b"7 ") + pixels
    found = read(reader, further)
    assert assert_the_same(found, further)
    assert found is not None
    assert found.texts[0x00200011] == "7"


def test_few_moulds_are_kept_and_the_one_in_use_stays(walked: list[bytes]) -> None:
    """Kinds of files in turn: what is used is not thrown out by what is not."""
    reader, first = in_series(), named("A")

    for number in range(3 * MOULDS):
        other = named(
            "A", **dict.fromkeys(["PatientSex", "StudyID", "PatientComments", "Modality"][: number % 4 + 1], "X")
        )
        assert assert_the_same(read(reader, other), other)
        assert assert_the_same(read(reader, first), first)
        assert len(reader._known) <= MOULDS

    assert walked.count(first) == 1


def test_files_of_many_kinds_cost_little(walked: list[bytes]) -> None:
    """After some that fit on nothing no moulds are made any more; files that fit make up for it."""
    reader = in_series()
    kinds = [private(explicit(0x00290000 + number, b"LO", b"1 ")) for number in range(40)]

    told = [assert_the_same(read(reader, data), data) for data in kinds]
    assert sum(told) == CREDIT // COST
    assert reader._credit < COST
    newest = reader._known[0]
    for _ in range(CREDIT + 5):
        assert assert_the_same(read(reader, kinds[CREDIT // COST - 1]), kinds[CREDIT // COST - 1])

    assert reader._known[0] is newest
    assert reader._credit == CREDIT


@pytest.mark.parametrize(
    "limits",
    [
        HeaderLimits(elements=100),
        HeaderLimits(nested_elements=10),
        HeaderLimits(depth=2),
        HeaderLimits(read_bytes=1000),
    ],
)
def test_under_narrow_limits_there_are_no_moulds(limits: HeaderLimits) -> None:
    """Where a limit may be met only the walk can tell."""
    reader, data = in_series(limits), named("A")

    for _ in range(2):
        assert read(reader, data) is None

    assert not reader._known


def test_a_window_that_may_cut_values_is_not_looked_through() -> None:
    """Values longer than 64 KiB are cut by the walk."""
    data = private(explicit(0x00290010, b"OB", bytes(70_000)))
    reader = in_series()

    for _ in range(2):
        found = read(reader, data, window=len(data))
        assert found is None or assert_the_same(found, data)

    assert not reader._known


def test_files_that_differ_in_very_many_values_are_of_no_kind() -> None:
    """A mould has so many gaps and no more."""

    reader = in_series()

    for value in (b"1 ", b"2 ", b"3 "):
        data = private(b"".join(explicit(0x00290000 + number, b"LO", value) for number in range(GAPS + 1)))
        assert assert_the_same(read(reader, data), data)

    assert len(reader._known) == 3


class TestOrdinary:
    """What is read in one go, so that the comparisons above compare something."""

    def series(self, count: int, syntax: str = EXPLICIT) -> list[bytes]:
        """Files of one series: UIDs, numbers and positions of several lengths."""
        files = []
        for number in range(count):
            dataset = Dataset()
            dataset.SOPInstanceUID, dataset.Modality = f"1.2.3.{7**number}", "MR"
            dataset.PatientName, dataset.SeriesNumber, dataset.InstanceNumber = "Doe^Jane", 4, number * 9
            dataset.ImagePositionPatient = [number / 4, -number, 1.5]
            files.append(file_of(dataset, syntax, pixels=200))
        return files

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    def test_every_file_of_a_series_is_told(self, syntax: str) -> None:
        """Lengths that differ do not matter."""
        reader = in_series()

        for data in self.series(40, syntax):
            assert assert_the_same(read(reader, data), data)

    def test_a_file_cut_anywhere_is_not_told(self) -> None:
        """A series whose every other file lacks its end: no mould of a whole file vouches for it."""
        reader = in_series()
        for cut in range(1, 300, 7):
            for data in self.series(2):
                assert read(reader, data) is not None
                assert read(reader, data[:-cut]) is None or cut >= 212  # without any of its pixel data it is a file

    def test_another_encoding_than_the_transfer_syntax_is_the_walks(self) -> None:
        """The first element shows whether VRs are sent."""
        for syntax, other in ((EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)):
            [data], [wrong] = self.series(1, syntax), self.series(1, other)
            mixed = data[: data.index(b"\x08\x00\x16\x00")] + wrong[wrong.index(b"\x08\x00\x16\x00") :]

            assert read(in_series(), mixed) is None


class TestPlaces:
    """Which values a mould can have."""

    def places(self, data: bytes, *, most: int = HEADS, is_implicit: bool = False) -> tuple[list[int], int, int]:
        places, end, last = places_of(data, 0, last=0, highest=0x00300000, is_implicit=is_implicit, most=most)
        return [place.start for place in places], end, last

    NAME = explicit(0x00100010, b"PN", b"Doe ")
    SEX = explicit(0x00100040, b"CS", b"O ")
    OPEN = explicit(0x00101002, b"SQ", length=UNDEFINED)
    CLOSED = plain(SEQUENCE_END)

    def test_all_plain_elements_have_one(self) -> None:
        """Up to the first that is above the highest wanted."""
        data = self.NAME + self.SEX + explicit(0x00400000, b"CS", b"O ") + bytes(12)

        assert self.places(data) == ([8, 20], 22, 0x00100040)

    @pytest.mark.parametrize(
        "then",
        [
            pytest.param(explicit(0x00100020, b"LO", b"1 "), id="not ascending"),
            pytest.param(explicit(0x00104000, b"??", b"1 "), id="unknown VR"),
            pytest.param(explicit(0x00104000, b"UN", length=UNDEFINED), id="unknown of undefined length"),
            pytest.param(plain(ITEM, b"1 "), id="a stray item"),
            pytest.param(plain(SEQUENCE_END), id="a stray delimiter"),
            pytest.param(explicit(0x00104000, b"LT", b"1 ", length=200), id="not all there"),
            pytest.param(OPEN + plain(ITEM, length=UNDEFINED), id="an item that is not closed"),
            pytest.param(OPEN + plain(ITEM, length=UNDEFINED) + CLOSED, id="a sequence that closes an item"),
            pytest.param(OPEN + explicit(0x00104000, b"LT", b"1 ") + CLOSED, id="no item in a sequence"),
            pytest.param(OPEN + plain(ITEM, length=UNDEFINED) + plain(ITEM, b"1 "), id="an item in an item"),
        ],
    )
    def test_they_end_before_what_is_not_plain(self, then: bytes) -> None:
        """Also within a sequence of undefined length, which then is not followed at all."""
        data = self.NAME + self.SEX + then + bytes(24)

        assert self.places(data) == ([8, 20], 22, 0x00100040)

    def test_items_of_defined_length_are_values(self) -> None:
        """They are not looked into."""
        data = self.NAME + self.OPEN + plain(ITEM, b"1234") + self.CLOSED + bytes(12)

        assert self.places(data) == ([8, 32], 44, 0x00101002)

    def test_they_are_bounded(self) -> None:
        """By number and by depth."""
        deep = (explicit(0x00101002, b"SQ", length=UNDEFINED) + plain(ITEM, length=UNDEFINED)) * 40

        assert self.places(self.NAME + self.SEX + bytes(12), most=1) == ([8], 12, 0x00100010)
        assert self.places(self.NAME + deep + bytes(12)) == ([8], 12, 0x00100010)
