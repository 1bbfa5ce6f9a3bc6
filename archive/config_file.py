"""Reading ``prearc.toml``: all problems at once, each with file, key and what is wrong."""

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from archive.config import Settings
from archive.config_fields import CrossCheckError
from archive.defaults import CONFIG_NAME
from archive.errors import ConfigurationError

BUILT_IN: Final = "built-in defaults"
RULES_NAME: Final = "routes.rules"
_NAMES: Final = frozenset({"ae_title", "port", "bind", "id", "aliases"})  # what entries are told apart by
_ROUNDS: Final = 8  # how often the rest is checked again; what is wrong at that depth is found by the next check

_WORDING: Final[Mapping[str, str]] = {
    "missing": "is required",
    "int_type": "should be an integer",
    "int_from_float": "should be an integer",
    "float_type": "should be a number",
    "string_type": "should be text",
    "path_type": "should be text",
    "tuple_type": "should be a list",
    "model_type": "should be a table",
}
"""pydantic's error types in the words of TOML; any other keeps pydantic's sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings, where they come from and which rules file goes with them."""

    settings: Settings
    source: str
    rules_path: Path | None


def load_settings(config_file: Path | None, *, root: Path | None = None) -> Loaded:
    """The settings of `config_file`, else of ``<root>/prearc.toml`` when there is one, else the defaults.

    A `root` given here becomes ``node.root``; without it the file's holds.

    Raises
    ------
    ConfigurationError
        With every problem of the file, or with the one that keeps it from being parsed. Its `rest` is what can still
        be checked further: the configuration without what is wrong.
    """
    path = config_file or (root or Settings().node.root) / CONFIG_NAME
    data = _read(path, is_optional=config_file is None)
    if data is None:
        return Loaded(settings=_at_root(Settings(), root), source=BUILT_IN, rules_path=None)

    values = _parse(path, data)
    rules_path, problems = _find_rules(values, path.parent)
    settings, wrong = _validated(values)
    problems = wrong + problems
    if problems:
        located = [f"{path}: {_escaped(problem)}" for problem in problems]
        if settings is None:
            raise ConfigurationError(located)
        usable = rules_path if rules_path is not None and rules_path.is_file() else None
        rest = Loaded(settings=_at_root(_located(settings, path), root), source=str(path), rules_path=usable)
        raise ConfigurationError(located, rest=rest)
    assert settings is not None
    return Loaded(settings=_at_root(_located(settings, path), root), source=str(path), rules_path=rules_path)


def _validated(values: dict[str, Any]) -> tuple[Settings | None, list[str]]:
    """The settings, without what is wrong with them, and all that is wrong.

    Checks across entries run only where each entry is right: so what is wrong is taken out, and the rest is checked
    again until nothing new is found.
    """
    problems: list[str] = []
    gone: set[tuple[int | str, ...]] = set()
    values = copy.deepcopy(values)
    for _ in range(_ROUNDS):
        try:
            return Settings.model_validate(values), problems
        except ValidationError as error:
            details = error.errors(include_url=False)
        problems += [
            each
            for detail in details
            if not _is_of_our_making(detail, gone)
            for each in _problems(detail)
            if each not in problems
        ]
        # Later entries first: taking one out moves those behind it.
        places = {place for detail in details for place in _places(detail)}
        for place in sorted(places, key=lambda each: [str(part).rjust(9, "0") for part in each], reverse=True):
            _take_out(values, place)
        gone |= places
    return None, problems


def _is_of_our_making(detail: ErrorDetails, gone: set[tuple[int | str, ...]]) -> bool:
    """Whether an error may come of what was taken out: a key that is now lacking, or a name that is now the default."""
    if detail["type"] == "missing":
        return bool(gone)
    cause = detail.get("ctx", {}).get("error")
    here = [place for place in gone if place[0] == detail["loc"][0]]
    return isinstance(cause, CrossCheckError) and any(place[-1] in _NAMES or not cause.problems[0][0] for place in here)


def _places(detail: ErrorDetails) -> list[tuple[int | str, ...]]:
    """What has to go for an error to go: the key, or of entries that exclude each other all but the first."""
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, CrossCheckError):
        numbers = [re.match(r"\[(\d+)\]", place) for place, _ in cause.problems]
        return [(*detail["loc"], int(number[1]) - 1) if number else detail["loc"] for number in numbers]
    return [detail["loc"]]


def _take_out(values: dict[str, Any], loc: tuple[int | str, ...]) -> None:
    """Remove the key that an error is about; an entry of an array goes as a whole only when nothing in it is named."""
    holder: Any = values
    last: tuple[Any, int | str] | None = None
    for part in loc:
        is_there = part in holder if isinstance(holder, dict) else isinstance(holder, list) and isinstance(part, int)
        if not is_there or (isinstance(holder, list) and int(part) >= len(holder)):
            break
        last = (holder, part)
        holder = holder[part]
    if last is not None:
        del last[0][last[1]]


def settings_schema() -> dict[str, Any]:
    """The JSON schema of ``prearc.toml``."""
    return Settings.model_json_schema()


def effective_items(settings: Settings) -> list[tuple[str, object, bool]]:
    """Every setting as (dotted key, JSON value, whether it is the default), in the order of the models."""
    items: list[tuple[str, object, bool]] = []
    for name in Settings.model_fields:
        section = getattr(settings, name)
        if isinstance(section, BaseModel):
            items += _items(name, section)
        for number, entry in enumerate(section if isinstance(section, tuple) else (), start=1):
            items += _items(f"{name}[{number}]", entry)
    return items


def _items(prefix: str, section: BaseModel) -> list[tuple[str, object, bool]]:
    values = section.model_dump(mode="json")
    return [
        (f"{prefix}.{name}", values[name], getattr(section, name) == field.default)
        for name, field in type(section).model_fields.items()
    ]


def _at_root(settings: Settings, root: Path | None) -> Settings:
    if root is None:
        return settings
    return settings.model_copy(update={"node": settings.node.model_copy(update={"root": root})})


def _located(settings: Settings, path: Path) -> Settings:
    """The files that receivers name are relative to the configuration file at `path`."""
    if not any(receiver.has_tls for receiver in settings.receiver):
        return settings
    receivers = tuple(receiver.located(path.parent) for receiver in settings.receiver)
    return settings.model_copy(update={"receiver": receivers})


def _read(path: Path, *, is_optional: bool) -> bytes | None:
    """The file's bytes, None when it may be absent and is; any other trouble is never taken for absence."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if is_optional and not path.is_symlink():
            return None
        raise ConfigurationError([f"{path}: no such file"]) from error
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror or error}"]) from error


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    """The file's TOML; `ConfigurationError` names line and column of what cannot be parsed."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode("utf-8"))
        raise ConfigurationError([f"{path}: {place}: not UTF-8"]) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The place is in the message alone: "... (at line 3, column 5)" or "... (at end of document)".
        what, _, place = str(error).rpartition(" (at ")
        place = place.removesuffix(")") if place.startswith("line") else _place(text)
        raise ConfigurationError([f"{path}: {place}: {_escaped(what)}"]) from error


def _place(text_before: str) -> str:
    lines = text_before.split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}"


def _find_rules(values: Mapping[str, Any], folder: Path) -> tuple[Path | None, list[str]]:
    """The rules file a configuration in `folder` means, and what is wrong with it."""
    routing = values.get("routing")
    named = routing.get("rules") if isinstance(routing, dict) else None
    if isinstance(named, str):
        path = folder / named
        return path, [] if path.is_file() else [f"routing.rules: no such file: {path}"]
    default = folder / RULES_NAME
    return (default if default.is_file() else None), []


def _problems(detail: ErrorDetails) -> list[str]:
    """The lines, without the file, that say what one pydantic error means."""
    loc = detail["loc"]
    key = _dotted(loc)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, CrossCheckError):
        return [f"{key}{place}: {message}" for place, message in cause.problems]
    if isinstance(cause, ValueError):
        return [f"{key}: {cause}"]
    if detail["type"] == "extra_forbidden":
        return [f"{key}: unknown key{_suggestion(loc)}"]
    return [f"{key}: {_wording(detail)}{_got(detail)}"]


def _wording(detail: ErrorDetails) -> str:
    match detail["type"], detail["loc"]:
        case "model_type", (section,):
            return f"should be a table, written [{section}]"
        case "tuple_type", (section,):
            return f"should be an array of tables, written [[{section}]]"
    return _WORDING.get(detail["type"], detail["msg"].removeprefix("Input ").removeprefix("String "))


def _got(detail: ErrorDetails) -> str:
    value = detail["input"]
    if detail["type"] == "missing" or not isinstance(value, str | int | float):
        return ""
    return f" (got {json.dumps(value)})"


def _escaped(text: str) -> str:
    """`text` on one line: a value of the file may hold line ends and terminal codes."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _dotted(loc: tuple[int | str, ...]) -> str:
    """A key as people write it, entries of arrays counted from 1: ``receiver[2].port``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        elif part != "[key]":  # pydantic's word for the key itself of a table
            text += f".{part}" if re.fullmatch(r"[\w-]+", part) else f".{json.dumps(part)}"
    return text.removeprefix(".")


def _suggestion(loc: tuple[int | str, ...]) -> str:
    """The key that was probably meant: the same word in another table, or a close one in this table."""
    tables = {name: _entry_model(field.annotation) for name, field in Settings.model_fields.items()}
    unknown = str(loc[-1])
    here = tables if len(loc) == 1 else tables[str(loc[0])].model_fields
    meant = [f"{name}.{unknown}" for name, model in tables.items() if unknown in model.model_fields]
    meant = meant or difflib.get_close_matches(unknown, here, n=1)
    return f" (did you mean '{meant[0]}'?)" if meant else ""


def _entry_model(annotation: Any) -> type[BaseModel]:
    """The model of a section: the annotation itself, or the entry type of ``tuple[Model, ...]``."""
    entry: type[BaseModel] = next(iter(get_args(annotation)), annotation)
    return entry
