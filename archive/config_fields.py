"""What the tables of the configuration are made of: their base, kinds of keys, an error across entries."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from archive.callers import AE_TITLE_PATTERN, check_ae_title
from archive.model import Autoarchive

PIB: Final = 1 << 50
_WEEK: Final = 7 * 24 * 3600.0


class CrossCheckError(ValueError):
    """Entries of an array that exclude each other; `problems` holds (place within the array, message)."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{place}: {message}" for place, message in self.problems))


def count_field(default: int, description: str, *, ge: int = 0, le: int = PIB) -> Any:
    """A key that counts."""
    return Field(default=default, strict=True, ge=ge, le=le, description=description)


def seconds_field(default: float, description: str, *, ge: float = 0.0, le: float = _WEEK) -> Any:
    """A key that is a time."""
    return Field(default=default, strict=True, ge=ge, le=le, description=description)


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_autoarchive(value: object) -> object:
    if isinstance(value, bool):
        return Autoarchive.AUTO if value else Autoarchive.MANUAL
    return value


AeTitle = Annotated[str, AfterValidator(check_ae_title), Field(json_schema_extra={"pattern": AE_TITLE_PATTERN})]
Text = Annotated[str, AfterValidator(_check_text)]
Expressions = Annotated[tuple[Text, ...], BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...])]
AutoarchiveChoice = Annotated[
    Autoarchive | None,
    BeforeValidator(_as_autoarchive, json_schema_input_type=bool | Literal["manual", "auto", "auto-overwrite"] | None),
]
FilterModeChoice = Literal["whitelist", "blacklist"]
OptionalCount = Annotated[int, Field(strict=True, ge=0, le=PIB)] | None
OptionalBytes = Annotated[int, Field(strict=True, ge=0, le=PIB)] | None


class Section(BaseModel):
    """A table: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
