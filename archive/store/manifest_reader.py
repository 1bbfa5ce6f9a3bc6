"""Reading a session's manifest back: all of it is checked, for it may have been edited or damaged."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from archive.clock import from_iso, iso
from archive.errors import ArchiveError
from archive.model import Autoarchive, FileRecord, InstanceHeader, SessionStatus, Study
from archive.store import files
from archive.store.catalogue.recovering import InstanceFacts
from archive.store.manifest import FORMAT, NAME, VERSION

_MAX_BYTES: Final = 1 << 32
_MAX_LINE_BYTES: Final = 1 << 26
_LARGEST: Final = (1 << 63) - 1  # of SQLite
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
    """A manifest as values. `session` holds checked columns, `joined` those of sessions that were joined into
    it; `instances` are by (scan, file name).

    `problems` are sentences on what could not be used, without patient data.
    """

    session: Mapping[str, Any]
    joined: tuple[Mapping[str, Any], ...]
    studies: tuple[Study, ...]
    scans: tuple[ManifestScan, ...]
    instances: Mapping[tuple[str, str], InstanceFacts]
    decisions: tuple[Mapping[str, Any], ...]
    problems: tuple[str, ...] = ()


def read(root_fd: int, session_path: str) -> ManifestContent | None:
    """The manifest in a session's folder; None when there is none.

    A line that is torn or not what one says is passed over and told in `problems`; the rest holds.

    Raises
    ------
    ManifestError
        It is no manifest, of a version this prearc does not know, or no line says what session it is of.
    """
    try:
        fd = files.open_file(root_fd, f"{session_path}/{NAME}")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"The manifest cannot be read: {error.strerror}.") from error
    reading = _Reading()
    with os.fdopen(fd, "rb") as stream:
        if os.fstat(fd).st_size > _MAX_BYTES:
            raise ManifestError("The manifest is too large to be one.")
        for number, line in enumerate(iter(lambda: stream.readline(_MAX_LINE_BYTES), b""), start=1):
            if line != b"\n":
                reading.take(number, line)
    return reading.content()


@dataclass(slots=True)
class _Reading:
    """What the lines so far say."""

    head: Mapping[str, Any] | None = None
    instances: dict[tuple[str, str], InstanceFacts] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    has_end: bool = False

    def take(self, number: int, line: bytes) -> None:
        self.has_end = False
        try:
            self._understand(json.loads(line.decode("utf-8", "surrogateescape")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.damaged.append(f"line {number} ({type(error).__name__})")

    def _understand(self, entry: Mapping[str, Any]) -> None:
        if "format" in entry:
            self.head = _head(entry)
        elif "gone" in entry:
            self.instances.pop((_name(entry["gone"]["scan"]), _name(entry["gone"]["name"])), None)
        elif "end" in entry:
            self.has_end = True
        else:
            key = (_name(entry["scan"]), _name(entry["name"]))
            self.instances[key] = _instance(entry)

    def content(self) -> ManifestContent:
        if self.head is None:
            first = f": {self.damaged[0]}" if self.damaged else ""
            raise ManifestError(f"The manifest is damaged{first}: no line says what session it is of.")
        known = {each.scan for each in self.head["scans"]}
        strays = [key for key in self.instances if key[0] not in known]
        for key in strays:
            del self.instances[key]
        problems: list[str] = []
        if self.damaged:
            problems.append(f"{len(self.damaged)} lines of the manifest are damaged, the first is {self.damaged[0]}")
        elif not self.has_end:
            problems.append("the manifest was cut off: its last lines may be lost")
        if strays:
            problems.append(f"{len(strays)} instances of the manifest are of scans that it does not tell of")
        return ManifestContent(instances=self.instances, problems=tuple(problems), **self.head)


def _head(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry["format"] != FORMAT or entry["version"] != VERSION:
        raise ManifestError(f"The manifest is of version {entry['version']!r}, not {VERSION}.")
    return {
        "session": _session(entry["session"]),
        "joined": tuple(_session(each) for each in entry["joined"]),
        "studies": tuple(_study(each) for each in entry["studies"]),
        "scans": tuple(_scan(each) for each in entry["scans"]),
        "decisions": tuple(_decision(each) for each in entry["decisions"]),
    }


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
    return Study(**{each.name: _text(entry[each.name]) for each in fields(Study)})


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
        "detail": _mapping(entry["detail"]),
    }


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    value.encode()  # a row cannot hold what is not UTF-8
    return value


def _name(value: object) -> str:
    name = _text(value)
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("not a name of a file or folder")
    return name


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise TypeError("a whole number is expected")
    return value


def _digest(value: object) -> str:
    text = _text(value)
    if _SHA256.fullmatch(text) is None:
        raise ValueError("not a SHA-256")
    return text


def _time(value: object) -> str:
    return iso(from_iso(_text(value)))
