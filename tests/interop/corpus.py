"""The open corpus: real files of many makers, their facts as somebody else's reader found them."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import pytest

CORPUS: Final = Path(
    os.environ.get("PREARC_OPEN_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data/open"
)
ODD: Final = frozenset(
    "meta_dataset_uid_mismatch missing_sop_class missing_sop_uid bad_sop_uid no_preamble no_file_meta"
    " no_transfer_syntax dicomdir missing_study_uid missing_series_uid bad_study_uid bad_series_uid".split()
)
"""Features a careful sender's files do not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFile:
    """One file; the UIDs are its dataset's, ``""`` where it has none."""

    path: Path
    name: str
    size_bytes: int
    dataset_offset: int
    dataset_sha256: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    features: frozenset[str]

    @property
    def is_regular(self) -> bool:
        return not self.features & ODD and "truncated" not in self.name

    @property
    def has_unknown_uids(self) -> bool:
        """Whether a SOP UID has VR UN: DCMTK finds no UID then."""
        start = self.dataset()[:4096]
        return b"\x08\x00\x16\x00UN" in start or b"\x08\x00\x18\x00UN" in start

    def dataset(self) -> bytes:
        return self.path.read_bytes()[self.dataset_offset :]


def corpus() -> tuple[CorpusFile, ...]:
    """All files, in the manifest's order; skips the test where the corpus is not there."""
    manifest = CORPUS / "manifest.json"
    if not manifest.is_file():
        pytest.skip(f"NO CORPUS at {CORPUS}: set PREARC_OPEN_DATA to try prearc with real files")
    return _read(manifest)


def regular(*transfer_syntax_uids: str) -> list[CorpusFile]:
    """Files without a defect in any of these transfer syntaxes, smallest first."""
    found = [
        each
        for each in corpus()
        if each.is_regular and each.transfer_syntax_uid in transfer_syntax_uids and not each.has_unknown_uids
    ]
    return sorted(found, key=lambda each: (each.size_bytes, each.name))


def different(files: Iterable[CorpusFile]) -> list[CorpusFile]:
    """The first file of each SOP Instance UID."""
    first: dict[str, CorpusFile] = {}
    for each in files:
        first.setdefault(each.sop_instance_uid, each)
    return list(first.values())


@lru_cache(maxsize=1)
def _read(manifest: Path) -> tuple[CorpusFile, ...]:
    entries = json.loads(manifest.read_text())["files"]
    assert entries, "an empty corpus proves nothing"
    return tuple(
        CorpusFile(
            path=manifest.parent / each["path"],
            name=each["path"].removeprefix("files/"),
            size_bytes=each["size"],
            dataset_offset=each["dataset_offset"],
            dataset_sha256=each["dataset_sha256"],
            sop_class_uid=each["sop_class"] or "",
            sop_instance_uid=each["sop_uid"] or "",
            transfer_syntax_uid=each["transfer_syntax"] or "",
            features=frozenset(each["features"]),
        )
        for each in entries
    )
