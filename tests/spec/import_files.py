"""Files to import: synthetic studies as folders, zips and media, and the bytes of their datasets."""

import hashlib
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from archive.rules.header import file_reader, read_file_meta
from archive.workspace import Workspace
from tests.workbench import encoded, rows


def write_files(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    """Each dataset as a file, numbered, with preamble and group 2."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.dcm" for number in range(1, len(datasets) + 1)]
    for path, dataset in zip(paths, datasets, strict=True):
        dcmwrite(path, dataset, enforce_file_format=True)
    return paths


def zipped(path: Path, files: Iterable[Path], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these files."""
    with zipfile.ZipFile(path, "w", compression=method) as archive:
        for each in files:
            archive.write(each, arcname=f"a/{each.name}")
    return path


def dataset_sha256(path: Path) -> str:
    """Digest of what follows preamble and group 2."""
    data = path.read_bytes()
    fd = os.open(path, os.O_RDONLY)
    try:
        return hashlib.sha256(data[read_file_meta(file_reader(fd), len(data)).dataset_offset :]).hexdigest()
    finally:
        os.close(fd)


def filed(ws: Workspace) -> list[str]:
    """Digests of the datasets that are on the disk, sorted."""
    return sorted(dataset_sha256(path) for path in (ws.root.path / "prearchive").rglob("*.dcm"))


def digests(datasets: Iterable[Dataset]) -> list[str]:
    """Digests of the datasets as they are written to files, sorted."""
    return sorted(hashlib.sha256(encoded(dataset)).hexdigest() for dataset in datasets)


def outcomes(ws: Workspace) -> list[str]:
    """The outcome of every receipt, oldest first."""
    return [row["outcome"] for row in rows(ws, "SELECT outcome FROM receipt ORDER BY id")]
