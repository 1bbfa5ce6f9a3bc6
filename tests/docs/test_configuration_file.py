"""``conf/`` says what the code does: every key, its default, its comment; and the service that runs it."""

import re
import tomllib
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from archive.config import NodeSettings, Settings
from archive.config_file import load_settings

CONF = Path(__file__).resolve().parents[2] / "conf"
TEXT = (CONF / "prearc.toml").read_text(encoding="utf-8")

_SETTING = re.compile(r"(?P<off>#?)(?P<key>\w+) = (?P<value>.+)")
_HEADER = re.compile(r"(?P<off>#?)\[\[?(?P<section>\w+)\]?\]")


@dataclass(frozen=True)
class Line:
    """A table's header (`key` is empty) or a key of ``prearc.toml``, with the comment above it."""

    section: str
    key: str
    value: str
    is_off: bool
    comment: str


def _lines() -> list[Line]:
    lines: list[Line] = []
    section, comment = "", ""
    for text in TEXT.splitlines():
        header, setting = _HEADER.fullmatch(text), _SETTING.fullmatch(text)
        if header:
            section = header["section"]
            lines.append(Line(section, "", "", bool(header["off"]), comment))
        elif setting:
            lines.append(Line(section, setting["key"], setting["value"], bool(setting["off"]), comment))
        else:
            assert text == "" or text.startswith("# "), f"neither comment nor key: {text!r}"
        comment = text.removeprefix("# ") if text.startswith("# ") else ""
    return lines


def _models() -> dict[str, type[BaseModel]]:
    """Section name to the model of its table, or of its entries."""
    annotations = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: next(iter(get_args(kind)), kind) for name, kind in annotations.items()}


def test_every_key_appears_once_and_in_order() -> None:
    """The file has the keys of the code, no more, no less, in the same order."""
    expected = [(section, key) for section, model in _models().items() for key in ["", *model.model_fields]]

    assert [(line.section, line.key) for line in _lines()] == expected


def test_every_comment_is_the_codes_description() -> None:
    """One sentence for a person, the same in the file and in the schema."""
    models = _models()
    for line in _lines():
        fields = models[line.section].model_fields if line.key else Settings.model_fields
        description = fields[line.key or line.section].description

        assert description, line
        assert line.comment == description, line
        assert description.endswith("."), line


def test_every_number_names_its_unit() -> None:
    """A key that ends with a unit says it in its comment as well; a count says that it counts."""
    words = {"_bytes": "bytes", "_seconds": "seconds"}
    lines = [line for line in _lines() if line.key.endswith(tuple(words))]

    assert len(lines) > 10
    for line in lines:
        unit = next(word for suffix, word in words.items() if line.key.endswith(suffix))
        assert unit in line.comment.casefold(), line


def test_every_value_is_the_codes_default() -> None:
    """A key that is switched on shows its default; one without default is switched off."""
    models = _models()
    for line in _lines():
        if not line.key or line.section == "project":
            continue
        entry = models[line.section]()
        default = entry.model_dump(mode="json")[line.key]

        assert line.is_off == (default is None), line
        if not line.is_off:
            assert tomllib.loads(f"value = {line.value}")["value"] == default, line


def test_the_file_gives_the_defaults() -> None:
    """Starting with the file as it is and starting without any is the same."""
    loaded = load_settings(CONF / "prearc.toml")

    assert loaded.settings == Settings()
    assert loaded.source == str(CONF / "prearc.toml")
    assert loaded.rules_path == CONF / "routes.rules"


def test_every_example_loads_when_it_is_switched_on(tmp_path: Path) -> None:
    """Taking every # away gives a configuration that is accepted, with a value for every key."""
    (tmp_path / "routes.rules").touch()
    path = tmp_path / "prearc.toml"
    path.write_text(re.sub(r"(?m)^#(?! )", "", TEXT), encoding="utf-8")

    settings = load_settings(path).settings

    assert len(settings.project) == 1
    for section, model in _models().items():
        value = getattr(settings, section)
        entry = value[0] if isinstance(value, tuple) else value
        assert entry.model_fields_set == set(model.model_fields)
        for key, field in model.model_fields.items():
            if section == "project" or field.default in (None, PydanticUndefined):
                assert getattr(entry, key) != field.default, f"{section}.{key} is no example"


def test_the_service_lets_the_node_drain() -> None:
    """systemd waits longer than the node drains, and the root is writable."""
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((CONF / "systemd" / "prearc.service").read_text(encoding="utf-8"))
    service = unit["Service"]

    program, *arguments = service["ExecStart"].split()

    assert program.endswith("/prearc")
    assert arguments == ["--root", service["ReadWritePaths"], "serve"]
    assert int(service["TimeoutStopSec"]) > NodeSettings().drain_seconds + 2
    assert service["KillSignal"] == "SIGTERM"
    assert service["LimitCORE"] == "0"
    assert int(service["UMask"], 8) == NodeSettings().umask_bits
