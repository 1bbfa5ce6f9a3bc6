"""Whether a plan may be applied: it is for this archive, says nothing a report does not, and its files are unchanged.

A plan may have been edited. What it says is held against the stored report of each request; nothing of it is taken on
trust but what was taken out.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archive.errors import Refused
from archive.mitigating import looking
from archive.mitigating.planning import report_to_mitigate, stale
from archive.mitigations import Action, ActionKind, Plan, Policy, Reported, ReportedSet, ResourcePlan
from archive.model import Instance
from archive.rules import mitigation
from archive.store.catalogue import mitigations
from archive.store.catalogue.resources import Place
from archive.surveying.reading import Reading
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A part of a plan that may be carried out, with what was found of its files; `keepers` is, for each file that is
    removed, the one that stays, as it is called now."""

    plan: ResourcePlan
    place: Place
    rows: Mapping[str, Instance]
    occupied: frozenset[str]
    readings: Mapping[str, Reading]
    keepers: Mapping[str, str]


def check(ws: Workspace, plan: Plan) -> list[Checked]:
    """Every resource of a plan; all of them are looked at before any is told of.

    Raises
    ------
    Refused
        It is another archive's, or says what a report does not allow; with every problem.
    StaleState
        Files changed since the plan was made; with what changed.
    """
    with ws.catalogue.read() as connection:
        archive_id = mitigations.known_archive_id(connection)
    if not archive_id or plan.archive_id != archive_id:
        raise Refused(
            "The plan was made for another archive, or for this one before its catalogue was rebuilt.",
            hint="prearc survey run",
        )
    twice = [number for number, count in Counter(each.request_id for each in plan.resources).items() if count > 1]
    if twice:
        raise Refused(f"The plan has request {twice[0]} more than once.", hint=_again(twice[0]))
    return [check_resource(ws, each, plan.policy, made_at=plan.made_at) for each in plan.resources]


def check_resource(
    ws: Workspace, plan: ResourcePlan, policy: Policy, *, made_at: str = "", is_claimed: bool = False
) -> Checked:
    """As `check`, for one resource.

    Parameters
    ----------
    made_at
        When the plan was made, ISO 8601 UTC.
    is_claimed
        The caller has the request: its status is not looked at.
    """
    again, is_older = _again(plan.request_id), False
    with ws.catalogue.snapshot() as connection:
        if is_claimed:
            reported = mitigations.reported(connection, plan.request_id)
        else:
            request, reported = report_to_mitigate(connection, plan.request_id, policy, made_at=made_at)
            is_older = bool(made_at) and made_at < (request.surveyed_at or "")
        seen = looking.resource_now(ws, connection, plan.session_id, plan.scan)
    known = reported.mismatched.keys() | {path for found in reported.sets for path in found.files}
    taken = list(_taken(plan, seen))
    problems = [
        *_about(plan, seen),
        *_actions(plan, reported, policy, seen),
        *_groups(plan, reported),
        *(why for path, why in taken if path in known),
    ]
    if problems and is_older:
        raise stale(f"Request {plan.request_id} was surveyed again since the plan was made", problems, hint=again)
    if problems:
        lines = "\n".join(f"  {each}" for each in problems[:20])
        raise Refused(f"The plan for request {plan.request_id} cannot be applied:\n{lines}", hint=again)
    keepers = _keepers(plan, reported)
    readings = looking.read_all(ws, seen.place.path, {each.path for each in plan.actions} | set(keepers.values()))
    changed = [*_changed(plan, seen, readings), *(why for _, why in taken)]
    for path in set(keepers.values()):
        if why := looking.trouble(seen.rows.get(path), readings[path]):
            changed.append(f"{path}: {why}")
    if changed:
        raise stale(
            f"Something changed since the plan for request {plan.request_id} was made",
            list(dict.fromkeys(changed)),
            hint=f"prearc survey run --session {plan.session_id} --scan {shlex.quote(plan.scan)}",
        )
    return Checked(
        plan=plan, place=seen.place, rows=seen.rows, occupied=seen.occupied, readings=readings, keepers=keepers
    )


def _about(plan: ResourcePlan, seen: looking.Seen) -> Iterator[str]:
    place = seen.place
    for name, stated, found in (
        ("project", plan.project, place.project),
        ("label", plan.label, place.label),
        ("path", plan.path, place.path),
    ):
        if stated != found:
            yield f"its {name} is {found}, the plan says {stated}"


def _actions(plan: ResourcePlan, reported: Reported, policy: Policy, seen: looking.Seen) -> Iterator[str]:
    """What single actions say that the report does not."""
    paths = Counter(each.path for each in plan.actions)
    yield from (f"{path}: {count} actions on one file" for path, count in paths.items() if count > 1)
    targets = Counter(each.new_path for each in plan.actions if each.kind is not ActionKind.REMOVE)
    yield from (f"{path}: {count} files would have this name" for path, count in targets.items() if count > 1)
    sets = {path: found for found in reported.sets if mitigation.is_open_to(found, policy) for path in found.files}
    for action in plan.actions:
        if action.id != mitigation.action_id(plan.request_id, action.path):
            yield f"{action.path}: action {action.id} was added, or its path was changed"
            continue
        if action.kind is ActionKind.RENAME and ("/" in action.new_name or action.new_name in ("", ".", "..")):
            yield f"{action.path}: {action.new_name!r} is not a name in the same folder"
            continue
        yield from _action(action, reported, sets, seen)


def _action(action: Action, reported: Reported, sets: Mapping[str, ReportedSet], seen: looking.Seen) -> Iterator[str]:
    found = sets.get(action.path)
    expected = found.files[action.path] if found else reported.mismatched.get(action.path)
    if expected is None:
        yield f"{action.path}: the survey found nothing about it that a plan may change"
        return
    if action.group != (found.group if found else action.path):
        yield f"{action.path}: its group was changed"
    row = seen.rows.get(action.path)
    if action.kind is ActionKind.RENAME:
        if action.new_path == action.path:
            yield f"{action.path}: it has this name already: its kind is {ActionKind.RETAIN}"
        elif row is not None and action.new_name not in mitigation.names_for(expected, row.file.dataset_sha256):
            yield f"{action.path}: its metadata give the name {expected}, not {action.new_name}"
    elif action.new_name:
        yield f"{action.path}: {action.kind} has no new name"
    if action.kind is ActionKind.REMOVE and found is None:
        yield f"{action.path}: it is no duplicate and is not taken out"


def _groups(plan: ResourcePlan, reported: Reported) -> Iterator[str]:
    """Of every set one file stays, whatever was edited."""
    removed = {each.path for each in plan.of(ActionKind.REMOVE)}
    for found in reported.sets:
        if found.files.keys() <= removed:
            yield f"{', '.join(sorted(found.files))}: none of these files would stay"


def _keepers(plan: ResourcePlan, reported: Reported) -> dict[str, str]:
    """For each file that goes, one of its set that stays: the one the plan names, else any."""
    removed = {each.path for each in plan.of(ActionKind.REMOVE)}
    named = {each.group: each.path for each in plan.actions if each.kind is not ActionKind.REMOVE}
    keepers: dict[str, str] = {}
    for found in reported.sets:
        for path in removed & found.files.keys():
            keepers[path] = named.get(found.group) or min(found.files.keys() - removed)
    return keepers


def _changed(plan: ResourcePlan, seen: looking.Seen, readings: Mapping[str, Reading]) -> Iterator[str]:
    for action in plan.actions:
        reading = readings[action.path]
        if why := looking.trouble(seen.rows.get(action.path), reading):
            yield f"{action.path}: {why}"
        elif reading.size_bytes != action.size_bytes:
            yield f"{action.path}: {action.size_bytes} bytes were planned for, there are {reading.size_bytes}"
        elif reading.file_sha256 != action.sha256:
            yield f"{action.path}: its bytes are not those the plan was made for"


def _taken(plan: ResourcePlan, seen: looking.Seen) -> Iterator[tuple[str, str]]:
    """Names that are not to be had, and why: a new file has them, or the action that would have freed them was taken
    out."""
    leaving = {each.path for each in plan.actions if each.kind is not ActionKind.RETAIN}
    for action in plan.of(ActionKind.RENAME):
        if action.new_path in seen.occupied - leaving:
            yield action.new_path, f"{action.path}: the name {action.new_name} is taken by a file that stays"


def _again(request_id: int) -> str:
    return f"prearc mitigate plan {request_id} --output PLAN.json"
