"""Everything that can go wrong, as one tree.

::

    ArchiveError
    ├── ConfigurationError      a key, rule or template is wrong               exit 5
    ├── RootError               the root cannot be used                        exit 5
    ├── UsageError              the request itself makes no sense              exit 2
    ├── NotFound                no such session, file or UID                   exit 1
    ├── Busy                    somebody else works on it                      exit 4
    │   └── StaleState          the state changed since it was read            exit 4
    ├── Refused                 a rule forbids it; the hint says what to do    exit 1
    ├── HeaderError             a dataset cannot be understood
    │   └── LimitExceeded       a dataset is beyond a configured limit
    └── StoreError              disk or database failed                        exit 1
        ├── OutOfSpace          no space or no inodes left
        ├── PlaceFailed         the folder of one session failed
        └── InDoubt             a commit failed; its outcome is unknown

The class docstring is the sentence a person reads; ``hint`` says what to type next; ``transient`` says
whether waiting helps; ``exit_code`` is the command line's answer.
"""

from typing import ClassVar


class ArchiveError(Exception):
    """The operation failed."""

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        super().__init__(self.message)

    @property
    def kind(self) -> str:
        """The stable name scripts compare with, e.g. ``NotFound``."""
        return type(self).__name__


class ConfigurationError(ArchiveError):
    """The configuration is wrong."""

    exit_code = 5

    def __init__(self, problems: list[str], *, hint: str = "prearc config check", rest: object | None = None) -> None:
        self.problems = tuple(problems)
        self.rest = rest
        super().__init__("\n".join(problems), hint=hint)


class RootError(ArchiveError):
    """The root folder cannot be used."""

    exit_code = 5


class UsageError(ArchiveError):
    """The request makes no sense as it is."""

    exit_code = 2


class NotFound(ArchiveError):
    """There is no such thing."""


class Busy(ArchiveError):
    """Somebody else is working on it; try again."""

    exit_code = 4
    transient = True


class StaleState(Busy):
    """The state changed since it was read; look again."""


class Refused(ArchiveError):
    """A rule forbids it."""


class HeaderError(ArchiveError):
    """The dataset cannot be understood."""


class LimitExceeded(HeaderError):
    """The dataset is beyond a configured limit."""


class StoreError(ArchiveError):
    """The disk or the database failed."""

    transient = True


class OutOfSpace(StoreError):
    """No space or no inodes are left."""


class PlaceFailed(StoreError):
    """The folder of one session cannot be written to; others may."""


class InDoubt(StoreError):
    """A commit failed and its outcome is not known."""
