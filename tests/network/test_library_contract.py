"""What we lean on in pynetdicom, private names too: an upgrade that changes one fails here, by name."""

import inspect
import queue
import re
import socket
import threading
from importlib.metadata import version

import pytest
from pynetdicom import AE, _config, dul, fsm, transport
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dsutils import decode
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import PresentationContext
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

from scp.association import ReceiverAssociation
from scp.bare import Line, make_association, make_messages, make_socket, make_upper_layer
from scp.library import quiet
from scp.messages import ReceiverMessages
from scp.negotiator import Negotiator
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
            ["_read_pdu_data", "_send"],
        ),
        (ReceiverMessages, DIMSEServiceProvider, ["receive_primitive", "maximum_pdu_size"]),
        (ReceiverSocket, AssociationSocket, ["recv", "send", "_shutdown_socket"]),
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
        (DULServiceProvider.run_reactor, ["self._kill_thread", 'self.event_queue.put("Evt18")', "do_action(event)"]),
        (
            DULServiceProvider._process_recv_primitive,
            ["self.to_provider_queue.queue[0]", "self.event_queue.put(event)"],
        ),
        (DULServiceProvider._is_transport_event, ['== "Sta13"', "self._read_pdu_data()", "self.socket.close()"]),
        (DULServiceProvider._read_pdu_data, ["self._decode_pdu(", "self._recv_pdu.put(pdu)", '"Evt19"', '"Evt17"']),
        (DULServiceProvider.kill_dul, ["self._kill_thread = True"]),
        (fsm.AE_6, ["dul.artim_timer.stop()", "dul.to_user_queue.put(primitive)", 'return "Sta3"']),
        (fsm.AE_7, ["dul._send(A_ASSOCIATE_AC(primitive))", 'return "Sta6"']),
        (DULServiceProvider._send, ["self.socket.send(pdu.encode())"]),
        (fsm.AR_2, ["dul.to_user_queue.put(pdu.to_primitive())"]),
        (fsm.AR_5, ["_shutdown_socket()", "dul.kill_dul()"]),
        (fsm.AA_3, ["dul.to_user_queue.put(pdu.to_primitive())", "sock.close()", "dul.kill_dul()"]),
        (fsm.AA_4, ["dul.to_user_queue.put(primitive)", "dul.kill_dul()"]),
        (fsm.DT_2, ["dul.assoc.dimse.receive_primitive("]),
        (fsm.AE_5, ["dul.artim_timer.start()"]),
        (Association.__init__, ["make_target(self.run_reactor)"]),
        (Association.get_handlers, ["if event not in self._handlers"]),
        (Association._run_reactor, ["self.acse.send_release(is_response=True)", "self.is_released = True"]),
        (Association._abort_blocking, ["self.acse.send_abort(0x00)", "if block is False"]),
        (Association.acse_timeout.fset, ["self.dul.artim_timer.timeout = value"]),
        (Association.network_timeout.fset, ["self.dul._idle_timer.timeout = value"]),
        (Association.kill, ["self.dul.is_alive() and not"]),
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


def test_data_do_not_change_the_state() -> None:
    """P-DATA of an established association, in either direction, can go past the state machine."""
    for event in ("Evt9", "Evt10"):
        _, _, next_state = fsm.ACTIONS[fsm.TRANSITION_TABLE[event, "Sta6"]]
        assert next_state == "Sta6"


def test_a_fragment_of_the_library_has_its_control_header() -> None:
    """The values of a decoded P-DATA begin with it (DICOM PS3.8 E.2)."""
    decoded = P_DATA_TF()
    decoded.decode(bytes([4, 0, 0, 0, 0, 8, 0, 0, 0, 4, 1, 3]) + b"ab")

    assert [(each[0], bytes(each[1])) for each in decoded.to_primitive().presentation_data_value_list] == [(1, b"\3ab")]


def test_an_upper_layer_that_was_not_started_is_over() -> None:
    """`Association.kill` does not wait for a thread that we never start."""
    quiet()
    association = Association(AE(), "acceptor")

    association.kill()

    assert not association.dul.is_alive()
    assert not association.is_established


def test_an_association_has_the_parts_we_replace() -> None:
    """Upper layer, DIMSE and ACSE are plain attributes that can be set before the thread starts."""
    quiet()
    association = Association(AE(), "acceptor")

    assert type(association.dul) is DULServiceProvider
    assert type(association.dimse) is DIMSEServiceProvider
    assert type(association.acse) is ACSE
    assert isinstance(association.dul.to_user_queue, queue.Queue)
    for name in ("_accepted_cx", "_rejected_cx", "requestor", "acceptor"):
        assert hasattr(association, name), name
    for name in ("_recv_pdu", "event_queue", "to_provider_queue", "_idle_timer", "artim_timer", "_kill_thread"):
        assert hasattr(association.dul, name), name


def test_what_is_made_bare_lacks_nothing() -> None:
    """Association, upper layer and DIMSE provider have every attribute the library's constructors set, as these set it.

    But the upper layer is no thread, and its queues are for one thread.
    """
    quiet()
    entity = AE()
    theirs = Association(entity, "acceptor")
    ours = Association.__new__(Association)
    threading.Thread.__init__(ours)
    make_association(ours, entity, ("127.0.0.1", 11112))
    ours.dul = DULServiceProvider.__new__(DULServiceProvider)
    ours.dimse = DIMSEServiceProvider.__new__(DIMSEServiceProvider)
    make_upper_layer(ours.dul, ours)
    make_messages(ours.dimse, ours)
    thread = vars(threading.Thread()).keys()

    timeouts = {"_acse_timeout", "connection_timeout", "_dimse_timeout", "_network_timeout"}
    assert vars(theirs).keys() - vars(ours).keys() == timeouts | {"acse"}
    assert vars(theirs.dul).keys() - thread - vars(ours.dul).keys() == {"_idle_timer", "artim_timer"}
    assert vars(theirs.dimse).keys() == vars(ours.dimse).keys()
    simple = (bool, str, int, list, type(None))
    for one, other in ((theirs, ours), (theirs.dul, ours.dul), (theirs.dimse, ours.dimse)):
        for name, value in vars(one).items():
            if type(value) in simple and name not in thread | timeouts | {"_run_loop_delay"}:
                assert getattr(other, name) == value, name
    assert {type(each) for name, each in vars(ours.dul).items() if "queue" in name} == {Line}


def test_a_connection_made_bare_is_as_the_library_makes_it() -> None:
    """The attributes of an accepted one, and the event that starts the state machine."""
    association = Association(AE(), "acceptor")
    with socket.socket() as accepted:
        theirs = AssociationSocket(association, client_socket=accepted)
        ours = AssociationSocket.__new__(AssociationSocket)
        make_socket(ours, association, accepted)

    assert {**vars(theirs), "_ready": None} == {**vars(ours), "_ready": None}
    assert theirs._ready.is_set() and ours._ready.is_set()
    assert [association.dul.event_queue.get(False) for _ in range(2)] == ["Evt5", "Evt5"]


def test_a_queue_for_one_thread_is_a_queue() -> None:
    """First in, first out; empty is said as the library expects it."""
    line = Line[str]()
    line.put("a")
    line.put("b")

    assert line.queue[0] == "a"
    assert [line.get(False), line.get(block=False), line.empty()] == ["a", "b", True]
    with pytest.raises(queue.Empty):
        line.get(False)


def test_a_user_that_has_not_negotiated_is_asked_for_two_things() -> None:
    """The state machine takes its address, a rejection leaves itself there."""
    asked = set(re.findall(r"remote\.(\w+)", inspect.getsource(fsm)))
    assert asked == {"address_info"}
    assert set(re.findall(r"self\.acceptor\.(\w+)", inspect.getsource(ACSE.send_reject))) == {"primitive"}


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
    # A requestor looks only after the rejection has closed the connection: `scp.sender._why`.
    assert "if not socket._is_connected" in inspect.getsource(ACSE._negotiate_as_requestor)
