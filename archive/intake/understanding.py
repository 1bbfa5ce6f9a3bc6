"""P2: what an instance says of itself, read from its part within limits."""

from collections.abc import Mapping
from typing import Any, Final

from archive.attributes import HEADER_TAGS
from archive.model import InstanceHeader
from archive.rules import header as headers
from archive.rules.header_series import SeriesReader
from archive.rules.header_walk import HeaderLimits
from archive.store.parts import Part

_KNOWN: Final = frozenset(HEADER_TAGS)
_SOP_INSTANCE_UID: Final = 0x00080018
_INSTANCE_NUMBER: Final = 0x00200013
_OWN: Final = frozenset({_SOP_INSTANCE_UID, _INSTANCE_NUMBER})
_SHARED_FIELDS: Final = frozenset(InstanceHeader.__dataclass_fields__) - {HEADER_TAGS[tag] for tag in _OWN}


class Understanding:
    """Reads the headers of one association's instances; used by one thread at a time.

    Those of a series are the same but for some values: what is as in the ones before is read in one go, what is not by
    the walk. Where only UID and number are others than in the instance before, nothing else is made anew. In any case
    the header is the same.
    """

    def __init__(self, also: frozenset[int], limits: HeaderLimits) -> None:
        self._also, self._limits = also, limits
        self._series = SeriesReader(_KNOWN | also, limits)
        self._series.next_folder()
        self._shared: dict[int, str] | None = None  # the values of the last header but UID and number
        self._fields: dict[str, Any] = {}  # of that header

    def read(self, part: Part, transfer_syntax_uid: str) -> InstanceHeader:
        """The header.

        Raises
        ------
        HeaderError
            As `archive.rules.header.read_header`.
        OSError
            The part could not be read back.
        """
        read_at = headers.file_reader(part.fd)
        quick = self._series.read(part.first_bytes(), part.size_bytes, read_at)
        if (
            quick is not None
            and quick.dataset_offset == part.dataset_offset
            and quick.transfer_syntax_uid == transfer_syntax_uid
        ):
            return self._next(quick.texts, transfer_syntax_uid)
        return headers.read_header(
            read_at,
            part.size_bytes,
            transfer_syntax_uid=transfer_syntax_uid,
            offset=part.dataset_offset,
            also=self._also,
            limits=self._limits,
        )

    def _next(self, texts: Mapping[int, str], transfer_syntax_uid: str) -> InstanceHeader:
        """The header with these values, by the one before where it can be."""
        shared = dict(texts)
        uid, number = shared.pop(_SOP_INSTANCE_UID, ""), shared.pop(_INSTANCE_NUMBER, "")
        is_whole = bool(uid and number)
        if is_whole and shared == self._shared and transfer_syntax_uid == self._fields["transfer_syntax_uid"]:
            return InstanceHeader(**self._fields, sop_instance_uid=uid, instance_number=number)
        header = headers.header_of(texts, transfer_syntax_uid, known=_KNOWN, also=self._also)
        if is_whole and not _OWN & self._also:
            self._shared = shared
            self._fields = {name: getattr(header, name) for name in _SHARED_FIELDS}
        return header
