"""``prearc route``: the rules, and what they would decide about a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.errors import NotFound, UsageError
from archive.model import UNASSIGNED, Autoarchive, LabelChoice, SessionKey, scan_files_path
from cli import render
from cli.opening import compile_policy, load, rules_of

if TYPE_CHECKING:
    from archive.config import ReceiverSettings, Settings
    from archive.model import InstanceHeader
    from archive.rules.policy import Policy

app = typer.Typer(help="Which project, subject and session instances belong to.", rich_markup_mode=None)

LABELS: Final = ("project", "subject", "session")
BUILT_IN: Final = {
    "project": "Project: in PatientComments, StudyComments, AdditionalPatientHistory; a configured project in"
    " StudyDescription or AccessionNumber",
    "subject": "Subject: in the same comments; PatientName; PatientID",
    "session": "Session: in the same comments; PatientID",
}


@app.command("list")
def list_(context: typer.Context) -> int:
    """List the rules in the order they are asked; the first that states something decides."""
    loaded = load(context.obj)
    compile_policy(loaded)
    rules = [*_settings_rules(loaded.settings), *_file_rules(*rules_of(loaded))]
    rules += [{"label": label, "where": "built in", "rule": BUILT_IN[label]} for label in LABELS]
    rules.sort(key=lambda rule: LABELS.index(rule["label"]))
    projects = [
        {
            "id": project.id,
            "aliases": project.aliases,
            "autoarchive": project.autoarchive or Autoarchive.MANUAL,
        }
        for project in loaded.settings.project
    ]
    if context.obj.is_json:
        render.emit_json({"source": loaded.source, "rules": rules, "projects": projects})
        return 0
    render.emit(render.table(("LABEL", "WHERE", "RULE"), [tuple(rule.values()) for rule in rules]))
    known = ", ".join(str(project["id"]) for project in projects) or "none configured: any that a rule names counts"
    render.emit(f"\nprojects: {render.escape(known)}")
    return 0


@app.command("explain")
def explain(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM file.")],
    calling: Annotated[str, typer.Option(metavar="AET", help="As if this AE title had sent it.")] = "",
    called: Annotated[str, typer.Option(metavar="AET", help="As if sent to this one; else the first receiver.")] = "",
    peer: Annotated[str, typer.Option(metavar="IP", help="As if it came from this address.")] = "127.0.0.1",
) -> int:
    """Show where a file would go, and the rule that decided each label. Nothing is stored."""
    loaded = load(context.obj)
    policy = compile_policy(loaded)
    receiver = _receiver(loaded.settings, called)
    document = _explained(policy, receiver, _header(file, policy), calling=calling, peer=peer)
    if context.obj.is_json:
        render.emit_json({"file": str(file), **document})
        return 0
    rows = [(name, _shown(name, document[name]["value"]), document[name]["rule"]) for name in (*LABELS, "autoarchive")]
    render.emit(render.table(("LABEL", "VALUE", "DECIDED BY"), rows))
    render.emit()
    pairs = [("receiver", receiver.ae_title), ("folder", document["folder"]), ("file name", document["name"])]
    if document["refused"]:
        pairs.append(("refused", document["refused"]))
    if document["filtered"]:
        pairs.append(("not stored", document["filtered"]))
    render.emit(render.fields(pairs))
    return 0


def _shown(name: str, value: str | None) -> str:
    return value or (UNASSIGNED if name == "project" else "")


def _receiver(settings: "Settings", called: str) -> "ReceiverSettings":
    """The receiver of this AE title; the first one when none is stated."""
    for receiver in settings.receiver:
        if called in ("", receiver.ae_title):
            return receiver
    known = ", ".join(receiver.ae_title for receiver in settings.receiver)
    raise UsageError(f"No receiver is called '{called}'.", hint=f"prearc receiver list   (there are: {known})")


def _header(file: Path, policy: "Policy") -> "InstanceHeader":
    from archive.rules.header import file_reader, read_file_header

    try:
        fd = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.", hint="prearc route explain FILE") from None
    try:
        size_bytes = os.fstat(fd).st_size
        _, header = read_file_header(file_reader(fd), size_bytes, also=policy.also, limits=policy.limits)
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.", hint="prearc route explain FILE") from None
    finally:
        os.close(fd)
    return header


def _explained(
    policy: "Policy", receiver: "ReceiverSettings", header: "InstanceHeader", *, calling: str, peer: str
) -> dict[str, Any]:
    from archive.model import StoreRequest
    from archive.rules.identity import identity_problem
    from archive.rules.naming import scan_folder
    from archive.rules.routing import RouteInput

    origin = RouteInput(calling_ae_title=calling, called_ae_title=receiver.ae_title, peer_host=peer)
    route = policy.router(receiver).route(header, origin)
    key = SessionKey(project=route.project.value, timestamp="<timestamp>", folder=route.session.value or "")
    scan = scan_folder(header.series_number, header.series_instance_uid)
    request = StoreRequest(
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
    )
    problem = identity_problem(request, header)
    return {
        "receiver": receiver.ae_title,
        "project": _choice(route.project),
        "subject": _choice(route.subject),
        "session": _choice(route.session),
        "autoarchive": {"value": route.autoarchive, "rule": route.autoarchive_rule},
        "scan": scan,
        "folder": scan_files_path(key.path, scan),
        "name": policy.template.name(header),
        "refused": f"{problem[0]}: {problem[1]}" if problem else None,
        "filtered": policy.filters.declines(route.project.value, header),
    }


def _choice(choice: LabelChoice) -> dict[str, str | None]:
    return {"value": choice.value, "rule": choice.rule}


def _settings_rules(settings: "Settings") -> list[dict[str, str]]:
    rules = [
        {"label": label, "where": f"receiver {receiver.ae_title}", "rule": rule}
        for receiver in settings.receiver
        for label in LABELS
        for rule in getattr(receiver, label)
    ]
    rules += [
        {"label": label, "where": "[routing]", "rule": rule}
        for label in LABELS
        for rule in getattr(settings.routing, label)
    ]
    return rules


def _file_rules(name: str, text: str) -> list[dict[str, str]]:
    from archive.rules.expressions import parse_rules

    parsed = parse_rules(text, name or "routes.rules")
    return [
        {"label": label, "where": rule.where, "rule": rule.expression.text}
        for label in LABELS
        for rule in getattr(parsed, label)
    ]
