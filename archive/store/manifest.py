"""The manifest: what the catalogue knows of one session, as a file in the session's own folder.

From the files and their manifests the catalogue can be rebuilt (``prearc doctor --rebuild``). It is JSON Lines, so
that a session can grow without its manifest being written anew: a head (the session, those that were joined into it,
its studies, scans and decisions), a line an instance, and an end. What comes later supersedes what came before: a head
the head, an instance the one of the same scan and name; a ``gone`` line removes that one. A file that does not end
with an end was cut off.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from archive.model import Instance
from archive.store import files
from archive.store.catalogue import findings, instances, sessions
from archive.store.catalogue.connection import Connection

NAME: Final = "prearc-manifest.jsonl"
FORMAT: Final = "prearc-manifest"
VERSION: Final = 2
_BEGINNING: Final = f'{{"format":"{FORMAT}","version":{VERSION},'.encode()
_END_BYTES: Final = 64  # of an end line, at most
_GROWTH: Final = 3  # a manifest that is as many times what it was when written whole is written whole again,
_SMALL_BYTES: Final = 1 << 16  # unless it is smaller than that many times this
_SESSION_COLUMNS: Final = (
    "id project subject label status is_archived timestamp folder path key_project key_study key_label"
    " autoarchive idle_seconds cap_seconds received_first received_last follows_id restore_status restore_path"
).split()


def write(root_fd: int, connection: Connection, session_id: int, *, path: str | None = None) -> None:
    """Write the session's manifest whole, durably, as the connection sees the session now; to its folder or `path`."""
    columns = sessions.raw_columns(connection, session_id)
    with files.replacing(root_fd, path or f"{columns['path']}/{NAME}") as stream:
        stream.write(_head(connection, columns))
        for scan in sessions.scans(connection, session_id):
            for instance in instances.of_scan(connection, scan.id):
                stream.write(_entry(instance))
        stream.write(_end(stream.tell()))


def append(
    root_fd: int,
    connection: Connection,
    session_id: int,
    *,
    instance_ids: Sequence[int],
    gone: Iterable[tuple[str, str]],
) -> None:
    """Bring the manifest up to date, durably, where only these instances came or changed and these names went.

    `gone` are (scan, file name); one that has an instance all the same is listed as that. Where there is no sound
    manifest, or too much in it is superseded, it is written whole. Doing it again is harmless.
    """
    columns = sessions.raw_columns(connection, session_id)
    path = f"{columns['path']}/{NAME}"
    lines = [_head(connection, columns), *_changes(connection, session_id, instance_ids, gone)]
    sizes = _sizes(root_fd, path)
    if sizes is not None:
        size_bytes, whole_bytes = sizes
        addition = b"".join([*lines, _end(whole_bytes)])
        if size_bytes + len(addition) <= _GROWTH * max(whole_bytes, _SMALL_BYTES):
            files.append(root_fd, path, addition)
            return
    write(root_fd, connection, session_id)


def _changes(
    connection: Connection, session_id: int, instance_ids: Sequence[int], gone: Iterable[tuple[str, str]]
) -> Iterator[bytes]:
    names: dict[str, list[str]] = {}
    for scan, name in gone:
        names.setdefault(scan, []).append(name)
    present = {each.id: each for each in instances.by_ids(connection, instance_ids) if each.session_id == session_id}
    for scan, wanted in names.items():
        taken = instances.named(connection, session_id, scan, wanted)
        present.update((each.id, each) for each in taken)
        for name in sorted(set(wanted) - {each.file.name for each in taken}):
            yield _line({"gone": {"scan": scan, "name": name}})
    for instance in present.values():
        yield _entry(instance)


def _sizes(root_fd: int, path: str) -> tuple[int, int] | None:
    """The size of a manifest and what it was when it was written whole; None when nothing may be added to it."""
    try:
        fd = files.open_file(root_fd, path)
    except OSError:
        return None
    try:
        size_bytes = os.fstat(fd).st_size
        beginning = os.pread(fd, len(_BEGINNING), 0)
        tail = os.pread(fd, _END_BYTES, max(0, size_bytes - _END_BYTES))
    finally:
        os.close(fd)
    last = tail.rpartition(b"\n{")[2]
    if beginning != _BEGINNING or not last.endswith(b"\n"):
        return None
    try:
        return size_bytes, int(json.loads(b"{" + last)["end"]["whole_bytes"])
    except (ValueError, KeyError, TypeError):
        return None


def _head(connection: Connection, columns: Mapping[str, Any]) -> bytes:
    session_id = columns["id"]
    return _line(
        {
            "format": FORMAT,
            "version": VERSION,
            "session": {name: columns[name] for name in _SESSION_COLUMNS},
            "joined": [
                {name: row[name] for name in _SESSION_COLUMNS} for row in sessions.joined_into(connection, session_id)
            ],
            "studies": [asdict(study) for study in sessions.studies(connection, session_id)],
            "scans": [
                {
                    "scan": scan.scan,
                    "study_instance_uid": scan.study_instance_uid,
                    "series_instance_uid": scan.series_instance_uid,
                    "series_number": scan.series_number,
                    "modality": scan.modality,
                    "description": scan.description,
                }
                for scan in sessions.scans(connection, session_id)
            ],
            "decisions": [
                {
                    "at": decision.at.isoformat(),
                    "actor": decision.actor,
                    "kinds": list(decision.kinds),
                    "reason": decision.reason,
                    "detail": dict(decision.detail),
                }
                for decision in findings.decisions(connection, session_id)
            ],
        }
    )


def _entry(instance: Instance) -> bytes:
    return _line(
        {
            "scan": instance.scan,
            "name": instance.file.name,
            "sop_class_uid": instance.sop_class_uid,
            "sop_instance_uid": instance.sop_instance_uid,
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "size_bytes": instance.file.size_bytes,
            "dataset_offset": instance.file.dataset_offset,
            "dataset_sha256": instance.file.dataset_sha256,
            "prefix_sha256": instance.file.prefix_sha256,
            "received_at": instance.received_at.isoformat(),
            "is_missing": instance.is_missing,
        }
    )


def _end(whole_bytes: int) -> bytes:
    return _line({"end": {"whole_bytes": whole_bytes}})


def _line(content: Mapping[str, Any]) -> bytes:
    """JSON escapes every newline within, so one value is one line."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape") + b"\n"
