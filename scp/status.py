"""The one table of DIMSE statuses: what each refusal is answered with, and where the standard says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from archive.model import Refusal

MAX_COMMENT: Final = 64
"""Characters of an Error Comment (0000,0902), VR LO (DICOM PS3.7 Annex E, PS3.5 6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseStatus:
    """One status: its code, the default Error Comment, and the place in the standard."""

    code: int
    text: str
    source: str


SUCCESS: Final = DimseStatus(code=0x0000, text="", source="PS3.4 B.2.3")
PROCESSING_FAILURE: Final = DimseStatus(code=0x0110, text="Processing failure", source="PS3.7 Annex C, 9.1.1.1.9")
"""For what should never happen: the use case itself failed."""

# Senders show code and comment to a person. The standard leaves the last digits of 0xCxxx to the
# implementation; ours are fixed, so that a code in a sender's log names one cause.
STATUSES: Final[Mapping[Refusal, DimseStatus]] = MappingProxyType(
    {
        Refusal.OUT_OF_RESOURCES: DimseStatus(
            code=0xA700, text="Out of resources, try again later", source="PS3.4 B.2.3"
        ),
        Refusal.CLASS_MISMATCH: DimseStatus(
            code=0xA900, text="Data set does not match SOP Class", source="PS3.4 B.2.3"
        ),
        Refusal.CANNOT_UNDERSTAND: DimseStatus(
            code=0xC000, text="Data set cannot be understood", source="PS3.4 B.2.3, Cxxx"
        ),
        Refusal.TRUNCATED: DimseStatus(code=0xC001, text="Data set ends inside an element", source="PS3.4 B.2.3, Cxxx"),
        Refusal.EMPTY: DimseStatus(code=0xC002, text="No data set, or an empty one", source="PS3.4 B.2.3, Cxxx"),
        Refusal.OVER_LIMIT: DimseStatus(
            code=0xC003, text="Data set is beyond a configured limit", source="PS3.4 B.2.3, Cxxx"
        ),
        Refusal.UID_INVALID: DimseStatus(
            code=0x0117,
            text="SOP Instance UID missing, invalid or not the request's",
            source="PS3.7 Annex C, 9.1.1.1.9",
        ),
        Refusal.NOT_NEGOTIATED: DimseStatus(
            code=0x0122,
            text="SOP Class is not the presentation context's",
            source="PS3.4 B.2.3, PS3.7 9.1.1.1.9",
        ),
        # A DICOMDIR's class is in no storage service (PS3.4 B.5): "SOP Class not supported" is exact.
        Refusal.NOT_COMPOSITE: DimseStatus(
            code=0x0122,
            text="A DICOMDIR is not an instance to store",
            source="PS3.4 B.2.3, PS3.7 9.1.1.1.9",
        ),
        Refusal.NOT_AUTHORISED: DimseStatus(
            code=0x0124, text="This caller may not store here", source="PS3.4 B.2.3, PS3.7 9.1.1.1.9"
        ),
    }
)


def status_of(refusal: Refusal | None) -> int:
    """The status that answers a C-STORE refused for `refusal`; None is success."""
    return SUCCESS.code if refusal is None else STATUSES[refusal].code
