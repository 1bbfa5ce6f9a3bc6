"""Text from the network made safe to show."""

from scp.status import MAX_COMMENT


def printable(value: object, limit: int = 128) -> str:
    r"""`value` as printable ASCII, anything else as ``\xNN`` (backslash too), cut at `limit` characters.

    A newline or an ESC from a peer can then neither forge a log line nor steer a terminal.
    """
    text = str(value)[:limit]
    data = text.encode("utf-8", "surrogateescape")
    shown = "".join(chr(each) if 0x20 <= each < 0x7F and each != 0x5C else f"\\x{each:02X}" for each in data)
    return shown[:limit]


def error_comment(text: str) -> str:
    """`text` as an Error Comment: at most 64 printable ASCII characters without backslash (VR LO)."""
    plain = "".join(each if " " <= each <= "~" and each != "\\" else "?" for each in text)
    return plain[:MAX_COMMENT].rstrip()
