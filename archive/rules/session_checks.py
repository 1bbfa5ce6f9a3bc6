"""The checks of the session as a whole: its project, label, subject, studies and modalities against the archive."""

from collections.abc import Iterable

from archive.findings import FACTS, Finding, FindingKind, make
from archive.model import UNASSIGNED
from archive.rules.facts import Facts
from archive.rules.modality import are_foreign, image_modalities


def project_findings(facts: Facts) -> Iterable[Finding]:
    """No project, or another than the archived part of the same study has."""
    incoming, continues = facts.incoming, facts.continues
    if incoming.project is None:
        yield make(FindingKind.PROJECT_UNASSIGNED, incoming.id, {"project": UNASSIGNED})
    elif continues is not None and continues.project != incoming.project:
        detail = {
            "incoming": incoming.project,
            "archived": continues.project,
            "archived_session": continues.id,
            "archived_label": continues.label,
        }
        say = (
            f"This session continues session {continues.id}, archived as {continues.project}/{continues.label},"
            f" but is in project {incoming.project}."
        )
        yield make(
            FindingKind.PROJECT_CHANGED,
            incoming.id,
            detail,
            say=say,
            archived_project=continues.project or UNASSIGNED,
        )


def label_findings(facts: Facts) -> Iterable[Finding]:
    """Another label than the archived part of the same study has."""
    incoming, continues = facts.incoming, facts.continues
    if continues is None or continues.label == incoming.label:
        return
    if are_foreign(_modalities(facts), facts.continued_modalities, is_same_study=True):
        return  # MODALITY_DIFFERS there: a label of its own is the way out
    detail = {"incoming": incoming.label, "archived": continues.label, "archived_session": continues.id}
    say = (
        f"This session continues session {continues.id}, archived as {continues.project}/{continues.label},"
        f" but is labelled {incoming.label}."
    )
    yield make(FindingKind.LABEL_CHANGED, incoming.id, detail, say=say, archived_label=continues.label)


def existing_findings(facts: Facts) -> Iterable[Finding]:
    """The label is archived already, perhaps for another subject."""
    incoming, existing = facts.incoming, facts.existing
    if existing is None:
        return
    yield make(
        FindingKind.SESSION_EXISTS,
        incoming.id,
        {"archived_session": existing.id, "project": existing.project, "label": existing.label},
    )
    if existing.subject != incoming.subject:
        detail = {"incoming": incoming.subject, "archived": existing.subject, "archived_session": existing.id}
        say = f"{incoming.label} Already Exists for another Subject ({existing.subject}, not {incoming.subject})."
        yield make(FindingKind.SUBJECT_CHANGED, incoming.id, detail, say=say, archived_subject=existing.subject)


def subject_findings(facts: Facts) -> Iterable[Finding]:
    """No archived session of the project has this subject yet."""
    incoming = facts.incoming
    if not facts.elsewhere.is_known_subject:
        detail = {"project": incoming.project, "subject": incoming.subject}
        say = f"in project {incoming.project} with label {incoming.subject}."
        yield make(FindingKind.SUBJECT_NEW, incoming.id, detail, say=say)


def study_uid_findings(facts: Facts) -> Iterable[Finding]:
    """The archived session of this label owns other studies."""
    incoming, existing = facts.incoming, facts.existing
    if existing is None:
        return
    ours = {uid for uid in incoming.study_instance_uids if uid}
    theirs = {uid for uid in existing.study_instance_uids if uid}
    if ours and theirs and not ours <= theirs:
        detail = {
            "incoming": sorted(ours),
            "archived": sorted(theirs),
            "incoming_session": incoming.id,
            "archived_session": existing.id,
        }
        say = (
            f"Incoming session {incoming.id} carries {', '.join(sorted(ours))}; archived session {existing.id}"
            f" ({existing.project}/{existing.label}) owns {', '.join(sorted(theirs))}."
        )
        yield make(FindingKind.STUDY_UID_DIFFERS, incoming.id, detail, say=say)
    elif facts.unnamed_studies:
        detail = {"incoming": sorted(ours), "archived": sorted(theirs), "without_uid": facts.unnamed_studies}
        say = (
            f"Incoming session {incoming.id} has instances without Study Instance UID, whose patient, date or accession"
            f" number archived session {existing.id} ({existing.project}/{existing.label}) does not have."
        )
        yield make(FindingKind.STUDY_UID_DIFFERS, incoming.id, detail, say=say)


def modality_findings(facts: Facts) -> Iterable[Finding]:
    """The archived session of this label was made by scanners of another kind."""
    incoming, existing = facts.incoming, facts.existing
    if existing is None:
        return
    ours = _modalities(facts)
    is_same_study = bool(set(incoming.study_instance_uids) & set(existing.study_instance_uids))
    if not are_foreign(ours, facts.archived_modalities, is_same_study=is_same_study):
        return
    sides = sorted(image_modalities(ours)), sorted(image_modalities(facts.archived_modalities))
    detail: dict[str, object] = {"incoming": sides[0], "archived": sides[1], "archived_session": existing.id}
    if facts.allows_cross_modality:
        detail["eased_by"] = FACTS[FindingKind.MODALITY_DIFFERS].eased_by
    say = f"Incoming: {', '.join(sides[0])}; archived as {existing.project}/{existing.label}: {', '.join(sides[1])}."
    yield make(FindingKind.MODALITY_DIFFERS, incoming.id, detail, say=say)


def _modalities(facts: Facts) -> set[str]:
    return {mapped.incoming.modality for mapped in facts.plan.scans}
