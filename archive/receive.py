"""Receiving: from the first byte of a dataset to a receipt that survives a power cut (durability P0-P8)."""

import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Final

import structlog

from archive import failpoints
from archive.clock import Clock
from archive.config import ReceiverSettings, Settings
from archive.errors import Busy, HeaderError, InDoubt, LimitExceeded, OutOfSpace, StoreError
from archive.intake.admission import Admission
from archive.intake.committer import Committer, Pending
from archive.intake.deciding import Decision
from archive.intake.declining import DeclinedStore, decline
from archive.intake.doorman import Doorman
from archive.intake.endings import Endings
from archive.intake.experience import Experiences
from archive.intake.filing import Filer, Filing
from archive.intake.holdings import Holdings
from archive.intake.lending import Lender
from archive.intake.places import Places
from archive.intake.quarantine import Quarantine
from archive.intake.telling import Teller
from archive.model import InstanceHeader, Outcome, Receipt, Refusal, Source, StoreRequest
from archive.rules import header as headers
from archive.rules.header_walk import EmptyDataset, TruncatedHeader
from archive.rules.identity import identity_problem
from archive.rules.policy import Policy
from archive.rules.uids import is_uid
from archive.store.catalogue import intake, receipts
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.store.catalogue.endings import Ending, RefusedStore
from archive.store.catalogue.intake import AssociationFacts
from archive.store.catalogue.receipts import NewReceipt
from archive.store.folders import OpenFolders
from archive.store.parts import Part
from archive.store.root import Root

IMPLEMENTATION_CLASS_UID: Final = "2.25.207371837152186712377217243834573823745"
IMPLEMENTATION_VERSION_NAME: Final = "PREARC_0_1"

MOST_REFUSALS_TOLD: Final = 1000
"""Receipts of refusals that one association has; more are counted in a last one."""

StatusOf = Callable[[Refusal | None], int]
log = structlog.get_logger("prearc.receive")


class Intake:
    """The receiving side of one process: its committer, its admission, its quarantine.

    Nothing here is shared with another process but the root and the catalogue.
    """

    def __init__(
        self,
        root: Root,
        catalogue: Catalogue,
        settings: Settings,
        policy: Policy,
        *,
        status_of: StatusOf,
        clock: Clock,
        role: str = "receiver",
    ) -> None:
        """`role`: how this process calls itself when it is asked how it stands."""
        self.root, self.catalogue, self.settings, self.policy = root, catalogue, settings, policy
        self.status_of, self.clock = status_of, clock
        self.owner = uuid.uuid4().hex
        self._alive = root.locks.named(f"process-{self.owner}")
        if not self._alive.acquire(wait_seconds=2.0, holder=f"receiver {self.owner}"):
            raise Busy("Another process has this one's name.")
        self.gate = Admission(root, settings.node, clock)
        self._teller = Teller(root, role, self.gate, clock)
        self.folders = OpenFolders(root.fd)
        self.committer = Committer(self.folders, catalogue, self.gate, batch=settings.limits.commit_batch)
        holdings = Holdings()
        self.endings = Endings(catalogue, holdings)
        self.lender = Lender(holdings, self.endings)
        self.filer = Filer(root, catalogue, self.committer, self.lender, clock=clock)
        self.experiences = Experiences(policy)
        self.doorman = Doorman(catalogue, clock)
        self.quarantine = Quarantine(root, limit_bytes=settings.limits.quarantine_bytes, clock=clock)

    def admission(self) -> str | None:
        """Why no association can be taken now (low water, a failing store); None when all is well."""
        reason = self.gate.reason()
        if reason is None:  # a write: not on a disk that is full, fails or hangs
            self.endings.retry()
        return reason

    def open(
        self,
        *,
        receiver: ReceiverSettings,
        calling_ae_title: str,
        peer_host: str,
        source: Source = Source.SCP,
    ) -> "AssociationIntake":
        """Begin an association; the catalogue learns of it with its first instance."""
        facts = AssociationFacts(
            id=(time.time_ns() // 1000) << 10 | secrets.randbits(10),
            owner=self.owner,
            calling_ae_title=calling_ae_title,
            called_ae_title=receiver.ae_title,
            peer_host=peer_host,
            source=source,
        )
        return AssociationIntake(self, receiver, facts)

    def close(self) -> None:
        """Nothing is queued once every association is closed; let the process's lock go."""
        self.doorman.close()
        self._teller.close()
        self.endings.close()
        self.folders.close()
        self._alive.release()


class AssociationIntake:
    """One association; its threads use it one at a time."""

    def __init__(self, intake_: Intake, receiver: ReceiverSettings, facts: AssociationFacts) -> None:
        self._intake, self._facts = intake_, facts
        self._experience = intake_.experiences.borrow(receiver, facts)
        self._understanding, self._deciding = self._experience.understanding, self._experience.deciding
        self._places = Places(self._experience.namer)
        self._parts: set[Part] = set()
        self._is_known = self._is_in_doubt = False
        self._told = Counter[bool]()  # refusals with a receipt, by whether the instance was admitted
        self._untold: RefusedStore | None = None
        self._is_closed = False

    @property
    def association_id(self) -> int:
        return self._facts.id

    def begin(self, request: StoreRequest) -> Part:
        """P0 and P1: a part for the dataset that follows. Trouble is kept in the part, not raised."""
        reason = self._intake.admission()
        instance_uid, class_uid = request.sop_instance_uid, request.sop_class_uid
        prefix = headers.encode_file_prefix(
            sop_class_uid=class_uid if is_uid(class_uid) else "",
            sop_instance_uid=instance_uid if is_uid(instance_uid) else "",
            transfer_syntax_uid=request.transfer_syntax_uid,
            calling_ae_title=self._facts.calling_ae_title,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        )
        with self._intake.gate.waiting("a new part"):
            part = Part(
                self._intake.folders,
                owner=self._facts.owner,
                prefix=prefix,
                limit_bytes=self._intake.settings.limits.instance_bytes,
                failure=StoreError(reason) if reason is not None else None,
                cover=self._intake.gate.space.cover,
            )
        self._parts.add(part)
        return part

    def finish(self, request: StoreRequest, part: Part) -> Receipt:
        """P2 to P8: blocks until the instance is durable, or says why it is not."""
        try:
            if part.failure is not None:
                self._intake.gate.judge(part.failure)
                return self.refuse(request, Refusal.OUT_OF_RESOURCES, part.failure.message, part)
            with self._intake.gate.waiting("an instance", size_bytes=part.size_bytes):
                part.begin_sync(self._intake.root.sync_order)
                understood = self._understand(request, part)
                if isinstance(understood, InstanceHeader):
                    return self._store(request, part, understood)
                refusal, message = understood
                return self.refuse(request, refusal, message, part)
        finally:
            self._forget(part)

    def refuse(self, request: StoreRequest, refusal: Refusal, message: str, part: Part | None = None) -> Receipt:
        """Trace a refused instance; its bytes go to the quarantine where they may tell something.

        Of those that were not admitted at all, an association's first has a receipt and the others are counted in
        one at its end: a sender that tries again and again must not eat the space that is kept in reserve. Nor must
        one that sends what is wrong without end: so is counted what is beyond `MOST_REFUSALS_TOLD`.
        """
        is_admitted = part is None or part.is_admitted
        is_told = self._told[is_admitted] < (self._most_told() if is_admitted else 1)
        path = self._intake.quarantine.keep(part, refusal) if part is not None and is_told else None
        status = self._intake.status_of(refusal)
        digest = part.dataset_sha256 if part is not None and path is not None else None

        refused = RefusedStore(
            sop_instance_uid=request.sop_instance_uid[:128], status=status, message=f"{refusal}: {message}"
        )
        if is_told:
            self._told[is_admitted] += self._trace(refused, path, digest)
        else:
            self._untold = replace(refused, count=self._untold.count + 1 if self._untold is not None else 1)
        if part is not None:
            self._forget(part)
        log.warning("refused", association=self._facts.id, refusal=refusal, status=f"{status:04X}", why=message)
        return Receipt(
            sop_instance_uid=request.sop_instance_uid,
            outcome=Outcome.REFUSED,
            status=status,
            calling_ae_title=self._facts.calling_ae_title,
            called_ae_title=self._facts.called_ae_title,
            peer=self._facts.peer_host,
            received_at=self._intake.clock.now(),
            session_id=None,
            path=path,
            dataset_sha256=digest,
            message=message,
        )

    def _most_told(self) -> float:
        """An import names its files itself, and they are finite."""
        return MOST_REFUSALS_TOLD if self._facts.source is Source.SCP else inf

    def _trace(self, refused: RefusedStore, path: str | None, digest: str | None) -> bool:
        """Write a refusal's receipt; False when that failed."""

        def record(tx: Transaction) -> None:
            intake.open_association(tx, self._facts)
            receipts.insert(
                tx,
                NewReceipt(
                    association_id=self._facts.id,
                    sop_instance_uid=refused.sop_instance_uid,
                    outcome=Outcome.REFUSED,
                    status=refused.status,
                    path=path,
                    dataset_sha256=digest,
                    message=refused.message,
                ),
            )

        try:
            self._intake.committer.submit(Pending(record, acknowledges=False))
        except StoreError as error:
            self._is_known |= isinstance(error, InDoubt)
            self._intake.gate.judge(error)
            log.error("refusal_not_traced", association=self._facts.id, why=refused.message, error=error.message)
            return False
        self._is_known = True
        return True

    def abandon(self, part: Part) -> None:
        """The peer left in the middle of the dataset: that instance was not received."""
        self._forget(part)

    def close(self) -> None:
        """The association ended: its parts go, and it holds no session open any more. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for part in list(self._parts):
            self._forget(part)
        self._intake.experiences.give_back(self._experience)
        if self._places or self._is_known or self._is_in_doubt:
            ending = Ending(association_id=self._facts.id, untold=self._untold, is_in_doubt=self._is_in_doubt)
            self._intake.endings.add(ending)

    def _understand(self, request: StoreRequest, part: Part) -> InstanceHeader | tuple[Refusal, str]:
        """P2: the bounded header, and whether it is what the request announced."""
        if part.is_over_limit:
            return Refusal.OVER_LIMIT, "the dataset is larger than this node takes"
        try:
            failpoints.hit("P2")
            header = self._understanding.read(part, request.transfer_syntax_uid)
        except EmptyDataset:
            return Refusal.EMPTY, "the dataset is empty"
        except TruncatedHeader as error:
            return Refusal.TRUNCATED, error.message
        except LimitExceeded as error:
            return Refusal.OVER_LIMIT, error.message
        except HeaderError as error:
            return Refusal.CANNOT_UNDERSTAND, error.message
        except OSError as error:
            failure = StoreError("the part could not be read back")
            failure.__cause__ = error
            self._intake.gate.judge(failure)
            return Refusal.OUT_OF_RESOURCES, failure.message
        return identity_problem(request, header) or header

    def _store(self, request: StoreRequest, part: Part, header: InstanceHeader) -> Receipt:
        """P3 to P8."""
        decision = self._deciding.decide(header)
        declined_by = self._intake.policy.filters.declines(decision.claim.project, header)
        if declined_by is not None:
            return self._decline(request, part, decision, declined_by)
        filing = Filing(
            claim=decision.claim,
            key=decision.key,
            header=header,
            association=self._facts,
            rule=decision.rule,
            success_status=self._intake.status_of(None),
        )
        try:
            part.sync(self._intake.root.sync_order)
        except StoreError as error:
            if not isinstance(error, OutOfSpace):  # a full disk proves nothing, and the space is needed
                part.leave_as_evidence()
            self._intake.gate.degrade(error)
            return self.refuse(request, Refusal.OUT_OF_RESOURCES, error.message, part)
        was_in_doubt, self._is_in_doubt = self._is_in_doubt, True  # until it is known what became of it
        try:
            receipt = self._intake.filer.file(part, filing, self._places)
        except StoreError as error:
            self._intake.gate.judge(error)
            return self.refuse(request, Refusal.OUT_OF_RESOURCES, error.message, part)
        self._is_in_doubt = was_in_doubt
        failpoints.hit("P8")
        return receipt

    def _decline(self, request: StoreRequest, part: Part, decision: Decision, rule: str) -> Receipt:
        """A filter does not take it: only the receipt is kept."""
        is_refusal = self._intake.settings.filters.answer == "refused"
        declined = DeclinedStore(
            association=self._facts,
            sop_instance_uid=request.sop_instance_uid,
            dataset_sha256=part.dataset_sha256,
            routing=decision.rule,
            rule=rule,
            status=self._intake.status_of(Refusal.NOT_AUTHORISED if is_refusal else None),
        )
        try:
            receipt = decline(self._intake.committer, declined)
        except StoreError as error:
            self._is_known |= isinstance(error, InDoubt)
            self._intake.gate.judge(error)
            return self.refuse(request, Refusal.OUT_OF_RESOURCES, error.message, part)
        self._is_known = True
        return receipt

    def _forget(self, part: Part) -> None:
        part.drop()
        self._parts.discard(part)
        self._intake.gate.space.forget(part)
