"""The settings of a receiver, and what several of them must agree on."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from archive.callers import (
    ANY_CALLER,
    CallerMode,
    check_ae_title,
    check_allow_item,
    check_bind,
    check_certificate_item,
    is_loopback,
    item_matches,
)
from archive.config_fields import (
    AeTitle,
    AutoarchiveChoice,
    CrossCheckError,
    Expressions,
    Section,
    count_field,
    seconds_field,
)

TLS_FILES: Final = ("tls_certificate", "tls_key", "tls_client_ca")


def _check_title(title: str) -> str:
    return title if title == ANY_CALLER else check_ae_title(title)


CertificateItem = Annotated[str, AfterValidator(check_certificate_item)]
Titles = Annotated[tuple[Annotated[str, AfterValidator(_check_title)], ...], Field(min_length=1)]


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
    callers: CallerMode | None = Field(
        default=None,
        description='Callers on no list: "enforce" rejects, "observe" lets them in and lists them; left out: enforce.',
    )
    allow: tuple[Annotated[str, AfterValidator(check_allow_item)], ...] = Field(
        default=(),
        description='Callers: "AE@network", "AE", "network" or "*"; empty and no callers key: any, on loopback only.',
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file of the certificate, then its chain, relative to this file; left out: no TLS.",
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file of the certificate's private key, for this user alone, without password."
    )
    tls_client: Literal["required", "optional", "none"] = Field(
        default="required", description='Certificates of callers: "required", "optional" or "none"; checked if shown.'
    )
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file of the authorities that callers' certificates are checked against."
    )
    tls_callers: dict[CertificateItem, Titles] = Field(
        default={},
        description="AE titles by certificate, its name or fingerprint; empty: any that tls_client_ca vouches for.",
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
        if not allow and not is_loopback(bind) and info.data.get("callers") is None:
            raise ValueError(
                f'is empty, but bind is {bind}: list the callers, write ["*"] for any caller,'
                ' or callers = "observe" to let all in and list them'
            )
        return allow

    @field_validator("tls_key")
    @classmethod
    def _check_key(cls, tls_key: Path | None, info: ValidationInfo) -> Path | None:
        has_certificate = info.data.get("tls_certificate") is not None
        if has_certificate != (tls_key is not None) and "tls_certificate" in info.data:
            raise ValueError("is required with tls_certificate" if has_certificate else "needs tls_certificate")
        return tls_key

    @field_validator("tls_client_ca")
    @classmethod
    def _check_client_ca(cls, tls_client_ca: Path | None, info: ValidationInfo) -> Path | None:
        has_certificate = info.data.get("tls_certificate") is not None
        if tls_client_ca is not None and not has_certificate:
            raise ValueError("needs tls_certificate")
        if tls_client_ca is None and has_certificate and info.data.get("tls_client", "none") != "none":
            raise ValueError(
                'is required to know the callers; write tls_client = "none" to take any without certificate'
            )
        return tls_client_ca

    @field_validator("tls_callers")
    @classmethod
    def _check_tls_callers(
        cls, tls_callers: dict[str, tuple[str, ...]], info: ValidationInfo
    ) -> dict[str, tuple[str, ...]]:
        if tls_callers and "tls_client_ca" in info.data and info.data["tls_client_ca"] is None:
            raise ValueError("needs tls_client_ca")
        if tls_callers and info.data.get("tls_client") == "none":
            raise ValueError('cannot be told: tls_client is "none"')
        return tls_callers

    @property
    def has_tls(self) -> bool:
        return self.tls_certificate is not None

    @property
    def tls(self) -> tuple[Path | str | None, ...]:
        """What a port's TLS is made of: receivers that share it agree on this."""
        return self.tls_certificate, self.tls_key, self.tls_client, self.tls_client_ca

    def located(self, folder: Path) -> Self:
        """The receiver with the paths of its files relative to `folder` made whole."""
        names = [name for name in TLS_FILES if getattr(self, name) is not None]
        return self.model_copy(update={name: folder / getattr(self, name) for name in names})

    def allows(self, calling_ae_title: str, peer_host: str) -> bool:
        """Whether the configuration knows a caller: an item of `allow` does, or none is needed on a loopback."""
        if not self.allow:
            return self.callers is None and is_loopback(self.bind)
        return any(item_matches(item, calling_ae_title, peer_host) for item in self.allow)


def check_receivers(receivers: tuple[ReceiverSettings, ...]) -> tuple[ReceiverSettings, ...]:
    """The receivers, when no two are one and each port listens on one address; `CrossCheckError` otherwise."""
    # Not a min_length: pydantic counts the entries after it dropped the bad ones.
    problems = [] if receivers else [("", "should have at least one entry")]
    seen: dict[tuple[str, int], int] = {}
    ports: dict[int, ReceiverSettings] = {}
    for number, receiver in enumerate(receivers, start=1):
        first = seen.setdefault((receiver.ae_title, receiver.port), number)
        if first != number:
            what = f"{receiver.ae_title} on port {receiver.port} is receiver[{first}] already"
            problems.append((f"[{number}].ae_title", what))
        other = ports.setdefault(receiver.port, receiver) if receiver.port else receiver
        if other.bind != receiver.bind:
            problems.append((f"[{number}].bind", f"port {receiver.port} listens on {other.bind} already"))
        if other.tls != receiver.tls:
            what = f"port {receiver.port} is {other.ae_title}'s too: its tls_ keys but tls_callers must be the same"
            problems.append((f"[{number}].tls_certificate", what))
    if problems:
        raise CrossCheckError(problems)
    return receivers
