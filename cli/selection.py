"""Which sessions a verb is for, and doing it to each of them: one trouble does not stop the others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.errors import ArchiveError, UsageError
from archive.model import Session, SessionStatus
from cli import render
from cli.confirm import confirm

if TYPE_CHECKING:
    from archive.workspace import Workspace

MAX_ID: Final = 2**63 - 1
"""No row of the catalogue has a larger id."""

Sessions = Annotated[
    list[str] | None, typer.Argument(metavar="SESSION...", help="Id, project/timestamp/folder, or project/label.")
]
OneSession = Annotated[str, typer.Argument(metavar="SESSION", help="Id, project/timestamp/folder, or project/label.")]
Status = Annotated[str | None, typer.Option("--status", help="All sessions of this status.")]
Project = Annotated[str | None, typer.Option("--project", help="All sessions of this project, or Unassigned.")]
All = Annotated[bool, typer.Option("--all", help="All sessions of the prearchive this can be done to.")]
Yes = Annotated[bool, typer.Option("--yes", help="Agree beforehand to what would be asked.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="Wait this long for the result.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Instead of ids. `possible`: the statuses ``--all`` and ``--project`` alone stand for."""

    status: str | None = None
    project: str | None = None
    is_all: bool = False
    possible: tuple[SessionStatus, ...] = ()

    @property
    def are_stated(self) -> bool:
        return self.is_all or self.status is not None or self.project is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one session: `document` is its JSON, `lines` its text, `code` its exit code."""

    document: dict[str, Any]
    lines: tuple[str, ...]
    code: int = 0


def status_named(text: str) -> SessionStatus:
    """A status as people type it, in any case; `UsageError` for a word that is none."""
    try:
        return SessionStatus(text.upper())
    except ValueError:
        raise UsageError(f"There is no status '{text}'.", hint=f"one of {', '.join(SessionStatus)}") from None


def select(
    ws: "Workspace", texts: Sequence[str] | None, filters: Filters, *, verb: str, is_agreed: bool
) -> list[Session]:
    """The sessions that were named, or those that fit the filters once a person agreed to the number of them.

    Raises
    ------
    UsageError
        Neither or both were stated.
    NotFound
        A named session does not exist, or no session fits.
    """
    from archive.errors import NotFound
    from archive.sessions import resolve

    if bool(texts) == filters.are_stated:
        what = "Name sessions or choose them by --status, --project or --all, not both."
        raise UsageError(what, hint=f"prearc session list, then prearc session {verb} ID")
    if texts:
        return list({found.id: found for found in (resolve(ws, text) for text in texts)}.values())
    found = _matching(ws, filters)
    if not found:
        raise NotFound("No session fits.", hint="prearc session list")
    confirm(f"{verb.capitalize()} {render.count(len(found), 'session')}?", is_agreed=is_agreed)
    return found


def _matching(ws: "Workspace", filters: Filters) -> list[Session]:
    from archive.store.catalogue import sessions

    statuses = (status_named(filters.status),) if filters.status else filters.possible
    with ws.catalogue.read() as connection:
        found = sessions.find(connection, project=filters.project, is_archived=False, include_deleted=True)
    return [each for each in found if each.status in statuses]


def do_each(sessions: Iterable[Session], action: Callable[[Session], Result], *, is_json: bool) -> int:
    """Do it to each session, print what became of all of them, and return the exit code.

    The error of the only session is raised. Of several, each error is told beside the other results, and the
    first one gives the exit code.
    """
    chosen = list(sessions)
    results: list[Result] = []
    for session in chosen:
        try:
            results.append(action(session))
        except ArchiveError as error:
            if len(chosen) == 1:
                raise
            results.append(_failed(session, error))
        if not is_json:
            for line in results[-1].lines:
                render.emit(line)
    if is_json:
        render.emit_json({"results": [result.document for result in results]})
    errors = [result.code for result in results if "error" in result.document]
    return next(iter(errors), max((result.code for result in results), default=0))


def done(session: Session, status: str, text: str) -> Result:
    """The result of a change that is told in one line; `text` is escaped here."""
    document = {
        "session": session.id,
        "status": status,
        "project": session.project,
        "subject": session.subject,
        "label": session.label,
        "path": session.path,
    }
    return Result(document=document, lines=(render.escape(text),))


def _failed(session: Session, error: ArchiveError) -> Result:
    document = {
        "session": session.id,
        "status": session.status,
        "path": session.path,
        **render.error_document(error.kind, error.message, error.hint),
    }
    lines = [f"session {session.id}: error: {render.escape(error.message)}"]
    if error.hint:
        lines.append(f"  hint: {render.escape(error.hint)}")
    return Result(document=document, lines=tuple(lines), code=error.exit_code)
