"""Catalogues of earlier versions become those of this one, with what they know."""

from sqlite_utils import Database

from archive.store.schema import migrations


def test_schedules_of_surveys_stay_what_they_were() -> None:
    """Their next and last run are kept when verification gets schedules, too."""
    database = Database(memory=True)
    migrations.apply(database, stop_before="0003_schedules")
    database.execute("INSERT INTO survey_schedule(key, due_at, last_batch) VALUES ('a', '2026-01-06', 'b')")

    migrations.apply(database)

    [row] = database.query("SELECT * FROM schedule")
    assert (row["key"], row["kind"], row["due_at"], row["last_batch"]) == ("a", "survey", "2026-01-06", "b")
    assert (row["result"], row["message"]) == ("", "")
    database.close()
