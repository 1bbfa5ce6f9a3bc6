"""Ways out of a conflict: commands that work when pasted, ranked, each with why and what it costs."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from archive.findings import FindingKind as K
from archive.model import MergeMode, SessionStatus
from archive.rules.naming import safe_label
from archive.rules.situation import Situation
from archive.rules.states import WORKING

_PROJECTS: Final = 3
_STUDIES: Final = 4
NO_FILE_CHANGES: Final = "No file is rewritten, and it can be changed back."
TRASH: Final = "It goes to the trash; prearc session restore brings it back."
_COSTS: Final = {
    K.STUDY_UID_DIFFERS: "the archived session will own two studies, and software that groups by study will see two",
    K.MIXED_STUDY_UIDS: "the archived session will own several studies, and software groups by study",
    K.STUDY_ARCHIVED_ELSEWHERE: "one study will be archived in two sessions",
    K.SOP_INSTANCE_ELSEWHERE: "the same instances will be archived twice",
    K.MODALITY_DIFFERS: "one session will hold two modalities",
    K.PATIENT_DIFFERS: "the archive will name two patients for one session",
    K.INSTANCE_DIFFERS: "two datasets will share one SOP Instance UID, and software may take either",
    K.FILE_MISSING: "a file that was received and acknowledged will not be in the archive",
}
_REASONS: Final = {
    K.STUDY_UID_DIFFERS: "one visit under two study UIDs",
    K.MIXED_STUDY_UIDS: "one visit under several study UIDs",
    K.STUDY_ARCHIVED_ELSEWHERE: "wanted under both labels",
    K.SOP_INSTANCE_ELSEWHERE: "wanted in both sessions",
    K.MODALITY_DIFFERS: "one examination of two modalities",
    K.PATIENT_DIFFERS: "the same person, data corrected",
    K.INSTANCE_DIFFERS: "keep both",
    K.FILE_MISSING: "the file is lost at the sender too",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A command that works when pasted, why one would type it, and what it costs; `rank` counts from 1."""

    command: str
    why: str
    cost: str = ""
    rank: int = 0


def ways_out(of: Situation) -> tuple[WayOut, ...]:
    """Ranked: first what fits what probably happened, then what changes least; only what the status allows."""
    session = of.session
    if session.status is SessionStatus.DELETED:
        found = [WayOut(command=f"prearc session restore {session.id}", why="Bring it back from the trash.")]
    elif session.status in WORKING:
        found = [
            WayOut(command=f"prearc session show {session.id}", why="Somebody works on it: wait, then look again.")
        ]
    elif session.status is SessionStatus.RECEIVING:
        found = list(_receiving(of))
    elif session.status in (SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR):
        found = list(_waiting(of))
    else:
        found = []
    unique = {way.command: way for way in reversed(found)}
    ordered = [way for way in found if unique.pop(way.command, None)]
    return tuple(replace(way, rank=rank) for rank, way in enumerate(ordered, start=1))


def _receiving(of: Situation) -> Iterator[WayOut]:
    """What needs a session at rest is left out: it is closed first."""
    session_id = of.session.id
    yield WayOut(
        command=f"prearc session close {session_id}",
        why="Wait for no more instances: then it can be moved, joined and archived.",
        cost="What arrives later opens it again.",
    )
    yield from _join(of)
    resting = ("prearc session archive ", "prearc session move ", "prearc session split ")
    for way in _waiting(of):
        if not any(part.startswith(resting) for part in way.command.split(" && ")):
            yield way


def _waiting(of: Situation) -> Iterator[WayOut]:
    """All ways, best first; a command that comes twice counts where it comes first."""
    if K.SESSION_BUSY in of.kinds:
        command = f"prearc session archive {of.session.id}"
        yield WayOut(command=command, why="Somebody works on one of the two sessions: wait a moment, then try again.")
    ways = [_join, _agree, _own_label, _resend, _same_elements, _split]
    ways += [_replace, _to_the_other] if of.looks_reanonymised else [_to_the_other]
    if not _is_one_visit(of):
        ways += [_return, _archive] if _other_subject(of) else [_archive, _replace, _return]
    for way in ways:
        yield from way(of)
    yield _delete(of, why="It should not be here.")


def _delete(of: Situation, *, why: str) -> WayOut:
    return WayOut(command=f"prearc session delete {of.session.id}", why=why, cost=TRASH)


def _join(of: Situation) -> Iterator[WayOut]:
    for join in of.joins:
        yield WayOut(
            command=join.command,
            why=(
                f"Session {join.other_id} is the same patient on the same scanner, a short while apart: probably one"
                " visit in two parts."
            ),
            cost="One session will own two studies; prearc session split undoes it.",
        )
    if _is_one_visit(of):
        yield from _forced(
            of,
            why="The same patient on the same scanner, a short while apart: one visit in two parts, archived as one.",
            reason="scanner restarted",
        )


def _is_one_visit(of: Situation) -> bool:
    return K.STUDY_UID_DIFFERS in of.kinds and of.likeness is not None and of.likeness.is_one_visit


def _agree(of: Situation) -> Iterator[WayOut]:
    """What has to be given or made equal before anything else helps."""
    if K.PROJECT_UNASSIGNED in of.kinds:
        for project in of.projects[:_PROJECTS] or ("PROJECT",):
            yield WayOut(
                command=f"prearc session move {of.session.id} --project {shlex.quote(project)}",
                why="Give it a project: only then there is an archive for it.",
                cost=NO_FILE_CHANGES,
            )
    for kind in (K.PROJECT_CHANGED, K.LABEL_CHANGED, K.SUBJECT_CHANGED):
        finding = of.finding(kind)
        if finding is not None and (K.STUDY_UID_DIFFERS not in of.kinds or _is_one_visit(of)):
            yield WayOut(command=finding.hint, why="Let it agree with what is archived.", cost=NO_FILE_CHANGES)
    if of.has_file_trouble:
        yield WayOut(
            command="prearc doctor",
            why="Compare every file with the catalogue before anything else is decided.",
            cost="Changes nothing.",
        )


def _own_label(of: Situation) -> Iterator[WayOut]:
    asking = {K.STUDY_UID_DIFFERS, K.MODALITY_DIFFERS}
    if of.existing is None or not of.kinds & (asking | {K.PATIENT_DIFFERS}):
        return
    label = f"--label {shlex.quote(of.free_label)}"
    if subject := _other_subject(of):
        yield WayOut(
            command=f"prearc session relabel {of.session.id} --subject {shlex.quote(subject)} {label}",
            why="Another person: a subject of its own (here named by the patient id) and a label that is free.",
            cost=NO_FILE_CHANGES,
        )
    elif of.kinds & asking:
        why = "Another examination: give it a label of its own, which is free, and archive it then."
        yield WayOut(command=f"prearc session relabel {of.session.id} {label}", why=why, cost=NO_FILE_CHANGES)


def _other_subject(of: Situation) -> str:
    """A subject label for another person: the patient id, made safe; ``""`` when it is not another person."""
    is_copy = K.INSTANCE_DIFFERS in of.kinds
    if of.likeness is None or not of.likeness.is_other_person or is_copy:
        return ""
    ids = [label for study in of.studies if (label := safe_label(study.patient_id))]
    taken = {of.existing.subject} if of.existing else set()
    return next((label for label in ids if label not in taken), "")


def _resend(of: Situation) -> Iterator[WayOut]:
    """Nothing new, or only what is new: the archived session gains, nothing is replaced."""
    if of.existing is None or of.blockers(MergeMode.APPEND):
        return
    why = "Append what is new; what is archived stays as it is."
    if of.all_are_archived:
        why = "Everything is archived already: the session is done with, and nothing is stored twice."
    yield WayOut(command=f"prearc session archive {of.session.id} --mode append", why=why)


def _same_elements(of: Situation) -> Iterator[WayOut]:
    if of.all_are_written_otherwise:
        yield _delete(of, why="The archive has every element of it already, only written differently.")


def _split(of: Situation) -> Iterator[WayOut]:
    if K.MIXED_STUDY_UIDS not in of.kinds:
        return
    for study in of.session.study_instance_uids[1 : 1 + _STUDIES]:
        yield WayOut(
            command=f"prearc session split {of.session.id} --study {shlex.quote(study)}",
            why="Give this study a session of its own.",
            cost="No file is rewritten; prearc session join undoes it.",
        )


def _replace(of: Situation) -> Iterator[WayOut]:
    """The new copy instead of the archived one, where nothing but that stands in the way."""
    if of.existing is None or K.INSTANCE_DIFFERS not in of.kinds:
        return
    needed = of.blockers(MergeMode.OVERWRITE)
    if not all(finding.overridable for finding in needed):
        return
    kinds = sorted({finding.kind for finding in needed})
    if K.INSTANCE_DIFFERS in kinds:
        return
    yield WayOut(
        command=_command(of, "--mode overwrite", kinds, reason="replaced by the corrected copy"),
        why="The new copy is the right one: it replaces the archived one.",
        cost="The archived files leave the archive and are kept as a backup.",
    )


def _to_the_other(of: Situation) -> Iterator[WayOut]:
    """Into the session that has this study already."""
    if K.STUDY_ARCHIVED_ELSEWHERE not in of.kinds or of.kinds & {K.PROJECT_CHANGED, K.LABEL_CHANGED}:
        return
    for other in of.others[:2]:
        steps = []
        if other.project != of.session.project and other.project is not None:
            steps.append(f"prearc session move {of.session.id} --project {shlex.quote(other.project)}")
        names = f"--subject {shlex.quote(other.subject)} --label {shlex.quote(other.label)}"
        steps.append(f"prearc session relabel {of.session.id} {names}")
        steps.append(f"prearc session archive {of.session.id} --mode append")
        yield WayOut(
            command=" && ".join(steps),
            why=f"It belongs to session {other.id}, which has this study: archive it there.",
            cost="Replaces nothing; what is there byte for byte is not stored twice.",
        )


def _archive(of: Situation) -> Iterator[WayOut]:
    if of.existing is None and not of.blockers(MergeMode.NONE):
        yield WayOut(command=f"prearc session archive {of.session.id}", why="Archive it.")
        return
    why = "Force it, when both sides really belong together."
    if K.INSTANCE_DIFFERS in of.kinds and K.STUDY_UID_DIFFERS not in of.kinds:
        why = "Keep both copies, side by side."
    elif of.existing is None:
        why = "Archive it all the same."
    yield from _forced(of, why=why)


def _forced(of: Situation, *, why: str, reason: str = "") -> Iterator[WayOut]:
    mode = MergeMode.APPEND if of.existing is not None else MergeMode.NONE
    needed = of.blockers(mode)
    if not needed or not all(finding.overridable for finding in needed):
        return
    kinds = sorted({finding.kind for finding in needed})
    option = f"--mode {mode}" if mode is not MergeMode.NONE else ""
    costs = "; ".join(dict.fromkeys(_COSTS[kind] for kind in kinds if kind in _COSTS))
    yield WayOut(
        command=_command(of, option, kinds, reason=reason or _reason(kinds)),
        why=why,
        cost=f"{costs[:1].upper()}{costs[1:]}; the decision is recorded with both sides." if costs else "",
    )


def _reason(kinds: Sequence[K]) -> str:
    return next((reason for kind, reason in _REASONS.items() if kind in kinds), "checked by hand")


def _command(of: Situation, option: str, kinds: Sequence[K], *, reason: str) -> str:
    parts = [f"prearc session archive {of.session.id}", option, *(f"--override {kind}" for kind in kinds)]
    if kinds:
        parts.append(f"--reason {shlex.quote(reason)}")
    return " ".join(part for part in parts if part)


def _return(of: Situation) -> Iterator[WayOut]:
    """When the archived one is the wrong one."""
    if of.existing is None or not of.kinds & {K.STUDY_UID_DIFFERS, K.PATIENT_DIFFERS, K.SUBJECT_CHANGED}:
        return
    yield WayOut(
        command=f"prearc session return {of.existing.id}",
        why="The archived session is the one with the wrong label: send it back to be relabelled.",
        cost="Until it is archived again, the archive does not have it.",
    )
