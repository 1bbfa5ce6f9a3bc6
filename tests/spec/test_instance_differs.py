"""INSTANCE_DIFFERS tells how two datasets under one UID differ, and the telling harms nobody."""

import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from archive import conflicts, sessions
from archive.archiving import preview
from archive.differences import Difference, DifferenceKind
from archive.examination import difference_child
from archive.examination.difference import ComparisonLimits, compare
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.model import FileRecord, Instance, MergeMode
from archive.rules.header import encode_file_prefix
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import archive_session, assert_consistent, labelled_workspace, ready, visit
from tests.workbench import encoded

MB = 1 << 20


def dataset(**changes: Any) -> Dataset:
    """One instance, with some attributes other than usual."""
    (made,) = visit(series=[SeriesSpec(number=1, instances=1)])
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def prefix(transfer_syntax: str) -> bytes:
    return encode_file_prefix(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=transfer_syntax,
        calling_ae_title="SCANNER",
        implementation_class_uid="1.2.3.4",
        implementation_version_name="TEST",
    )


def written(value: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A file with this dataset."""
    data = encoded(value, transfer_syntax)
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        squeeze = zlib.compressobj(wbits=-15)
        data = squeeze.compress(data) + squeeze.flush()
    return prefix(transfer_syntax) + data


class Pairs:
    """Files of one root as the instances that `compare` takes."""

    def __init__(self, path: Path, *, is_here: bool = False) -> None:
        self.is_here = is_here
        self.ws: Workspace = labelled_workspace(path)
        self._folder = self.ws.root.path / "prearchive" / "PI"
        self._folder.mkdir()
        self._count = 0

    def file(self, data: bytes) -> Instance:
        self._count += 1
        name = f"{self._count}.dcm"
        (self._folder / name).write_bytes(data)
        record = FileRecord(name=name, size_bytes=len(data), dataset_offset=0, dataset_sha256="", prefix_sha256="")
        return Instance(
            id=self._count,
            session_id=1,
            scan_id=1,
            scan="1",
            study_instance_uid="",
            series_instance_uid="",
            sop_class_uid="",
            sop_instance_uid="",
            transfer_syntax_uid="",
            path=f"prearchive/PI/{name}",
            file=record,
            received_at=self.ws.clock.now(),
        )

    def of(self, new: bytes, old: bytes) -> Difference:
        """By the child, or by the child's code in this process."""
        one, two = self.file(new), self.file(old)
        if not self.is_here:
            return compare(self.ws, [(one, two)])[0]
        root = self.ws.root.path
        with (root / one.path).open("rb") as new_file, (root / two.path).open("rb") as old_file:
            return difference_child.compare(new_file.fileno(), old_file.fileno())


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return Pairs(tmp_path)


@pytest.fixture(params=["child", "here"])
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Pairs:
    """What is told of two datasets does not depend on who reads them."""
    return Pairs(tmp_path, is_here=request.param == "here")


def told(difference: Difference) -> dict[str, tuple[str | None, str | None]]:
    """Name of each attribute to its old and new value."""
    return {tag.name: (tag.old, tag.new) for tag in difference.tags}


def with_sequence(*, undefined: bool, accession: str = "A1") -> Dataset:
    """A dataset with an item in an item, with lengths or delimiters."""
    inner = Dataset()
    inner.CodeValue = "T-1"
    middle = Dataset()
    middle.AccessionNumber = accession
    middle.RequestedProcedureCodeSequence = DicomSequence([inner])
    value = dataset()
    value.RequestAttributesSequence = DicomSequence([middle])
    for element in (value["RequestAttributesSequence"], middle["RequestedProcedureCodeSequence"]):
        element.is_undefined_length = undefined
    for item in (middle, inner):
        item.is_undefined_length_sequence_item = undefined
    return value


@pytest.mark.parametrize(
    "other", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian]
)
def test_the_same_elements_are_the_same_dataset_in_any_uncompressed_form(either: Pairs, other: str) -> None:
    """Byte order, VRs, deflation, lengths of sequences, group lengths and padding are no difference."""
    one, two = with_sequence(undefined=True), with_sequence(undefined=False)
    two.add_new(0x00080000, "UL", 4711)
    two.add_new(0xFFFCFFFC, "OB", bytes(64))
    if other == ExplicitVRBigEndian:  # what a writer is given is in the byte order it writes
        pixels = bytearray(two.PixelData)
        pixels[::2], pixels[1::2] = pixels[1::2], pixels[::2]
        two.PixelData = bytes(pixels)

    difference = either.of(written(one), written(two, other))

    assert (difference.kind, difference.tags, difference.reason) == (DifferenceKind.SAME_DATASET, (), "")


def test_a_reanonymised_copy_is_header_only_with_old_and_new_values(either: Pairs) -> None:
    """Each attribute that differs is named with what it was and what it is; absent is not empty."""
    old = dataset(InstitutionName="Hospital", AccessionNumber="A1")
    new = dataset(PatientName="ANON^0259", PatientID="0259", AccessionNumber="", PatientIdentityRemoved="YES")
    del new.InstitutionName

    difference = either.of(written(new), written(old))

    assert difference.kind is DifferenceKind.HEADER_ONLY
    assert told(difference) == {
        "AccessionNumber": ("A1", ""),
        "InstitutionName": ("Hospital", None),
        "PatientName": ("Doe^Jane", "ANON^0259"),
        "PatientID": ("P1", "0259"),
        "PatientIdentityRemoved": (None, "YES"),
    }


def test_other_pixels_are_told_with_the_attributes_beside_them(either: Pairs) -> None:
    """PIXEL_DATA also lists the header's attributes."""
    new = dataset(PatientID="P9")
    new.PixelData = bytes(len(new.PixelData))

    difference = either.of(written(new), written(dataset()))

    assert (difference.kind, told(difference)) == (DifferenceKind.PIXEL_DATA, {"PatientID": ("P1", "P9")})


def test_pixels_that_one_copy_lacks_differ(either: Pairs) -> None:
    """A copy without pixel data is no header-only copy."""
    new = dataset()
    del new.PixelData

    assert either.of(written(new), written(dataset())).kind is DifferenceKind.PIXEL_DATA


def compressed(fragment: bytes, *, has_table: bool = False) -> Dataset:
    value = dataset()
    value.add_new(0x7FE00010, "OB", encapsulate([fragment], has_bot=has_table))
    value["PixelData"].is_undefined_length = True
    return value


def test_a_compressed_copy_cannot_be_compared_but_its_attributes_are(either: Pairs) -> None:
    """ENCODING, with the header's attributes."""
    new = compressed(b"jpeg stream!")
    new.LossyImageCompression = "01"

    difference = either.of(written(new, JPEGBaseline8Bit), written(dataset()))

    assert difference.kind is DifferenceKind.ENCODING
    assert told(difference) == {"LossyImageCompression": (None, "01")}


def test_compressed_pixels_are_compared_fragment_by_fragment(either: Pairs) -> None:
    """An offset table more is no difference; another fragment is."""
    old = written(compressed(b"jpeg stream!"), JPEGBaseline8Bit)

    same = either.of(written(compressed(b"jpeg stream!", has_table=True), JPEGBaseline8Bit), old)
    other = either.of(written(compressed(b"jpeg stream?"), JPEGBaseline8Bit), old)

    assert (same.kind, other.kind) == (DifferenceKind.SAME_DATASET, DifferenceKind.PIXEL_DATA)


def test_an_attribute_in_an_item_is_named_with_the_items_around_it(either: Pairs) -> None:
    """The path counts items from one."""
    new = with_sequence(undefined=False, accession="A2")
    new.RequestAttributesSequence[0].RequestedProcedureCodeSequence[0].CodeValue = "T-2"

    difference = either.of(written(new), written(with_sequence(undefined=True)))

    assert difference.kind is DifferenceKind.HEADER_ONLY
    assert told(difference) == {
        "0040,0275[1] AccessionNumber": ("A1", "A2"),
        "0040,0275[1]/0032,1064[1] CodeValue": ("T-1", "T-2"),
    }


def test_an_item_more_is_told(either: Pairs) -> None:
    """The sequence by its number of items, and what the new item holds."""
    new = with_sequence(undefined=False)
    new.RequestAttributesSequence.append(deepcopy(new.RequestAttributesSequence[0]))

    shown = told(either.of(written(new), written(with_sequence(undefined=False))))

    assert shown["RequestAttributesSequence"] == ("1 item", "2 items")
    assert shown["0040,0275[2] AccessionNumber"] == (None, "A1")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_private_attribute_is_named_by_tag_and_creator(either: Pairs, syntax: str) -> None:
    """Private attributes have no keyword: tag and creator tell which it is."""
    old, new = dataset(), dataset()
    for value, text in ((old, "secret name"), (new, "removed")):
        value.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
        value.add_new(0x00291020, "LO", text)

    difference = either.of(written(new, syntax), written(old))

    assert told(difference) == {"0029,1020 [SIEMENS CSA HEADER]": ("secret name", "removed")}


def test_numbers_and_bytes_are_shown_as_what_they_are(either: Pairs) -> None:
    """Numbers are decimal; bytes are told by length and digest, never raw."""
    old, new = dataset(), dataset()
    new.SmallestImagePixelValue, old.SmallestImagePixelValue = 300, 2
    new.add_new(0x00281201, "OW", b"\x00\x01\x02\x03")
    old.add_new(0x00281201, "OW", b"\x00\x01\x02\x04")

    shown = told(either.of(written(new, ImplicitVRLittleEndian), written(old)))

    assert shown["SmallestImagePixelValue"] == ("2", "300")
    before, after = shown["RedPaletteColorLookupTableData"]
    assert before is not None and after is not None and before != after
    assert before.startswith("4 bytes (blake2 ")


def test_a_name_in_another_character_set_is_one_name(either: Pairs) -> None:
    """Only the character set is named, where the text it spells is equal."""
    old = dataset(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    new = dataset(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg")

    assert told(either.of(written(new), written(old))) == {"SpecificCharacterSet": ("ISO_IR 100", "ISO_IR 192")}


def test_values_are_short_and_printable(either: Pairs) -> None:
    """64 characters at most, no escape sequence, no override of direction."""
    new = dataset(PatientName="\x1b[31m\u202eevil", PatientComments="x" * 9000, SpecificCharacterSet="ISO_IR 192")

    shown = told(either.of(written(new), written(dataset())))

    assert shown["PatientName"][1] == "\\x1b[31m\\u202eevil"
    assert shown["PatientComments"][1] == "x" * 61 + "..."


def test_at_most_fifty_attributes_are_named(either: Pairs) -> None:
    """The others are counted."""
    new = dataset()
    for number in range(70):
        new.add_new(0x00090010 + number, "LO", f"creator {number}")

    difference = either.of(written(new), written(dataset()))

    assert (len(difference.tags), difference.more_tags) == (50, 20)


def deep(levels: int) -> bytes:
    """Items in items, none of which ends."""
    opening = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return prefix(ExplicitVRLittleEndian) + opening * levels


def bomb(size: int) -> bytes:
    """A deflated dataset of one huge element of zeros."""
    squeeze = zlib.compressobj(9, wbits=-15)
    head = b"\x09\x00\x10\x10UN\x00\x00" + struct.pack("<L", size)
    pieces = [squeeze.compress(head), *(squeeze.compress(bytes(MB)) for _ in range(size // MB)), squeeze.flush()]
    return prefix(DeflatedExplicitVRLittleEndian) + b"".join(pieces)


def many(count: int) -> bytes:
    """More elements than anybody needs: empty items in one sequence."""
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * count
    return prefix(ExplicitVRLittleEndian) + b"\x08\x00\x15\x11SQ\x00\x00" + struct.pack("<L", len(items)) + items


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no DICOM": lambda: b"GIF89a" * 100,
    "prefix alone": lambda: prefix(ExplicitVRLittleEndian),
    "cut in the pixels": lambda: written(dataset())[:-10],
    "cut in the header": lambda: written(dataset())[:900],
    "huge length": lambda: prefix(ExplicitVRLittleEndian) + b"\x09\x00\x10\x10UN\x00\x00\xfe\xff\xff\xff" + b"x" * 100,
    "deep": lambda: deep(5000),
    "many": lambda: many(300_000),
    "bomb": lambda: bomb(300 * MB),
    "not deflated": lambda: prefix(DeflatedExplicitVRLittleEndian) + b"\xff" * 5000,
    "noise": lambda: prefix(ExplicitVRLittleEndian) + bytes((i * 7919) % 251 for i in range(20_000)),
}


def test_hostile_files_end_as_unknown_and_the_parent_stays_as_it_is(pairs: Pairs) -> None:
    """Whatever the bytes are, each pair has its answer, in time, without memory of this process."""
    good = pairs.file(written(dataset()))
    files = {name: pairs.file(data()) for name, data in HOSTILE.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()

    found = compare(pairs.ws, [pair for each in files.values() for pair in ((each, good), (good, each))])

    assert time.monotonic() - began < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # kB
    assert {difference.kind for difference in found} == {DifferenceKind.UNKNOWN}
    assert all(difference.reason for difference in found)
    assert compare(pairs.ws, [(good, good)])[0].kind is DifferenceKind.SAME_DATASET


@pytest.mark.campaign
@pytest.mark.parametrize("name", list(HOSTILE))
def test_each_hostile_file_has_its_reason(tmp_path: Path, name: str) -> None:
    """The code of the child refuses each by itself, before any limit of the process does."""
    here, bad, good = Pairs(tmp_path, is_here=True), HOSTILE[name](), written(dataset())

    one, other = here.of(bad, good), here.of(good, bad)

    assert (one.kind, other.kind) == (DifferenceKind.UNKNOWN, DifferenceKind.UNKNOWN)
    assert one.reason.startswith("the new file: ") and other.reason.startswith("the other file: ")


@pytest.mark.campaign
def test_a_dataset_larger_than_the_childs_memory_is_compared(pairs: Pairs) -> None:
    """Pixel data is read in pieces: 600 MB under a limit of 512 MB."""
    size = 600 * MB
    value = dataset()
    del value.PixelData
    head = written(value) + b"\xe0\x7f\x10\x00OW\x00\x00" + struct.pack("<L", size)
    one, two = pairs.file(head), pairs.file(head)
    for instance in (one, two):
        os.truncate(pairs.ws.root.path / instance.path, len(head) + size)
    with (pairs.ws.root.path / two.path).open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")

    patient = ComparisonLimits(seconds=100, pair_seconds=50)  # the machine may be busy

    found = compare(pairs.ws, [(one, two), (one, one)], limits=patient)

    assert [each.kind for each in found] == [DifferenceKind.PIXEL_DATA, DifferenceKind.SAME_DATASET]


def test_a_file_that_is_gone_or_a_link_is_unknown(pairs: Pairs) -> None:
    """Nothing is followed out of the root."""
    good = pairs.file(written(dataset()))
    (pairs.ws.root.path / "prearchive/PI/link.dcm").symlink_to("/etc/passwd")

    gone, link = compare(
        pairs.ws,
        [(replace(good, path="prearchive/PI/gone.dcm"), good), (good, replace(good, path="prearchive/PI/link.dcm"))],
    )

    assert gone.reason == "the new file cannot be opened: No such file or directory"
    assert (link.kind, "other file cannot be opened" in link.reason) == (DifferenceKind.UNKNOWN, True)


FAKE = """
import os, socket, sys, time
asked = socket.socket(fileno=0)
while True:
    request, fds, _, _ = socket.recv_fds(asked, 16, 2)
    if not request: break
    size = os.fstat(fds[0]).st_size
    if size == 1: os.abort()
    if size == 2: time.sleep(600)
    if size == 3: asked.send(b'{"kind": "NONE OF THEM"}')
    elif size == 4: asked.send(b'[' * 100000)
    else: asked.send(b'{"kind": "SAME_DATASET", "tags": [], "more_tags": 0, "reason": ""}')
    for fd in fds: os.close(fd)
"""


def fake(**limits: Any) -> ComparisonLimits:
    """A child that behaves as the size of the file says."""
    return ComparisonLimits(command=(sys.executable, "-c", FAKE), **limits)


def test_a_child_that_dies_loses_only_its_pair(pairs: Pairs) -> None:
    """It is started anew for the rest; what it says without sense is not believed."""
    good = pairs.file(b"12345")
    bad = [pairs.file(b"x" * size) for size in (1, 3, 4)]

    found = compare(
        pairs.ws, [(each, good) for each in (good, bad[0], good, bad[1], good, bad[2], good)], limits=fake()
    )

    same = DifferenceKind.SAME_DATASET
    assert [each.kind is same for each in found] == [True, False, True, False, True, False, True]
    assert found[1].reason == "the comparison died"
    assert found[3].reason == found[5].reason == "the comparison gave no answer that can be read"


def test_a_child_that_keeps_dying_is_given_up(pairs: Pairs) -> None:
    """The number of new starts is bounded."""
    bad = pairs.file(b"1")

    found = compare(pairs.ws, [(bad, bad)] * 5, limits=fake(deaths=2))

    assert [each.reason for each in found] == [
        *["the comparison died"] * 3,
        *["not compared: the comparison died too often"] * 2,
    ]


def test_time_and_number_are_bounded(pairs: Pairs) -> None:
    """A pair that takes too long, all pairs together, and pairs beyond the number are UNKNOWN."""
    good, slow = pairs.file(b"12345"), pairs.file(b"22")
    began = time.monotonic()

    one = compare(pairs.ws, [(slow, good), (good, good)], limits=fake(pair_seconds=3.0))
    all_ = compare(pairs.ws, [(slow, good), (good, good)], limits=fake(seconds=0.5))
    number = compare(pairs.ws, [(good, good)] * 3, limits=fake(pairs=2))

    assert time.monotonic() - began < 30
    assert [each.reason for each in one] == ["not compared in time", ""]
    assert [each.reason for each in all_] == ["not compared in time"] * 2
    assert [each.reason for each in number] == ["", "", "not compared: only the first 2 pairs are"]


def test_no_process_and_no_descriptor_stays(pairs: Pairs) -> None:
    """After the call there is nothing of the child."""
    good, slow = pairs.file(b"12345"), pairs.file(b"22")
    before = set(os.listdir("/proc/self/fd"))

    compare(pairs.ws, [(good, good), (slow, good)], limits=fake(pair_seconds=0.2))

    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_nothing_to_compare_starts_nothing(pairs: Pairs) -> None:
    """No pair, no process."""
    assert compare(pairs.ws, [], limits=ComparisonLimits(command=("/nonexistent",))) == []


def test_a_child_that_cannot_be_started_is_unknown(pairs: Pairs) -> None:
    """The archiver goes on without the comparison."""
    good = pairs.file(b"12345")

    (found,) = compare(pairs.ws, [(good, good)], limits=ComparisonLimits(command=("/nonexistent",)))

    assert found.reason == "the comparison could not be started"


def test_an_element_of_unknown_vr_is_no_trouble(either: Pairs) -> None:
    """A private attribute that went through an implicit node as UN is the same attribute, padding or not."""
    old, new = dataset(), dataset()
    for value, vr, text in ((old, "LO", "abc"), (new, "UN", b"abc ")):
        value.add_new(0x00290010, "LO", "ACME")
        value.add(DataElement(0x00291020, vr, text))

    assert either.of(written(new), written(old)).kind is DifferenceKind.SAME_DATASET


def differing(findings: Any) -> Any:
    """The finding of two datasets under one UID."""
    (found,) = [each for each in findings if each.kind is FindingKind.INSTANCE_DIFFERS]
    return found


def conflict(path: Path) -> tuple[Workspace, int]:
    """An archived study of four instances; one comes again with other pixels, three under another name."""
    ws = labelled_workspace(path)
    archive_session(ws, ready(ws, visit()).id)
    again = [deepcopy(each) for each in visit()]  # they share elements
    again[0].PixelData = bytes(len(again[0].PixelData))
    for value in again[1:]:
        value.PatientName, value.PatientID = "ANON", "0259"
    return ws, ready(ws, again).id


def test_the_finding_says_how_they_differ(tmp_path: Path) -> None:
    """Kinds are counted in the detail and named in the message; examples have UID, both paths and the attributes."""
    ws, session_id = conflict(tmp_path)

    found = differing(preview(ws, session_id, ArchiveOrder(mode=MergeMode.APPEND)).findings)

    assert "3 header only (PatientName, PatientID), 1 pixel data." in found.message
    assert found.detail["by_kind"] == {"HEADER_ONLY": 3, "PIXEL_DATA": 1}
    assert [each["kind"] for each in found.detail["differences"]] == ["PIXEL_DATA", *["HEADER_ONLY"] * 3]
    example = found.detail["differences"][1]
    assert example["incoming_path"].startswith("prearchive/PI/") and example["other_path"].startswith("archive/PI/")
    assert example["sop_instance_uid"] in found.detail["sop_instance_uids"]
    assert [(tag["keyword"], tag["old"], tag["new"]) for tag in example["tags"]] == [
        ("PatientName", "Doe^Jane", "ANON"),
        ("PatientID", "P1", "0259"),
    ]


def test_preview_explain_and_the_real_run_say_the_same(tmp_path: Path) -> None:
    """One comparison, one finding; it is remembered with the session, and the log has no value of the patient."""
    ws, session_id = conflict(tmp_path)

    previewed = differing(preview(ws, session_id, ArchiveOrder()).findings)
    explained = differing(conflicts.explain(ws, session_id).findings)
    happened = differing(archive_session(ws, session_id).findings)

    assert previewed == explained == happened
    details = sessions.details(ws, session_id)
    assert differing(details.findings) == happened
    log = " ".join(text for _, text in details.log)
    assert "3 header only (PatientName, PatientID)" in log
    assert "ANON" not in log and "Doe" not in log
    assert_consistent(ws)


def test_two_datasets_in_one_session_are_compared_too(tmp_path: Path) -> None:
    """The later one is the new one. Building, which is cheap, does not compare."""
    ws = labelled_workspace(tmp_path)
    again = visit()[:1]
    again[0].StudyDescription = "Corrected"
    session = ready(ws, [*visit(), *again])

    built = differing(sessions.details(ws, session.id).findings)
    found = differing(preview(ws, session.id, ArchiveOrder()).findings)

    assert "differences" not in built.detail
    assert found.detail["within"] == session.id
    assert found.message.endswith("How they differ: 1 header only (StudyDescription).")
    assert [(tag["old"], tag["new"]) for tag in found.detail["differences"][0]["tags"]] == [("Brain", "Corrected")]


def test_kept_both_the_decision_has_how_they_differed(tmp_path: Path) -> None:
    """Overridden by name, the decision records the finding with the differences; both files stay."""
    ws, session_id = conflict(tmp_path)
    overrides = [FindingKind.INSTANCE_DIFFERS, FindingKind.PATIENT_DIFFERS]

    result = archive_session(ws, session_id, mode=MergeMode.APPEND, overrides=overrides, reason="keep both")

    assert result.status == "ARCHIVED"
    assert differing(result.findings).detail["by_kind"] == {"HEADER_ONLY": 3, "PIXEL_DATA": 1}
    assert_consistent(ws)
