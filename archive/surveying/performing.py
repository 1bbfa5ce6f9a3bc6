"""Surveying one resource of the archive while others receive and archive.

Nothing is locked while files are read. Only where the disk and the rows disagree, names and rows are compared once
more under the session's lock, which then is held for a look at the folder and no longer: what was being archived,
returned or renamed at the moment is no finding.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from archive.errors import Busy
from archive.rules import survey
from archive.store.catalogue import instances, journal, resources, survey_results
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.resources import Place
from archive.surveying.comparing import differences_of, digested
from archive.surveying.pace import Gate
from archive.surveying.readers import Batch, Readers
from archive.surveying.reading import Reading
from archive.surveying.resource import Folder, Listing, Resource, add_late, facts_of, from_rows, look
from archive.surveys import FileFacts, ResourceReport
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a resource: a report, or `is_gone`, or a `problem` that kept it from being surveyed.

    `read` are facts that the caller remembers, best in the transaction that keeps the report.
    """

    report: ResourceReport | None = None
    read: tuple[FileFacts, ...] = ()
    is_gone: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a resource is surveyed; `lock_seconds` is how long the second look waits for a busy session."""

    is_fresh: bool = False
    reads_all: bool = False
    lock_seconds: float = 1.0


def survey_place(ws: Workspace, readers: Readers, place: Place, how: How, gate: Gate) -> Found:
    """Survey one resource; what was read is remembered, or given to the caller with the report.

    Raises
    ------
    Busy
        The disk and the rows disagree, and somebody works on the session.
    """
    now = _place_now(ws, place)
    if now is None:
        return Found(is_gone=True)
    before = {} if how.is_fresh or how.reads_all else _known(ws, now)
    seen = _see(ws, now, before)
    if isinstance(seen, Found):
        return seen if not seen.is_gone else _look_again(ws, readers, now, {}, how, gate)
    folder, listing, resource = seen
    facts = _facts(ws, now, folder, listing, _started(readers, resource, folder, how))
    is_news = bool(folder.to_read) or not before.keys() <= folder.known.keys()
    found = survey.sorted_out(facts)
    if not found.wrong and all(len(group) == 1 for group in found.sound.values()):
        report = survey.report_on(found, {}, listing.remarks)
        return Found(report=report, read=tuple(facts) if is_news else ())
    if is_news:
        _remember(ws, now, facts)
    if read := digested(readers, resource.path, facts):
        facts = read
        _remember(ws, now, facts)
    if any(survey.troubled(file) for file in facts):
        return _look_again(ws, readers, now, _by_path(facts), how, gate)
    return Found(report=_report(readers, resource, facts, listing))


def remember(tx: Transaction, ws: Workspace, place: Place, facts: Iterable[FileFacts]) -> None:
    """Keep what was read for the next survey; not what has a fault, which may have been the disk's."""
    read = [file for file in facts if not file.fault]
    survey_results.remember(tx, place.session_id, place.scan, read, template=ws.policy.template.text)


def _look_again(
    ws: Workspace, readers: Readers, place: Place, before: Mapping[str, FileFacts], how: How, gate: Gate
) -> Found:
    """Compare once more while nobody changes anything."""
    with ws.root.locks.sessions(place.session_id, wait_seconds=how.lock_seconds, holder="survey"):
        with ws.catalogue.read() as connection:
            if journal.has_unfinished(connection, place.session_id):
                raise Busy(
                    f"An operation on session {place.session_id} is unfinished.",
                    hint=f"prearc session show {place.session_id}",
                )
        now = _place_now(ws, place)
        if now is None:
            return Found(is_gone=True)
        seen = _see(ws, now, before)
        if isinstance(seen, Found):
            return seen
        folder, listing, resource = seen
        gate.is_open = True
        try:
            facts = _facts(ws, now, folder, listing, _started(readers, resource, folder, how))
        finally:
            gate.is_open = False
        if folder.to_read or not before.keys() <= folder.known.keys():
            _remember(ws, now, facts)
    return Found(report=_report(readers, resource, facts, listing))


def _place_now(ws: Workspace, place: Place) -> Place | None:
    with ws.catalogue.read() as connection:
        return resources.place_now(connection, place.session_id, place.scan)


def _see(ws: Workspace, place: Place, before: Mapping[str, FileFacts]) -> tuple[Folder, Listing, Resource] | Found:
    """The names on the disk, then the rows: what is filed meanwhile is listed rather than unlisted."""
    resource = Resource(
        project=place.project,
        subject=place.subject,
        label=place.label,
        session_id=place.session_id,
        scan=place.scan,
        path=place.path,
        uri=place.path,
    )
    try:
        folder = look(ws.root.fd, resource, before)
        with ws.catalogue.read() as connection:
            listed = from_rows(instances.of_scan(connection, place.scan_id), resource)
        listing = Listing(listed=listed)
        if folder is None:
            if not listed:
                return Found(is_gone=True)
            folder = Folder()  # every listed file is missing
        else:
            add_late(ws.root.fd, resource, folder, listing)
    except OSError as error:
        return Found(problem=f"The folder cannot be read: {error.strerror or error}.")
    return folder, listing, resource


def _facts(
    ws: Workspace,
    place: Place,
    folder: Folder,
    listing: Listing,
    readings: Iterable[Reading],
) -> list[FileFacts]:
    """The facts on every file; those that are known when reading is broken off are remembered."""
    taken: list[Reading] = []

    def kept() -> Iterator[Reading]:
        for reading in readings:
            taken.append(reading)
            yield reading

    try:
        return facts_of(folder, listing, kept())
    except BaseException:
        part = replace(folder, to_read=folder.to_read[: len(taken)])
        _remember(ws, place, facts_of(part, Listing(listed={}), taken))
        raise


def _started(readers: Readers, resource: Resource, folder: Folder, how: How) -> Batch:
    return readers.start([f"{resource.path}/{name}" for name in folder.to_read], with_digests=how.reads_all)


def _report(readers: Readers, resource: Resource, facts: list[FileFacts], listing: Listing) -> ResourceReport:
    found = survey.sorted_out(facts)
    differences = differences_of(readers, resource.path, found.sound)
    return survey.report_on(found, differences, listing.remarks)


def _by_path(facts: list[FileFacts]) -> dict[str, FileFacts]:
    """What need not be read again within this survey."""
    return {file.path: file for file in facts if file.size_bytes is not None}


def _known(ws: Workspace, place: Place) -> dict[str, FileFacts]:
    with ws.catalogue.read() as connection:
        return survey_results.known(connection, place.session_id, place.scan, template=ws.policy.template.text)


def _remember(ws: Workspace, place: Place, facts: Iterable[FileFacts]) -> None:
    with ws.catalogue.write() as tx:
        remember(tx, ws, place, facts)
