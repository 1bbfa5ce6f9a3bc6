"""The sender and the synthetic studies, against pynetdicom's own storage server."""

import io
import socket
from collections.abc import Iterator

import pydicom
import pytest
from pynetdicom import AE, evt

from scp.sender import AssociationError, echo, send
from scp.synthetic import SeriesSpec, study


@pytest.fixture
def peer() -> Iterator[tuple[int, list[bytes]]]:
    """A plain storage server: its port and the datasets it received."""
    received: list[bytes] = []
    entity = AE(ae_title="PEER")
    entity.require_called_aet = True
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.4", ["1.2.840.10008.1.2.1"])

    def store(event: evt.Event) -> int:
        received.append(event.request.DataSet.getvalue())
        return 0xB000 if len(received) == 2 else 0x0000

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    yield server.server_address[1], received
    server.shutdown()


def _encoded(dataset: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_the_same_arguments_give_the_same_bytes() -> None:
    """A study can be resent: its datasets are a function of the arguments."""
    first = study(patient_id="P1", patient_name="Doe^J", series=[SeriesSpec(number=3, modality="CT")])
    again = study(patient_id="P1", patient_name="Doe^J", series=[SeriesSpec(number=3, modality="CT")])

    assert [_encoded(each) for each in first] == [_encoded(each) for each in again]


def test_every_instance_has_its_own_uid_and_reads_back() -> None:
    """Instances differ in their UIDs, belong to one study, and are valid files."""
    datasets = study(
        patient_id="P1",
        patient_name="Müller^Jürgen",
        series=[SeriesSpec(number=1), SeriesSpec(number=1, modality="CT", instances=3)],
        patient_comments="Project:X Subject:Y Session:Z",
    )

    read = [pydicom.dcmread(io.BytesIO(_encoded(each))) for each in datasets]

    assert len({each.SOPInstanceUID for each in read}) == 5
    assert len({each.SeriesInstanceUID for each in read}) == 2
    assert len({each.StudyInstanceUID for each in read}) == 1
    assert {str(each.PatientName) for each in read} == {"Müller^Jürgen"}
    assert {len(each.PixelData) for each in read} == {128}
    assert all(pydicom.uid.UID(each.SOPInstanceUID).is_valid for each in read)


def test_a_pixel_seed_changes_the_pixels_alone() -> None:
    """The same SOP Instance UID with other bytes can be made."""
    one, other = (study(patient_id="P", patient_name="N", pixel_seed=seed)[0] for seed in (0, 1))

    assert one.PixelData != other.PixelData
    del one.PixelData, other.PixelData
    assert one == other


def test_statuses_come_back_in_order(peer: tuple[int, list[bytes]]) -> None:
    """The sender reports what the peer answered to each instance."""
    port, received = peer

    statuses = send("127.0.0.1", port, "PEER", "SCANNER", study(patient_id="P", patient_name="N"))

    assert statuses == [0x0000, 0xB000]
    assert len(received) == 2


def test_an_echo_tells_success_and_why_not(peer: tuple[int, list[bytes]]) -> None:
    """An answered echo is success; a wrong called AE title is named as the reason."""
    port, _ = peer

    good = echo("127.0.0.1", port, "PEER")
    wrong = echo("127.0.0.1", port, "OTHER")

    assert good.is_success
    assert not wrong.is_success
    assert "called" in wrong.problem.lower()


def test_nobody_there_is_said() -> None:
    """A closed port is a problem in the result of an echo and an error of a send."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

        assert "cannot be reached" in echo("127.0.0.1", port, "PEER", timeout_seconds=2).problem
        with pytest.raises(AssociationError):
            send("127.0.0.1", port, "PEER", "ME", study(patient_id="P", patient_name="N"))
