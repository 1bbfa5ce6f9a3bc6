"""Reading a session's manifest back: all of it is checked, for it may have been edited or damaged."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from archive.clock import from_iso, iso
from archive.errors import ArchiveError
from archive.model import Autoarchive, FileRecord, InstanceHeader, SessionStatus, Study
from archive.store import files
from archive.store.catalogue.recovering import InstanceFacts
from archive.store.manifest import FORMAT, NAME, VERSION

_MAX_BYTES: Final = 1 << 30
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class ManifestError(ArchiveError):
    """The manifest cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestScan:
    """One scan of a manifest; `header` holds the attributes that its row is made of."""

    scan: str
    header: InstanceHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestContent:
    """A manifest as values. `session` holds checked columns; `instances` are by (scan, file name)."""

    session: Mapping[str, Any]
    studies: tuple[Study, ...]
    scans: tuple[ManifestScan, ...]
    instances: Mapping[tuple[str, str], InstanceFacts]
    decisions: tuple[Mapping[str, Any], ...]


def read(root_fd: int, session_path: str) -> ManifestContent | None:
    """The manifest in a session's folder; None when there is none.

    Raises
    ------
    ManifestError
        It is no manifest, of a version this prearc does not know, or not what one says.
    """
    try:
        fd = files.open_file(root_fd, f"{session_path}/{NAME}")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"The manifest cannot be read: {error.strerror}.") from error
    with os.fdopen(fd, "rb") as stream:
        data = stream.read(_MAX_BYTES)
    try:
        content = json.loads(data.decode("utf-8", "surrogateescape"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ManifestError(f"The manifest is of version {content['version']!r}, not {VERSION}.")
        return ManifestContent(
            session=_session(content["session"]),
            studies=tuple(_study(entry) for entry in content["studies"]),
            scans=tuple(_scan(entry) for entry in content["scans"]),
            instances={
                (_name(entry["scan"]), _name(entry["name"])): _instance(entry) for entry in content["instances"]
            },
            decisions=tuple(_decision(entry) for entry in content["decisions"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"The manifest is damaged ({type(error).__name__}: {error}).") from error


def _session(entry: Mapping[str, Any]) -> dict[str, Any]:
    project, follows = entry["project"], entry["follows_id"]
    restore = entry["restore_status"]
    return {
        "id": _whole(entry["id"]),
        "project": None if project is None else _name(project),
        "subject": _text(entry["subject"]),
        "label": _name(entry["label"]),
        "status": SessionStatus(entry["status"]),
        "timestamp": _name(entry["timestamp"]),
        "folder": _name(entry["folder"]),
        "key_project": _text(entry["key_project"]),
        "key_study": _text(entry["key_study"]),
        "key_label": _text(entry["key_label"]),
        "autoarchive": Autoarchive(entry["autoarchive"]),
        "idle_seconds": float(entry["idle_seconds"]),
        "cap_seconds": float(entry["cap_seconds"]),
        "received_first": _time(entry["received_first"]),
        "received_last": _time(entry["received_last"]),
        "follows_id": None if follows is None else _whole(follows),
        "restore_status": None if restore is None else SessionStatus(restore),
        "restore_path": None if entry["restore_path"] is None else _text(entry["restore_path"]),
    }


def _study(entry: Mapping[str, Any]) -> Study:
    return Study(**{field.name: _text(entry[field.name]) for field in fields(Study)})


def _scan(entry: Mapping[str, Any]) -> ManifestScan:
    header = InstanceHeader(
        transfer_syntax_uid="",
        study_instance_uid=_text(entry["study_instance_uid"]),
        series_instance_uid=_text(entry["series_instance_uid"]),
        series_number=_text(entry["series_number"]),
        modality=_text(entry["modality"]),
        series_description=_text(entry["description"]),
    )
    return ManifestScan(scan=_name(entry["scan"]), header=header)


def _instance(entry: Mapping[str, Any]) -> InstanceFacts:
    file = FileRecord(
        name=_name(entry["name"]),
        size_bytes=_whole(entry["size_bytes"]),
        dataset_offset=_whole(entry["dataset_offset"]),
        dataset_sha256=_digest(entry["dataset_sha256"]),
        prefix_sha256=_digest(entry["prefix_sha256"]),
    )
    return InstanceFacts(
        sop_instance_uid=_text(entry["sop_instance_uid"]),
        sop_class_uid=_text(entry["sop_class_uid"]),
        transfer_syntax_uid=_text(entry["transfer_syntax_uid"]),
        file=file,
        received_at=_time(entry["received_at"]),
        is_missing=bool(entry["is_missing"]),
    )


def _decision(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": _time(entry["at"]),
        "actor": _text(entry["actor"]),
        "kinds": sorted(_text(kind) for kind in entry["kinds"]),
        "reason": _text(entry["reason"]),
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    return value


def _name(value: object) -> str:
    name = _text(value)
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("not a name of a file or folder")
    return name


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("a whole number is expected")
    return value


def _digest(value: object) -> str:
    text = _text(value)
    if _SHA256.fullmatch(text) is None:
        raise ValueError("not a SHA-256")
    return text


def _time(value: object) -> str:
    return iso(from_iso(_text(value)))
