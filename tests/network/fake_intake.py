"""The use case's contract in memory, for what the real one cannot be made to do on purpose."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.testing import LogCapture

from archive.callers import Caller
from archive.config import LimitSettings, NodeSettings, ReceiverSettings, Settings
from archive.model import Outcome, Receipt, Refusal, StoreRequest
from archive.rules.admitting import Standing, standing
from scp.server import Node
from scp.status import status_of
from tests.fast_path import is_fast_path


class FakePart:
    def __init__(self) -> None:
        self.content = bytearray()
        self.size = 0

    def write_many(self, pieces: Sequence[memoryview]) -> None:
        for piece in pieces:
            self.content += piece
            self.size += len(piece)


class CountingPart(FakePart):
    """Keeps nothing but the number of bytes."""

    def write_many(self, pieces: Sequence[memoryview]) -> None:
        self.size += sum(map(len, pieces))


@dataclass
class FakeIntake:
    """Keeps what was stored, refused and abandoned, of all associations, in order of arrival."""

    part_type: type[FakePart] = FakePart
    busy: str | None = None
    outcome: Refusal | None = None
    error: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    stored: list[tuple[StoreRequest, FakePart]] = field(default_factory=list)
    refused: list[tuple[StoreRequest, Refusal, str]] = field(default_factory=list)
    abandoned: list[FakePart] = field(default_factory=list)
    opened: list["FakeAssociationIntake"] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def doorman(self) -> "FakeIntake":
        return self

    def judge(self, receiver: ReceiverSettings, caller: Caller) -> Standing:
        """As the real one where nothing was commanded."""
        return standing(receiver, (), caller)

    def admission(self) -> str | None:
        return self.busy

    def open(self, *, receiver: ReceiverSettings, calling_ae_title: str, peer_host: str) -> "FakeAssociationIntake":
        with self.changed:
            association = FakeAssociationIntake(
                self, len(self.opened) + 1, receiver.ae_title, calling_ae_title, peer_host
            )
            self.opened.append(association)
            self.changed.notify_all()
        return association

    def close(self) -> None: ...

    def note(self, events: list[Any], event: Any) -> None:
        with self.changed:
            events.append(event)
            self.changed.notify_all()

    def wait(self, condition: Any, seconds: float = 60) -> None:
        """Wait until `condition()` holds."""
        with self.changed:
            assert self.changed.wait_for(condition, seconds), "did not come true in time"

    @property
    def uids(self) -> list[str]:
        return [request.sop_instance_uid for request, _ in self.stored]


class FakeAssociationIntake:
    def __init__(self, intake: FakeIntake, number: int, called: str, calling: str, peer_host: str) -> None:
        self.intake = intake
        self.association_id = number
        self.called_ae_title, self.calling_ae_title, self.peer_host = called, calling, peer_host
        self.begun: list[StoreRequest] = []
        self.parts: list[FakePart] = []
        self.is_closed = False

    def begin(self, request: StoreRequest) -> FakePart:
        part = self.intake.part_type()
        self.parts.append(part)
        self.intake.note(self.begun, request)
        return part

    def finish(self, request: StoreRequest, part: FakePart) -> Receipt:
        self.intake.gate.wait(60)
        if self.intake.error is not None:
            raise self.intake.error
        if self.intake.outcome is not None:
            return self.refuse(request, self.intake.outcome, "because the test says so", part)
        self.intake.note(self.intake.stored, (request, part))
        return self._receipt(request, Outcome.STORED, status_of(None), "")

    def refuse(self, request: StoreRequest, refusal: Refusal, message: str, part: FakePart | None = None) -> Receipt:
        self.intake.note(self.intake.refused, (request, refusal, message))
        return self._receipt(request, Outcome.REFUSED, status_of(refusal), message)

    def abandon(self, part: FakePart) -> None:
        self.intake.note(self.intake.abandoned, part)

    def close(self) -> None:
        with self.intake.changed:
            self.is_closed = True
            self.intake.changed.notify_all()

    def _receipt(self, request: StoreRequest, outcome: Outcome, status: int, message: str) -> Receipt:
        return Receipt(
            sop_instance_uid=request.sop_instance_uid,
            outcome=outcome,
            status=status,
            calling_ae_title=self.calling_ae_title,
            called_ae_title=self.called_ae_title,
            peer=self.peer_host,
            received_at=datetime.now(UTC),
            session_id=None,
            path=None,
            dataset_sha256=None,
            message=message,
        )


@dataclass
class Running:
    """A node, its intake and its log lines."""

    node: Node
    intake: FakeIntake
    log: LogCapture

    @property
    def port(self) -> int:
        return self.node.addresses[0].port

    def events(self, name: str) -> list[Any]:
        return [each for each in self.log.entries if each["event"] == name]

    def told(self, name: str, count: int = 1) -> list[Any]:
        """The events of this name once there are so many: a peer may have its answer before the log has its line."""
        until = time.monotonic() + 60
        while len(found := self.events(name)) < count:
            assert time.monotonic() < until, f"{name} was not logged {count} times: {self.log.entries}"
            time.sleep(0.005)
        return found


@contextmanager
def running(*receivers: ReceiverSettings, intake: FakeIntake | None = None, **limits: Any) -> Iterator[Running]:
    """A node on free loopback ports."""
    capture = LogCapture()
    settings = Settings(
        node=NodeSettings(drain_seconds=5.0, fast_path=is_fast_path()),
        receiver=receivers or (ReceiverSettings(ae_title="PREARC", port=0),),
        limits=LimitSettings(**limits),
    )
    intake = intake or FakeIntake()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.BoundLogger)
    node = Node(settings, intake, log=log)  # type: ignore[arg-type]
    node.start()
    try:
        yield Running(node=node, intake=intake, log=capture)
    finally:
        intake.gate.set()
        node.drain(10.0)
