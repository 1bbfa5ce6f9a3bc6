"""Which presentation contexts are accepted: computed from what the sender proposes.

Everything that can be stored is, in the transfer syntax the sender prefers, because data are kept as sent
and nothing here ever decodes a pixel. So there is no list of supported contexts to compare with (170 classes
times 45 transfer syntaxes): a class is judged by its UID, and **the first proposed transfer syntax** of each
context is accepted, known, private or unknown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydicom.uid import UID, ImplicitVRLittleEndian, MediaStorageDirectoryStorage
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

VERIFICATION: Final = "1.2.840.10008.1.1"
DICOM_ROOT: Final = "1.2.840.10008."
STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
NOT_STORAGE: Final = frozenset({str(MediaStorageDirectoryStorage)})

# Results of a presentation context, DICOM PS3.8 9.3.3.2
ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

Roles = Mapping[UID, tuple[bool | None, bool | None]]
"""SOP class UID to the (SCU, SCP) roles the requestor proposes for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiation:
    """The answer to the proposed contexts, in their order, and to the proposed roles."""

    accepted: Mapping[int, PresentationContext]
    rejected: tuple[PresentationContext, ...]
    roles: tuple[SCP_SCU_RoleSelectionNegotiation, ...]


@lru_cache(maxsize=1024)
def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of this SOP class can be stored.

    Private UIDs are. Of the standard's, those whose registered name says Storage (PS3.6 Annex A; retired,
    DICOS and DICONDE ones too) and the unregistered ones under the root of the storage classes, which are
    newer than the registry here. Not DICOMDIR, storage commitment, queries, worklist, print.
    """
    if not sop_class_uid.startswith(DICOM_ROOT):
        return bool(sop_class_uid)
    if sop_class_uid in NOT_STORAGE:
        return False
    uid = UID(sop_class_uid)
    is_registered = bool(uid.type) and uid.name != ""
    if not is_registered:
        return sop_class_uid.startswith(STORAGE_ROOT)
    return uid.type == "SOP Class" and "Storage" in uid.name and "Commitment" not in uid.name


def negotiate(proposed: Iterable[PresentationContext], roles: Roles) -> Negotiation:
    """Answer every proposed context and, for accepted classes, the proposed roles (DICOM PS3.7 D.3.3.4).

    We are the SCP alone. A requestor that wants to be nothing but the SCP of a class is refused that
    context; one that proposes both roles is answered with the SCU role.
    """
    accepted: dict[int, PresentationContext] = {}
    rejected: list[PresentationContext] = []
    answers: dict[UID, SCP_SCU_RoleSelectionNegotiation] = {}
    for each in proposed:
        context = _answer(each, roles)
        if context.result != ACCEPTANCE or context.context_id is None or context.abstract_syntax is None:
            rejected.append(context)
            continue
        accepted[context.context_id] = context
        if context.abstract_syntax in roles and context.abstract_syntax not in answers:
            answers[context.abstract_syntax] = _role(context.abstract_syntax)
    return Negotiation(accepted=accepted, rejected=tuple(rejected), roles=tuple(answers.values()))


def _answer(proposed: PresentationContext, roles: Roles) -> PresentationContext:
    context = PresentationContext()
    context.context_id = proposed.context_id
    context._abstract_syntax = proposed.abstract_syntax
    # An answer carries one transfer syntax, also where none was proposed; its value is then not significant.
    context._transfer_syntax = proposed.transfer_syntax[:1] or [ImplicitVRLittleEndian]
    context._as_scu, context._as_scp = False, True
    context.result = _result(proposed, roles)
    return context


def _result(proposed: PresentationContext, roles: Roles) -> int:
    uid = proposed.abstract_syntax
    if uid is None or not (uid == VERIFICATION or is_storage(str(uid))):
        return ABSTRACT_SYNTAX_NOT_SUPPORTED
    if not proposed.transfer_syntax:
        return TRANSFER_SYNTAXES_NOT_SUPPORTED
    if uid in roles and not roles[uid][0]:
        return USER_REJECTION
    return ACCEPTANCE


def _role(sop_class_uid: UID) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = sop_class_uid
    role.scu_role = True
    role.scp_role = False
    return role
