"""``prearc mitigate``: from survey reports to a plan, its application with a backup, and back."""

import os
import shlex
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import NotFound, Refused, UsageError
from archive.mitigations import HEADER_ONLY, ActionKind, Keep
from archive.surveys import SurveyStatus
from cli import logs, mitigate_text, render
from cli.confirm import confirm
from cli.opening import Options, opened
from cli.progress import progress
from cli.selection import MAX_ID, DryRun, Wait, Yes

if TYPE_CHECKING:
    from archive.mitigation import Applied
    from archive.mitigations import Plan

app = typer.Typer(
    help="Put names and duplicates of the archive right, by a plan that can be read, edited and undone.",
    rich_markup_mode=None,
)

MAX_PLAN_BYTES: Final = 1 << 28
FAILED: Final = 1
FINDINGS_REMAIN: Final = 3
STALE: Final = 4

PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan that mitigate plan wrote.")]
Reason = Annotated[str, typer.Option(help="Why; recorded.")]


@app.command("plan")
def plan(
    context: typer.Context,
    ids: Annotated[
        list[int], typer.Argument(metavar="ID...", min=1, max=MAX_ID, help="Survey requests that are DIVERGENT.")
    ],
    output: Annotated[Path, typer.Option(metavar="PLAN.json", help="The plan's file; it must not exist yet.")],
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="Which of a duplicate set stays: correct-name (default), newest, oldest or deidentified.",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="header-only: also sets that differ in attributes. Needs --keep."),
    ] = None,
) -> int:
    """Make a plan from the reports of survey requests. It changes nothing; read it, edit it, then apply it."""
    from archive import mitigation
    from archive.mitigating import plan_file
    from archive.mitigations import Policy

    if set(include or ()) - {HEADER_ONLY}:
        raise UsageError(f"--include knows {HEADER_ONLY} alone.", hint=f"--include {HEADER_ONLY} --keep POLICY")
    if include and keep is None:
        raise UsageError(
            "Which of several files that differ stays is a person's decision.",
            hint=f"--include {HEADER_ONLY} --keep {'|'.join(Keep)}",
        )
    if keep is not None and keep not in tuple(Keep):
        raise UsageError(f"There is no policy '{keep}'.", hint=f"--keep {'|'.join(Keep)}")
    policy = Policy(keep=Keep(keep) if keep else Keep.CORRECT_NAME, include=frozenset(include or ()))
    options: Options = context.obj
    with opened(options) as ws:
        made = mitigation.make_plan(ws, ids, policy)
    _write(output, plan_file.dumps(made), ids)
    if options.is_json:
        render.emit_json(plan_file.document(made))
        return 0
    mitigate_text.show_totals(made)
    render.emit(f"written: {render.escape(output)}")
    name = render.escape(shlex.quote(str(output)))
    if any(each.kind is not ActionKind.RETAIN for resource in made.resources for each in resource.actions):
        render.emit(f"read it:  prearc mitigate show {name}")
        render.emit(f"apply it: prearc mitigate apply {name}")
    else:
        render.emit(f"there is nothing to apply; why: prearc mitigate show {name}")
    return 0


@app.command("show")
def show(context: typer.Context, path: PlanPath) -> int:
    """What a plan would do, file by file, with the reasons, and what it leaves alone."""
    from archive.mitigating import plan_file

    found = _read(path)
    if context.obj.is_json:
        render.emit_json(plan_file.document(found))
    else:
        mitigate_text.show_plan(found)
    return 0


@app.command("apply")
def apply(
    context: typer.Context,
    path: PlanPath,
    is_dry_run: DryRun = False,
    reason: Reason = "",
    is_agreed: Yes = False,
    wait_seconds: Wait = 30.0,
) -> int:
    """Back up, rename, take duplicates out, survey the result. Exit code 3: something remains; 4: the plan is stale."""
    from archive import mitigation

    options: Options = context.obj
    found = _read(path)
    files = sum(each.kind is not ActionKind.RETAIN for resource in found.resources for each in resource.actions)
    with opened(options) as ws:
        if is_dry_run:
            mitigation.preview(ws, found)
            if options.is_json:
                render.emit_json({"results": [mitigate_text.would(each) for each in found.resources]})
            else:
                mitigate_text.show_totals(found)
                render.emit("the plan can be applied; nothing was done")
            return 0
        if not options.is_verbose:
            logs.configure("ERROR")
        if not is_agreed:
            mitigation.preview(ws, found)  # nobody is asked about a plan that cannot be applied
        confirm(
            f"Apply the plan to {render.count(files, 'file')} of {render.count(len(found.resources), 'resource')}?",
            is_agreed=is_agreed,
            cost=mitigate_text.cost(found),
        )
        with progress("mitigating", total=files or None) as advance:
            results = mitigation.apply(ws, found, reason=reason.strip(), wait_seconds=wait_seconds, advance=advance)
    if options.is_json:
        render.emit_json({"results": [mitigate_text.applied(each) for each in results]})
    else:
        mitigate_text.show_applied(results)
    return _code(results)


@app.command("list")
def list_(context: typer.Context) -> int:
    """Every mitigation: what it did, how large its backup is, and whether it can be undone."""
    from archive import mitigation

    with opened(context.obj) as ws:
        found, forgotten = mitigation.list_all(ws), mitigation.forgotten(ws)
    if context.obj.is_json:
        items = [mitigate_text.item_of_forgotten(each) for each in forgotten]
        render.emit_json([*items, *(mitigate_text.item(each) for each in found)])
    else:
        mitigate_text.show_list(found, forgotten)
    return 0


@app.command("undo")
def undo(
    context: typer.Context,
    operation: Annotated[str, typer.Argument(metavar="OPERATION", help="As prearc mitigate list tells it.")],
    is_dry_run: DryRun = False,
    reason: Reason = "",
    is_agreed: Yes = False,
    wait_seconds: Wait = 30.0,
) -> int:
    """Give every file back its name and its place, and the rows too. Exit code 4: something changed since."""
    from archive import mitigation

    options: Options = context.obj
    with opened(options) as ws:
        if not is_dry_run:
            mitigation.finish_interrupted(ws, operation, wait_seconds=wait_seconds)
        found = mitigation.preview_undo(ws, operation)
        moved, removed = len(found.inverse["renamed"]), len(found.inverse["removed"])
        what = f"{render.count(moved, 'name')} and {render.count(removed, 'removed file')} of scan"
        what += f" {render.escape(found.inverse['scan'])} of {render.escape(f'{found.project}/{found.label}')}"
        if not is_dry_run:
            confirm(
                f"Restore {what}?",
                is_agreed=is_agreed,
                cost="The scan will diverge again as before the mitigation, and the backup is emptied.",
            )
            found = mitigation.undo(ws, operation, reason=reason.strip(), wait_seconds=wait_seconds)
    status = "WOULD_UNDO" if is_dry_run else "UNDONE"
    if options.is_json:
        names = {"operation": operation, "status": status, "undo_operation": found.undo_op or None}
        render.emit_json({**names, "session": found.session_id, "renamed": moved, "restored": removed})
    else:
        render.emit(f"{operation}: {'would restore' if is_dry_run else 'restored'} {what}")
        if not is_dry_run:
            scan = render.escape(found.inverse["scan"])
            render.emit(
                f"its survey is queued; here and now: prearc survey run --session {found.session_id} --scan {scan}"
            )
    return 0


def _read(path: Path) -> "Plan":
    from archive.mitigating import plan_file

    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_PLAN_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise NotFound(
            f"The plan cannot be read: {error.strerror}.", hint="prearc mitigate plan ID --output PLAN.json"
        ) from error
    except UnicodeDecodeError:
        raise Refused("The plan is not text.", hint="prearc mitigate plan ID --output PLAN.json") from None
    if len(data) > MAX_PLAN_BYTES:
        raise Refused("The plan is too large to be one.", hint="prearc mitigate plan with fewer requests")
    return plan_file.loads(text)


def _write(path: Path, text: str, ids: list[int]) -> None:
    """A new file that its owner alone can read: names of files may be a patient's."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        again = f"prearc mitigate plan {' '.join(map(str, ids))} --output {shlex.quote(str(_other_name(path)))}"
        raise Refused(f"{path} exists; a plan is never written over.", hint=again) from None
    except OSError as error:
        again = f"prearc mitigate plan {' '.join(map(str, ids))} --output {shlex.quote(path.name)}"
        raise Refused(f"The plan cannot be written: {error.strerror}.", hint=again) from error
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(text)


def _other_name(path: Path) -> Path:
    """The first name beside it that is free."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(each for each in numbered if not os.path.lexists(each))


def _code(results: "list[Applied]") -> int:
    """The worst that became of a request."""
    statuses = {each.status for each in results}
    codes = {each.exit_code for each in results}
    is_incomplete = any(each.report and each.report["totalFileErrors"] for each in results)
    if SurveyStatus.ERROR in statuses or is_incomplete or codes - {0, STALE}:
        return FAILED
    if STALE in codes:
        return STALE
    return 0 if statuses <= {SurveyStatus.CONFORMING} else FINDINGS_REMAIN
