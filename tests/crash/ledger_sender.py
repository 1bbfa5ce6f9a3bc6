"""The oracle's witness: a process that sends instances by C-STORE and remembers what was acknowledged.

It behaves as a patient sender: after a lost association it connects again and repeats the instance that
was not answered; after a refusal with a resource status (A7xx) it tries the same instance again. Each
event is one JSON line in the ledger, on a disk that is not faulted; an acknowledgement is synced before
anybody is told of it.

Run as ``python -m tests.crash.ledger_sender --ledger FILE --seed N [--associations N] ...``; with ``--visit`` it
sends one visit again and again (`tests.crash.visit`), over short associations with a pause after each. It reads
commands from standard input, one a line: ``target HOST PORT`` (send there), ``pause`` (release all
associations), ``stop``; the end of the input is a stop. To standard output it writes ``acknowledged UID``,
``refused UID STATUS``, ``lost UID``, and ``idle`` each time a pause has been reached by all associations.
"""

import argparse
import json
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import DIMSEPrimitive

from tests.crash.instances import SOP_CLASSES, TRANSFER_SYNTAX, SyntheticInstance, synthetic_instances
from tests.crash.visit import visit_instances

SUCCESS: Final = 0x0000
RETRY_SECONDS: Final = 0.05
ANSWER_TIMEOUT_SECONDS: Final = 30
DEAD_CONNECTION_SECONDS: Final = 0.1
RESEND_EVERY: Final = 16
"""One acknowledged instance in so many is sent a second time, as senders do after a restart."""
VISIT_ASSOCIATION: Final = range(1, 12)
"""How many instances of a visit go over one association."""
VISIT_PAUSE_SECONDS: Final = 1.5
"""The longest pause after an association of a visit: long enough for its session to become idle."""


class Ledger:
    """An append-only file of JSON lines; `write` returns when the line would survive this process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="ascii")
        self._lock = threading.Lock()

    def write(self, event: str, instance: SyntheticInstance, *, status: int | None = None) -> None:
        line = {"event": event, "uid": instance.sop_instance_uid, "sha256": instance.dataset_sha256}
        if status is not None:
            line["status"] = f"{status:04X}"
        said = " ".join(filter(None, [event, instance.sop_instance_uid, line.get("status", "")]))
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            if event == "acknowledged":
                os.fsync(self._file.fileno())
            if event != "sending":
                print(said, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send; a new object for each command, so that a repeated command is a change too."""

    host: str
    port: int


class Control:
    """What the driver wants, shared by all associations."""

    def __init__(self, associations: int) -> None:
        self._changed = threading.Condition()
        self._associations = associations
        self._target: Target | None = None
        self._is_stopped = False
        self._waiting = 0

    def obey(self, lines: Iterator[str]) -> None:
        """Follow the commands until the input ends."""
        for line in lines:
            match line.split():
                case ["target", host, port]:
                    self._set(Target(host=host, port=int(port)))
                case ["pause"]:
                    self._set(None)
                case ["stop"]:
                    break
                case _:
                    raise SystemExit(f"unknown command {line!r}")
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def await_target(self) -> Target | None:
        """The target, as soon as there is one; None when told to stop."""
        with self._changed:
            self._waiting += 1
            self._say_if_idle()
            self._changed.wait_for(lambda: self._target is not None or self._is_stopped)
            self._waiting -= 1
            return None if self._is_stopped else self._target

    def still_wants(self, target: Target) -> bool:
        return self._target is target and not self._is_stopped

    def wait(self, target: Target, seconds: float = RETRY_SECONDS) -> None:
        """Wait a moment, or until the driver wants something else."""
        with self._changed:
            self._changed.wait_for(lambda: not self.still_wants(target), timeout=seconds)

    def _set(self, target: Target | None) -> None:
        with self._changed:
            self._target = target
            self._say_if_idle()
            self._changed.notify_all()

    def _say_if_idle(self) -> None:
        if self._target is None and self._waiting == self._associations:
            print("idle", flush=True)


class Sender:
    """One association after another, one instance at a time, none given up without an answer."""

    def __init__(
        self,
        ledger: Ledger,
        control: Control,
        instances: Iterator[SyntheticInstance],
        aet: str,
        pauses: random.Random | None = None,
    ):
        """With `pauses` it makes short associations, and a pause after each."""
        self._ledger = ledger
        self._control = control
        self._instances = instances
        self._called = aet
        self._pauses = pauses
        self._pending = next(instances)
        self._acknowledged = 0
        self._ae = AE(ae_title="LEDGER")
        self._ae.dimse_timeout = ANSWER_TIMEOUT_SECONDS
        self._ae.acse_timeout = ANSWER_TIMEOUT_SECONDS
        for sop_class in SOP_CLASSES:
            self._ae.add_requested_context(sop_class, TRANSFER_SYNTAX)

    def run(self) -> None:
        while (target := self._control.await_target()) is not None:
            association = self._ae.associate(target.host, target.port, ae_title=self._called)
            if not association.is_established:
                self._control.wait(target)
                continue
            _hear_of_a_dropped_connection(association)
            left = self._pauses.choice(VISIT_ASSOCIATION) if self._pauses else sys.maxsize
            while left and association.is_established and self._control.still_wants(target):
                self._send(association, target)
                left -= 1
            if association.is_established:
                association.release()
            if self._pauses:
                self._control.wait(target, self._pauses.uniform(0, VISIT_PAUSE_SECONDS))

    def _send(self, association: Association, target: Target) -> None:
        instance = self._pending
        self._ledger.write("sending", instance)
        status = _store(association, instance.dataset)
        if status is None:
            self._ledger.write("lost", instance)
        elif status == SUCCESS:
            self._ledger.write("acknowledged", instance)
            self._acknowledged += 1
            # The count is past the resend when it was the resend that was acknowledged.
            if self._acknowledged % RESEND_EVERY != 0:
                self._pending = next(self._instances)
        else:
            self._ledger.write("refused", instance, status=status)
            if status & 0xFF00 != 0xA700:
                self._pending = next(self._instances)
            self._control.wait(target)


def _hear_of_a_dropped_connection(association: Association) -> None:
    """Let the wait for an answer end when the connection is gone.

    pynetdicom tells a waiting request of a dropped connection once; when it drops just before the request is
    sent, its reactor takes that word and the request waits for the whole DIMSE timeout.
    """
    queued = association.dimse.msg_queue

    def get_msg(block: bool = False) -> tuple[int | None, DIMSEPrimitive | None]:
        deadline = time.monotonic() + (ANSWER_TIMEOUT_SECONDS if block else 0)
        while True:
            try:
                return queued.get(block=block, timeout=DEAD_CONNECTION_SECONDS)
            except queue.Empty:
                if not association.dul.is_alive() or time.monotonic() >= deadline:
                    return None, None

    association.dimse.get_msg = get_msg


def _store(association: Association, dataset: Dataset) -> int | None:
    """The answer's status, None when none came."""
    try:
        answer = association.send_c_store(dataset)
    except RuntimeError:
        # The association ended between the look and the call.
        return None
    return int(answer.Status) if "Status" in answer else None


def _end_at_once(failure: threading.ExceptHookArgs) -> None:
    """A witness that lost a thread is no witness: the process ends and the test hears of it."""
    threading.__excepthook__(failure)
    sys.stderr.flush()
    os._exit(70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--associations", type=int, default=1)
    parser.add_argument("--called", default="PREARC")
    parser.add_argument("--project", default="CRASH")
    parser.add_argument("--visit", action="store_true")
    arguments = parser.parse_args()
    threading.excepthook = _end_at_once
    ledger = Ledger(arguments.ledger)
    control = Control(arguments.associations)
    traffic = visit_instances if arguments.visit else synthetic_instances
    senders = [
        Sender(
            ledger,
            control,
            traffic(arguments.seed, first=number, step=arguments.associations, project=arguments.project),
            arguments.called,
            random.Random(f"pauses {arguments.seed} {number}") if arguments.visit else None,
        )
        for number in range(arguments.associations)
    ]
    threads = [threading.Thread(target=sender.run, name=f"sender-{n}") for n, sender in enumerate(senders)]
    for thread in threads:
        thread.start()
    control.obey(iter(sys.stdin.readline, ""))
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
