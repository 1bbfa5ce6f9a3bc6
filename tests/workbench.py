"""A workspace to test on: a real root, the real intake, instances stored through it, and what came of it.

Nothing is faked but the clock, which stands still until a test moves it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from archive.clock import Clock
from archive.config import ReceiverSettings, Settings
from archive.model import Receipt, StoreRequest
from archive.receive import AssociationIntake, Intake
from archive.rules.policy import Policy
from archive.store.parts import Part
from archive.store.root import CATALOGUE_NAME
from archive.workspace import Workspace
from scp.status import status_of
from tests.fast_path import is_fast_path

PIECE_BYTES = 500  # odd pieces, as PDUs cut a dataset


_OPENED: list[Workspace | Intake] = []


class SteppedClock(Clock):
    """Stands still until `advance` moves it; `reboot` begins another boot, in which no reading can be compared."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0
        self.boot_id = "boot-1"

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let both clocks run on."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def reboot(self, off_seconds: float = 60.0) -> None:
        """The machine was off for a while: wall time went on, the boot clock begins anew."""
        self._now += timedelta(seconds=off_seconds)
        self._monotonic = 1.0
        self.boot_id += "+"


def make_settings(**tables: Any) -> Settings:
    """Settings as from TOML tables; nothing is refused because the machine's disk is nearly full."""
    node = {"low_water_bytes": 0, "high_water_bytes": 0, "fast_path": is_fast_path(), **tables.pop("node", {})}
    return Settings.model_validate({"node": node, **tables})


def make_workspace(
    path: Path, *, clock: Clock | None = None, rules_text: str = "", actor: str = "tester", **tables: Any
) -> Workspace:
    """Open, and make if need be, the root ``<path>/root``.

    `tables` are those of ``prearc.toml``: ``receiver=[{"ae_title": "PREARC", "project": "PI"}]``,
    ``project=[{"id": "PI"}]``. Opening it a second time is what a restarted process does.
    """
    settings = make_settings(**tables)
    if not (path / "root").exists():
        (path / "root").mkdir(parents=True, mode=0o700)
        (path / "root" / CATALOGUE_NAME).write_bytes(_empty_catalogue())
    ws = Workspace.open(
        path / "root",
        settings=settings,
        policy=Policy.compile(settings, rules_text=rules_text),
        actor=actor,
        clock=clock or SteppedClock(),
        create=True,
    )
    _OPENED.append(ws)
    return ws


@cache
def _empty_catalogue() -> bytes:
    """A catalogue with its tables and nothing in them: thousands of tests need one, and to make it takes a while."""
    settings = make_settings()
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(
            Path(folder, "root"), settings=settings, policy=Policy.compile(settings), actor="tester", create=True
        )
        ws.close()
        assert not ws.root.catalogue_path.with_name(f"{CATALOGUE_NAME}-wal").exists()
        return ws.root.catalogue_path.read_bytes()


def opened() -> int:
    """How many workspaces and intakes are open."""
    return len(_OPENED)


def close_since(count: int) -> None:
    """Close all but the first `count` that were opened: descriptors would stay, and the library's senders cannot use
    numbers over 1023."""
    while len(_OPENED) > count:
        _OPENED.pop().close()


class Sender:
    """Stores datasets through a real `Intake`, one association per ``with`` block and pair of AE titles.

    Outside of a ``with`` block each `store` is an association of its own.
    """

    def __init__(self, ws: Workspace, *, peer_host: str = "192.0.2.7") -> None:
        self._ws, self._peer_host = ws, peer_host
        self._associations: dict[tuple[str, str], AssociationIntake] = {}
        self._is_entered = False
        self.intake = Intake(ws.root, ws.catalogue, ws.settings, ws.policy, status_of=status_of, clock=ws.clock)
        _OPENED.append(self.intake)

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        self.release()

    def release(self) -> None:
        """End the open associations."""
        for association in self._associations.values():
            association.close()
        self._associations.clear()
        self.intake.endings.settle()  # what lingers is written, as it is a moment later

    def die(self) -> None:
        """What `kill -9` leaves of a receiver: open associations in the catalogue, and a lock nobody holds."""
        self._associations.clear()
        self.intake.close()

    def store(
        self,
        dataset: Dataset,
        *,
        calling: str = "SCANNER",
        called: str = "PREARC",
        transfer_syntax: str = ExplicitVRLittleEndian,
    ) -> Receipt:
        """Store one dataset, piece by piece, and wait for its receipt."""
        association = self._association(calling, called)
        request, part = arrived(association, dataset, transfer_syntax)
        receipt = association.finish(request, part)
        if not self._is_entered:
            self.release()
        return receipt

    def store_all(self, datasets: Iterable[Dataset], **titles: str) -> list[Receipt]:
        """Store datasets in one association."""
        was_entered, self._is_entered = self._is_entered, True
        try:
            return [self.store(dataset, **titles) for dataset in datasets]
        finally:
            self._is_entered = was_entered
            if not was_entered:
                self.release()

    def _association(self, calling: str, called: str) -> AssociationIntake:
        key = (calling, called)
        if key not in self._associations:
            self._associations[key] = self.intake.open(
                receiver=self._receiver(called), calling_ae_title=calling, peer_host=self._peer_host
            )
        return self._associations[key]

    def _receiver(self, ae_title: str) -> ReceiverSettings:
        return next(each for each in self._ws.settings.receiver if each.ae_title == ae_title)


def arrived(
    association: AssociationIntake, dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian
) -> tuple[StoreRequest, Part]:
    """An instance whose bytes have all come, piece by piece."""
    data = encoded(dataset, transfer_syntax)
    request = StoreRequest(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        transfer_syntax_uid=transfer_syntax,
    )
    part = association.begin(request)
    for start in range(0, len(data), PIECE_BYTES):
        part.write(data[start : start + PIECE_BYTES])
    return request, part


def encoded(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The dataset alone, as a C-STORE carries it."""
    uid = UID(transfer_syntax)
    buffer = BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR, stream.is_little_endian = uid.is_implicit_VR, uid.is_little_endian
    write_dataset(stream, dataset)
    return buffer.getvalue()


def rows(ws: Workspace, sql: str, *parameters: object) -> list[dict[str, Any]]:
    """What a query finds, committed rows only."""
    with ws.catalogue.read() as connection:
        return [dict(row) for row in connection.execute(sql, parameters)]


def change(ws: Workspace, sql: str, *parameters: object) -> None:
    """Break the catalogue by hand."""
    with ws.catalogue.write() as tx:
        tx.execute(sql, parameters)


@contextmanager
def failing_statement(ws: Workspace, statement: str) -> Iterator[None]:
    """The database fails at every statement of a kind, as ``INSERT ON instance``; what a full disk says, it says."""
    change(ws, f"CREATE TRIGGER fails BEFORE {statement} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
    try:
        yield
    finally:
        change(ws, "DROP TRIGGER fails")


def dump(ws: Workspace, *, without: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but those named."""
    names = [row["name"] for row in rows(ws, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {name: rows(ws, f"SELECT * FROM {name}") for name in names if name not in set(without)}


def tree(ws: Workspace) -> dict[str, str]:
    """Everything below the root but the catalogue and the locks: files with their SHA-256, folders as ``a/b/``."""
    found: dict[str, str] = {}
    for parent, folders, names in os.walk(ws.root.path):
        here = Path(parent).relative_to(ws.root.path)
        if here == Path():
            folders[:] = [name for name in folders if name != "locks"]
            continue
        found[f"{here}/"] = ""
        for name in names:
            path = Path(parent, name)
            is_link = path.is_symlink()
            found[f"{here}/{name}"] = (
                f"-> {os.readlink(path)}" if is_link else hashlib.sha256(path.read_bytes()).hexdigest()
            )
    return found


def read_manifest(path: Path) -> dict[str, Any]:
    """What the lines of a manifest come to: its last head, with the ``instances`` that are left in order."""
    content: dict[str, Any] = {}
    instances: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in map(json.loads, path.read_text().splitlines()):
        if "format" in entry:
            content = entry
        elif "gone" in entry:
            instances.pop((entry["gone"]["scan"], entry["gone"]["name"]), None)
        elif "name" in entry:
            instances[entry["scan"], entry["name"]] = entry
    return {**content, "instances": list(instances.values())}


def event_kinds(ws: Workspace, session_id: int | None = None) -> list[str]:
    """The kinds of the audit's events, oldest first; of one session or of all."""
    where = "" if session_id is None else " WHERE session_id = ?"
    parameters = () if session_id is None else (session_id,)
    return [row["kind"] for row in rows(ws, f"SELECT kind FROM event{where} ORDER BY id", *parameters)]
