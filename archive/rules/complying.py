"""Ways out where a series import filter declines something of a session."""

import shlex
from collections.abc import Iterator
from typing import Final

from archive.findings import FindingKind as K
from archive.rules.situation import Situation
from archive.rules.way_out import NO_FILE_CHANGES, WayOut

_LISTED: Final = 3
_SPLITS: Final = 4


def comply(of: Situation) -> Iterator[WayOut]:
    """Where a series import filter declines something of it."""
    finding = of.finding(K.SERIES_FILTERED)
    if finding is None:
        return
    for project in of.filtering.projects[:_LISTED]:
        came = "Back to the project it came from" if project == of.filtering.came_from else "To another project"
        yield WayOut(
            command=f"prearc session move {of.session.id} --project {shlex.quote(project)}",
            why=f"{came}, whose filters take all of it.",
            cost=NO_FILE_CHANGES,
        )
    yield from _apart(of)
    rule = str(finding.detail.get("rule", ""))
    key = "lines of [filters]" if "site filter" in rule else f"filter_lines of [[project]] {of.session.project}"
    yield WayOut(
        command="prearc config check",
        why=f"Or change the filter, in prearc.toml under {key}: check the file with this, restart, archive again.",
        cost="What is sent from then on is filtered so as well.",
    )


def _apart(of: Situation) -> Iterator[WayOut]:
    """What complies and what does not, each in a session of its own; the fewer series are split off."""
    complying, declined = of.filtering.complying, of.filtering.declined
    if not complying or not declined:
        return
    is_few = len(complying) <= len(declined)
    label, series = (of.session.label, complying) if is_few else (of.free_label, declined)
    if len(series) > _SPLITS:
        return
    split = f"prearc session split {of.session.id}"
    what = "comply, to be archived without the rest" if is_few else "do not comply: the rest can be archived"
    yield WayOut(
        command=" && ".join(f"{split} --series {shlex.quote(uid)} --label {shlex.quote(label)}" for uid in series),
        why=f"Split off the series that {what}.",
        cost="No file is rewritten; prearc session join undoes it.",
    )
