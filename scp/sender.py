"""The sending side: C-ECHO and C-STORE to a node, for `prearc receiver echo`, the demo and the tests."""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from archive.errors import ArchiveError
from scp.library import quiet

MAX_CONTEXTS = 128  # odd numbers 1 to 255, DICOM PS3.8 9.3.2.2


class AssociationError(ArchiveError):
    """The peer did not accept the association."""

    transient = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoResult:
    """The answer to one C-ECHO; `status` is None when no answer came, and `problem` says why."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    status: int | None
    seconds: float
    problem: str = ""

    @property
    def is_success(self) -> bool:
        return self.status == 0x0000


def echo(
    host: str,
    port: int,
    called: str,
    calling: str = "PREARC-ECHO",
    *,
    timeout_seconds: float = 10,
    tls: ssl.SSLContext | None = None,
) -> EchoResult:
    """Ask the node `called` at `host`:`port` whether it is there (C-ECHO, DICOM PS3.7 9.1.5)."""
    started = time.monotonic()
    status, problem = None, ""
    try:
        with _association(host, port, called, calling, {(str(Verification), "")}, timeout_seconds, tls) as peer:
            status = _status(peer.send_c_echo())
            problem = "" if status is not None else "no answer to the C-ECHO"
    except AssociationError as error:
        problem = error.message
    return EchoResult(
        host=host,
        port=port,
        called_ae_title=called,
        calling_ae_title=calling,
        status=status,
        seconds=time.monotonic() - started,
        problem=problem,
    )


def send(
    host: str,
    port: int,
    called: str,
    calling: str,
    datasets: Iterable[Dataset],
    *,
    timeout_seconds: float = 60,
    tls: ssl.SSLContext | None = None,
) -> list[int]:
    """Store `datasets` one after the other over one association and return their DIMSE statuses, in order.

    Each dataset needs its SOP Class and Instance UID and file meta information with its transfer syntax;
    it is sent in that transfer syntax. The list is shorter than `datasets` when the peer ended the
    association: the instances without a status were not acknowledged.

    Raises
    ------
    AssociationError
        The peer could not be reached or rejected the association.
    ValueError
        More than 128 pairs of SOP class and transfer syntax, or a pair the peer did not accept.
    """
    waiting = list(datasets)
    pairs = {(str(each.SOPClassUID), str(each.file_meta.TransferSyntaxUID)) for each in waiting}
    statuses: list[int] = []
    with _association(host, port, called, calling, pairs, timeout_seconds, tls) as peer:
        for dataset in waiting:
            status = _status(peer.send_c_store(dataset)) if peer.is_established else None
            if status is None:
                break
            statuses.append(status)
    return statuses


@contextmanager
def _association(
    host: str,
    port: int,
    called: str,
    calling: str,
    pairs: set[tuple[str, str]],
    timeout_seconds: float,
    tls: ssl.SSLContext | None,
) -> Iterator[Association]:
    """An established association with one context for each SOP class and transfer syntax."""
    if len(pairs) > MAX_CONTEXTS:
        raise ValueError(f"{len(pairs)} pairs of SOP class and transfer syntax; {MAX_CONTEXTS} are possible")
    quiet()
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_seconds
    entity.connection_timeout = timeout_seconds
    for sop_class_uid, transfer_syntax_uid in sorted(pairs):
        entity.add_requested_context(sop_class_uid, transfer_syntax_uid or ImplicitVRLittleEndian)
    peer = entity.associate(host, port, ae_title=called, tls_args=None if tls is None else (tls, host))
    if not peer.is_established:
        raise AssociationError(_why(peer, f"{called} at {host}:{port}"))
    _keep_answers(peer)
    try:
        yield peer
    finally:
        peer.release()


def _keep_answers(peer: Association) -> None:
    """Let only the one who waits take messages.

    The library's background loop of a requestor looks into the same queue and, when it is woken at the
    wrong moment, throws our answer away as an unexpected message. A sender has no other use for the loop.
    """
    wait_for_message = peer.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        return wait_for_message(block=True) if block else (None, None)

    peer.dimse.get_msg = get_msg  # type: ignore[method-assign]


def _why(peer: Association, name: str) -> str:
    answer = peer.acceptor.primitive if peer.is_rejected else peer.dul.peek_next_pdu()
    if isinstance(answer, A_ASSOCIATE) and answer.result:
        # Not taken: the library takes a connection for failed whose rejection comes before it has looked.
        return f"{name} rejected the association: {answer.reason_str or 'no reason given'}"
    if peer.is_aborted:
        return f"{name} cannot be reached or ended the association"
    return f"{name} did not answer"


def _status(answer: Dataset) -> int | None:
    return int(answer.Status) if "Status" in answer else None
