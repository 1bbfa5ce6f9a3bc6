"""DCMTK's senders against the real node: what crossed the wire is what is on the disk.

DCMTK encodes many datasets anew before it sends them, so a file is no measure of what was sent; the witness on
the wire is (`tests.interop.wire`), and for some DCMTK's own receiver in its bit preserving mode.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from archive.model import Outcome
from tests.crash.node import wait_until
from tests.interop.corpus import CorpusFile, corpus, different, regular
from tests.interop.peers import Peered, assert_kept, assert_listed, listening
from tests.interop.tools import free_port, listens, need, run
from tests.interop.wire import C_ECHO_RSP
from tests.workbench import rows

IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{tail}" for tail in ("", ".1", ".2", ".1.99"))
UNCOMPRESSED: Final = (IMPLICIT, EXPLICIT, BIG)
VIDEO_ENDOSCOPIC: Final = "1.2.840.10008.5.1.4.1.1.77.1.1.1"

CONVERTED: Final = {"-xi": IMPLICIT, "-xe": EXPLICIT, "-xb": BIG, "-xd": DEFLATED}
"""Options of storescu that encode an uncompressed file anew, and the transfer syntax it is then sent in."""

COMPRESSED: Final = {
    "-xy": "1.2.840.10008.1.2.4.50",
    "-xx": "1.2.840.10008.1.2.4.51",
    "-xs": "1.2.840.10008.1.2.4.70",
    "-xt": "1.2.840.10008.1.2.4.80",
    "-xu": "1.2.840.10008.1.2.4.81",
    "-xv": "1.2.840.10008.1.2.4.90",
    "-xw": "1.2.840.10008.1.2.4.91",
    "-xr": "1.2.840.10008.1.2.5",
}
"""Options of storescu for compressed files, which it sends as they are."""

VIDEO: Final = {
    "-xm": "1.2.840.10008.1.2.4.100",
    "-xh": "1.2.840.10008.1.2.4.101",
    "-xn": "1.2.840.10008.1.2.4.102",
    "-xl": "1.2.840.10008.1.2.4.103",
    "-x2": "1.2.840.10008.1.2.4.104",
    "-x3": "1.2.840.10008.1.2.4.105",
    "-xo": "1.2.840.10008.1.2.4.106",
    "-x4": "1.2.840.10008.1.2.4.107",
    "-x5": "1.2.840.10008.1.2.4.108",
}
UNKNOWN_TO_DCMTK: Final = frozenset({"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.8.1"})


@pytest.fixture
def peered(tmp_path: Path) -> Iterator[Peered]:
    with listening(tmp_path) as each:
        yield each


def test_echo_is_answered(peered: Peered) -> None:
    """echoscu proposing every transfer syntax DCMTK knows is answered each time, and released."""
    echo = run("echoscu", "-aec", "PREARC", "--repeat", 3, "--propose-ts", 38, "127.0.0.1", peered.port)

    (conversation,) = peered.tap.conversations()
    assert conversation.statuses(C_ECHO_RSP) == [0x0000] * 3, echo
    assert conversation.is_released, echo
    assert peered.receipts() == []


@pytest.mark.parametrize(("option", "transfer_syntax_uid"), CONVERTED.items())
def test_storescu_uncompressed(peered: Peered, option: str, transfer_syntax_uid: str) -> None:
    """Files encoded anew by storescu are kept in the encoding that crossed the wire."""
    files = _from_several_makers(different(regular(*UNCOMPRESSED)))

    ran = run("storescu", option, "-R", "+C", "-aec", "PREARC", "127.0.0.1", peered.port, *_paths(files))

    sent = peered.tap.instances()
    assert len(sent) == len(files), ran
    assert {each.transfer_syntax_uid for each in sent} == {transfer_syntax_uid}
    assert_kept(peered, sent)


@pytest.mark.parametrize(("option", "transfer_syntax_uid"), COMPRESSED.items())
def test_storescu_compressed(peered: Peered, option: str, transfer_syntax_uid: str) -> None:
    """Compressed files are kept as they were sent, in their transfer syntax, never decompressed."""
    files = different(regular(transfer_syntax_uid))[:6]
    assert files, "the corpus has no such file"

    ran = run("storescu", option, "-R", "-aec", "PREARC", "127.0.0.1", peered.port, *_paths(files))

    sent = peered.tap.instances()
    assert len(sent) == len(files), ran
    assert {each.transfer_syntax_uid for each in sent} == {transfer_syntax_uid}
    assert_kept(peered, sent)


def test_storescu_video(peered: Peered, tmp_path: Path) -> None:
    """A stream in each video syntax DCMTK can propose (MPEG-2, MPEG-4, HEVC) is kept as it was sent."""
    for option, transfer_syntax_uid in VIDEO.items():
        video = _video(tmp_path / f"{option}.dcm", transfer_syntax_uid)
        run("storescu", option, "-R", "-aec", "PREARC", "127.0.0.1", peered.port, video)

    sent = peered.tap.instances()
    assert Counter(each.transfer_syntax_uid for each in sent) == Counter(VIDEO.values())
    assert_kept(peered, sent)


def test_dcmsend_every_transfer_syntax_at_once(peered: Peered) -> None:
    """dcmsend brings files of every transfer syntax DCMTK knows over one association, each kept in its own."""
    by_syntax = {each.transfer_syntax_uid: each for each in reversed(different(regular(*_transfer_syntaxes())))}
    assert len(by_syntax) >= 12

    ran = run("dcmsend", "-ma", "-aec", "PREARC", "127.0.0.1", peered.port, *_paths(by_syntax.values()))

    assert len(peered.tap.conversations()) == 1
    sent = peered.tap.instances()
    # an encoding of its own order of bytes is what dcmsend makes of uncompressed files
    assert {each.transfer_syntax_uid for each in sent} >= set(by_syntax) - set(UNCOMPRESSED), ran
    assert len(sent) == len(by_syntax)
    assert_kept(peered, sent)


def test_dcmsend_of_a_folder_as_it_comes(peered: Peered) -> None:
    """A stock dcmsend of a folder with its sub-folders: every instance is there once, also when sent again."""
    folder = corpus()[0].path.parents[1] / "pypi-pydicom/test_files/dicomdirtests"
    files = [each for each in corpus() if each.path.is_relative_to(folder) and "dicomdir" not in each.features]
    assert len(files) > 50
    command = ("--no-halt", "+sd", "+r", "-aec", "PREARC", "127.0.0.1", peered.port, folder)

    first = run("dcmsend", *command)
    sent = peered.tap.instances()
    assert {each.sop_instance_uid for each in sent} == {each.sop_instance_uid for each in files}, first
    assert_kept(peered, sent)
    before = {each.path: each.sha256 for each in peered.files()}
    run("dcmsend", *command)

    again = peered.tap.instances()[len(sent) :]
    assert [each.status for each in again] == [0x0000] * len(sent)
    assert {each.path: each.sha256 for each in peered.files()} == before
    assert peered.outcomes()[Outcome.ALREADY_STORED] >= len(sent)


@pytest.mark.parametrize("pdu_bytes", [4096, 131072])
def test_small_and_big_pdus(peered: Peered, pdu_bytes: int) -> None:
    """A dataset of many PDUs arrives whole whether they are as small or as large as DCMTK makes them."""
    large = max(regular(*UNCOMPRESSED), key=lambda each: each.size_bytes)
    assert large.size_bytes > 4 * 131072

    run(
        "storescu",
        "--max-send-pdu",
        pdu_bytes,
        "-pdu",
        pdu_bytes,
        "-aec",
        "PREARC",
        "127.0.0.1",
        peered.port,
        large.path,
    )

    (conversation,) = peered.tap.conversations()
    assert 0.9 * pdu_bytes < conversation.largest_pdu_bytes <= pdu_bytes
    assert_kept(peered, conversation.instances())


def test_an_association_for_each_file(peered: Peered) -> None:
    """A series sent file by file over associations of their own is one session and one scan."""
    files = _one_series()

    for each in files:
        run("storescu", "-R", "-aec", "PREARC", "127.0.0.1", peered.port, each.path)

    assert len(peered.tap.conversations()) == len(files)
    assert_kept(peered, peered.tap.instances())
    assert rows(peered.workspace, "SELECT instance_count FROM session") == [{"instance_count": len(files)}]
    assert rows(peered.workspace, "SELECT instance_count FROM scan") == [{"instance_count": len(files)}]


def test_many_files_over_one_association(peered: Peered) -> None:
    """Three hundred instances over one association of storescu, proposing all it has, are all kept."""
    files = different(regular(IMPLICIT, EXPLICIT))[:300]
    assert len(files) == 300

    run("storescu", "--no-halt", "-aec", "PREARC", "127.0.0.1", peered.port, *_paths(files))

    (conversation,) = peered.tap.conversations()
    assert conversation.is_released
    sent = conversation.instances()
    assert len(sent) > 250, "storescu proposes 64 storage classes; some files are of none of them"
    assert_kept(peered, sent)


def test_no_halt_goes_on_behind_a_refusal(peered: Peered, tmp_path: Path) -> None:
    """Of good, bad, good: the bad one is refused with its status, both good ones are kept, and all are listed."""
    good = different(regular(EXPLICIT))[:2]
    bad = _copy_without_uid(good[0], tmp_path / "bad.dcm")

    run("storescu", "--no-halt", "-R", "-aec", "PREARC", "127.0.0.1", peered.port, good[0].path, bad, good[1].path)

    sent = peered.tap.instances()
    assert [each.status for each in sent] == [0x0000, 0x0117, 0x0000]
    assert_listed(peered, sent)
    assert {each.sha256 for each in peered.files()} == {sent[0].sha256, sent[2].sha256}


def test_halting_at_a_refusal_keeps_what_came_before(peered: Peered, tmp_path: Path) -> None:
    """storescu ends the association at a refusal; what was acknowledged before stays stored, and both are listed."""
    good = different(regular(EXPLICIT))[:2]
    bad = _copy_without_uid(good[0], tmp_path / "bad.dcm")

    run("storescu", "-R", "-aec", "PREARC", "127.0.0.1", peered.port, good[0].path, bad, good[1].path)

    sent = peered.tap.instances()
    assert [each.status for each in sent] == [0x0000, 0x0117]
    assert_listed(peered, sent)
    assert {each.sha256 for each in peered.files()} == {sent[0].sha256}


def test_several_ae_titles_share_the_port(peered: Peered) -> None:
    """The called AE title decides the receiver: TRIAL files into its project, PREARC leaves it unassigned."""
    first, second = different(regular(EXPLICIT))[:2]

    run("storescu", "-R", "-aec", "TRIAL", "127.0.0.1", peered.port, first.path)
    run("storescu", "-R", "-aec", "PREARC", "127.0.0.1", peered.port, second.path)

    assert_kept(peered, peered.tap.instances())
    assert [row["called_ae_title"] for row in peered.receipts()] == ["TRIAL", "PREARC"]
    paths = {each.sop_instance_uid: each.path for each in peered.files()}
    assert paths[first.sop_instance_uid].startswith("prearchive/TRIAL/")
    assert paths[second.sop_instance_uid].startswith("prearchive/Unassigned/")


@pytest.mark.parametrize(
    ("called", "calling", "rejection"),
    [("NOBODY", "SCANNER", (1, 1, 7)), ("STRICT", "STRANGER", (1, 1, 3))],
    ids=["called AE title not recognised", "calling AE title not recognised"],
)
@pytest.mark.parametrize("program", ["storescu", "dcmsend", "echoscu"])
def test_a_stranger_is_rejected(
    peered: Peered, program: str, called: str, calling: str, rejection: tuple[int, int, int]
) -> None:
    """A wrong called AE title and a caller who is not listed are rejected with the reason DICOM has for it."""
    files = [] if program == "echoscu" else _paths(regular(EXPLICIT)[:1])

    run(program, "-aec", called, "-aet", calling, "127.0.0.1", peered.port, *files)

    assert [each.rejection for each in peered.tap.conversations()] == [rejection]
    assert peered.files() == []


def test_a_listed_caller_is_let_in(peered: Peered) -> None:
    """The caller on the list stores where the stranger could not."""
    (file,) = regular(EXPLICIT)[:1]

    run("dcmsend", "-aec", "STRICT", "-aet", "SCANNER", "127.0.0.1", peered.port, file.path)

    assert_kept(peered, peered.tap.instances())
    assert [row["calling_ae_title"] for row in peered.receipts()] == ["SCANNER"]


@pytest.mark.parametrize("option", ["-xe", "-xb", "-xd", "-xy", "-xr"])
def test_the_datasets_are_those_dcmtks_own_receiver_gets(peered: Peered, tmp_path: Path, option: str) -> None:
    """The same files, sent by the same storescu to storescp in its bit preserving mode, have the same datasets."""
    syntaxes = UNCOMPRESSED if option in CONVERTED else (COMPRESSED[option],)
    files = _from_several_makers(different(regular(*syntaxes)))[:8]
    send = ("storescu", option, "-R", "-aec", "PREARC", "127.0.0.1")

    run(*send, peered.port, *_paths(files))
    with _storescp(tmp_path / "reference") as port:
        reference_ran = run(*send, port, *_paths(files))

    reference = {_dataset_of(path) for path in (tmp_path / "reference").iterdir()}
    assert len(reference) == len(files), reference_ran
    assert {each.dataset for each in peered.files()} == reference
    assert_kept(peered, peered.tap.instances())


def test_dcmtk_reads_what_was_stored(peered: Peered) -> None:
    """Stored files are Part 10 files to another reader: dcmdump finds transfer syntax and UID, and no fault."""
    files = list({each.transfer_syntax_uid: each for each in different(regular(*_transfer_syntaxes()))}.values())
    run("dcmsend", "--no-halt", "-aec", "PREARC", "127.0.0.1", peered.port, *_paths(files))
    stored = peered.files()
    assert len(stored) == len(files)

    for each in stored:
        path = peered.workspace.root.path / each.path
        dumped = run("dcmdump", "+fo", "-Un", "+P", "0002,0010", "+P", "0008,0018", path)

        assert dumped.code == 0, dumped
        assert f"[{each.transfer_syntax_uid}]" in dumped.output, dumped
        assert f"[{each.sop_instance_uid}]" in dumped.output, dumped
        assert not dumped.output.startswith(("E:", "F:")), dumped


def _paths(files: object) -> list[Path]:
    return [each.path for each in files]  # type: ignore[attr-defined]


def _transfer_syntaxes() -> set[str]:
    return {each.transfer_syntax_uid for each in corpus()} - UNKNOWN_TO_DCMTK


def _from_several_makers(files: list[CorpusFile], count: int = 12) -> list[CorpusFile]:
    """The smallest file of every source and SOP class, the smallest of them first."""
    chosen: dict[tuple[str, str], CorpusFile] = {}
    for each in files:
        chosen.setdefault((each.name.split("/")[0], each.sop_class_uid), each)
    return list(chosen.values())[:count]


def _one_series() -> list[CorpusFile]:
    files = [
        each for each in corpus() if each.is_regular and each.name.startswith("dcmqi/segmentations/23x38x3/image/")
    ]
    assert len(files) >= 3
    return files


def _copy_without_uid(source: CorpusFile, path: Path) -> Path:
    """A file whose dataset has an invalid SOP Instance UID, as dcmodify leaves it."""
    need("dcmodify")
    shutil.copyfile(source.path, path)
    ran = run("dcmodify", "-nb", "-m", "SOPInstanceUID=not.a.uid", path)
    assert ran.code == 0, ran
    return path


def _video(path: Path, transfer_syntax_uid: str) -> Path:
    """A video endoscopic instance with one fragment of a stream nobody decodes."""
    number = transfer_syntax_uid.rpartition(".")[2]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = VIDEO_ENDOSCOPIC, f"1.2.826.0.1.3680043.10.1.9.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.10.1.8", "1.2.826.0.1.3680043.10.1.7"
    dataset.PatientID, dataset.Modality, dataset.SeriesNumber = "V1", "ES", 1
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 576, 720, 25
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = encapsulate([bytes([0, 0, 1, 0xB3]) + number.encode() * 20_000], has_bot=True)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    """DCMTK's receiver on a free port, keeping datasets as they come."""
    need("storescp")
    folder.mkdir()
    process, port = _started_storescp(folder)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _started_storescp(folder: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """It cannot be told to take any port, and somebody else may take the free one first: then another one."""
    for _ in range(5):
        port = free_port()
        process = subprocess.Popen(
            ["storescp", "+B", "+xa", "-od", str(folder), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: process.poll() is not None or listens(port), lambda: "storescp does not listen")  # noqa: B023
        if process.poll() is None:
            return process, port
    raise AssertionError("storescp found no port")


def _dataset_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
