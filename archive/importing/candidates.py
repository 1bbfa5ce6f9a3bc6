"""The words of importing: what is to be filed, and what is declined at this door and why."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Decline(StrEnum):
    """Why a file is not handed to the receiver."""

    LINK = "LINK"  # a symbolic link
    NOT_A_FILE = "NOT_A_FILE"  # a FIFO, a device, a socket
    UNREADABLE = "UNREADABLE"  # permissions, an input/output error, a path that is too long
    MISSING = "MISSING"  # a DICOMDIR refers to it and it is not there
    EMPTY = "EMPTY"  # no byte in it
    NOT_DICOM = "NOT_DICOM"  # neither group 2 nor a dataset that says what it is
    CHANGED = "CHANGED"  # not the file that was looked at
    OWN_ROOT = "OWN_ROOT"  # the archive's own root, met in a folder
    INDEX_DAMAGED = "INDEX_DAMAGED"  # a DICOMDIR that cannot be read to its end
    INDEX_OUTSIDE = "INDEX_OUTSIDE"  # a DICOMDIR refers to something outside its folder
    ZIP_INSIDE = "ZIP_INSIDE"  # a zip in a folder or in a zip
    ZIP_DAMAGED = "ZIP_DAMAGED"  # a zip or an entry that cannot be read
    ZIP_ENCRYPTED = "ZIP_ENCRYPTED"
    ZIP_METHOD = "ZIP_METHOD"  # neither stored nor deflated
    ZIP_NAME = "ZIP_NAME"  # an entry whose name leads out of the zip
    ZIP_BOMB = "ZIP_BOMB"  # sizes, numbers or overlaps no honest zip has
    NOT_STORED = "NOT_STORED"  # the receiver refused it; the status says why


MESSAGES: Final[Mapping[Decline, str]] = MappingProxyType(
    {
        Decline.LINK: "a symbolic link is not followed: name what it points to",
        Decline.NOT_A_FILE: "not a regular file",
        Decline.UNREADABLE: "cannot be read",
        Decline.MISSING: "the DICOMDIR refers to it and it is not there",
        Decline.EMPTY: "the file is empty",
        Decline.NOT_DICOM: "not a DICOM file",
        Decline.CHANGED: "the file changed since it was looked at: import it again",
        Decline.OWN_ROOT: "this archive's own root",
        Decline.INDEX_DAMAGED: "the DICOMDIR cannot be read to its end: import its folder instead",
        Decline.INDEX_OUTSIDE: "the DICOMDIR refers to something outside its folder",
        Decline.ZIP_INSIDE: "a zip inside a folder or a zip is not opened: name it as a PATH",
        Decline.ZIP_DAMAGED: "the zip cannot be read here",
        Decline.ZIP_ENCRYPTED: "the zip is encrypted: decrypt it first",
        Decline.ZIP_METHOD: "compressed by a method that is not read here: only stored and deflated are",
        Decline.ZIP_NAME: "its name leads out of the zip",
        Decline.ZIP_BOMB: "the zip claims what no honest zip does: unpack it and import the folder if you trust it",
        Decline.NOT_STORED: "the receiver refused it",
    }
)

Identity = tuple[int, int, int, int]
"""Device, inode, size and modification time (ns): whether a file is still the one that was looked at."""


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that may be imported: at `path`, or entry number `entry` of the zip there, called `entry_name`."""

    path: str
    identity: Identity
    size_bytes: int
    entry: int | None = None
    entry_name: str = ""

    @property
    def name(self) -> str:
        """What it is called to a person."""
        return self.path if self.entry is None else f"{self.path}/{self.entry_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """A file that is not imported. `status` is the DIMSE status of one that the receiver refused."""

    name: str
    reason: Decline
    message: str
    status: int | None = None


class Unusable(Exception):
    """This file cannot be imported; the others can."""

    def __init__(self, reason: Decline, detail: str = "") -> None:
        self.reason = reason
        self.message = f"{MESSAGES[reason]} ({detail})" if detail else MESSAGES[reason]
        super().__init__(self.message)

    def of(self, name: str) -> Declined:
        """As what is told of the file called `name`."""
        return Declined(name=name, reason=self.reason, message=self.message)
