"""What we lean on in pynetdicom, private names too: an upgrade that changes one fails here, by name."""

import inspect
import queue
from importlib.metadata import version

import pytest
from pynetdicom import AE, _config, dul, fsm, transport
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dsutils import decode
from pynetdicom.dul import DULServiceProvider
from pynetdicom.presentation import PresentationContext
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

from scp.association import Negotiator, ReceiverAssociation
from scp.library import quiet
from scp.messages import ReceiverMessages
from scp.transport import ReceiverSocket
from scp.upper_layer import MonotonicTimer, ReceiverUpperLayer


def test_the_version_is_the_one_these_were_read_in() -> None:
    """The remedies were written against 3.0; look at each before going on to another."""
    assert version("pynetdicom").startswith("3.0.")


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (
            ReceiverUpperLayer,
            DULServiceProvider,
            ["_read_pdu_data", "run_reactor", "idle_timer_expired"],
        ),
        (ReceiverMessages, DIMSEServiceProvider, ["receive_primitive", "maximum_pdu_size"]),
        (ReceiverSocket, AssociationSocket, ["ready", "recv", "send", "_shutdown_socket"]),
        (Negotiator, ACSE, ["negotiate_association"]),
        (ReceiverAssociation, Association, ["run_reactor"]),
        (MonotonicTimer, Timer, ["remaining", "start", "stop"]),
    ],
)
def test_what_we_override_is_there(ours: type, theirs: type, names: list[str]) -> None:
    """Each method we replace exists in the library, and is replaced."""
    for name in names:
        assert hasattr(theirs, name), name
        assert getattr(ours, name) is not getattr(theirs, name), name


@pytest.mark.parametrize(
    ("owner", "uses"),
    [
        (DULServiceProvider.run_reactor, ["self._is_transport_event()", "self._run_loop_delay", "self.artim_timer"]),
        (DULServiceProvider._is_transport_event, ["self._read_pdu_data()", "self.socket.ready"]),
        (DULServiceProvider._read_pdu_data, ["self._decode_pdu(", "self._recv_pdu.put(pdu)", '"Evt19"', '"Evt17"']),
        (DULServiceProvider.idle_timer_expired, ["self._idle_timer.expired"]),
        (fsm.DT_2, ["dul.assoc.dimse.receive_primitive("]),
        (fsm.AE_5, ["dul.artim_timer.start()"]),
        (Association.__init__, ["make_target(self.run_reactor)"]),
        (Association._run_reactor, ["self.acse.is_release_requested()", "self.dul.idle_timer_expired()"]),
        (Association.acse_timeout.fset, ["self.dul.artim_timer.timeout = value"]),
        (Association.network_timeout.fset, ["self.dul._idle_timer.timeout = value"]),
        (Association.kill, ["self.dul.stop_dul()"]),
        (ACSE.send_accept, ["self.assoc.accepted_contexts + self.assoc.rejected_contexts"]),
        (AssociationSocket.__init__, ['self.event_queue.put("Evt5")']),
        (AssociationSocket.close, ["self._shutdown_socket()"]),
    ],
)
def test_the_library_calls_what_we_override(owner: object, uses: list[str]) -> None:
    """The places from which our methods are reached, and the events they speak in, are as they were."""
    source = inspect.getsource(owner)  # type: ignore[arg-type]
    for each in uses:
        assert each in source, each


def test_the_state_machine_answers_as_we_expect() -> None:
    """An invalid PDU is aborted in each state in which a peer can send one; a lost connection ends it."""
    table = fsm.TRANSITION_TABLE
    assert table["Evt19", "Sta2"] == "AA-1"
    assert table["Evt19", "Sta6"] == "AA-8"
    assert table["Evt17", "Sta6"] == "AA-4"
    assert table["Evt15", "Sta6"] == table["Evt15", "Sta3"] == "AA-1"
    assert table["Evt12", "Sta6"] == "AR-2"


def test_an_association_has_the_parts_we_replace() -> None:
    """Upper layer, DIMSE and ACSE are plain attributes that can be set before the thread starts."""
    quiet()
    association = Association(AE(), "acceptor")

    assert type(association.dul) is DULServiceProvider
    assert type(association.dimse) is DIMSEServiceProvider
    assert type(association.acse) is ACSE
    assert isinstance(association.dul.to_user_queue, queue.Queue)
    for name in ("_accepted_cx", "_rejected_cx", "_started_dul", "_dul_ready", "_server", "requestor", "acceptor"):
        assert hasattr(association, name), name
    for name in ("_recv_pdu", "event_queue", "_idle_timer", "artim_timer", "_run_loop_delay", "_kill_thread"):
        assert hasattr(association.dul, name), name


def test_a_quiet_library_binds_no_log_handlers() -> None:
    """With the level "none" no handler formats PDUs."""
    quiet()

    assert _config.LOG_HANDLER_LEVEL == "none"
    association = Association(AE(), "acceptor")
    assert [each for each in association.get_events() if each.name.startswith("EVT_PDU")] == []


def test_a_context_has_the_fields_we_set() -> None:
    """Answers to contexts are written into these."""
    context = PresentationContext()
    for name in ("_abstract_syntax", "_transfer_syntax", "_as_scu", "_as_scp", "result", "context_id"):
        assert hasattr(context, name), name


def test_helpers_have_their_signatures() -> None:
    """Functions called by position."""
    assert list(inspect.signature(decode).parameters)[:3] == ["bytestring", "is_implicit_vr", "is_little_endian"]
    assert list(inspect.signature(ACSE.send_reject).parameters) == ["self", "result", "source", "diagnostic"]
    assert str(APPLICATION_CONTEXT_NAME) == "1.2.840.10008.3.1.1.1"


def test_the_traps_are_still_there() -> None:
    """When one of these fails the library has mended it, and our remedy can be looked at again."""
    assert "pdu_length" in inspect.getsource(dul) and "maximum_length" not in inspect.getsource(dul)
    assert "time.time()" in inspect.getsource(Timer)
    assert "select.select(" in inspect.getsource(transport)
