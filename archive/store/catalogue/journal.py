"""The journal: what an operation is about to do to files, written before it touches any."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from archive.store.catalogue.connection import Transaction


class Phase(StrEnum):
    """How far an operation is."""

    PLANNED = "PLANNED"  # checked and written down; names may have been added, none taken away
    COMMITTED = "COMMITTED"  # the catalogue points at the new names; the old ones go
    DONE = "DONE"
    UNDONE = "UNDONE"  # everything it added was taken back


class OperationKind(StrEnum):
    """What an operation does."""

    ARCHIVE = "ARCHIVE"  # links instances into the archive, item by item
    MOVE = "MOVE"  # renames the session's folder to another project
    DELETE = "DELETE"  # renames it into the trash
    RESTORE = "RESTORE"  # renames it back
    JOIN = "JOIN"  # links the instances of a prearchive session into another
    SPLIT = "SPLIT"  # links some instances of a prearchive session into a new one
    MITIGATE = "MITIGATE"  # renames files of an archived scan, takes duplicates out, or undoes that
    RETURN = "RETURN"  # takes an archived session, or some of its scans, back to the prearchive
    DAMAGED = "DAMAGED"  # what it was its row does not tell any more; nobody does it


class ItemAction(StrEnum):
    """What becomes of one item."""

    LINK = "LINK"  # dst becomes a second name of src; src goes at the end
    SWAP = "SWAP"  # as LINK, under a name beside dst; it takes dst's name at the end, whose file is retired
    RETIRE = "RETIRE"  # an archived file gets a name in the backup; its own goes at the end
    DROP = "DROP"  # an identical instance stays elsewhere; src goes at the end
    RENAME = "RENAME"  # a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file or folder of an operation, with what it was when it was planned.

    `is_copy` where dst is on another file system: then bytes are copied instead of linked.
    """

    n: int
    action: ItemAction
    src: str
    dst: str
    inode: int
    size_bytes: int = 0
    mtime_ns: int = 0
    dataset_sha256: str = ""
    dataset_offset: int = 0
    instance_id: int | None = None
    is_copy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One operation as journalled."""

    op: str
    kind: OperationKind
    session_id: int
    phase: Phase
    target_id: int | None = None
    plan_digest: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def session_ids(self) -> frozenset[int]:
        """Its session, and the one it works towards."""
        return frozenset({self.session_id} | ({self.target_id} if self.target_id is not None else set()))


def plan(tx: Transaction, intent: Intent, items: Sequence[Item]) -> None:
    """Write the intent and its items, phase PLANNED."""
    tx.execute(
        "INSERT INTO intent(op, kind, session_id, target_id, plan_digest, phase, owner, planned_at, detail)"
        " VALUES (?, ?, ?, ?, ?, 'PLANNED', ?, ?, ?)",
        (
            intent.op,
            intent.kind,
            intent.session_id,
            intent.target_id,
            intent.plan_digest,
            tx.actor,
            tx.now_text,
            json.dumps(dict(intent.detail), ensure_ascii=False, sort_keys=True, default=str),
        ),
    )
    tx.connection.executemany(
        "INSERT INTO intent_item(op, n, instance_id, src, dst, dataset_sha256, dataset_offset, size_bytes, inode,"
        " mtime_ns, action, is_copy) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                intent.op,
                item.n,
                item.instance_id,
                item.src,
                item.dst,
                item.dataset_sha256,
                item.dataset_offset,
                item.size_bytes,
                item.inode,
                item.mtime_ns,
                item.action,
                int(item.is_copy),
            )
            for item in items
        ],
    )


def set_phase(tx: Transaction, op: str, phase: Phase, *, expected: Phase) -> bool:
    """Advance an operation; False when it was not in the expected phase."""
    sql = "UPDATE intent SET phase = ? WHERE op = ? AND phase = ?"
    return tx.execute(sql, (phase, op, expected)).rowcount == 1


def unfinished(connection: sqlite3.Connection) -> list[Intent]:
    """Operations that are neither done nor undone, oldest first."""
    sql = "SELECT * FROM intent WHERE phase NOT IN ('DONE', 'UNDONE') ORDER BY planned_at, op"
    return [_intent(row) for row in connection.execute(sql)]


def unfinished_of(connection: sqlite3.Connection, session_ids: Collection[int]) -> list[Intent]:
    """Unfinished operations that concern one of these sessions, as source or as target, oldest first."""
    return [intent for intent in unfinished(connection) if not intent.session_ids.isdisjoint(session_ids)]


def phase(connection: sqlite3.Connection, op: str) -> Phase | None:
    """How far an operation is now; None when there is no such operation."""
    row = connection.execute("SELECT phase FROM intent WHERE op = ?", (op,)).fetchone()
    return Phase(row["phase"]) if row is not None else None


def has_unfinished(connection: sqlite3.Connection, session_id: int) -> bool:
    """Whether an unfinished operation concerns this session, as source or as target."""
    return bool(unfinished_of(connection, [session_id]))


def get(connection: sqlite3.Connection, op: str) -> Intent | None:
    """The operation with this name."""
    row = connection.execute("SELECT * FROM intent WHERE op = ?", (op,)).fetchone()
    return _intent(row) if row is not None else None


def add_detail(tx: Transaction, op: str, **detail: object) -> None:
    """Note what only the commit knows, for those who finish the operation."""
    text = json.dumps(detail, ensure_ascii=False, sort_keys=True, default=str)
    tx.execute("UPDATE intent SET detail = json_patch(detail, ?) WHERE op = ?", (text, op))


def items(connection: sqlite3.Connection, op: str) -> list[Item]:
    """The items of an operation in their order."""
    return [
        Item(
            n=row["n"],
            action=ItemAction(row["action"]),
            src=row["src"],
            dst=row["dst"],
            inode=row["inode"],
            size_bytes=row["size_bytes"],
            mtime_ns=row["mtime_ns"],
            dataset_sha256=row["dataset_sha256"],
            dataset_offset=row["dataset_offset"],
            instance_id=row["instance_id"],
            is_copy=bool(row["is_copy"]),
        )
        for row in connection.execute("SELECT * FROM intent_item WHERE op = ? ORDER BY n", (op,))
    ]


def _intent(row: sqlite3.Row) -> Intent:
    """An operation as its row tells it; a row that makes no sense keeps its sessions, and nobody else, waiting."""
    try:
        kind, detail = OperationKind(row["kind"]), dict(json.loads(row["detail"]))
    except (ValueError, TypeError):
        kind, detail = OperationKind.DAMAGED, {}
    return Intent(
        op=row["op"],
        kind=kind,
        session_id=row["session_id"],
        phase=Phase(row["phase"]),
        target_id=row["target_id"],
        plan_digest=row["plan_digest"],
        detail=detail,
    )
