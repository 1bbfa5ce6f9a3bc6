"""Orthanc as a sender: files are uploaded to it over REST, and it stores their studies here."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash.node import wait_until
from tests.interop.corpus import CorpusFile, corpus, different, regular
from tests.interop.peers import Peered, assert_kept, listening
from tests.interop.tools import find, free_port, need
from tests.interop.wire import C_ECHO_RSP

COMPRESSED = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5")


@pytest.fixture
def peered(tmp_path: Path) -> Iterator[Peered]:
    need("Orthanc")
    with listening(tmp_path) as each:
        yield each


def test_studies_sent_by_orthanc_are_kept(peered: Peered, tmp_path: Path) -> None:
    """An echo, then a study of several series and compressed instances: all kept as Orthanc put them on the wire."""
    files = [*_study(), *(different(regular(syntax))[0] for syntax in COMPRESSED)]
    with running_orthanc(tmp_path, peered.port) as orthanc:
        orthanc.post("/modalities/prearc/echo", {})
        studies = {orthanc.post("/instances", each.path.read_bytes())["ParentStudy"] for each in files}

        answer = orthanc.post("/modalities/prearc/store", {"Resources": sorted(studies), "Synchronous": True})

    sent = peered.tap.instances()
    assert {each.sop_instance_uid for each in sent} == {each.sop_instance_uid for each in files}, answer
    assert {each.transfer_syntax_uid for each in sent} >= set(COMPRESSED)
    assert 0x0000 in [status for each in peered.tap.conversations() for status in each.statuses(C_ECHO_RSP)]
    assert all(each.is_released for each in peered.tap.conversations())
    assert answer["FailedInstancesCount"] == 0
    assert_kept(peered, sent)


def _study() -> list[CorpusFile]:
    """Files of one study in several series."""
    files = different(
        each
        for each in corpus()
        if each.is_regular and each.name.startswith("pypi-pydicom/test_files/dicomdirtests/98892001/")
    )
    assert len(files) > 3
    return files


class Orthanc:
    """A running Orthanc, by its REST port."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: bytes | dict[str, Any]) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(self._url + path, data=data, timeout=60) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        try:
            self.get("/system")
        except (OSError, ValueError):
            return False
        return True


@contextmanager
def running_orthanc(folder: Path, peer_port: int, **settings: Any) -> Iterator[Orthanc]:
    """Orthanc on loopback with its own storage, without a DICOM server and plugins, knowing the node as ``prearc``."""
    http_port = free_port()
    storage = str(folder / "orthanc")
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "interop",
                "StorageDirectory": storage,
                "IndexDirectory": storage,
                "TemporaryDirectory": str(folder),
                "Plugins": [],
                "HttpPort": http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomServerEnabled": False,
                "DicomAet": "ORTHANC",
                "DicomModalities": {"prearc": ["PREARC", "127.0.0.1", peer_port]},
                **settings,
            }
        )
    )
    output = folder / "orthanc.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [str(find("Orthanc")), str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    orthanc = Orthanc(http_port)
    try:
        wait_until(
            lambda: process.poll() is not None or orthanc.answers(),
            lambda: output.read_text(errors="replace")[-2000:],
        )
        assert process.poll() is None, output.read_text(errors="replace")[-2000:]
        yield orthanc
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
