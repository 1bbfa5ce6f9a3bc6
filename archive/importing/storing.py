"""Storing what was planned: each file becomes what a C-STORE of it would, through the same intake.

One association for all of it: its sessions stay open until the import ends, as one sender's do.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from archive.config import ReceiverSettings
from archive.importing.candidates import Candidate, Decline, Declined, Unusable
from archive.importing.inspecting import Inspected, inspect
from archive.importing.opening import Opened, Opener
from archive.importing.planning import CALLING_AE_TITLE, PEER_HOST
from archive.model import Outcome, Receipt, Refusal, Source, StoreRequest
from archive.receive import AssociationIntake, Intake
from archive.rules.uids import is_uid
from archive.store.parts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file that was answered with success; its receipt is durable."""

    candidate: Candidate
    receipt: Receipt


class _Stopped(Exception):
    """Somebody asked to stop in the middle of a file."""


class Importer:
    """Files candidates through one intake.

    Parameters
    ----------
    is_storage
        Whether instances of a SOP class can be stored: the network door's word.
    should_stop
        Asked before every piece of a file; what is not answered by then is dropped, as when a sender leaves.
    """

    def __init__(
        self,
        intake: Intake,
        receiver: ReceiverSettings,
        *,
        is_storage: Callable[[str], bool],
        should_stop: Callable[[], bool],
    ) -> None:
        self._intake, self._receiver = intake, receiver
        self._is_storage, self._should_stop = is_storage, should_stop

    def store(self, candidates: Iterable[Candidate]) -> Iterator[Stored | Declined]:
        """Store each and say what became of it; one that is refused does not stop the others.

        Ends early when it should stop, or when it is closed; the association is closed either way.
        """
        association = self._intake.open(
            receiver=self._receiver, calling_ae_title=CALLING_AE_TITLE, peer_host=PEER_HOST, source=Source.IMPORT
        )
        opener = Opener()
        try:
            for candidate in candidates:
                if self._should_stop():
                    return
                yield self._store(association, opener, candidate)
        except _Stopped:
            return
        finally:
            opener.close()
            association.close()

    def _store(self, association: AssociationIntake, opener: Opener, candidate: Candidate) -> Stored | Declined:
        try:
            with opener.open(candidate) as opened:
                inspected = inspect(opened, self._intake.policy)
                if inspected is None:
                    raise Unusable(Decline.CHANGED)
                receipt = self._send(association, opened, inspected)
        except Unusable as error:
            return error.of(candidate.name)
        if receipt.outcome is Outcome.REFUSED:
            return Declined(
                name=candidate.name, reason=Decline.NOT_STORED, message=receipt.message, status=receipt.status
            )
        return Stored(candidate=candidate, receipt=receipt)

    def _send(self, association: AssociationIntake, opened: Opened, inspected: Inspected) -> Receipt:
        request = inspected.request
        refused = self._judge(request)
        if refused is not None:
            return association.refuse(request, *refused)
        part = association.begin(request)
        try:
            self._write(part, opened.pieces(inspected.dataset_offset))
        except BaseException:
            association.abandon(part)
            raise
        return association.finish(request, part)

    def _write(self, part: Part, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            if self._should_stop():
                raise _Stopped
            part.write(piece)
            if part.failure is not None or part.is_over_limit:
                return  # it is refused whatever follows

    def _judge(self, request: StoreRequest) -> tuple[Refusal, str] | None:
        """What no association would have negotiated (DICOM PS3.7 9.1.1.1)."""
        if not request.sop_class_uid:
            return Refusal.NOT_NEGOTIATED, "the dataset has no SOP Class UID"
        if not self._is_storage(request.sop_class_uid):
            return Refusal.NOT_NEGOTIATED, "instances of this SOP class are not stored"
        if not request.sop_instance_uid:
            return Refusal.UID_INVALID, "the dataset has no SOP Instance UID"
        if not is_uid(request.transfer_syntax_uid):
            return Refusal.CANNOT_UNDERSTAND, "the Transfer Syntax UID is invalid"
        return None
