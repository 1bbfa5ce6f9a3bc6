"""By what the files of a duplicate set differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from archive.differences import Difference, DifferenceKind
from archive.rules import survey
from archive.rules.survey import Key
from archive.surveying.readers import Readers
from archive.surveying.reading import Reading, open_file_unseen
from archive.surveys import FileFacts, SetDifference

if TYPE_CHECKING:
    from archive.examination.difference import ComparisonLimits

Differences = Mapping[Key, tuple[SetDifference, tuple[str, ...]]]

_KINDS: Final = {
    DifferenceKind.SAME_DATASET: SetDifference.SAME_DATASET,
    DifferenceKind.HEADER_ONLY: SetDifference.HEADER_ONLY,
    DifferenceKind.PIXEL_DATA: SetDifference.PIXEL_DATA,
    DifferenceKind.ENCODING: SetDifference.UNKNOWN,
    DifferenceKind.UNKNOWN: SetDifference.UNKNOWN,
}
_RANK: Final = {
    kind: rank
    for rank, kind in enumerate(
        (
            SetDifference.IDENTICAL_BYTES,
            SetDifference.SAME_DATASET,
            SetDifference.HEADER_ONLY,
            SetDifference.UNKNOWN,
            SetDifference.PIXEL_DATA,
        )
    )
}
"""The worst of its pairs is what a set is: what is not known may be worse than what is known to be harmless."""


def differences_of(
    readers: Readers,
    folder: str,
    groups: Mapping[Key, Sequence[FileFacts]],
    *,
    limits: "ComparisonLimits | None" = None,
) -> dict[Key, tuple[SetDifference, tuple[str, ...]]]:
    """The difference of every group of several files, and the attributes they differ in.

    All bytes are compared by their digests first; a set whose datasets differ is compared element by element, every
    other file with the first one.

    Parameters
    ----------
    folder
        Of the resource, relative to the root of `readers`.
    limits
        What comparing the sets of one resource may cost; a set beyond it is UNKNOWN.
    """
    sets = {key: list(group) for key, group in groups.items() if len(group) > 1}
    read = _digests(readers, folder, (file for group in sets.values() for file in group))
    found: dict[Key, tuple[SetDifference, tuple[str, ...]]] = {}
    unequal: list[tuple[Key, str, str]] = []
    for key, group in sets.items():
        readings = [read[file.path] for file in group]
        found[key] = _by_digest(key, readings), ()
        if found[key][0] is SetDifference.HEADER_ONLY:
            first = readings[0]
            unequal += [
                (key, file.path, group[0].path)
                for file, reading in zip(group[1:], readings[1:], strict=True)
                if _dataset(reading) != _dataset(first)
            ]
    pairs = [(f"{folder}/{new}", f"{folder}/{old}") for _, new, old in unequal]
    compared: dict[Key, list[Difference]] = {}
    answers = _compared(readers.root_fd, pairs, limits) if pairs else []
    for (key, _, _), difference in zip(unequal, answers, strict=True):
        compared.setdefault(key, []).append(difference)
    for key, differences in compared.items():
        kind = max((_KINDS[each.kind] for each in differences), key=_RANK.__getitem__)
        tags = {tag.name: None for each in differences for tag in each.tags}
        found[key] = kind, tuple(tags)
    return found


def _compared(root_fd: int, pairs: list[tuple[str, str]], limits: "ComparisonLimits | None") -> list[Difference]:
    from archive.examination.difference import ComparisonLimits, compare_files  # few resources have such sets

    limits = limits or ComparisonLimits(pairs=10_000, seconds=600.0, pair_seconds=60.0, deaths=20)
    return compare_files(root_fd, pairs, limits=limits, open_file=open_file_unseen)


def digested(readers: Readers, folder: str, files: Sequence[FileFacts]) -> list[FileFacts] | None:
    """The same files, those of duplicate sets with their digests; None when nothing had to be read for that."""
    sets = [group for group in survey.groups(files).values() if len(group) > 1]
    missing = [file for group in sets for file in group if not file.file_sha256]
    if not missing:
        return None
    read = _digests(readers, folder, missing)
    found = {file.path: _with_digests(file, read[file.path]) for file in missing}
    return [found.get(file.path, file) for file in files]


def _with_digests(file: FileFacts, reading: Reading) -> FileFacts:
    """What was read of the file as it was before; another one is left for the comparison to find."""
    if _version(file) != _version(reading):
        return file
    return file._replace(dataset_sha256=reading.dataset_sha256, file_sha256=reading.file_sha256)


def _version(each: FileFacts | Reading) -> tuple[int | None, int, int]:
    return each.size_bytes, each.mtime_ns, each.inode


def _digests(readers: Readers, folder: str, members: Iterable[FileFacts]) -> dict[str, Reading]:
    """Readings with digests by path; only what lacks them is read."""
    found: dict[str, Reading] = {}
    missing: list[str] = []
    for file in members:
        if file.file_sha256:
            found[file.path] = Reading._make(file[2:])
        else:
            missing.append(file.path)
    readings = readers.start([f"{folder}/{path}" for path in missing], with_digests=True)
    return found | dict(zip(missing, readings, strict=True))


def _by_digest(key: Key, readings: Sequence[Reading]) -> SetDifference:
    """What digests alone tell; HEADER_ONLY stands for a set that must be looked into."""
    if any(not each.file_sha256 or (each.sop_class_uid, each.sop_instance_uid) != key for each in readings):
        return SetDifference.UNKNOWN  # it went away or was changed while the survey ran
    if len({each.file_sha256 for each in readings}) == 1:
        return SetDifference.IDENTICAL_BYTES
    if len({_dataset(each) for each in readings}) == 1:
        return SetDifference.SAME_DATASET
    return SetDifference.HEADER_ONLY


def _dataset(reading: Reading) -> tuple[str, str]:
    """The bytes and how they are to be read."""
    return reading.dataset_sha256, reading.transfer_syntax_uid
