"""The plan as a file: JSON that a person reads and may edit, and that is read back with every problem told at once."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from archive.errors import Refused
from archive.mitigations import HEADER_ONLY, Action, ActionKind, Keep, Left, Plan, Policy, ResourcePlan
from archive.rules.survey_json import path_of, path_text

FORMAT: Final = "prearc-mitigation-plan"
VERSION: Final = 1
_HOW: Final = (
    "Actions may be taken out. A rename may get another name that its metadata allow; in a group, another file may be"
    " the one that stays. Nothing else may be changed. Apply: prearc mitigate apply PLAN.json"
)
_PLAN: Final[Mapping[str, type]] = {
    "format": str,
    "version": int,
    "about": str,
    "archive": str,
    "made_at": str,
    "made_by": str,
    "policy": dict,
    "resources": list,
}
_POLICY: Final[Mapping[str, type]] = {"keep": str, "include": list}
_RESOURCE: Final[Mapping[str, type]] = {
    "request": int,
    "session": int,
    "project": str,
    "label": str,
    "scan": str,
    "path": str,
    "actions": list,
    "left": list,
}
_ACTION: Final[Mapping[str, type]] = {
    "id": str,
    "kind": str,
    "path": str,
    "new_name": str,
    "reason": str,
    "group": str,
    "size_bytes": int,
    "sha256": str,
    "mtime_ns": int,
    "inode": int,
}
_LEFT: Final[Mapping[str, type]] = {"paths": list, "why": str}
_INTEGER_BITS: Final = 63
_OPTIONAL: Final = frozenset({"about", "new_name", "left", "made_at", "made_by", "reason"})


def dumps(plan: Plan) -> str:
    """The plan as text: ASCII, one action a paragraph."""
    return json.dumps(document(plan), indent=2) + "\n"


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "about": _HOW,
        "archive": plan.archive_id,
        "made_at": plan.made_at,
        "made_by": plan.made_by,
        "policy": {"keep": str(plan.policy.keep), "include": sorted(plan.policy.include)},
        "resources": [_resource(each) for each in plan.resources],
    }


def loads(text: str) -> Plan:
    """The plan that a text holds.

    Raises
    ------
    Refused
        With every problem: it is no plan, of another version, or has unknown, missing or wrong members.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The plan is not JSON: {error}", hint=_AGAIN) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Refused("This is not a plan of a mitigation.", hint=_AGAIN)
    if content.get("version") != VERSION:
        raise Refused(
            f"The plan is of version {content.get('version')!r}; this prearc reads version {VERSION}.", hint=_AGAIN
        )
    problems: list[str] = []
    _check(content, problems)
    if problems:
        raise Refused("The plan cannot be read:\n" + "\n".join(f"  {each}" for each in problems), hint=_AGAIN)
    return Plan(
        archive_id=content["archive"],
        made_at=content.get("made_at", ""),
        made_by=content.get("made_by", ""),
        policy=Policy(keep=Keep(content["policy"]["keep"]), include=frozenset(content["policy"]["include"])),
        resources=tuple(_read_resource(each) for each in content["resources"]),
    )


_AGAIN: Final = "prearc mitigate plan ID --output PLAN.json"


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """No member twice: a person who edits a plan would see one and mean the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = sorted({name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1})
        raise ValueError(f"twice in one object: {', '.join(twice)}")
    return found


def _check(content: Mapping[str, Any], problems: list[str]) -> None:
    """Members and their types, from the outside to the inside."""
    if not _members(content, _PLAN, "the plan", problems):
        return
    policy = content["policy"]
    if _members(policy, _POLICY, "policy", problems):
        if policy["keep"] not in tuple(Keep):
            problems.append(f"policy: keep is one of {', '.join(Keep)}, not {policy['keep']!r}")
        if not set(map(str, policy["include"])) <= {HEADER_ONLY}:
            problems.append(f"policy: include may name {HEADER_ONLY} alone")
    for number, resource in enumerate(content["resources"], 1):
        where = f"resource {number}"
        if _members(resource, _RESOURCE, where, problems):
            _check_resource(resource, where, problems)


def _check_resource(resource: Mapping[str, Any], where: str, problems: list[str]) -> None:
    for action in resource["actions"]:
        named = action.get("id") if isinstance(action, dict) else None
        _members(action, _ACTION, f"{where}, action {named!r}", problems)
        if isinstance(action, dict) and action.get("kind") not in tuple(ActionKind):
            problems.append(f"{where}, action {named!r}: kind is one of {', '.join(ActionKind)}")
    for left in resource.get("left", ()):
        if _members(left, _LEFT, f"{where}, left", problems) and any(map(_beyond, left["paths"])):
            problems.append(f"{where}, left: paths hold a character that is none")


def _members(content: object, wanted: Mapping[str, type], where: str, problems: list[str]) -> bool:
    """Whether an object has all the members it needs, of their types, and no others."""
    if not isinstance(content, dict):
        problems.append(f"{where}: not an object")
        return False
    before = len(problems)
    problems += [f"{where}: unknown member {name!r}" for name in content if name not in wanted]
    for name, kind in wanted.items():
        if name not in content:
            if name not in _OPTIONAL:
                problems.append(f"{where}: {name} is missing")
        elif not isinstance(content[name], kind) or (kind is int and isinstance(content[name], bool)):
            problems.append(f"{where}: {name} is not a {kind.__name__}")
        elif (why := _beyond(content[name])) is not None:
            problems.append(f"{where}: {name} {why}")
    return len(problems) == before


def _beyond(value: object) -> str | None:
    """Why a value of the right type cannot be one that prearc wrote: no database and no file system takes it."""
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        return "is too large a number"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        return "holds a character that is none"
    return None


def _resource(plan: ResourcePlan) -> dict[str, Any]:
    return {
        "request": plan.request_id,
        "session": plan.session_id,
        "project": plan.project,
        "label": plan.label,
        "scan": plan.scan,
        "path": plan.path,
        "actions": [_action(each) for each in plan.actions],
        "left": [{"paths": [path_text(path) for path in each.paths], "why": each.why} for each in plan.left],
    }


def _action(action: Action) -> dict[str, Any]:
    return {
        "id": action.id,
        "kind": str(action.kind),
        "path": path_text(action.path),
        **({"new_name": action.new_name} if action.new_name else {}),
        "reason": path_text(action.reason),
        "group": path_text(action.group),
        "size_bytes": action.size_bytes,
        "sha256": action.sha256,
        "mtime_ns": action.mtime_ns,
        "inode": action.inode,
    }


def _read_resource(content: Mapping[str, Any]) -> ResourcePlan:
    return ResourcePlan(
        request_id=content["request"],
        session_id=content["session"],
        project=content["project"],
        label=content["label"],
        scan=content["scan"],
        path=content["path"],
        actions=tuple(_read_action(each) for each in content["actions"]),
        left=tuple(
            Left(paths=tuple(path_of(str(path)) for path in each["paths"]), why=each["why"])
            for each in content.get("left", ())
        ),
    )


def _read_action(content: Mapping[str, Any]) -> Action:
    return Action(
        id=content["id"],
        kind=ActionKind(content["kind"]),
        path=path_of(content["path"]),
        new_name=content.get("new_name", ""),
        reason=path_of(content.get("reason", "")),
        group=path_of(content["group"]),
        size_bytes=content["size_bytes"],
        sha256=content["sha256"],
        mtime_ns=content["mtime_ns"],
        inode=content["inode"],
    )
