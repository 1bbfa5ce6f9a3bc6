"""``prearc status``: how long the certificates hold."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archive.config import Settings


def document(settings: "Settings") -> list[dict[str, Any]]:
    """The certificate files of all receivers; empty, and nothing is read, where none has TLS."""
    if not any(receiver.has_tls for receiver in settings.receiver):
        return []
    from cli import serve

    return serve.tls_files(settings)


def pairs(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """One line a file."""
    return [("certificate", f"{each['receiver']}: {each['problem'] or each['says']}") for each in found]


def needs(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a person has to renew or mend, each file once."""
    troubled = {each["path"]: each for each in found if each["problem"] or each["ends_soon"]}
    return [
        {
            "what": f"{each['key']} of {each['receiver']}: {each['problem'] or each['says']}",
            "session": None,
            "command": "prearc config check" if each["problem"] else "prearc receiver list",
        }
        for each in troubled.values()
    ]
