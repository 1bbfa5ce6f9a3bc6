"""From a survey's report to actions: which copy stays, which name a file gets, and what is left alone. Pure."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from archive.mitigations import (
    HEADER_ONLY,
    Action,
    ActionKind,
    Candidate,
    Keep,
    Left,
    Policy,
    Reported,
    ReportedSet,
)
from archive.rules.naming import collision_name
from archive.surveys import ACTIONABLE, SetDifference

MARK_LENGTHS: Final = (8, 16, 64)
"""Digits of a dataset's digest that tell it from another one of its name."""

_WHAT: Final = {
    SetDifference.IDENTICAL_BYTES: "all bytes are the same",
    SetDifference.SAME_DATASET: "the datasets are the same",
    SetDifference.HEADER_ONLY: "the pixel data are the same",
}


@dataclass(slots=True)
class _Draft:
    """A plan for one resource while it grows."""

    wishes: dict[str, str] = field(default_factory=dict)  # path -> expected name
    removals: dict[str, str] = field(default_factory=dict)  # path -> the path that stays
    kept: dict[str, ReportedSet] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)


def action_id(request_id: int, path: str) -> str:
    """The name of the action on a file: one that was added by hand, or whose path was changed, shows by it."""
    return f"{request_id}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def is_open_to(found: ReportedSet, policy: Policy) -> bool:
    """Whether a set may be reduced to one file under a policy."""
    allowed = {str(each) for each in ACTIONABLE} | ({"HEADER_ONLY"} if HEADER_ONLY in policy.include else set())
    return len(set(found.files.values())) == 1 and found.difference in allowed


def names_for(expected: str, dataset_sha256: str) -> tuple[str, ...]:
    """The name a file should have, then those it may have when another instance holds that."""
    marked = [collision_name(expected, dataset_sha256, length) for length in MARK_LENGTHS] if dataset_sha256 else []
    return expected, *marked


def wanted(reported: Reported, policy: Policy) -> frozenset[str]:
    """The files that a plan may name."""
    sets = [found.files for found in reported.sets if is_open_to(found, policy)]
    return frozenset(reported.mismatched) | frozenset(path for files in sets for path in files)


def plan_resource(
    request_id: int,
    reported: Reported,
    candidates: Mapping[str, Candidate],
    occupied: Collection[str],
    policy: Policy,
) -> tuple[tuple[Action, ...], tuple[Left, ...]]:
    """The actions for one resource in the order of their paths, and what is left alone.

    Parameters
    ----------
    candidates
        Facts on every file of `wanted`.
    occupied
        Every path of the resource that is taken, on the disk or by a row whose file is missing.
    """
    draft = _Draft()
    for path, expected in reported.mismatched.items():
        draft.wishes[path] = expected
        draft.reasons[path] = "its metadata give another name"
    for found in reported.sets:
        _decide(draft, found, candidates, policy)
    targets = _targets(draft, reported, candidates, occupied)
    draft.left += [Left(paths=(path,), why=why) for path, why in reported.troubled.items()]
    actions = [_action(request_id, draft, path, candidates[path], targets) for path in _named(draft, targets)]
    return tuple(actions), tuple(sorted(draft.left, key=lambda left: left.paths))


def dependents(actions: Iterable[Action], failed: Collection[str]) -> frozenset[str]:
    """The paths of all actions that cannot be carried out when those on these paths are not.

    A rename needs its target free; a removal needs the copy that stays to be sound.
    """
    chosen = list(actions)
    removals: dict[str, list[str]] = {}
    for each in chosen:
        if each.kind is ActionKind.REMOVE:
            removals.setdefault(each.group, []).append(each.path)
    waiting: dict[str, list[str]] = {}
    for each in chosen:
        if each.kind is ActionKind.RENAME:
            waiting.setdefault(each.new_path, []).append(each.path)
        if each.kind is not ActionKind.REMOVE:
            waiting.setdefault(each.path, []).extend(removals.get(each.group, ()))
    return frozenset(_with_those_behind(waiting, failed))


def in_cycles(actions: Iterable[Action]) -> frozenset[str]:
    """The paths of renames that go round in a circle: each wants the name of the next."""
    following = {each.path: each.new_path for each in actions if each.kind is ActionKind.RENAME}
    found: set[str] = set()
    known: set[str] = set()
    for start in following:
        path, walked = start, dict[str, None]()
        while path in following and path not in known:
            known.add(path)
            walked[path] = None
            path = following[path]
        if path in walked:
            way = list(walked)
            found.update(way[way.index(path) :])
    return frozenset(found)


def _decide(draft: _Draft, found: ReportedSet, candidates: Mapping[str, Candidate], policy: Policy) -> None:
    """Which file of a set stays; or why nothing is done about it."""
    paths = tuple(sorted(found.files))
    names = sorted(set(found.files.values()))
    if not is_open_to(found, policy):
        draft.left.append(Left(paths=paths, why=_why_left(found, names)))
        return
    chosen = _choose([candidates[path] for path in paths], names[0], policy, found.difference)
    if chosen is None:
        why = "their headers do not tell which of them was de-identified: choose another --keep"
        draft.left.append(Left(paths=paths, why=why))
        return
    kept, because = chosen
    what = _WHAT[SetDifference(found.difference)]
    tags = f", other attributes: {', '.join(found.tags[:5])}" if found.tags else ""
    draft.kept[kept] = found
    draft.reasons[kept] = f"{because} of {len(paths)} files of this instance ({what}{tags})"
    if _name(kept) != names[0]:
        draft.wishes[kept] = names[0]
    for path in paths:
        if path != kept:
            draft.removals[path] = kept
            draft.reasons[path] = f"{kept} stays, {because} of {len(paths)}; {what}{tags}"


def _why_left(found: ReportedSet, names: Sequence[str]) -> str:
    if len(names) > 1:
        return f"their metadata give {len(names)} names: {', '.join(names[:3])}"
    match found.difference:
        case SetDifference.HEADER_ONLY:
            tags = f" ({', '.join(found.tags[:5])})" if found.tags else ""
            return f"they differ in attributes{tags}: a plan with --include header-only and --keep says which stays"
        case SetDifference.PIXEL_DATA:
            return "their pixel data differ: one of them is another image, and no plan decides which"
        case _:
            return "by what they differ is not known, so none of them is taken out"


def _choose(members: Sequence[Candidate], expected: str, policy: Policy, difference: str) -> tuple[str, str] | None:
    """The path that stays and why; None when the policy does not tell."""
    if policy.keep is Keep.DEIDENTIFIED:
        marked = [each for each in members if each.is_deidentified]
        if marked and len(marked) < len(members):
            return _newest(marked, expected).path, "the de-identified one"
        if difference not in ACTIONABLE:
            return None
    if policy.keep is Keep.NEWEST:
        return _newest(members, expected).path, "the newest"
    if policy.keep is Keep.OLDEST:
        oldest = min(
            members, key=lambda each: (each.received_at, each.mtime_ns, _name(each.path) != expected, each.path)
        )
        return oldest.path, "the oldest"
    named = [each for each in members if _name(each.path) == expected]
    if named:
        return _newest(named, expected).path, "the one with the right name"
    return _newest(members, expected).path, "the newest, none has the right name,"


def _newest(members: Sequence[Candidate], expected: str) -> Candidate:
    return max(members, key=lambda each: (each.received_at, each.mtime_ns, _name(each.path) == expected, each.path))


def _targets(
    draft: _Draft, reported: Reported, candidates: Mapping[str, Candidate], occupied: Collection[str]
) -> dict[str, str]:
    """The name each file gets. What cannot have its name stays, and what needs that one to go stays with it."""
    expected_names = {path: name for found in reported.sets for path, name in found.files.items()}
    while True:
        staying = set(occupied) - draft.wishes.keys() - draft.removals.keys()
        held = {path for path in staying if _holds_rightly(path, reported, expected_names)}
        taken = set(staying)
        targets: dict[str, str] = {}
        blocked: list[str] = []
        for path, expected in sorted(draft.wishes.items()):
            names = names_for(expected, candidates[path].dataset_sha256)
            free = [name for name in names if _beside(path, name) not in taken]
            if not free or (free[0] != expected and _beside(path, expected) not in held):
                blocked.append(path)
                continue
            targets[path] = free[0]
            taken.add(_beside(path, free[0]))
            held |= {_beside(path, name) for name in {free[0]} & {expected}}
        settled = [path for path, name in targets.items() if _name(path) == name]
        if blocked:
            waiting: dict[str, list[str]] = {}
            for path, expected in draft.wishes.items():
                waiting.setdefault(_beside(path, expected), []).append(path)
            _give_up(draft, _with_those_behind(waiting, blocked))
        elif settled:
            for path in settled:  # it has the mark it needs already
                del draft.wishes[path]
        else:
            return targets


def _holds_rightly(path: str, reported: Reported, expected_names: Mapping[str, str]) -> bool:
    """Whether a file that stays has the name its metadata give, so that another one may bear a mark."""
    if path in reported.troubled or path in reported.mismatched:
        return False
    return _name(path) == expected_names.get(path, _name(path))


def _with_those_behind(waiting: Mapping[str, Iterable[str]], first: Iterable[str]) -> list[str]:
    """Some files and all that wait for them, directly or not: a chain may be long."""
    found = dict.fromkeys(first)
    left = list(found)
    while left:
        more = [path for path in waiting.get(left.pop(), ()) if path not in found]
        found.update(dict.fromkeys(more))
        left += more
    return list(found)


def _give_up(draft: _Draft, blocked: Collection[str]) -> None:
    """Nothing is done about files whose names are not to be had, nor about their sets."""
    groups = {path: [path] for path in blocked}
    for path, kept in list(draft.removals.items()):
        if kept in groups:
            groups[kept].append(path)
            del draft.removals[path]
    for path, files in groups.items():
        expected = draft.wishes.pop(path)
        draft.kept.pop(path, None)
        draft.left.append(Left(paths=tuple(sorted(files)), why=f"the name {expected} belongs to a file that stays"))


def _named(draft: _Draft, targets: Mapping[str, str]) -> list[str]:
    return sorted({*targets, *draft.removals, *draft.kept})


def _action(request_id: int, draft: _Draft, path: str, candidate: Candidate, targets: Mapping[str, str]) -> Action:
    kept = draft.removals.get(path, path)
    group = draft.kept[kept].group if kept in draft.kept else path
    reason, name = draft.reasons[path], targets.get(path, "")
    if path in draft.removals:
        kind = ActionKind.REMOVE
    elif name:
        kind = ActionKind.RENAME
        if name != draft.wishes[path]:
            reason += f"; another instance has the name {draft.wishes[path]}"
    else:
        kind = ActionKind.RETAIN
    action = Action(
        id=action_id(request_id, path),
        kind=kind,
        path=path,
        reason=reason,
        group=group,
        size_bytes=candidate.size_bytes,
        sha256=candidate.sha256,
        mtime_ns=candidate.mtime_ns,
        inode=candidate.inode,
    )
    return replace(action, new_name=name)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _beside(path: str, name: str) -> str:
    folder = path.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name
