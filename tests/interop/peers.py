"""A node for real peers: its receivers, what its catalogue and its disk say of what was sent to it."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from archive.clock import Clock
from archive.receive import Intake
from archive.workspace import Workspace
from scp.server import Node
from scp.status import status_of
from tests.interop import several
from tests.interop.wire import SentInstance, Tap
from tests.workbench import make_workspace, rows

RECEIVERS: Final = (
    {"ae_title": "PREARC", "port": 0},
    {"ae_title": "TRIAL", "port": 0, "project": "TRIAL"},
    {"ae_title": "STRICT", "port": 0, "allow": ["SCANNER@127.0.0.1"]},
)
"""Three AE titles on one free port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of the node: where it is, what its meta information says, its dataset."""

    path: str
    transfer_syntax_uid: str
    sop_instance_uid: str
    dataset: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.dataset).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peered:
    """A listening node and a witness in front of it: peers are sent to `port`.

    No witness stands before the `further_ports`, in the order of the receivers.
    """

    workspace: Workspace
    node_port: int
    tap: Tap
    further_ports: tuple[int, ...] = ()

    @property
    def port(self) -> int:
        return self.tap.port

    def receipts(self) -> list[dict[str, Any]]:
        """All receipts with the AE titles they came by, oldest first."""
        return rows(
            self.workspace,
            "SELECT receipt.*, calling_ae_title, called_ae_title FROM receipt"
            " JOIN association ON association.id = association_id ORDER BY receipt.id",
        )

    def outcomes(self) -> Counter[str]:
        return Counter(row["outcome"] for row in self.receipts())

    def files(self) -> list[Stored]:
        """Every instance on the disk, read without any code of the product."""
        root = self.workspace.root.path
        return [stored(root, path) for path in sorted((root / "prearchive").rglob("*.dcm"))]


@contextmanager
def listening(path: Path, *, receivers: Sequence[dict[str, Any]] = RECEIVERS, **tables: Any) -> Iterator[Peered]:
    """The real node over the real intake, with the root ``<path>/root``."""
    workspace = make_workspace(path, clock=Clock(), receiver=list(receivers), **tables)
    with contextlib.ExitStack() as stack:
        port, *others = stack.enter_context(_ports(workspace))
        tap = stack.enter_context(Tap(port))
        yield Peered(workspace=workspace, node_port=port, tap=tap, further_ports=tuple(others))


@contextmanager
def _ports(workspace: Workspace) -> Iterator[list[int]]:
    """Listen on the ports of the settings, in this process or in several; close the workspace at the end."""
    if several.PROCESSES:
        node = workspace.settings.node.model_copy(update={"root": workspace.root.path})
        with several.serving(workspace.settings.model_copy(update={"node": node})) as ports:
            yield ports
        workspace.close()
        return
    intake = Intake(
        workspace.root,
        workspace.catalogue,
        workspace.settings,
        workspace.policy,
        status_of=status_of,
        clock=workspace.clock,
    )
    node = Node(workspace.settings, intake)
    node.start()
    try:
        yield [each.port for each in node.addresses]
    finally:
        node.drain(20.0)
        intake.close()
        workspace.close()


def assert_kept(peered: Peered, sent: Sequence[SentInstance]) -> None:
    """Each instance that crossed the wire was answered 0000 and lies on the disk with exactly its bytes.

    One receipt an instance, one row, one file; the file's meta information names the transfer syntax and the
    SOP Instance UID it was sent with.
    """
    assert sent, "nothing crossed the wire"
    assert [each.status for each in sent] == [0x0000] * len(sent)
    assert_listed(peered, sent)
    wire = {(each.sop_instance_uid, each.transfer_syntax_uid, each.sha256) for each in sent}
    disk = {(each.sop_instance_uid, each.transfer_syntax_uid, each.sha256) for each in peered.files()}
    assert disk == wire
    assert len(peered.files()) == len(wire)
    assert not list((peered.workspace.root.path / "spool").rglob("*.part"))


def assert_listed(peered: Peered, sent: Sequence[SentInstance]) -> None:
    """Every C-STORE has its receipt with its status, and every receipt of a stored one its dataset's digest."""
    wire = Counter((each.sop_instance_uid, each.status) for each in sent)
    assert Counter((row["sop_instance_uid"], row["status"]) for row in peered.receipts()) == wire
    digests = {(each.sop_instance_uid, each.sha256) for each in sent if each.status == 0}
    listed = {(row["sop_instance_uid"], row["dataset_sha256"]) for row in peered.receipts() if row["status"] == 0}
    assert listed == digests


def stored(root: Path, path: Path) -> Stored:
    """Read a file by its letter (DICOM PS3.10 7.1): preamble, DICM, group 2 of the length its first element says."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM"
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    offset = 144 + int.from_bytes(content[140:144], "little")
    meta = dict(_meta_elements(content[144:offset]))
    return Stored(
        path=str(path.relative_to(root)),
        transfer_syntax_uid=_text(meta[0x0010]),
        sop_instance_uid=_text(meta[0x0003]),
        dataset=content[offset:],
    )


def _meta_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        number, vr = int.from_bytes(data[start + 2 : start + 4], "little"), data[start + 4 : start + 6]
        begin, size = (start + 12, 4) if vr in (b"OB", b"UN") else (start + 8, 2)
        length = int.from_bytes(data[begin - size : begin], "little")
        yield number, data[begin : begin + length]
        start = begin + length


def _text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode()
