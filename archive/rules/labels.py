"""Labels and projects as an administrator types them: taken as they are, or refused with what would do."""

from collections.abc import Sequence

from archive.config import ProjectSettings
from archive.errors import Refused, UsageError
from archive.model import UNASSIGNED
from archive.rules.naming import safe_label


def known_project(known: Sequence[ProjectSettings], project: str) -> str | None:
    """The id of a project named by id or alias; None for Unassigned.

    Raises
    ------
    Refused
        Projects are configured and this is none of them.
    UsageError
        The name is not a safe label.
    """
    if project.casefold() == UNASSIGNED.casefold():
        return None
    for entry in known:
        if entry.id == project or project.casefold() in {name.casefold() for name in (entry.id, *entry.aliases)}:
            return entry.id
    if known:
        names = ", ".join(entry.id for entry in known)
        raise Refused(f"Project {project} is not configured; known: {names}.", hint="prearc config show")
    check_label("project", project)
    return project


def check_label(name: str, value: str | None) -> None:
    """Refuse a label that a person typed and that would have to be changed to be safe; None is no label."""
    if value is None:
        return
    safe = safe_label(value)
    if not value or safe != value:
        hint = f"try {safe}" if safe else "letters, digits, _ and -"
        raise UsageError(f"A {name} is made of letters, digits, _ and -, 64 at most.", hint=hint)
