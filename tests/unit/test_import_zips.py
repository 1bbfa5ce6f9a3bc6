"""Zips: what no honest one has is refused, as a whole or by entry, and nothing is inflated further than it says."""

import os
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.importing import zips
from archive.importing.candidates import Candidate, Decline, Declined, Unusable
from archive.importing.finding import find
from archive.importing.opening import Opener
from tests.examples import examples

DATA = bytes(range(256)) * 64


def make(path: Path, entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression=method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def found(path: Path) -> list[Candidate | Declined]:
    return list(find([str(path)], root=str(path.parent.parent)))


def reasons(path: Path) -> dict[str, str]:
    """The reason of every refusal by what follows the path."""
    return {each.name.removeprefix(str(path)): each.reason for each in found(path) if isinstance(each, Declined)}


def content(path: Path) -> list[bytes | str]:
    """The bytes of every candidate, or why they cannot be had."""
    opener = Opener()
    result: list[bytes | str] = []
    for each in found(path):
        assert isinstance(each, Candidate)
        try:
            with opener.open(each) as opened:
                result.append(b"".join(opened.pieces(0)))
        except Unusable as error:
            result.append(error.reason)
    opener.close()
    return result


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def central(data: bytes | bytearray) -> int:
    """Where the directory of a zip begins."""
    return bytes(data).index(b"PK\x01\x02")


def test_entries_are_streamed_and_read_at(tmp_path: Path) -> None:
    """An entry is read in pieces from any offset, and at any offset for its header, also backward."""
    big = os.urandom(3 << 20)
    path = make(tmp_path / "a.zip", {"folder/": b"", "one": DATA, "folder/two": big})

    assert content(path) == [DATA, big]
    opener = Opener()
    _, two = found(path)
    assert isinstance(two, Candidate)
    assert two.name == f"{path}/folder/two"
    with opener.open(two) as opened:
        assert opened.read_at(0, 10) == big[:10]
        assert opened.read_at(2_500_000, 10) == big[2_500_000:2_500_010]
        assert opened.read_at(70_000, 10) == big[70_000:70_010]
        assert opened.read_at(len(big) - 3, 10) == big[-3:]
        assert b"".join(opened.pieces(1_234_567)) == big[1_234_567:]
    opener.close()


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "..\\x", "\\x", "C:\\x", "c:x", "a/.."], ids=lambda name: repr(name)
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    """A name with `..`, a root or a drive in it is refused; the others are not touched by it."""
    path = make(tmp_path / "a.zip", {name: DATA, "good..dcm": DATA})

    assert list(reasons(path).values()) == [Decline.ZIP_NAME]
    assert [each.name for each in found(path) if isinstance(each, Candidate)] == [f"{path}/good..dcm"]


def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path) -> None:
    """What an unpacker would make a link or a FIFO of is no file."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, mode in (("link", 0o120777), ("fifo", 0o010644), ("file", 0o100644)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, b"/etc/passwd")

    assert reasons(path) == {"/link": Decline.LINK, "/fifo": Decline.NOT_A_FILE}


def test_encrypted_and_exotic_entries_are_refused(tmp_path: Path) -> None:
    """Encrypted entries, and methods that would be inflated without a bound."""
    path = make(tmp_path / "a.zip", {"one": DATA})
    patched(path, lambda data: data.__setitem__(central(data) + 8, data[central(data) + 8] | 1))

    assert reasons(path) == {"/one": Decline.ZIP_ENCRYPTED}
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert reasons(make(tmp_path / f"{method}.zip", {"one": DATA}, method=method)) == {"/one": Decline.ZIP_METHOD}


def test_a_bomb_is_refused_by_what_it_claims(tmp_path: Path) -> None:
    """An entry that inflates too far is refused alone; one blank image is not one."""
    blank, bomb = bytes(8 << 20), bytes(zips.RATIO_FROM_BYTES + 1)
    path = make(tmp_path / "a.zip", {"blank": blank, "bomb": bomb, "noise": os.urandom(1 << 20)})

    assert reasons(path) == {"/bomb": Decline.ZIP_BOMB}
    assert [len(each.entry_name) for each in found(path) if isinstance(each, Candidate)] == [5, 5]


def test_a_zip_that_is_too_large_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many entries below the bounds of one are bounded together."""
    monkeypatch.setattr(zips, "TOTAL_RATIO_FROM_BYTES", 16 << 20)
    path = make(tmp_path / "a.zip", {f"{number}": bytes(1 << 20) for number in range(17)})

    assert reasons(path) == {"": Decline.ZIP_BOMB}


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A directory that lists one entry many times, as overlapping bombs do, is refused as a whole."""
    path = make(tmp_path / "a.zip", {"one": os.urandom(5000)})
    data = path.read_bytes()
    begin, end = central(data), data.index(b"PK\x05\x06")
    record, tail = data[begin:end], bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", 50, 50)
    tail[12:16] = struct.pack("<L", 50 * len(record))
    path.write_bytes(data[:begin] + 50 * record + tail)

    assert reasons(path) == {"": Decline.ZIP_BOMB}


def test_a_directory_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More entries, or a larger directory, than anybody has are refused before they are held in memory."""
    monkeypatch.setattr(zips, "MAX_ENTRIES", 10)
    path = make(tmp_path / "a.zip", {f"a-rather-long-name-of-an-entry-{number}": b"" for number in range(11)})
    assert reasons(path) == {"": Decline.ZIP_BOMB}

    monkeypatch.undo()
    sparse = make(tmp_path / "b.zip", {"one": b"x"})
    data = sparse.read_bytes()
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    end[12:20] = struct.pack("<LL", 1 << 30, 0)
    with open(sparse, "wb") as stream:
        stream.write(b"PK\x03\x04")
        stream.truncate(1 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(end)
    tracemalloc.start()
    assert reasons(sparse) == {"": Decline.ZIP_BOMB}
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_an_entry_is_what_its_header_says_or_refused(tmp_path: Path) -> None:
    """Wrong sizes and checksums are found when the entry is read: it never passes for a whole file."""
    longer, shorter = make(tmp_path / "l.zip", {"one": DATA}), make(tmp_path / "s.zip", {"one": DATA})
    broken = make(tmp_path / "b.zip", {"one": DATA}, method=zipfile.ZIP_STORED)
    patched(longer, lambda data: data.__setitem__(slice(central(data) + 24, central(data) + 28), b"\x00\x40\x01\x00"))
    patched(shorter, lambda data: data.__setitem__(slice(central(data) + 24, central(data) + 28), b"\x00\x01\x00\x00"))
    patched(broken, lambda data: data.__setitem__(100, data[100] ^ 1))

    assert content(longer) == content(shorter) == content(broken) == [Decline.ZIP_DAMAGED]


def test_what_is_cut_or_no_zip_is_refused(tmp_path: Path) -> None:
    """A zip without its directory, and an entry that does not inflate."""
    cut = make(tmp_path / "a.zip", {"one": DATA})
    cut.write_bytes(cut.read_bytes()[:-30])
    garbled = patched(
        make(tmp_path / "b.zip", {"one": os.urandom(1000)}), lambda data: data.__setitem__(slice(40, 60), b"\xff" * 20)
    )

    assert reasons(cut) == {"": Decline.ZIP_DAMAGED}
    assert content(garbled) == [Decline.ZIP_DAMAGED]


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_but_refusals_come_of_broken_zips(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever the bytes of a zip are, its entries are read or refused, and no error of the reader comes through."""
    path = make(tmp_path / "a.zip", {"one": DATA, "folder/two": b"x" * 300})
    whole = bytearray(path.read_bytes())
    directory = central(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, 60) | st.integers(directory - 40, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(30, len(whole)))])

    opener = Opener()
    for each in found(path):
        if isinstance(each, Candidate):
            try:
                with opener.open(each) as opened:
                    opened.read_at(0, 132)
                    assert sum(map(len, opened.pieces(0))) == each.size_bytes
            except Unusable:
                pass
    opener.close()


def test_the_memory_of_a_large_entry_is_flat(tmp_path: Path) -> None:
    """A large entry passes in pieces."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive, archive.open("big", "w") as stream:
        noise = os.urandom(1 << 20)
        for _ in range(64):
            stream.write(noise)
    opener = Opener()
    (candidate,) = found(path)
    assert isinstance(candidate, Candidate)

    tracemalloc.start()
    with opener.open(candidate) as opened:
        checksum = 0
        for piece in opened.pieces(0):
            checksum = zlib.crc32(piece, checksum)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    opener.close()

    assert peak < 16 << 20
    assert checksum == zlib.crc32(noise * 64)


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    """What was looked at is what is opened, or nothing: zips and files alike."""
    path = make(tmp_path / "a.zip", {"one": DATA})
    plain = tmp_path / "plain"
    plain.write_bytes(DATA)
    candidates = [*found(path), *found(plain)]
    make(path, {"one": DATA + b"x"})
    plain.unlink()
    plain.symlink_to(path)

    said = []
    opener = Opener()
    for each in candidates:
        assert isinstance(each, Candidate)
        with pytest.raises(Unusable) as raised, opener.open(each):
            pass
        said.append(raised.value.reason)
    assert said == [Decline.CHANGED, Decline.LINK]
