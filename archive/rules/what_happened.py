"""What happened, in two sentences: the first says what stands against what, the second what probably went wrong."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from archive.differences import PHRASES, DifferenceKind
from archive.findings import FindingKind as K
from archive.model import UNASSIGNED, Session, Study
from archive.rules.neighbours import duration, studied_at
from archive.rules.situation import Situation


def what_happened(of: Situation) -> str:
    """Two sentences for a colleague; the first cause that explains most comes first."""
    if not of.kinds:
        return f"{_here(of)} is {of.session.status}. {_other_half(of)}"
    for is_it, tell in _STORIES:
        if is_it(of):
            return tell(of)
    names = ", ".join(sorted(of.kinds))
    return f"{_here(of)} cannot be archived as it is: {names}. Each finding below says what disagrees."


def _other_half(of: Situation) -> str:
    if not of.joins:
        return "Nothing stands in the way of archiving it."
    nearest = of.joins[0]
    return (
        f"Nothing stands in the way of archiving it, but session {nearest.other_id} is of the same patient on the same"
        f" scanner, {duration(nearest.gap_seconds)} apart, under another study: probably one visit that a restart of"
        " the scanner split."
    )


def _here(of: Situation) -> str:
    return f"Session {of.session.id} ({_name(of.session)}, received {_when(of.session.received_first)})"


def _there(session: Session) -> str:
    return f"session {session.id} ({_name(session)}, received {_when(session.received_first)})"


def _name(session: Session) -> str:
    return f"{session.project or UNASSIGNED}/{session.label}"


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _study(studies: tuple[Study, ...]) -> str:
    dates = sorted({f"{at:%Y-%m-%d}" for each in studies if (at := studied_at(each))})
    return f"study of {' and '.join(dates[:2])}, " if dates else ""


def _files(of: Situation) -> str:
    return (
        f"{_here(of)} has files that are not as they were received. Look at them before anything else is done: the"
        " disk, or somebody beside prearc, changed them."
    )


def _busy(of: Situation) -> str:
    return f"{_here(of)}, or the session it would join, is being worked on. Wait, then look again."


def _no_project(of: Situation) -> str:
    return (
        f"{_here(of)} belongs to no project, so there is no archive it could go to. No routing rule named a project, or"
        " the name is not configured."
    )


def _mixed(of: Situation) -> str:
    return (
        f"The files of {_here(of).lower()} carry several Study Instance UIDs, although they were filed as one session."
        " Either one visit came as several studies, or two visits were given one label before they were sent."
    )


def _first(of: Situation) -> str:
    existing = of.existing
    assert existing is not None
    return (
        f"Session {of.session.id} ({_study(of.studies)}received {_when(of.session.received_first)}) was to be archived"
        f" as {_name(of.session)}, but session {existing.id}, archived there ({_study(of.existing_studies)}received"
        f" {_when(existing.received_first)}), holds another study."
    )


def _two_people(of: Situation) -> str:
    return (
        f"{_first(of)} It is of another patient as well: probably these are two people under one label, so"
        " relabel one and do not force them together."
    )


def _other_id(of: Situation) -> str:
    return (
        f"{_first(of)} Name and birth date agree but the patient id does not: probably one person was registered twice,"
        " or an id was mistyped at the console."
    )


def _restart(of: Situation) -> str:
    assert of.likeness is not None and of.likeness.gap_seconds is not None
    gap = duration(of.likeness.gap_seconds)
    return (
        f"{_first(of)} It is the same patient on the same scanner, {gap} apart: probably one visit that a restart of"
        " the scanner split over two studies."
    )


def _two_visits(of: Situation) -> str:
    assert of.likeness is not None
    gap = of.likeness.gap_seconds
    when = f", {duration(gap)} apart" if gap is not None else ""
    return (
        f"{_first(of)} It is the same patient{when}: probably two visits were given one label, or one visit was split"
        " over two studies."
    )


def _two_studies(of: Situation) -> str:
    return (
        f"{_first(of)} Either two studies were given one label, or one visit was split over two studies, for example by"
        " a scanner restart."
    )


def _elsewhere(of: Situation) -> str:
    others = " and ".join(_there(each) for each in of.others[:2])
    return (
        f"{_here(of)} holds a study that is archived as {others} already. Probably the study was sent again and"
        " routed to another label, or it was meant for that session and got another subject or label."
    )


def _copies_elsewhere(of: Situation) -> str:
    others = " and ".join(_there(each) for each in of.others[:2])
    return (
        f"{_here(of)} has instances that {others} has too, under another study. Probably they were copied into a new"
        " study, for example by an anonymiser that kept the SOP Instance UIDs."
    )


def _differing(of: Situation) -> str:
    found = of.finding(K.INSTANCE_DIFFERS)
    count = found.detail["count"] if found else 0
    there = f" than {_there(of.existing)}" if of.existing and found and "within" not in found.detail else " twice"
    what = "instances" if count != 1 else "instance"
    return f"{_here(of)} brings {count} {what} with the same SOP Instance UID but other bytes{there}. {_why_other(of)}"


def _why_other(of: Situation) -> str:
    kinds = {each.kind for each in of.differences}
    if of.looks_reanonymised:
        changed = {tag.tag.partition(",")[0] for each in of.differences for tag in each.tags}
        if "0010" in changed or "0012" in changed:
            return (
                "The pixels are equal and the patient's attributes are not: probably this is a re-anonymised or"
                " corrected copy of what is there."
            )
        return "The pixels are equal and other attributes are not: probably this is a corrected copy of what is there."
    if kinds == {DifferenceKind.SAME_DATASET}:
        return "Every element is equal, only written differently: a resend by way of another system."
    if DifferenceKind.PIXEL_DATA in kinds:
        return (
            "The pixels differ: either the images were processed again without new UIDs, or two different images were"
            " given one UID."
        )
    if DifferenceKind.ENCODING in kinds:
        return "They came in another transfer syntax: probably a copy that another system compressed or decompressed."
    told = " and ".join(PHRASES[kind] for kind in sorted(kinds)) or "not compared"
    return f"How they differ could not be told ({told}): look at both files."


def _patient(of: Situation) -> str:
    found = of.finding(K.PATIENT_DIFFERS)
    where = sorted({str(each["where"]) for each in found.detail["differences"]}) if found else []
    there = of.existing or (of.others[0] if of.others else None)
    against = f" than {_there(there)}" if there is not None else f" ({', '.join(where)})"
    return (
        f"{_here(of)} names another patient{against}. Probably the patient's data were corrected or anonymised between"
        " the two, or images of two people came under one label."
    )


def _modality(of: Situation) -> str:
    there = f" than {_there(of.existing)}" if of.existing else " than the archive"
    return (
        f"{_here(of)} has images of another modality{there}. Probably one label was used for two examinations:"
        " give this one a label of its own."
    )


def _relabelled(of: Situation) -> str:
    there = _there(of.others[0]) if of.others else "an archived session"
    return (
        f"{_here(of)} continues {there}, which has another project or label. Probably only one of the two was moved or"
        " relabelled: let them agree."
    )


def _subject(of: Situation) -> str:
    assert of.existing is not None
    return (
        f"{_here(of)} belongs to subject {of.session.subject}, but {_there(of.existing)} has the same label and belongs"
        f" to subject {of.existing.subject}. Either the label or the subject was mistyped or routed wrongly."
    )


def _filtered(of: Situation) -> str:
    return (
        f"{_here(of)} has series that the import filter of {of.session.project} declines. The filter was changed after"
        " they were received, or the session was moved here from another project."
    )


def _again(of: Situation) -> str:
    assert of.existing is not None
    total, known = of.session.instance_count, of.identical
    first = f"{_here(of)} is of the same study as {_there(of.existing)}, under the same label."
    if of.all_are_archived:
        return f"{first} All of its {total} instances are archived already, byte for byte: a resend with nothing new."
    if known:
        return f"{first} {known} of its {total} instances are archived already: a resend that brings something new."
    return f"{first} None of its {total} instances is archived yet: a later part, which can be appended."


def _has(*kinds: K) -> Callable[[Situation], bool]:
    return lambda of: bool(of.kinds & set(kinds))


def _differs_as(of: Situation) -> str:
    """What the studies of the two sides have in common: the story of a Study Instance UID that differs."""
    alike = of.likeness
    if K.STUDY_UID_DIFFERS not in of.kinds or of.existing is None or alike is None:
        return ""
    if alike.has_other_id:
        return "other id"
    if alike.is_other_person:
        return "two people"
    if alike.is_one_visit:
        return "restart"
    return "two visits" if alike.is_same_person else "two studies"


def _is(story: str) -> Callable[[Situation], bool]:
    return lambda of: _differs_as(of) == story


_STORIES: Final[tuple[tuple[Callable[[Situation], bool], Callable[[Situation], str]], ...]] = (
    (lambda of: of.has_file_trouble, _files),
    (_has(K.SESSION_BUSY), _busy),
    (_has(K.PROJECT_UNASSIGNED), _no_project),
    (_has(K.MIXED_STUDY_UIDS), _mixed),
    (_is("two people"), _two_people),
    (_is("other id"), _other_id),
    (_has(K.MODALITY_DIFFERS), _modality),
    (_is("restart"), _restart),
    (_is("two visits"), _two_visits),
    (_is("two studies"), _two_studies),
    (_has(K.INSTANCE_DIFFERS), _differing),
    (_has(K.PROJECT_CHANGED, K.LABEL_CHANGED), _relabelled),
    (lambda of: K.STUDY_ARCHIVED_ELSEWHERE in of.kinds and bool(of.others), _elsewhere),
    (lambda of: K.SOP_INSTANCE_ELSEWHERE in of.kinds and bool(of.others), _copies_elsewhere),
    (lambda of: K.SUBJECT_CHANGED in of.kinds and of.existing is not None, _subject),
    (_has(K.PATIENT_DIFFERS), _patient),
    (_has(K.SERIES_FILTERED), _filtered),
    (lambda of: of.existing is not None and of.kinds <= {K.SESSION_EXISTS, K.SCAN_EXISTS}, _again),
)
