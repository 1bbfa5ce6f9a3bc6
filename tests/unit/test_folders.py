"""Folders that are kept open: each use is one of the folder that its path leads to now."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.store.folders import OpenFolders
from archive.store.parts import Part


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[OpenFolders]:
    (tmp_path / "a" / "b").mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    kept = OpenFolders(fd, at_most=2)
    yield kept
    kept.close()
    os.close(fd)


def make(folders: OpenFolders, relative: str, name: str) -> None:
    with folders.use(relative) as fd:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=fd))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_folder_is_opened_once(folders: OpenFolders) -> None:
    """The second use gets the same descriptor."""
    with folders.use("a/b") as first:
        pass
    with folders.use("a/b") as second:
        assert first == second


def test_a_folder_that_was_replaced_is_opened_anew(folders: OpenFolders, tmp_path: Path) -> None:
    """What is made goes where the path leads, not where the old folder went."""
    make(folders, "a/b", "one")
    (tmp_path / "a" / "b").rename(tmp_path / "moved")
    (tmp_path / "a" / "b").mkdir()

    make(folders, "a/b", "two")

    assert [os.listdir(tmp_path / "a" / "b"), os.listdir(tmp_path / "moved")] == [["two"], ["one"]]


@pytest.mark.parametrize("fate", ["renamed", "removed", "a file"])
def test_a_folder_that_is_gone_is_not_used(folders: OpenFolders, tmp_path: Path, fate: str) -> None:
    """Renamed, removed, or its parent no folder any more: an error as for any other path."""
    make(folders, "a/b", "one")
    (tmp_path / "a" / "b").rename(tmp_path / "moved")
    if fate != "renamed":
        (tmp_path / "a").rmdir()
    if fate == "a file":
        (tmp_path / "a").touch()

    with pytest.raises((FileNotFoundError, NotADirectoryError)), folders.use("a/b"):
        pass

    assert os.listdir(tmp_path / "moved") == ["one"]


def test_a_link_on_the_way_is_not_followed(folders: OpenFolders, tmp_path: Path) -> None:
    """A planted link leads nowhere, at the first use as at a later one."""
    make(folders, "a/b", "one")
    (tmp_path / "elsewhere" / "b").mkdir(parents=True)
    (tmp_path / "a").rename(tmp_path / "was-a")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"directory|symbolic"), folders.use("a/b"):
        pass

    assert os.listdir(tmp_path / "elsewhere" / "b") == []


def test_descriptors_are_bounded_and_let_go(folders: OpenFolders, tmp_path: Path) -> None:
    """As many as allowed are kept, those in use longer; in the end none is."""
    before = descriptors()
    names = ["a", "a/b", "c", "d"]
    (tmp_path / "c").mkdir()
    (tmp_path / "d").mkdir()

    with folders.use("a") as held:
        for name in names[1:]:
            make(folders, name, "one")
        assert os.fstat(held).st_ino == (tmp_path / "a").stat().st_ino
    assert descriptors() == before + 2

    folders.close()
    assert descriptors() == before


def test_a_folder_that_cannot_be_looked_up_leaves_no_descriptor(
    folders: OpenFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails at the look: whoever wanted it hears it from the disk, and nothing stays open."""
    before = descriptors()
    make(folders, "a/b", "one")
    stat = os.stat

    def fail(path: object, **options: object) -> os.stat_result:
        if path == "a/b":
            raise OSError(errno.EIO, "Input/output error")
        return stat(path, **options)  # type: ignore[call-overload, no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fail)
        make(folders, "a/b", "two")

    folders.close()
    assert descriptors() == before
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["one", "two"]


def test_a_part_whose_file_cannot_be_closed_is_dropped_all_the_same(
    folders: OpenFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems tell a failed write only then: the descriptor is gone, and so are name and folder."""
    (tmp_path / "spool").mkdir()
    before = descriptors()
    part = Part(folders, owner="o", prefix=b"DICM", limit_bytes=1000)
    part.write(b"dataset")
    number, close, closed = part.fd, os.close, list[int]()

    def fail(fd: int) -> None:
        close(fd)
        closed.append(fd)
        if fd == number:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        part.drop()
        part.drop()

    folders.close()
    assert closed.count(number) == 1
    assert os.listdir(tmp_path / "spool") == []
    assert descriptors() == before


def test_what_is_in_use_when_all_are_let_go_goes_with_its_user(folders: OpenFolders) -> None:
    """A folder is not closed under the one who uses it."""
    before = descriptors()

    with folders.use("a") as held:
        folders.close()
        assert os.listdir(held) == ["b"]

    assert descriptors() == before


def test_the_spool_may_be_removed_and_made_again(tmp_path: Path) -> None:
    """It is not looked up for each part; where it is gone the next part still finds the one that is there now."""
    spool = tmp_path / "spool"
    spool.mkdir()
    root_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    folders = OpenFolders(root_fd)
    before = descriptors()
    Part(folders, owner="o", prefix=b"DICM", limit_bytes=1000).drop()
    spool.rmdir()
    gone = Part(folders, owner="o", prefix=b"DICM", limit_bytes=1000)
    spool.mkdir()

    part = Part(folders, owner="o", prefix=b"DICM", limit_bytes=1000)
    part.write(b"dataset")

    assert gone.failure is not None
    assert part.failure is None
    assert (tmp_path / part.path).read_bytes() == b"DICMdataset"
    part.drop()
    folders.close()
    assert descriptors() == before
    os.close(root_fd)
