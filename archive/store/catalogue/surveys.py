"""Survey requests: asking for them, finding them, and moving them through their life by compare-and-set."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archive.errors import NotFound, StaleState
from archive.rules.survey_states import SurveyEvent, next_status
from archive.store.catalogue import events
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.resources import Place, place_of
from archive.surveys import CLOSING, SurveyStatus

RESOURCE_LABEL: Final = "DICOM"
_PIECE: Final = 500  # values bound to one statement
_LAST_RESULT: Final = "(SELECT max(id) FROM survey_result WHERE request_id = r.id)"
_SELECT: Final = f"""
    SELECT r.*, t.totals, t.report_id, t.cleaned_at
    FROM survey_request r LEFT JOIN survey_result t ON t.id = {_LAST_RESULT}"""
_NEWEST: Final = (
    "NOT EXISTS (SELECT 1 FROM survey_request o WHERE o.session_id = r.session_id AND o.scan = r.scan AND o.id > r.id)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How what is asked for at once is to be surveyed. `rate` is files per second, 0 as the configuration says."""

    batch: str
    requester: str
    reason: str = ""
    is_fresh: bool = False
    reads_all: bool = False
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyRequest:
    """One request; `totals` are those of its last survey, None before it. `is_cleaned`: its report holds no more."""

    id: int
    batch: str
    place: Place
    status: SurveyStatus
    claimed_by: str
    is_fresh: bool
    reads_all: bool
    rate: float
    requested_at: str
    requester: str
    reason: str
    surveyed_at: str | None
    closed_at: str | None
    message: str
    totals: Mapping[str, int] | None
    is_cleaned: bool

    @property
    def is_open(self) -> bool:
        return self.closed_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which requests. `is_newest`: only the last one of each resource."""

    project: str | None = None
    session_id: int | None = None
    statuses: Collection[SurveyStatus] = ()
    batch: str | None = None
    is_open: bool | None = None
    is_newest: bool = False


def add(tx: Transaction, place: Place, order: Order) -> int:
    """Ask for a survey of a resource that has no open request; the request's id. It is queued at once."""
    cursor = tx.execute(
        "INSERT INTO survey_request(batch, session_id, scan, scan_id, project, subject, label, path, status, is_fresh,"
        " reads_all, rate, requested_at, requester, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'CREATED', ?, ?, ?, ?, ?, ?)",
        (
            order.batch,
            place.session_id,
            place.scan,
            place.scan_id,
            place.project,
            place.subject,
            place.label,
            place.path,
            int(order.is_fresh),
            int(order.reads_all),
            order.rate,
            tx.now_text,
            order.requester,
            order.reason,
        ),
    )
    request_id = int(cursor.lastrowid or 0)
    detail = {"scan": place.scan, "batch": order.batch, "requester": order.requester, "reason": order.reason}
    apply(tx, request_id, SurveyEvent.QUEUE, detail=detail)
    return request_id


def ask_again(tx: Transaction, request_id: int, place: Place, order: Order) -> None:
    """What diverges is to be surveyed again, under its id: it is the same open question."""
    tx.execute(
        "UPDATE survey_request SET batch = ?, path = ?, scan_id = ?, project = ?, subject = ?, label = ? WHERE id = ?",
        (order.batch, place.path, place.scan_id, place.project, place.subject, place.label, request_id),
    )
    tx.execute(
        "UPDATE survey_request SET is_fresh = ?, reads_all = ?, rate = ? WHERE id = ?",
        (int(order.is_fresh), int(order.reads_all), order.rate, request_id),
    )
    detail = {"batch": order.batch, "requester": order.requester, "reason": order.reason}
    apply(tx, request_id, SurveyEvent.AGAIN, detail=detail)


def follow_order(tx: Transaction, request_id: int, order: Order) -> None:
    """What waits is asked for once more: it is read as thoroughly as anybody wanted, at the rate of the last word."""
    tx.execute(
        "UPDATE survey_request SET is_fresh = max(is_fresh, ?), reads_all = max(reads_all, ?), rate = ?"
        " WHERE id = ? AND status IN ('CREATED', 'QUEUED_FOR_SURVEY')",
        (int(order.is_fresh), int(order.reads_all), order.rate, request_id),
    )


def apply(
    tx: Transaction,
    request_id: int,
    event: SurveyEvent,
    *,
    claimed_by: str = "",
    expected_claim: str | None = None,
    message: str = "",
    detail: Mapping[str, Any] | None = None,
) -> SurveyStatus:
    """Move a request along `rules.survey_states`, as a compare-and-set, with its audit event; the new status.

    Raises
    ------
    StaleState
        The request's status does not allow the event, or somebody else than `expected_claim` works on it.
    """
    row = tx.execute("SELECT status, claimed_by, session_id FROM survey_request WHERE id = ?", (request_id,)).fetchone()
    if row is None:
        raise _no_request(request_id)
    current = SurveyStatus(row["status"])
    following = next_status(current, event)
    if following is None or (expected_claim is not None and row["claimed_by"] != expected_claim):
        raise StaleState(
            f"Survey request {request_id} is {current}; {event} is not possible there.",
            hint=f"prearc survey show {request_id}",
        )
    if current in CLOSING and not _is_newest(tx.connection, request_id):
        raise StaleState(
            f"Survey request {request_id} is not the last one of its resource.", hint=f"prearc survey show {request_id}"
        )
    closed_at = tx.now_text if following in CLOSING else None
    changed = tx.execute(
        "UPDATE survey_request SET status = ?, claimed_by = ?, closed_at = ?, message = ? WHERE id = ? AND status = ?",
        (following, claimed_by, closed_at, message, request_id, current),
    ).rowcount
    if changed != 1:
        raise StaleState(f"Survey request {request_id} changed.", hint=f"prearc survey show {request_id}")
    told = {"request": request_id, "from": current, "to": following, **(detail or {})}
    events.append(tx, f"SURVEY_{event}", row["session_id"], told)
    return following


def get(connection: sqlite3.Connection, request_id: int) -> SurveyRequest:
    """The request with this id; NotFound when there is none."""
    row = connection.execute(f"{_SELECT} WHERE r.id = ?", (request_id,)).fetchone()
    if row is None:
        raise _no_request(request_id)
    return _request(row)


def open_of(connection: sqlite3.Connection, session_id: int, scan: str) -> SurveyRequest | None:
    """The open request of a resource."""
    sql = f"{_SELECT} WHERE r.session_id = ? AND r.scan = ? AND r.closed_at IS NULL"
    row = connection.execute(sql, (session_id, scan)).fetchone()
    return _request(row) if row is not None else None


def find(connection: sqlite3.Connection, filters: Filters) -> list[SurveyRequest]:
    """Requests that fit all filters, oldest first."""
    clauses, values = ["1"], list[object]()
    for clause, value in (
        ("r.project = ?", filters.project),
        ("r.session_id = ?", filters.session_id),
        ("r.batch = ?", filters.batch),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    if filters.statuses:
        clauses.append(f"r.status IN ({', '.join('?' * len(filters.statuses))})")
        values += filters.statuses
    if filters.is_open is not None:
        clauses.append(f"r.closed_at IS {'' if filters.is_open else 'NOT '}NULL")
    if filters.is_newest:
        clauses.append(_NEWEST)
    sql = f"{_SELECT} WHERE {' AND '.join(clauses)} ORDER BY r.id"
    return [_request(row) for row in connection.execute(sql, values)]


def by_ids(connection: sqlite3.Connection, ids: Sequence[int]) -> list[SurveyRequest]:
    """Those of these requests that there are, in the order of their ids."""
    found: list[SurveyRequest] = []
    for start in range(0, len(ids), _PIECE):
        some = ids[start : start + _PIECE]
        sql = f"{_SELECT} WHERE r.id IN ({', '.join('?' * len(some))})"
        found += [_request(row) for row in connection.execute(sql, some)]
    return sorted(found, key=lambda request: request.id)


def expected_files(connection: sqlite3.Connection, ids: Sequence[int]) -> int:
    """How many instances the resources of these requests have."""
    total = 0
    for start in range(0, len(ids), _PIECE):
        some = ids[start : start + _PIECE]
        sql = (
            "SELECT IFNULL(sum(c.instance_count), 0) FROM survey_request r JOIN scan c ON c.id = r.scan_id"
            f" WHERE r.id IN ({', '.join('?' * len(some))})"
        )
        total += connection.execute(sql, some).fetchone()[0]
    return total


def counts_by_status(connection: sqlite3.Connection) -> dict[str, int]:
    """How many resources are in each status, by the newest request of each."""
    sql = f"SELECT r.status, count(*) FROM survey_request r WHERE {_NEWEST} GROUP BY r.status"
    return dict(connection.execute(sql).fetchall())


def last_surveyed(connection: sqlite3.Connection) -> SurveyRequest | None:
    """The request that was surveyed last."""
    sql = f"{_SELECT} WHERE r.id = (SELECT request_id FROM survey_result ORDER BY id DESC LIMIT 1)"
    row = connection.execute(sql).fetchone()
    return _request(row) if row is not None else None


def first_of(connection: sqlite3.Connection, status: SurveyStatus) -> int | None:
    """The oldest request of this status among the newest of each resource."""
    row = connection.execute(
        f"SELECT r.id FROM survey_request r WHERE r.status = ? AND {_NEWEST} ORDER BY r.id LIMIT 1", (status,)
    ).fetchone()
    return row[0] if row is not None else None


def next_queued(connection: sqlite3.Connection, *, after_id: int = 0) -> SurveyRequest | None:
    """The oldest request that waits for a worker, with a higher id than `after_id`."""
    sql = f"{_SELECT} WHERE r.status = 'QUEUED_FOR_SURVEY' AND r.id > ? ORDER BY r.id LIMIT 1"
    row = connection.execute(sql, (after_id,)).fetchone()
    return _request(row) if row is not None else None


def claimed(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """(request, worker) of everything that is being surveyed."""
    sql = "SELECT id, claimed_by FROM survey_request WHERE status = 'SURVEYING' ORDER BY id"
    return [(row["id"], row["claimed_by"]) for row in connection.execute(sql)]


def status_now(connection: sqlite3.Connection, request_id: int) -> tuple[SurveyStatus, str]:
    """(status, worker) at this moment."""
    row = connection.execute("SELECT status, claimed_by FROM survey_request WHERE id = ?", (request_id,)).fetchone()
    if row is None:
        raise _no_request(request_id)
    return SurveyStatus(row["status"]), row["claimed_by"]


def _is_newest(connection: sqlite3.Connection, request_id: int) -> bool:
    sql = f"SELECT 1 FROM survey_request r WHERE r.id = ? AND {_NEWEST}"
    return connection.execute(sql, (request_id,)).fetchone() is not None


def _no_request(request_id: int) -> NotFound:
    return NotFound(f"There is no survey request {request_id}.", hint="prearc survey list --all")


def _request(row: sqlite3.Row) -> SurveyRequest:
    return SurveyRequest(
        id=row["id"],
        batch=row["batch"],
        place=place_of(row, row["path"]),
        status=SurveyStatus(row["status"]),
        claimed_by=row["claimed_by"],
        is_fresh=bool(row["is_fresh"]),
        reads_all=bool(row["reads_all"]),
        rate=row["rate"],
        requested_at=row["requested_at"],
        requester=row["requester"],
        reason=row["reason"],
        surveyed_at=row["surveyed_at"],
        closed_at=row["closed_at"],
        message=row["message"],
        totals=json.loads(row["totals"]) if row["totals"] is not None else None,
        is_cleaned=row["cleaned_at"] is not None,
    )
