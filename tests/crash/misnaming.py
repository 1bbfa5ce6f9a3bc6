"""What a mitigation is for: archived files under wrong names, made by hand while nobody works."""

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WRONG: Final = "IM{}.dcm"
_ARCHIVED: Final = """
    SELECT instance.id, instance.scan_id, instance.file_name, session.path || '/SCANS/' || scan.scan || '/DICOM/'
    FROM instance JOIN scan ON scan.id = instance.scan_id JOIN session ON session.id = instance.session_id
    WHERE session.status = 'ARCHIVED' AND instance.is_missing = 0 ORDER BY instance.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSurveys:
    """What of surveys and mitigations there is to work on: ids of requests, names of operations."""

    divergent: tuple[int, ...] = ()
    to_review: tuple[int, ...] = ()
    undoable: tuple[str, ...] = ()


def known_surveys(root: Path) -> KnownSurveys:
    with closing(sqlite3.connect(f"file:{root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)) as database:
        requests = database.execute("SELECT status, id FROM survey_request ORDER BY id").fetchall()
        undoable = database.execute("SELECT op FROM mitigation WHERE undone_at IS NULL").fetchall()
    return KnownSurveys(
        divergent=tuple(number for status, number in requests if status == "DIVERGENT"),
        to_review=tuple(number for status, number in requests if status == "NEEDS_REVIEW"),
        undoable=tuple(op for (op,) in undoable),
    )


def unsettled_surveys(root: Path) -> list[tuple[int, str]]:
    """Requests that somebody has still to work on."""
    statuses = "'CREATED', 'QUEUED_FOR_SURVEY', 'SURVEYING', 'QUEUED_FOR_MITIGATION', 'MITIGATING'"
    with closing(sqlite3.connect(f"file:{root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)) as database:
        return database.execute(f"SELECT id, status FROM survey_request WHERE status IN ({statuses})").fetchall()


def mitigated(root: Path) -> int:
    """How many mitigations were carried out; none where there is no catalogue yet."""
    if not (root / "catalogue.sqlite3").exists():
        return 0
    with closing(sqlite3.connect(f"file:{root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)) as database:
        return int(database.execute("SELECT count(*) FROM mitigation").fetchone()[0])


def misname(root: Path, chance: random.Random) -> int:
    """Two files of a scan exchange their names, or one gets a wrong one, on the disk and in the rows; how many did."""
    with closing(sqlite3.connect(root / "catalogue.sqlite3", timeout=20)) as database:
        found = database.execute(_ARCHIVED).fetchall()
        if not found:
            return 0
        number, scan_id, name, folder = chance.choice(found)
        others = [each for each in found if each[1] == scan_id and each[0] != number]
        if others and chance.random() < 0.5:
            other, _, other_name, _ = chance.choice(others)
            given = {number: other_name, other: name}
        else:
            given = {number: WRONG.format(number)}
            if any(each[2] == given[number] for each in others):
                return 0
        olds = {each[0]: each[2] for each in found if each[0] in given}
        for each, old in olds.items():
            os.rename(root / folder / old, root / folder / f"{old}.away")
            database.execute("UPDATE instance SET file_name = ? WHERE id = ?", (f"{old}.away", each))
        for each, new in given.items():
            os.rename(root / folder / f"{olds[each]}.away", root / folder / new)
            database.execute("UPDATE instance SET file_name = ? WHERE id = ?", (new, each))
        database.commit()
        return len(given)
