"""Surveying resources one after the other while the files of the next ones are read already."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from archive.rules import survey
from archive.surveying.comparing import differences_of
from archive.surveying.readers import Batch, Readers
from archive.surveying.resource import Folder, Listing, ListingOf, Resource, add_late, facts_of, look
from archive.surveys import FileFacts, ResourceReport

AHEAD_FILES: Final = 1024
AHEAD_RESOURCES: Final = 32
"""So much is looked at before it is its turn: the readers shall never wait for the caller."""

ReadBefore = Callable[[Resource], Mapping[str, FileFacts]]
"""Facts from an earlier survey with the same template, by path; see `look`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What came of one resource. `report` is None when the resource is not there any more, or cannot be read: then
    `problem` says why. `facts` are what the report was made from."""

    resource: Resource
    report: ResourceReport | None
    facts: tuple[FileFacts, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    resource: Resource
    folder: Folder | None = None
    listing: Listing | None = None
    batch: Batch | None = None
    count: int = 0
    problem: str = ""


def survey_resources(
    readers: Readers,
    resources: Iterable[Resource],
    listing_of: ListingOf,
    *,
    with_digests: bool = False,
    read_before: ReadBefore = lambda resource: {},
) -> Iterator[Surveyed]:
    """Survey resources in their order.

    Nothing is written, and no more is held than a resource and some hundred files of the next ones. Nothing is raised
    for what is in a file or a catalog.
    """
    waiting = iter(resources)
    seen: deque[_Seen] = deque()
    while True:
        while len(seen) < AHEAD_RESOURCES and sum(each.count for each in seen) < AHEAD_FILES:
            resource = next(waiting, None)
            if resource is None:
                break
            seen.append(_see(readers, resource, listing_of, read_before(resource), with_digests=with_digests))
        if not seen:
            return
        yield _surveyed(readers, seen.popleft())


def survey_resource(
    readers: Readers,
    resource: Resource,
    listing_of: ListingOf,
    *,
    with_digests: bool = False,
    read_before: ReadBefore = lambda resource: {},
) -> Surveyed:
    """Survey one resource."""
    found = survey_resources(readers, [resource], listing_of, with_digests=with_digests, read_before=read_before)
    return next(found)


def _see(
    readers: Readers,
    resource: Resource,
    listing_of: ListingOf,
    read_before: Mapping[str, FileFacts],
    *,
    with_digests: bool,
) -> _Seen:
    try:
        folder = look(readers.root_fd, resource, read_before)
        if folder is None:
            return _Seen(resource=resource)
        listing = listing_of(readers.root_fd, resource, folder)
        add_late(readers.root_fd, resource, folder, listing)
    except OSError as error:
        return _Seen(resource=resource, problem=f"The folder cannot be read: {os.strerror(error.errno or 0)}.")
    paths = [f"{resource.path}/{name}" for name in folder.to_read]
    batch = readers.start(paths, with_digests=with_digests)
    return _Seen(resource=resource, folder=folder, listing=listing, batch=batch, count=len(paths))


def _surveyed(readers: Readers, seen: _Seen) -> Surveyed:
    if seen.folder is None or seen.listing is None or seen.batch is None:
        return Surveyed(resource=seen.resource, report=None, problem=seen.problem)
    facts = facts_of(seen.folder, seen.listing, seen.batch)
    found = survey.sorted_out(facts)
    differences = differences_of(readers, seen.resource.path, found.sound)
    report = survey.report_on(found, differences, seen.listing.remarks)
    return Surveyed(resource=seen.resource, report=report, facts=tuple(facts))
