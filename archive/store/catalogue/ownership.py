"""Whether a database is a catalogue of prearc: looked at before anything is written beside or into it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from archive.errors import RootError

_OURS: Final = frozenset({"_sqlite_migrations", "session", "event"})


def verify_ours(path: Path) -> None:
    """Leave other programs' databases alone; a file that is missing, empty or damaged is for others to judge.

    Raises
    ------
    RootError
        The database has tables, and they are not a catalogue's.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.DatabaseError:
        return
    tables = {str(name) for (name,) in rows if not str(name).startswith("sqlite_")}
    if tables - {"_sqlite_migrations"} and not tables.issuperset(_OURS):
        raise RootError(
            f"{path} is not a prearc catalogue: it is another program's database.",
            hint="name a folder of its own: prearc --root DIR serve",
        )
