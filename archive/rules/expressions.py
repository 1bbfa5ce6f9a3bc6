r"""Routing expressions in XNAT's grammar, and the rules file that lists them.

``INPUT:REGEX[:GROUP][ t:TARGET r:REPLACEMENT]`` where INPUT is ``(gggg,eeee)`` as in XNAT, or a DICOM
keyword, or ``CallingAETitle``, ``CalledAETitle`` or ``Peer``. As in XNAT the regex must match the **whole**
value (so ``Project:(\w+)`` needs ``.*`` around it to look inside a longer text), ``\w``, ``\d`` and ``\s``
are ASCII, the group is 1 unless stated, and a result without ``t:`` and ``r:`` is cut to 64 characters. XNAT
cuts the value to 64 before it matches, which gives half a label or none for a longer text; here the result
is cut.

A regex can be written that takes exponential time. The rules come from the administrator, but the values from
the network: they are cut to 1024 characters, which bounds polynomial regexes but not nested repeats such as
``(a+)+b``.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from archive.errors import ConfigurationError
from archive.rules.header import tag_of

MAX_INPUT_CHARS: Final = 1024
MAX_RESULT_CHARS: Final = 64  # XNAT's limit

SECTIONS: Final = ("project", "subject", "session")

_EXPRESSION: Final = re.compile(
    r"(?P<input>\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)|[A-Za-z][A-Za-z0-9]*)"
    r":(?P<regex>.+?)(?::(?P<group>[0-9]{1,4}))?(?: t:(?P<target>.*) r:(?P<replacement>.*))?"
)
_JAVA_ONLY: Final = re.compile(
    r"\\k<(?P<reference>[A-Za-z][A-Za-z0-9]*)>|\\(?P<escape>.)|\(\?<(?P<name>[A-Za-z][A-Za-z0-9]*)>",
    re.DOTALL,
)
_REPLACEMENT: Final = re.compile(
    r"\\(?P<escape>.)|\$\{(?P<name>\w+)\}|\$(?P<number>[0-9]+)|(?P<text>[^\\$]+)|(?P<stray>.)", re.DOTALL
)


class ConnectionInput(StrEnum):
    """What an expression may look at beside the dataset."""

    CALLING_AE_TITLE = "CallingAETitle"  # who sends
    CALLED_AE_TITLE = "CalledAETitle"  # the receiver it was sent to
    PEER = "Peer"  # the sender's address


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One compiled expression; `source` is a tag ``0xGGGGEEEE`` or a fact of the connection."""

    text: str
    source: int | ConnectionInput
    pattern: re.Pattern[str]
    group: int
    target: re.Pattern[str] | None = None
    replacement: tuple[str | int, ...] = ()

    def extract(self, value: str) -> str | None:
        """What the expression takes out of `value`; None when it does not match."""
        match = self.pattern.fullmatch(value[:MAX_INPUT_CHARS]) if value else None
        found: str | None = match[self.group] if match else None
        if found is None:
            return None
        return found[:MAX_RESULT_CHARS] if self.target is None else self.target.sub(self._replace, found)

    def _replace(self, match: re.Match[str]) -> str:
        return "".join(part if isinstance(part, str) else match[part] or "" for part in self.replacement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An expression and where it is written, e.g. ``routes.rules line 3``."""

    where: str
    expression: Expression

    @property
    def name(self) -> str:
        return f"{self.where}: {self.expression.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Rules for the three labels, each list in order of preference."""

    project: tuple[Rule, ...] = ()
    subject: tuple[Rule, ...] = ()
    session: tuple[Rule, ...] = ()


def parse_expression(text: str) -> Expression:
    """Compile one expression.

    Raises
    ------
    ConfigurationError
        With XNAT's ``Failed to parse routing expression 'x'`` and the reason.
    """
    try:
        return _compile(text.strip())
    except (ValueError, ArithmeticError, RecursionError, FutureWarning, re.error) as problem:
        raise ConfigurationError([f"Failed to parse routing expression '{text.strip()}': {problem}"]) from None


def parse_rules(text: str, source_name: str) -> RuleSet:
    """Read a rules file: sections ``[project]``, ``[subject]``, ``[session]``, one expression a line.

    Blank lines and lines that begin with ``#`` are skipped.

    Raises
    ------
    ConfigurationError
        With **every** problem, each with `source_name` and its line.
    """
    rules: dict[str, list[Rule]] = {section: [] for section in SECTIONS}
    problems: list[str] = []
    section = ""
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line, where = raw.strip(), f"{source_name} line {number}"
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line[1:].removesuffix("]").strip().lower()
            if section not in SECTIONS or not line.endswith("]"):
                problems.append(f"{where}: unknown section '{line}', one of [project], [subject], [session]")
        elif not section:
            problems.append(f"{where}: an expression before the first section")
        else:
            _add(rules.setdefault(section, []), line, where, problems)
    if problems:
        raise ConfigurationError(problems)
    return RuleSet(**{name: tuple(rules[name]) for name in SECTIONS})


def rules_from_lists(
    source_name: str,
    *,
    project: Iterable[str] = (),
    subject: Iterable[str] = (),
    session: Iterable[str] = (),
) -> RuleSet:
    """The same from lists of expressions, e.g. of a TOML table; `source_name` is ``prearc.toml [routing]``.

    An item may hold several lines, as XNAT's settings do.

    Raises
    ------
    ConfigurationError
        With every problem, each with `source_name`, list and position.
    """
    problems: list[str] = []
    rules: dict[str, list[Rule]] = {section: [] for section in SECTIONS}
    for section, expressions in zip(SECTIONS, (project, subject, session), strict=True):
        for number, text in enumerate(lines_of(expressions), start=1):
            _add(rules[section], text, f"{source_name} {section} rule {number}", problems)
    if problems:
        raise ConfigurationError(problems)
    return RuleSet(**{name: tuple(rules[name]) for name in SECTIONS})


def lines_of(texts: Iterable[str]) -> list[str]:
    """The non-blank lines of `texts`."""
    return [line.strip() for text in texts for line in text.split("\n") if line.strip()]


def java_pattern(java: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Compile a Java regex; what Python reads otherwise (nested sets, ``&&``) is an error, not a surprise.

    Raises what `re.compile` raises, and `FutureWarning`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        return re.compile(_JAVA_ONLY.sub(_to_python, java), re.ASCII | flags)


def _add(rules: list[Rule], text: str, where: str, problems: list[str]) -> None:
    try:
        rules.append(Rule(where=where, expression=parse_expression(text)))
    except ConfigurationError as error:
        problems.extend(f"{where}: {problem}" for problem in error.problems)


def _compile(text: str) -> Expression:
    found = _EXPRESSION.fullmatch(text)
    if found is None:
        raise ValueError("the form is (gggg,eeee):REGEX[:GROUP][ t:TARGET r:REPLACEMENT]")
    pattern = java_pattern(found["regex"])
    group = int(found["group"] or 1)
    if group > pattern.groups:
        advice = "put ( ) around the part that is meant, or add :0 for the whole value"
        raise ValueError(f"the regex has no group {group}; {advice}")
    target: re.Pattern[str] | None = None
    replacement: tuple[str | int, ...] = ()
    if found["target"] is not None:
        if not found["target"]:
            raise ValueError("t: is empty")
        target = java_pattern(found["target"])
        replacement = tuple(_replacement(found["replacement"], target))
    return Expression(
        text=text,
        source=_source(found["input"]),
        pattern=pattern,
        group=group,
        target=target,
        replacement=replacement,
    )


def _source(text: str) -> int | ConnectionInput:
    if text in frozenset(ConnectionInput):
        return ConnectionInput(text)
    tag = int(text[1:5] + text[6:10], 16) if text.startswith("(") else tag_of(text)
    if tag is None:
        raise ValueError(f"'{text}' is neither a DICOM keyword nor one of {', '.join(ConnectionInput)}")
    if tag >> 16 < 0x0008 or tag >> 16 == 0x7FE0:
        raise ValueError("command, file meta and pixel data elements cannot be routed by")
    return tag


def _to_python(found: re.Match[str]) -> str:
    if found["name"]:
        return f"(?P<{found['name']}>"
    if found["reference"]:
        return f"(?P={found['reference']})"
    return {"z": r"\Z", "Z": r"(?=\n?\Z)"}.get(found["escape"], found[0])


def _replacement(text: str, target: re.Pattern[str]) -> Iterable[str | int]:
    r"""Java's replacement text: ``$1`` and ``${name}`` are groups, ``\`` makes the next character plain."""
    for part in _REPLACEMENT.finditer(text):
        if part["stray"] or (part["name"] and part["name"] not in target.groupindex):
            raise ValueError(f"r: has a {part[0]} that names no group of t:")
        if part["number"]:
            yield from _numbered_group(part["number"], target.groups)
        elif part["name"]:
            yield target.groupindex[part["name"]]
        else:
            yield part["escape"] or part["text"]


def _numbered_group(digits: str, groups: int) -> Iterable[str | int]:
    """As many of `digits` as name a group; the rest is text (Java's rule)."""
    length = 1
    while length < len(digits) and int(digits[: length + 1]) <= groups:
        length += 1
    if int(digits[:length]) > groups:
        raise ValueError(f"r: has a ${digits[:length]} that names no group of t:")
    yield int(digits[:length])
    yield digits[length:]
