"""The C-STOREs of one association: each request becomes calls of the use case and its receipt an answer.

Nothing here knows pynetdicom, and nothing decides: what may be stored is judged by the command and the
negotiated context, what was stored is said by `archive.receive`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from archive.model import Outcome, Receipt, Refusal, StoreRequest
from archive.receive import AssociationIntake
from archive.store.parts import Part
from scp.contexts import is_storage
from scp.status import PROCESSING_FAILURE
from scp.text import error_comment, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a C-STORE is answered with; `comment` is an Error Comment."""

    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRequest:
    """Why a request is refused before its dataset is looked at."""

    refusal: Refusal
    message: str


def judge(request: StoreRequest, *, abstract_syntax: str, has_dataset: bool) -> RefusedRequest | None:
    """Whether the command set alone refuses the request (DICOM PS3.7 9.1.1.1)."""
    if not is_storage(abstract_syntax):
        return RefusedRequest(refusal=Refusal.NOT_NEGOTIATED, message="This context is not for storage")
    if not request.sop_class_uid:
        return RefusedRequest(refusal=Refusal.NOT_NEGOTIATED, message="No Affected SOP Class UID")
    if request.sop_class_uid != abstract_syntax:
        return RefusedRequest(refusal=Refusal.NOT_NEGOTIATED, message="SOP Class is not the presentation context's")
    if not request.sop_instance_uid:
        return RefusedRequest(refusal=Refusal.UID_INVALID, message="No Affected SOP Instance UID")
    if not has_dataset:
        return RefusedRequest(refusal=Refusal.EMPTY, message="No data set")
    return None


class StoreService:
    """One C-STORE at a time: `start`, `write` any number of times, `complete`; or `abandon`.

    Used by the association's thread alone.
    """

    def __init__(self, intake: AssociationIntake, log: FilteringBoundLogger) -> None:
        self._intake = intake
        self._log = log
        self._request: StoreRequest | None = None
        self._part: Part | None = None
        self._refused: RefusedRequest | None = None
        self._is_broken = False
        self.stored = 0
        self.refused = 0

    def start(self, request: StoreRequest, refused: RefusedRequest | None) -> None:
        """Take a request; the dataset of a refused one is read and thrown away."""
        self._request, self._refused = request, refused
        self._part, self._is_broken = None, False
        if refused is None:
            try:
                self._part = self._intake.begin(request)
            except Exception as error:  # noqa: BLE001 - a door: the peer gets a failure status
                self._break("begin", error)

    def write(self, pieces: Sequence[memoryview]) -> None:
        """Take the next pieces of the dataset."""
        if self._part is not None and not self._is_broken:
            try:
                self._part.write_many(pieces)
            except Exception as error:  # noqa: BLE001 - a door: the peer gets a failure status
                self._break("write", error)

    def complete(self) -> Answer:
        """Store the instance; returns when it is durable or refused."""
        receipt = None
        if not self._is_broken:
            try:
                receipt = self._finish()
            except Exception as error:  # noqa: BLE001 - a door: the peer gets a failure status
                self._break("finish", error)
        if receipt is None:
            self.abandon()
            self.refused += 1
            return Answer(status=PROCESSING_FAILURE.code, comment=PROCESSING_FAILURE.text)
        self._request = self._part = self._refused = None
        if receipt.outcome in (Outcome.REFUSED, Outcome.FILTERED):
            self.refused += 1
        else:
            self.stored += 1
        return Answer(status=receipt.status, comment=error_comment(receipt.message) if receipt.status else "")

    def refuse(self, request: StoreRequest, refused: RefusedRequest) -> None:
        """Leave a trace of a request that is not answered, because the association ends instead."""
        self._refused, self._request, self._part = refused, request, None
        self.complete()

    def abandon(self) -> None:
        """Drop what came of an instance that will not be complete; nothing to do between instances."""
        part, self._request, self._part, self._refused = self._part, None, None, None
        if part is not None:
            self._intake.abandon(part)

    def close(self) -> None:
        """The association is over."""
        try:
            self.abandon()
        finally:
            self._intake.close()

    def _finish(self) -> Receipt:
        assert self._request is not None
        if self._refused is not None:
            return self._intake.refuse(self._request, self._refused.refusal, self._refused.message)
        assert self._part is not None
        return self._intake.finish(self._request, self._part)

    def _break(self, step: str, error: Exception) -> None:
        self._is_broken = True
        self._log.error("store.failed", step=step, error=printable(repr(error)), exc_info=True)
