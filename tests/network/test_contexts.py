"""Which contexts are accepted, in which transfer syntax, how fast, and with which roles."""

import struct
import time
from collections.abc import Iterator

import pytest
from pydicom.uid import AllTransferSyntaxes, UID_dictionary
from pynetdicom import AE, sop_class
from pynetdicom.presentation import build_context, build_role

from scp.contexts import is_storage
from scp.library import quiet
from tests.network.fake_intake import Running, running
from tests.network.raw_peer import (
    ABORT,
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    REJECT,
    VERIFICATION,
    Context,
    RawPeer,
    associate_rq,
    context_results,
    item,
    message,
    store_rq,
    ui,
)

PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"
NEWER_CLASS = "1.2.840.10008.5.1.4.1.1.999.1"

REFUSED = {
    "study root find": "1.2.840.10008.5.1.4.1.2.2.1",
    "study root move": "1.2.840.10008.5.1.4.1.2.2.2",
    "modality worklist": "1.2.840.10008.5.1.4.31",
    "performed procedure step": "1.2.840.10008.3.1.2.3.3",
    "storage commitment": "1.2.840.10008.1.20.1",
    "print": "1.2.840.10008.5.1.1.9",
    "DICOMDIR": "1.2.840.10008.1.3.10",
    "protocol approval find": "1.2.840.10008.5.1.4.1.1.200.4",
    "inventory find": "1.2.840.10008.5.1.4.1.1.201.2",
    "repository query": "1.2.840.10008.5.1.4.1.1.201.6",
    "hanging protocol find": "1.2.840.10008.5.1.4.38.2",
    "a transfer syntax": EXPLICIT,
}


@pytest.fixture
def node() -> Iterator[Running]:
    with running() as each:
        yield each


def _negotiate(node: Running, contexts: list[Context], **options: object) -> dict[int, tuple[int, str]]:
    with RawPeer(node.port) as peer:
        return context_results(peer.associate(contexts, **options))


def test_every_storage_class_of_the_standard_is_storage() -> None:
    """All classes the library knows as storage are accepted; the registry's other classes are not."""
    known = set(sop_class._STORAGE_CLASSES.values()) | set(sop_class._NON_PATIENT_OBJECT_CLASSES.values())
    groups = [
        value
        for name, value in vars(sop_class).items()
        if name.endswith("_CLASSES") and isinstance(value, dict) and name != "_SERVICE_CLASSES"
    ]
    others = {uid for group in groups for uid in group.values()} - known

    assert len(known) > 150
    assert len(others) > 50
    assert {uid for uid in known if not is_storage(uid)} == set()
    assert {uid for uid in others if is_storage(uid)} == set()


def test_retired_storage_classes_are_storage() -> None:
    """Old archives hold instances of retired classes; they can be stored."""
    retired = {
        uid
        for uid, facts in UID_dictionary.items()
        if facts[1] == "SOP Class" and facts[3] == "Retired" and "Storage" in facts[0] and "Commitment" not in facts[0]
    }

    assert len(retired) > 15
    assert {uid for uid in retired if not is_storage(uid)} == set()


@pytest.mark.parametrize("uid", [MR, CT, PRIVATE_CLASS, NEWER_CLASS, VERIFICATION])
def test_storage_classes_are_accepted(node: Running, uid: str) -> None:
    """Known, private and still unknown storage classes, and verification."""
    assert _negotiate(node, [(1, uid, [IMPLICIT])])[1][0] == 0


@pytest.mark.parametrize("uid", REFUSED.values(), ids=REFUSED.keys())
def test_other_classes_are_not(node: Running, uid: str) -> None:
    """A class that stores nothing is rejected as abstract syntax; the association stands."""
    assert _negotiate(node, [(1, uid, [IMPLICIT]), (3, MR, [IMPLICIT])]) == {1: (3, IMPLICIT), 3: (0, IMPLICIT)}


@pytest.mark.parametrize("syntax", [*map(str, AllTransferSyntaxes), PRIVATE_SYNTAX, "1.2.840.10008.1.2.4.999"])
def test_every_transfer_syntax_is_accepted(node: Running, syntax: str) -> None:
    """A context with one transfer syntax is accepted in it, also a private or unknown one."""
    assert _negotiate(node, [(1, MR, [syntax])]) == {1: (0, syntax)}


def test_the_first_proposed_transfer_syntax_is_taken(node: Running) -> None:
    """The sender's order is its preference, in each context by itself, also for one class in several."""
    contexts = [(1, MR, [PRIVATE_SYNTAX, EXPLICIT]), (3, MR, [EXPLICIT, IMPLICIT]), (5, MR, [IMPLICIT, EXPLICIT])]

    assert _negotiate(node, contexts) == {1: (0, PRIVATE_SYNTAX), 3: (0, EXPLICIT), 5: (0, IMPLICIT)}


def test_an_instance_keeps_the_transfer_syntax_of_its_context(node: Running) -> None:
    """Of two contexts for one class, the one that the request came in says how its data are encoded."""
    with RawPeer(node.port) as peer:
        peer.associate([(1, MR, [EXPLICIT]), (3, MR, [PRIVATE_SYNTAX])])
        peer.send(message(store_rq("1.2.3.1"), b"a", context_id=3) + message(store_rq("1.2.3.2"), b"b"))

        assert [peer.status(), peer.status()] == [0, 0]

    assert [request.transfer_syntax_uid for request, _ in node.intake.stored] == [PRIVATE_SYNTAX, EXPLICIT]


def test_128_contexts_with_all_transfer_syntaxes_are_answered_fast(node: Running) -> None:
    """The largest request there can be is accepted whole, in less than a second of this process, both peers together:
    what others make of the processor meanwhile says nothing."""
    classes = sorted(sop_class._STORAGE_CLASSES.values())[:128]
    syntaxes = [str(each) for each in AllTransferSyntaxes]
    contexts = [(2 * index + 1, uid, syntaxes) for index, uid in enumerate(classes)]

    started = time.process_time()
    results = _negotiate(node, contexts)
    seconds = time.process_time() - started

    assert len(results) == 128
    assert {result for result, _ in results.values()} == {0}
    assert seconds < 1


def _role_item(uid: str, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))


def test_role_selection_is_answered_with_the_scu_role(node: Running) -> None:
    """A sender that proposes both roles for its classes stays the SCU of each."""
    quiet()
    entity = AE(ae_title="ROLES")
    contexts = [build_context(MR), build_context(CT)]
    roles = [build_role(MR, scu_role=True, scp_role=True), build_role(CT, scu_role=True)]

    association = entity.associate("127.0.0.1", node.port, contexts=contexts, ext_neg=roles, ae_title="PREARC")
    try:
        accepted = association.accepted_contexts
        assert [(each.as_scu, each.as_scp) for each in accepted] == [(True, False), (True, False)]
    finally:
        association.release()


def test_a_sender_that_will_only_receive_is_refused_the_context(node: Running) -> None:
    """We never send: a context for which the peer proposes the SCP role alone is rejected."""
    results = _negotiate(
        node, [(1, MR, [EXPLICIT]), (3, CT, [EXPLICIT])], user_items=_role_item(MR, 0, 1) + _role_item(CT, 1, 1)
    )

    assert {key: result for key, (result, _) in results.items()} == {1: 1, 3: 0}


@pytest.mark.parametrize(
    "items",
    [
        pytest.param(item(0x53, struct.pack(">HH", 0, 1)), id="asynchronous-operations"),
        pytest.param(item(0x56, struct.pack(">H", len(MR)) + MR.encode() + b"\1\0"), id="extended-negotiation"),
        pytest.param(
            item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret"),
            id="user-identity",
        ),
    ],
)
def test_what_is_not_supported_gets_no_answer(node: Running, items: bytes) -> None:
    """The association is accepted and the answer's user information has only our own items."""
    with RawPeer(node.port) as peer:
        content = peer.associate(user_items=items)

    kinds, data = set(), content[68:]
    while data:
        kind, _, length = struct.unpack(">BBH", data[:4])
        if kind == 0x50:
            data = data[4:]
            continue
        kinds.add(kind)
        data = data[4 + length :]
    assert kinds == {0x10, 0x21, 0x51, 0x52, 0x55}


def test_a_password_is_not_logged(node: Running) -> None:
    """User identity leaves no trace in the log."""
    identity = item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
    with RawPeer(node.port) as peer:
        peer.associate(user_items=identity)

    assert "secret" not in repr(node.log.entries)


def test_the_class_of_a_request_is_its_contexts(node: Running) -> None:
    """A CT in the MR context is refused although CT has a context too."""
    with RawPeer(node.port) as peer:
        peer.associate([(1, MR, [EXPLICIT]), (3, CT, [EXPLICIT])])
        peer.send(message(store_rq(sop_class=ui(CT)), b"x"))

        assert peer.status() == 0x0122

    assert not node.intake.stored


def test_the_same_request_gets_the_same_answer(node: Running) -> None:
    """What is looked up the second time is byte for byte what was negotiated the first time; the instance too."""
    contexts = [(1, MR, [PRIVATE_SYNTAX, EXPLICIT]), (3, REFUSED["print"], [EXPLICIT]), (5, CT, [IMPLICIT])]
    answers = []
    for number in range(3):
        with RawPeer(node.port) as peer:
            answers.append(peer.associate(contexts, max_length=7000, user_items=_role_item(MR, 1, 1)))
            peer.send(message(store_rq(f"1.2.3.{number}"), b"x") + message(store_rq("1.2.4"), b"x", context_id=3))
            assert peer.status() == 0
            assert peer.receive()[0] == ABORT

    assert answers[0] == answers[1] == answers[2]
    assert {request.transfer_syntax_uid for request, _ in node.intake.stored} == {PRIVATE_SYNTAX}
    accepted = node.told("association.accepted", 3)
    assert [(each["calling"], each["contexts"], each["contexts_rejected"]) for each in accepted] == [("RAW", 2, 1)] * 3


def test_another_request_gets_its_own_answer(node: Running) -> None:
    """One bit less and nothing is taken from what is remembered."""
    first = _negotiate(node, [(1, MR, [IMPLICIT]), (3, CT, [EXPLICIT])])
    other = _negotiate(node, [(1, CT, [EXPLICIT]), (3, MR, [IMPLICIT])])

    assert first == {1: (0, IMPLICIT), 3: (0, EXPLICIT)}
    assert other == {1: (0, EXPLICIT), 3: (0, IMPLICIT)}


def test_a_known_request_is_not_let_in_for_being_known(node: Running) -> None:
    """Who may enter, and whether anybody may now, is judged anew."""
    with RawPeer(node.port) as peer:
        peer.associate()
    node.intake.busy = "the disk is full"

    with RawPeer(node.port) as peer:
        peer.send(associate_rq())
        kind, content = peer.receive()

    assert (kind, tuple(content[1:4])) == (REJECT, (2, 3, 1))


def test_a_password_is_not_remembered(node: Running) -> None:
    """A request with a user identity is read anew each time."""
    identity = item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
    for _ in range(2):
        with RawPeer(node.port) as peer:
            peer.associate(user_items=identity)
            peer.send(message(store_rq(), b"x"))
            assert peer.status() == 0

    assert not node.node._associations._gates[0].known._known
