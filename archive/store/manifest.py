"""The manifest: what the catalogue knows of one session, as a file in the session's own folder.

From the files and their manifests the catalogue can be rebuilt (``prearc doctor --rebuild``). It is derived, so
it may be replaced; always whole, always durable.
"""

import json
from dataclasses import asdict
from typing import Any, Final

from archive.store import files
from archive.store.catalogue import findings, instances, sessions
from archive.store.catalogue.connection import Connection

NAME: Final = "prearc-manifest.json"
FORMAT: Final = "prearc-manifest"
VERSION: Final = 1
_SESSION_COLUMNS: Final = (
    "id project subject label status is_archived timestamp folder path key_project key_study key_label"
    " autoarchive idle_seconds cap_seconds received_first received_last follows_id restore_status restore_path"
).split()


def compose(connection: Connection, session_id: int) -> dict[str, Any]:
    """The manifest of a session as the connection sees it now, uncommitted changes included."""
    columns = sessions.raw_columns(connection, session_id)
    return {
        "format": FORMAT,
        "version": VERSION,
        "session": {name: columns[name] for name in _SESSION_COLUMNS},
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
        "instances": [
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
            for instance in instances.of_session(connection, session_id)
        ],
        "decisions": [
            {
                "at": decision.at.isoformat(),
                "actor": decision.actor,
                "kinds": list(decision.kinds),
                "reason": decision.reason,
            }
            for decision in findings.decisions(connection, session_id)
        ],
    }


def write(root_fd: int, connection: Connection, session_id: int) -> None:
    """Write the session's manifest into its folder, durably."""
    content = compose(connection, session_id)
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    path = content["session"]["path"]
    files.write_atomically(root_fd, f"{path}/{NAME}", text.encode("utf-8", "surrogateescape"))
