"""The recovery report: what the start found and did, and what was put right since while the node runs."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from archive.store.catalogue import recovering, unread
from archive.store.catalogue.connection import Connection
from archive.upkeep.printing import printable
from archive.upkeep.settling import Notes
from archive.upkeep.unread import text_of
from archive.workspace import Workspace

_KEPT: Final = 1000
"""Lines of each kind in a report that grows while the node runs: the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """What recovery found and did; paths are relative to the root.

    `adopted`: files that got their row. `lost_parts`: bytes in ``spool/lost+found`` that were never
    acknowledged. `missing`: rows whose file is gone. `unlisted`: files that could not be adopted. `resumed`:
    operations that were finished or undone. `unread`: sessions that cannot be looked at, for as long as they cannot.
    `alarms`: what a person must look at besides.
    """

    lines: tuple[str, ...]
    adopted: tuple[str, ...]
    lost_parts: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    resumed: tuple[str, ...]
    unread: tuple[str, ...]
    alarms: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether every promise that was made still holds and every file is known."""
        return not (self.missing or self.unlisted or self.unread or self.alarms)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_clean": self.is_clean}


def store_report(ws: Workspace, notes: Notes) -> RecoveryReport:
    """Keep the report of a start."""
    with ws.catalogue.write() as tx:
        report = _report(ws, tx.connection, notes)
        recovering.store_report(tx, report.to_json())
    return report


def last_report(ws: Workspace) -> dict[str, Any] | None:
    """The latest recovery report as JSON, with its time under ``at``; None before the first start."""
    with ws.catalogue.read() as connection:
        return recovering.last_report(connection)


def amend_report(ws: Workspace, notes: Notes) -> RecoveryReport:
    """Add to the latest report what was put right while the node runs; what was said of this run before stays, but for
    the sessions that could be looked at since."""
    with ws.catalogue.write() as tx:
        added = _report(ws, tx.connection, notes)
        before = recovering.last_report(tx.connection) or {}
        merged = {name: [*before.get(name, ()), *getattr(added, name)] for name in _NAMES}
        whole = RecoveryReport(**{name: tuple(dict.fromkeys(each))[-_KEPT:] for name, each in merged.items()})
        recovering.amend_report(tx, replace(whole, unread=added.unread).to_json())
    return added


_NAMES: Final = tuple(RecoveryReport.__dataclass_fields__)


def _report(ws: Workspace, connection: Connection, notes: Notes) -> RecoveryReport:
    told = {name: getattr(notes, name) for name in _NAMES if name != "unread"}
    told["unread"] = [text_of(ws.root.path, each) for each in unread.all_of(connection)]
    return RecoveryReport(**{name: tuple(dict.fromkeys(map(printable, each))) for name, each in told.items()})
