"""Callers allowed and denied by command, and those that called and are on no list."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from archive.callers import Caller, Certificate
from archive.rules.admitting import SenderRule, Standing
from archive.store.catalogue.connection import Transaction

TITLES_PER_ADDRESS: Final = 32
"""AE titles of one address that are listed by name; further ones are counted together."""
MOST_SEEN: Final = 1000
"""Callers that are listed; beyond that the one seen longest ago goes."""
OTHERS: Final = ""
"""The calling AE title under which an address's further titles are counted; no caller can have it."""

_OLDEST: Final = """DELETE FROM sender_seen WHERE (called_ae_title, calling_ae_title, peer_host) IN (
    SELECT called_ae_title, calling_ae_title, peer_host FROM sender_seen ORDER BY last_at
    LIMIT max(0, (SELECT COUNT(*) FROM sender_seen) - ?))"""

Version = tuple[int, int]
"""Of the rules: another one whenever they are others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A caller on no list, or a denied one: how it stood when it called last, since when, how often."""

    caller: Caller
    standing: Standing
    first_at: str
    last_at: str
    count: int


def version(connection: sqlite3.Connection) -> Version:
    """The version of the rules; ids are never given twice, so equal versions mean equal rules."""
    row = connection.execute("SELECT COUNT(*), IFNULL(MAX(id), 0) FROM sender_rule").fetchone()
    return row[0], row[1]


def rules(connection: sqlite3.Connection) -> list[SenderRule]:
    """All rules, by receiver and item."""
    return [_rule(row) for row in connection.execute("SELECT * FROM sender_rule ORDER BY receiver, item")]


def rules_of_file(path: Path) -> list[SenderRule] | None:
    """The rules of a catalogue that is not in use, which is not changed by it; None when they cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return rules(connection)
    except sqlite3.Error:
        return None


def rule(connection: sqlite3.Connection, receiver: str, item: str) -> SenderRule | None:
    """The rule of exactly this receiver and item."""
    sql = "SELECT * FROM sender_rule WHERE receiver = ? AND item = ?"
    row = connection.execute(sql, (receiver, item)).fetchone()
    return None if row is None else _rule(row)


def put(tx: Transaction, each: SenderRule) -> None:
    """Set a rule, in the place of one for the same receiver and item."""
    tx.execute("DELETE FROM sender_rule WHERE receiver = ? AND item = ?", (each.receiver, each.item))
    tx.execute(
        "INSERT INTO sender_rule(receiver, item, is_allowed, set_at, set_by, reason) VALUES (?, ?, ?, ?, ?, ?)",
        (each.receiver, each.item, each.is_allowed, each.set_at, each.set_by, each.reason),
    )


def remove(tx: Transaction, receiver: str, item: str) -> None:
    """Take a rule away."""
    tx.execute("DELETE FROM sender_rule WHERE receiver = ? AND item = ?", (receiver, item))


def seen(connection: sqlite3.Connection) -> list[Seen]:
    """The callers on no list, the one that called last first."""
    return [_seen(row) for row in connection.execute("SELECT * FROM sender_seen ORDER BY last_at DESC")]


def note(tx: Transaction, sightings: Iterable[Seen]) -> None:
    """Add what was seen; `count` is how often since the last note."""
    for each in sightings:
        if not _add_to_known(tx, each, each.caller.calling_ae_title):
            title = each.caller.calling_ae_title if _has_room(tx, each.caller) else OTHERS
            if title or not _add_to_known(tx, each, OTHERS):
                _insert(tx, each, title)
    tx.execute(_OLDEST, (MOST_SEEN,))


def _add_to_known(tx: Transaction, each: Seen, title: str) -> bool:
    sql = """UPDATE sender_seen SET standing = ?, certificate = ?, last_at = max(last_at, ?), count = count + ?
        WHERE called_ae_title = ? AND calling_ae_title = ? AND peer_host = ?"""
    caller = each.caller
    key = (caller.called_ae_title, title, caller.peer_host)
    facts = (each.standing, _encoded(caller.certificate), each.last_at, each.count)
    return tx.execute(sql, (*facts, *key)).rowcount == 1


def _has_room(tx: Transaction, caller: Caller) -> bool:
    sql = "SELECT COUNT(*) FROM sender_seen WHERE called_ae_title = ? AND peer_host = ?"
    number: int = tx.execute(sql, (caller.called_ae_title, caller.peer_host)).fetchone()[0]
    return number < TITLES_PER_ADDRESS


def _insert(tx: Transaction, each: Seen, title: str) -> None:
    tx.execute(
        "INSERT INTO sender_seen(called_ae_title, calling_ae_title, peer_host, standing, certificate, first_at,"
        " last_at, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            each.caller.called_ae_title,
            title,
            each.caller.peer_host,
            each.standing,
            _encoded(each.caller.certificate),
            each.first_at,
            each.last_at,
            each.count,
        ),
    )


def _rule(row: sqlite3.Row) -> SenderRule:
    return SenderRule(
        receiver=row["receiver"],
        item=row["item"],
        is_allowed=bool(row["is_allowed"]),
        set_at=row["set_at"],
        set_by=row["set_by"],
        reason=row["reason"],
    )


def _seen(row: sqlite3.Row) -> Seen:
    facts = json.loads(row["certificate"] or "null")
    certificate = facts and Certificate(sha256=facts["sha256"], names=tuple(facts["names"]))
    return Seen(
        caller=Caller(
            called_ae_title=row["called_ae_title"],
            calling_ae_title=row["calling_ae_title"],
            peer_host=row["peer_host"],
            certificate=certificate,
        ),
        standing=Standing(row["standing"]),
        first_at=row["first_at"],
        last_at=row["last_at"],
        count=row["count"],
    )


def _encoded(certificate: Certificate | None) -> str:
    return "" if certificate is None else json.dumps(asdict(certificate))
