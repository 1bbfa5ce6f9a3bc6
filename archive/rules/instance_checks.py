"""The check for two datasets under one SOP Instance UID: inside a session, and against the archived one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from archive.differences import Difference, as_document, counts, sentence
from archive.findings import Finding, FindingKind, make
from archive.model import Instance
from archive.rules.facts import Facts
from archive.rules.merging import MergePlan

_EXAMPLES: Final = 20
"""How many paths, UIDs or differences a finding names; `count` always tells the whole number."""

WITHIN: Final = "within"
"""In the detail of INSTANCE_DIFFERS where both datasets are incoming ones."""

Pair = tuple[Instance, Instance]
"""A new instance and the other one with its SOP Instance UID."""


def pairs_to_compare(plan: MergePlan) -> list[Pair]:
    """Every pair of the plan that carries one SOP Instance UID and two datasets."""
    return [*_within(plan.instances), *plan.differing]


def differing_instances(
    session_id: int, instances: Iterable[Instance], differences: Mapping[tuple[int, int], Difference] | None = None
) -> list[Finding]:
    """Instances of one session that share a SOP Instance UID although their datasets differ."""
    pairs = _within(instances)
    if not pairs:
        return []
    uids = sorted({new.sop_instance_uid for new, _ in pairs})
    detail = {"count": len(uids), "sop_instance_uids": uids[:_EXAMPLES], WITHIN: session_id}
    told, say = _told(pairs, differences or {})
    return [make(FindingKind.INSTANCE_DIFFERS, session_id, {**detail, **told}, say=say)]


def instance_differences(facts: Facts) -> Iterable[Finding]:
    """The findings of an archiving: within the incoming session, and against the archived one."""
    incoming, pairs = facts.incoming, facts.plan.differing
    yield from differing_instances(incoming.id, facts.plan.instances, facts.differences)
    if pairs:
        paths: dict[str, str] = {}
        for new, old in pairs:
            paths.setdefault(new.sop_instance_uid, old.path)
        detail = {
            "count": len(paths),
            "sop_instance_uids": sorted(paths)[:_EXAMPLES],
            "archived_paths": [paths[uid] for uid in sorted(paths)[:_EXAMPLES]],
            "archived_session": facts.existing.id if facts.existing else None,
        }
        told, say = _told(pairs, facts.differences)
        yield make(
            FindingKind.INSTANCE_DIFFERS,
            incoming.id,
            {**detail, **told},
            say=f"One of them is archived. {say}".strip(),
        )


def damaged_copies(facts: Facts) -> Iterable[Finding]:
    """The archived files that are not what was archived although the incoming session relies on them."""
    damaged = list(facts.plan.damaged.values())
    if not damaged:
        return
    files = [
        {
            "path": each.archived.path,
            "sop_instance_uid": each.archived.sop_instance_uid,
            "found": "no file" if each.is_gone else "other bytes",
        }
        for each in damaged[:_EXAMPLES]
    ]
    yield make(
        FindingKind.ARCHIVED_DAMAGED,
        facts.incoming.id,
        {"count": len(damaged), "files": files},
        say=f"{damaged[0].archived.path}: {files[0]['found']}" + (f" ({len(damaged)} files)." if damaged[1:] else "."),
    )


def _within(instances: Iterable[Instance]) -> list[Pair]:
    """Each instance with the first of its SOP Instance UID, in the order they were filed."""
    first: dict[str, Instance] = {}
    pairs: list[Pair] = []
    for instance in sorted(instances, key=lambda each: each.id):
        other = first.setdefault(instance.sop_instance_uid, instance)
        if other is not instance:
            pairs.append((instance, other))
    return pairs


def _told(pairs: Sequence[Pair], differences: Mapping[tuple[int, int], Difference]) -> tuple[dict[str, object], str]:
    """How the pairs differ, for detail and message; nothing where nothing was compared."""
    known = [(new, old, differences[new.id, old.id]) for new, old in pairs if (new.id, old.id) in differences]
    if not known:
        return {}, ""
    found = [difference for _, _, difference in known]
    examples = [
        {
            "sop_instance_uid": new.sop_instance_uid,
            "incoming_path": new.path,
            "other_path": old.path,
            **as_document(difference),
        }
        for new, old, difference in known[:_EXAMPLES]
    ]
    return {"by_kind": counts(found), "differences": examples}, f"How they differ: {sentence(found)}."
