"""Headers read by the shapes of those before: the same answer as the walk, or none."""

import json
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from archive.attributes import HEADER_TAGS
from archive.rules import header_quick, header_shapes
from archive.rules.header import DEFAULT_LIMITS, HeaderLimits, encode_file_prefix, read_file_header
from archive.rules.header_quick import QuickHeader, QuickReader
from archive.rules.header_shapes import LEARNT_AT_ONCE, RUNS
from tests.unit.test_header import EXPLICIT, IMPLICIT, datasets, encoded, explicit, memory

CORPUS = Path(os.environ.get("PREARC_OPEN_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data/open")
WINDOW = 1 << 14
WANTED = frozenset(HEADER_TAGS)


def quick(reader: QuickReader, data: bytes, window: int = WINDOW) -> QuickHeader | None:
    return reader.read(data[:window], len(data), memory(data))


def assert_the_same(found: QuickHeader | None, data: bytes, *, also: frozenset[int] = frozenset()) -> bool:
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


def test_the_corpus_reads_as_by_the_walk(corpus: list[bytes]) -> None:
    """File by file, in another order, and again: whatever was learnt, nothing is told that the walk does not tell."""
    reader = QuickReader(WANTED, DEFAULT_LIMITS)
    random.Random(3).shuffle(order := list(corpus))

    told = sum(assert_the_same(quick(reader, data), data) for data in [*corpus, *order] for _ in range(2))

    assert told > len(corpus)


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.campaign, pytest.mark.timeout(0)])])
def test_a_damaged_file_reads_as_by_the_walk(corpus: list[bytes], rounds: int) -> None:
    """A file like the one before, but for some bytes or its end: where the walk refuses it nothing is told."""
    rng = random.Random(4)
    reader = QuickReader(WANTED, DEFAULT_LIMITS)
    told = 0
    for data in corpus[:: 1 if rounds > 1 else 3]:
        for each in [data, data, *(damaged(data, rng, 6000) for _ in range(8 * rounds))]:
            told += assert_the_same(quick(reader, each), each)

    assert told > len(corpus) // 3


@given(files=st.lists(datasets(depth=1), min_size=1, max_size=3), syntax=st.sampled_from([EXPLICIT, IMPLICIT]))
@settings(max_examples=25, deadline=None)
def test_generated_files_read_as_by_the_walk(files: Iterable[Dataset], syntax: str) -> None:
    """Datasets with sequences of both kinds of length, one after the other and again."""
    reader = QuickReader(WANTED | {0x00280010, 0x00200052}, DEFAULT_LIMITS)
    whole = [file_of(dataset, syntax, pixels=64) for dataset in files]

    for window in (WINDOW, 500):
        for data in [*whole, *whole, *(data[:-3] for data in whole)]:
            found = quick(reader, data, window)
            assert_the_same(found, data, also=frozenset({0x00280010, 0x00200052}))


@given(dataset=datasets(depth=1), syntax=st.sampled_from([EXPLICIT, IMPLICIT]), seed=st.integers(0, 1 << 32))
@settings(max_examples=25, deadline=None)
def test_generated_damage_reads_as_by_the_walk(dataset: Dataset, syntax: str, seed: int) -> None:
    """After a whole file its damaged copies are as the walk finds them."""
    rng = random.Random(seed)
    reader = QuickReader(WANTED, DEFAULT_LIMITS)
    data = file_of(dataset, syntax, pixels=64)
    for each in [data, *(damaged(data, rng, len(data)) for _ in range(6)), data]:
        assert_the_same(quick(reader, each), each)


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
        reader = QuickReader(WANTED, DEFAULT_LIMITS)

        for data in self.series(40, syntax):
            assert assert_the_same(quick(reader, data), data)

    def test_a_file_cut_anywhere_is_not_told(self) -> None:
        """A series whose every other file lacks its end: no shape of a whole file vouches for it."""
        reader = QuickReader(WANTED, DEFAULT_LIMITS)
        for cut in range(1, 300, 7):
            for data in self.series(2):
                assert quick(reader, data) is not None
                assert quick(reader, data[:-cut]) is None or cut >= 212  # without any of its pixel data it is a file

    def test_what_is_learnt_is_bounded(self) -> None:
        """Files that are all different: runs are forgotten, and one file teaches only some."""
        reader = QuickReader(WANTED, DEFAULT_LIMITS)
        shapes = reader._explicit
        [data] = self.series(1)
        for number in range(RUNS):
            private = b"".join(explicit(0x00090000 + 2 * i + number, b"LO", b"x" * 2 * i) for i in range(20))
            before = len(shapes._runs)
            other = data.replace(explicit(0x00080060, b"CS", b"MR"), explicit(0x00080060, b"CS", b"MR") + private)
            assert_the_same(quick(reader, other), other)
            assert len(shapes._runs) <= min(RUNS, before + LEARNT_AT_ONCE)

    def test_another_encoding_than_the_transfer_syntax_is_the_walks(self) -> None:
        """The first element shows whether VRs are sent."""
        for syntax, other in ((EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)):
            [data], [wrong] = self.series(1, syntax), self.series(1, other)
            mixed = data[: data.index(b"\x08\x00\x16\x00")] + wrong[wrong.index(b"\x08\x00\x16\x00") :]

            assert quick(QuickReader(WANTED, DEFAULT_LIMITS), mixed) is None

    def test_limits_below_the_first_bytes_are_the_walks(self) -> None:
        """Where a limit may be met only the walk can tell."""
        [data] = self.series(1)

        assert quick(QuickReader(WANTED, HeaderLimits(elements=4)), data) is None
        assert quick(QuickReader(WANTED, HeaderLimits(read_bytes=100)), data) is None


def named(name: str) -> bytes:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = name, "1"
    return file_of(dataset, EXPLICIT, pixels=64)


def test_texts_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many all are forgotten, and what is read stays the same."""
    monkeypatch.setattr(header_quick, "_MEMO", 2)
    reader = QuickReader(WANTED, DEFAULT_LIMITS)

    for name in ("A", "B", "C", "A"):
        assert assert_the_same(quick(reader, named(name)), named(name))

    assert len(reader._memo) <= 2


def test_worn_shapes_are_learnt_anew_in_the_next_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that were cut into short pieces go when other files begin, and what is read stays the same."""
    monkeypatch.setattr(header_shapes, "WORN_ELEMENTS", 1 << 30)
    reader = QuickReader(WANTED, DEFAULT_LIMITS)

    for _ in range(2):
        assert assert_the_same(quick(reader, named("A")), named("A"))
        reader.next_folder()
        assert not any(shapes._runs for shapes in (reader._meta, reader._explicit, reader._implicit))
