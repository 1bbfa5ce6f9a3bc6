"""Filing: a synced part goes to its place, gets its row and its receipt (durability P4-P8)."""

from dataclasses import dataclass
from typing import Final

from archive import failpoints
from archive.clock import Clock
from archive.errors import InDoubt, OutOfSpace, PlaceFailed, StoreError
from archive.findings import FindingKind, make
from archive.intake.committer import Committer, Pending
from archive.intake.known import KnownFiles
from archive.intake.lending import Lender, Loan
from archive.intake.places import PlaceKey, Places
from archive.model import FileRecord, InstanceHeader, Outcome, Receipt, Study, scan_files_path
from archive.rules.naming import collision_name
from archive.store import files, manifest
from archive.store.catalogue import findings, intake
from archive.store.catalogue import known as known_rows
from archive.store.catalogue.arrivals import Arrivals, Place
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.store.catalogue.intake import AssociationFacts, NewInstance
from archive.store.catalogue.known import Known
from archive.store.catalogue.opening import Claim
from archive.store.catalogue.receipts import NewReceipt
from archive.store.parts import Part
from archive.store.root import Root
from archive.store.sync_order import SyncOrder

_ATTEMPTS: Final = 8
_DIGEST_LENGTHS: Final = (0, 8, 16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """All that decides where one instance goes and what its receipt says."""

    claim: Claim
    key: PlaceKey
    header: InstanceHeader
    association: AssociationFacts
    rule: str
    success_status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linked:
    """A file in its scan folder; not ours when another association linked the same dataset there first."""

    file: FileRecord
    is_ours: bool


class Filer:
    """Files instances into prearchive sessions; threads share it."""

    def __init__(self, root: Root, catalogue: Catalogue, committer: Committer, lender: Lender, *, clock: Clock) -> None:
        self._root, self._catalogue, self._committer, self._lender = root, catalogue, committer, lender
        self._folders = committer.folders
        self._known_files = KnownFiles(root, catalogue, clock)

    def file(self, part: Part, filing: Filing, places: Places) -> Receipt:
        """Link the part into its scan folder, commit its row, and say what became of it.

        When the session left RECEIVING meanwhile, the file is re-homed to the follow-up session before anything
        is answered.

        Raises
        ------
        StoreError
            Nothing may be acknowledged. After `InDoubt` the file stays where it is: its row may come to light.
        """
        name = places.name(filing.header)
        if places.get(filing.key) is None:
            receipt = self._file_lent(part, filing, name, places)
            if receipt is not None:
                return receipt
        for attempt in range(_ATTEMPTS):
            place = self._place(filing, places, is_again=attempt > 0)
            is_unseen = attempt == 0 and places.is_unseen(place, filing.header.sop_instance_uid)
            receipt = self._file_at(place, part, filing, name, is_unseen=is_unseen)
            if receipt is not None:
                return receipt
        raise StoreError("The session kept changing while an instance was filed.", hint="prearc status")

    def _file_lent(self, part: Part, filing: Filing, name: str, places: Places) -> Receipt | None:
        """Where another association of this process holds the session: the hold comes with the instance."""
        loan = self._lender.lend(filing.association, filing.key)
        if loan is None:
            return None
        receipt = None
        try:
            failpoints.hit("P4")
            receipt = self._file_at(loan.place, part, filing, name, is_unseen=False, loan=loan)
        except OSError as error:
            raise files.store_error(error, "filing an instance") from error
        finally:
            loan.end(is_held=receipt is not None)
        if receipt is not None:
            places.put(filing.key, loan.place)
        return receipt

    def _file_at(
        self, place: Place, part: Part, filing: Filing, name: str, *, is_unseen: bool, loan: Loan | None = None
    ) -> Receipt | None:
        """None when it is to be tried again: the session moved on, or the file of a known instance was lost.

        Whether the dataset is known and its name taken is looked up before; not of what `is_unseen`: where it is so all
        the same, the transaction of its row finds that out. A place on `loan` is held with the instance.
        """
        known, is_taken = (None, False) if is_unseen else self._look(place, part, filing, name)
        if known is not None and not known.is_missing:
            if not self._known_files.confirm(known, part):
                return None
            return self._acknowledge_known(known.id, place, part, filing, loan)
        if known is not None and known.scan_id == place.scan_id:
            name, is_taken = known.file.name, False  # its file was lost: this one takes its name
        linked = self._link(place, part, name, is_taken=is_taken)
        if linked is None:
            return None
        new = NewInstance(place=place, header=filing.header, file=linked.file)
        is_synced_alone = linked.is_ours and self._root.sync_order is SyncOrder.ONCE
        pending = Pending(lambda tx: self._record(tx, new, filing, loan, is_ours=linked.is_ours, is_unseen=is_unseen))
        try:
            folder = None if is_synced_alone else scan_files_path(place.session_path, place.scan)
            self._committer.sync_name(part, folder)
            filed = self._committer.submit(pending)
        except InDoubt:
            raise
        except StoreError:
            self._take_back(place, linked)
            raise
        except MemoryError:
            if not pending.is_in_doubt:
                self._take_back(place, linked)
            raise
        if filed is None or filed.outcome is Outcome.ALREADY_STORED:
            self._take_back(place, linked)
        return filed

    def _look(self, place: Place, part: Part, filing: Filing, name: str) -> tuple[Known | None, bool]:
        """The row of this very dataset in the session, and whether a row of the scan has this file name."""
        uid = filing.header.sop_instance_uid
        with self._catalogue.read() as connection:
            if not intake.may_be_known(connection, place, part.record(name), uid):
                return None, False
            known = known_rows.find(connection, place.session_id, uid, part.dataset_sha256)
            return known, intake.is_listed(connection, place.scan_id, name)

    def _place(self, filing: Filing, places: Places, *, is_again: bool) -> Place:
        """P4. What is in `places` stays there until it is replaced: the association holds a session then."""
        place = places.get(filing.key)
        if place is not None and not is_again:
            return place
        try:
            failpoints.hit("P4")
            place = (None if is_again else self._found(filing)) or self._made(filing, is_again=is_again)
        except OSError as error:
            raise _place_error(error, "making a scan folder") from error
        places.put(filing.key, place)
        self._lender.keep(filing.association, filing.key, place)
        return place

    def _found(self, filing: Filing) -> Place | None:
        """A place that is there and needs only to be held; the commit of the instance's row makes that durable."""
        with self._catalogue.write(is_durable=False) as tx:
            if not intake.has_place(tx, filing.claim, filing.header):
                return None
            return intake.allocate(tx, filing.claim, filing.header, filing.association)

    def _made(self, filing: Filing, *, is_again: bool) -> Place:
        with self._catalogue.write() as tx:
            place = intake.allocate(tx, filing.claim, filing.header, filing.association)
            if place.is_new_session or place.is_new_scan or is_again:
                files.make_folder(self._root.fd, scan_files_path(place.session_path, place.scan))
            if place.is_new_session:
                manifest.write(self._root.fd, tx.connection, place.session_id)
        return place

    def _link(self, place: Place, part: Part, name: str, *, is_taken: bool) -> _Linked | None:
        """P5: the file under the name it got; None when the folder is gone because the session moved on.

        A name that is taken belongs to another dataset's row, even where that one's file is lost.
        """
        folder = scan_files_path(place.session_path, place.scan)
        for length in _DIGEST_LENGTHS[is_taken:]:
            candidate = collision_name(name, part.dataset_sha256, length) if length else name
            try:
                with self._folders.use(folder) as folder_fd:
                    part.link(folder_fd, candidate)
            except FileExistsError:
                record = part.record_of(f"{folder}/{candidate}", candidate)
                if record is not None:
                    return _Linked(file=record, is_ours=False)
            except FileNotFoundError:
                if not part.is_in_spool:
                    raise StoreError("The part is gone from the spool.", hint="prearc status") from None
                return None
            except OSError as error:
                raise _place_error(error, "linking an instance") from error
            else:
                return _Linked(file=part.record(candidate), is_ours=True)
        raise StoreError("Every name of an instance is taken by other bytes.", hint="prearc doctor")

    def _record(
        self,
        tx: Transaction,
        new: NewInstance,
        filing: Filing,
        loan: Loan | None,
        *,
        is_ours: bool,
        is_unseen: bool,
    ) -> Receipt | None:
        """None when it is to be tried again; also where a row has the dataset after all, whose file is to be
        looked at."""
        if not is_ours and files.status(self._root.fd, self._path(new.place, new.file.name)) is None:
            return None  # the association that made the name took it back, under this same lock
        inserted = intake.insert_instance(tx, new)
        if inserted is None:
            return None
        outcome, instance_id = inserted
        if outcome is Outcome.ALREADY_STORED and is_unseen:
            return None
        if loan is not None:
            loan.enter(tx)  # last: what is tried again must leave no hold behind
        if outcome is Outcome.HELD:
            detail = {"sop_instance_uids": [new.header.sop_instance_uid]}
            differs = make(FindingKind.INSTANCE_DIFFERS, new.place.session_id, detail)
            findings.add_once(tx, new.place.session_id, differs)
        return self._receipt(tx, outcome, instance_id, new.place, new.file.dataset_sha256, new.file.name, filing)

    def _acknowledge_known(
        self, instance_id: int, place: Place, part: Part, filing: Filing, loan: Loan | None
    ) -> Receipt | None:
        def record(tx: Transaction) -> Receipt | None:
            if loan is not None:
                if not intake.takes(tx, place):
                    return None
                loan.enter(tx)
            digest = part.dataset_sha256
            return self._receipt(tx, Outcome.ALREADY_STORED, instance_id, place, digest, None, filing)

        return self._committer.submit(Pending(record))

    def _receipt(
        self,
        tx: Transaction,
        outcome: Outcome,
        instance_id: int,
        place: Place,
        digest: str,
        name: str | None,
        filing: Filing,
    ) -> Receipt:
        association, uid = filing.association, filing.header.sop_instance_uid
        tx.gathered(Arrivals).tell(
            NewReceipt(
                association_id=association.id,
                sop_instance_uid=uid,
                outcome=outcome,
                status=filing.success_status,
                session_id=place.session_id,
                instance_id=instance_id,
                dataset_sha256=digest,
                rule=filing.rule,
            )
        )
        return Receipt(
            sop_instance_uid=uid,
            outcome=outcome,
            status=filing.success_status,
            calling_ae_title=association.calling_ae_title,
            called_ae_title=association.called_ae_title,
            peer=association.peer_host,
            received_at=tx.now,
            session_id=place.session_id,
            path=f"{scan_files_path(place.session_path, place.scan)}/{name}" if name else None,
            dataset_sha256=digest,
            rule=filing.rule,
        )

    def _take_back(self, place: Place, linked: _Linked) -> None:
        """Remove a name of ours that got no row; under the write lock, because another association may rely on it
        and give it one: whoever comes second sees what the first did."""
        if not linked.is_ours:
            return
        try:
            with self._catalogue.write() as tx:
                if not intake.is_listed(tx.connection, place.scan_id, linked.file.name, linked.file.dataset_sha256):
                    files.unlink(self._root.fd, self._path(place, linked.file.name))
        except (StoreError, OSError):
            pass  # an unlisted file: recovery and `prearc doctor` report it

    @staticmethod
    def _path(place: Place, name: str) -> str:
        return f"{scan_files_path(place.session_path, place.scan)}/{name}"


def _place_error(error: OSError, doing: str) -> StoreError:
    """The part is written and synced already: what fails now may be the folder of this one session."""
    failure = files.store_error(error, doing)
    return failure if isinstance(failure, OutOfSpace) else PlaceFailed(failure.message, hint=failure.hint)


def study_of(header: InstanceHeader) -> Study:
    """The study facts an instance carries."""
    return Study(
        study_instance_uid=header.study_instance_uid,
        patient_id=header.patient_id,
        patient_name=header.patient_name,
        patient_birth_date=header.patient_birth_date,
        patient_sex=header.patient_sex,
        study_date=header.study_date,
        study_time=header.study_time,
        study_description=header.study_description,
        accession_number=header.accession_number,
        manufacturer=header.manufacturer,
        manufacturer_model_name=header.manufacturer_model_name,
        station_name=header.station_name,
        device_serial_number=header.device_serial_number,
        institution_name=header.institution_name,
    )
