"""The settings of a receiver, and what several of them must agree on."""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from archive.callers import check_allow_item, check_bind, is_loopback, item_matches
from archive.config_fields import (
    AeTitle,
    AutoarchiveChoice,
    CrossCheckError,
    Expressions,
    Section,
    count_field,
    seconds_field,
)


class ReceiverSettings(Section):
    """``[[receiver]]``: one called AE title on one port."""

    ae_title: AeTitle = Field(
        default="PREARC", description="Called AE title, 1 to 16 printable ASCII characters without backslash."
    )
    port: int = count_field(8104, "TCP port, shared by all receivers that name it; 0: any free one.", le=65535)
    bind: Annotated[str, AfterValidator(check_bind)] = Field(
        default="127.0.0.1", description="IP address to listen on; any but a loopback address needs allow."
    )
    project: Expressions = Field(default=(), description="Project: a fixed value or routing expressions.")
    subject: Expressions = Field(default=(), description="Subject label: a fixed value or routing expressions.")
    session: Expressions = Field(default=(), description="Session label: a fixed value or routing expressions.")
    autoarchive: AutoarchiveChoice = Field(
        default=None,
        description='"manual" (or false), "auto" (or true), "auto-overwrite"; left out: rules, sender, project decide.',
    )
    idle_seconds: float = seconds_field(300.0, "Time in seconds without new instances that ends a session.")
    cap_seconds: float = seconds_field(14400.0, "Time in seconds after its first instance that ends a session.")
    allow: tuple[Annotated[str, AfterValidator(check_allow_item)], ...] = Field(
        default=(),
        description='Callers: "AE@network", "AE", "network" or "*"; empty: any caller, on loopback only.',
    )

    @field_validator("cap_seconds")
    @classmethod
    def _check_cap(cls, cap_seconds: float, info: ValidationInfo) -> float:
        idle_seconds = info.data.get("idle_seconds", 0.0)
        if cap_seconds < idle_seconds:
            raise ValueError(f"{cap_seconds:g} is below idle_seconds, {idle_seconds:g}")
        return cap_seconds

    @field_validator("allow")
    @classmethod
    def _check_allow(cls, allow: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        bind = info.data.get("bind", "localhost")
        if not allow and not is_loopback(bind):
            raise ValueError(f'is empty, but bind is {bind}: list the callers, or write ["*"] for any caller')
        return allow

    def allows(self, calling_ae_title: str, peer_host: str) -> bool:
        """Whether a caller may associate: an item of `allow` lets it in, or none is needed on a loopback."""
        if not self.allow:
            return is_loopback(self.bind)
        return any(item_matches(item, calling_ae_title, peer_host) for item in self.allow)


def check_receivers(receivers: tuple[ReceiverSettings, ...]) -> tuple[ReceiverSettings, ...]:
    """The receivers, when no two are one and each port listens on one address; `CrossCheckError` otherwise."""
    # Not a min_length: pydantic counts the entries after it dropped the bad ones.
    problems = [] if receivers else [("", "should have at least one entry")]
    seen: dict[tuple[str, int], int] = {}
    binds: dict[int, str] = {}
    for number, receiver in enumerate(receivers, start=1):
        first = seen.setdefault((receiver.ae_title, receiver.port), number)
        if first != number:
            what = f"{receiver.ae_title} on port {receiver.port} is receiver[{first}] already"
            problems.append((f"[{number}].ae_title", what))
        bind = binds.setdefault(receiver.port, receiver.bind) if receiver.port else receiver.bind
        if bind != receiver.bind:
            problems.append((f"[{number}].bind", f"port {receiver.port} listens on {bind} already"))
    if problems:
        raise CrossCheckError(problems)
    return receivers
