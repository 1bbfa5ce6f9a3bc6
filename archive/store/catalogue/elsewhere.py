"""What other archived sessions hold: each question goes by an index, whatever the number of archived sessions.

`CROSS JOIN` and `INDEXED BY` keep SQLite to what is written: from the UID by its index to the session, never the other
way round.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from archive.rules.elsewhere import ArchivedInstance, ArchivedStudy, Home
from archive.store.catalogue import rows

NEWEST: Final = 50
"""How many sessions of a subject are looked at."""

_BATCH: Final = 500
_IS_ARCHIVED: Final = "s.status = 'ARCHIVED' AND s.is_archived = 1"

STUDIES: Final = f"""
    SELECT y.facts, s.id, s.project, s.label
    FROM session_study y INDEXED BY session_study_uid CROSS JOIN session s ON s.id = y.session_id
    WHERE y.study_instance_uid IN ({{marks}}) AND {_IS_ARCHIVED}"""
INSTANCES: Final = f"""
    SELECT i.sop_instance_uid, i.dataset_sha256, s.id, s.project, s.label
    FROM instance i INDEXED BY instance_uid CROSS JOIN session s ON s.id = i.session_id
    WHERE i.sop_instance_uid IN ({{marks}}) AND {_IS_ARCHIVED}"""
OF_SUBJECT: Final = f"""
    SELECT y.facts, recent.id, recent.project, recent.label FROM
        (SELECT s.id, s.project, s.label FROM session s INDEXED BY session_subject
         WHERE s.project = ? AND s.subject = ? AND {_IS_ARCHIVED} ORDER BY s.id DESC LIMIT {NEWEST}) recent
    CROSS JOIN session_study y ON y.session_id = recent.id"""
HAS_SUBJECT: Final = f"""
    SELECT 1 FROM session s INDEXED BY session_subject
    WHERE s.project = ? AND s.subject = ? AND {_IS_ARCHIVED} LIMIT 1"""


def studies(connection: sqlite3.Connection, study_instance_uids: Iterable[str]) -> list[ArchivedStudy]:
    """The archived sessions that hold one of these studies, with the study's facts there."""
    return [_study(row) for row in _batches(connection, STUDIES, study_instance_uids)]


def instances(connection: sqlite3.Connection, sop_instance_uids: Iterable[str]) -> list[ArchivedInstance]:
    """The instances of archived sessions that carry one of these SOP Instance UIDs."""
    return [
        ArchivedInstance(
            home=_home(row), sop_instance_uid=row["sop_instance_uid"], dataset_sha256=row["dataset_sha256"]
        )
        for row in _batches(connection, INSTANCES, sop_instance_uids)
    ]


def of_subject(connection: sqlite3.Connection, project: str, subject: str) -> list[ArchivedStudy]:
    """The studies of the newest archived sessions of a subject."""
    return [_study(row) for row in connection.execute(OF_SUBJECT, (project, subject))]


def has_subject(connection: sqlite3.Connection, project: str, subject: str) -> bool:
    """Whether an archived session of the project has this subject."""
    return connection.execute(HAS_SUBJECT, (project, subject)).fetchone() is not None


def _batches(connection: sqlite3.Connection, sql: str, uids: Iterable[str]) -> Iterator[sqlite3.Row]:
    """The rows for all UIDs, so many at a time as one statement takes; an empty UID names nothing."""
    wanted: Sequence[str] = sorted({uid for uid in uids if uid})
    for start in range(0, len(wanted), _BATCH):
        some = wanted[start : start + _BATCH]
        yield from connection.execute(sql.format(marks=", ".join("?" * len(some))), some)


def _home(row: sqlite3.Row) -> Home:
    return Home(session_id=row["id"], project=row["project"], label=row["label"])


def _study(row: sqlite3.Row) -> ArchivedStudy:
    return ArchivedStudy(home=_home(row), study=rows.study(row["facts"]))
