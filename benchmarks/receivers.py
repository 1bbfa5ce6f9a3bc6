"""The receivers that are compared: prearc and its peers, each as a process of its own in a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

START_SECONDS: Final = 30.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
CALLED: Final = "PREARC"
NO_SYNC_SOURCE: Final = """
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
int syncfs(int fd) { return 0; }
int sync_file_range(int fd, long offset, long count, unsigned flags) { return 0; }
"""
STOCK_HANDLER: Final = """
import sys, uuid
from pathlib import Path
from pynetdicom import AE, evt, AllStoragePresentationContexts, _config
_config.LOG_HANDLER_LEVEL = "none"
folder = Path(sys.argv[2])
def store(event):
    (folder / (uuid.uuid4().hex + ".dcm")).write_bytes(event.encoded_dataset())
    return 0x0000
entity = AE(ae_title="PREARC")
entity.supported_contexts = AllStoragePresentationContexts
entity.maximum_associations = 64
entity.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""
"""What a Python program does that takes pynetdicom as it comes; nothing is synced."""


@dataclass(slots=True)
class Receiver:
    """One running receiver."""

    name: str
    command: list[str]
    folder: Path
    port: int
    speaks_dicom: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if not self.port else log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        if not self.port:
            assert self.process.stdout is not None
            self.port = int(self.process.stdout.readline())
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError(f"{self.name} does not listen, see {self.folder}.log") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End its whole process group."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far, of those that ended too."""
        return sum(_cpu(pid) for pid in self.pids())

    def peak_rss_mb(self) -> float:
        """The highest resident memory of any one of its processes."""
        return max((_peak(pid) for pid in self.pids()), default=0.0)

    def pids(self) -> list[int]:
        assert self.process is not None
        found = [self.process.pid]
        for pid in found:
            try:
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(each) for each in (thread / "children").read_text().split()]
            except OSError:
                continue
        return found


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def _peak(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as each:
        return int(each.getsockname()[1])


def available() -> dict[str, str]:
    """The peers that are installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    return {name: found for name in ("storescp", "Orthanc") if (found := shutil.which(name, path=path))}


def make(name: str, where: Path) -> Receiver:
    """A receiver by its name, not started."""
    folder = where / name.replace(" ", "-")
    port = free_port()
    python = sys.executable
    programs = available()
    if name.startswith("prearc"):
        return _prearc(name, folder, port, where)
    if name == "sink":
        return Receiver(name, [python, "-m", "benchmarks.sink", str(folder)], folder, 0, speaks_dicom=False)
    if name == "pynetdicom":
        return Receiver(name, [python, "-c", STOCK_HANDLER, str(port), str(folder)], folder, port)
    if name == "storescp":
        return Receiver(name, [programs["storescp"], "-aet", CALLED, "-od", str(folder), str(port)], folder, port)
    if name == "storescp --fork":
        options = ["--fork", "+B", "--max-pdu", "131072", "-aet", CALLED, "-od", str(folder)]
        command = [programs["storescp"], *options, str(port)]
        return Receiver(name, command, folder, port, environment={"TCP_NODELAY": "1"})
    if name == "Orthanc":
        return Receiver(name, [programs["Orthanc"], str(_orthanc(folder, port))], folder, port)
    raise ValueError(name)


def _prearc(name: str, folder: Path, port: int, where: Path) -> Receiver:
    configuration = where / f"{folder.name}.toml"
    configuration.write_text(
        f'[[receiver]]\nae_title = "{CALLED}"\nport = {port}\nproject = "BENCH"\nidle_seconds = 3600.0\n'
    )
    command = [sys.executable, "-m", "cli", "--root", str(folder), "--config", str(configuration), "serve"]
    if name.endswith("x1"):
        command += ["--processes", "1"]
    environment = {"LD_PRELOAD": str(no_sync(where))} if "unsynced" in name else {}
    return Receiver(name, command, folder, port, environment=environment)


def no_sync(where: Path) -> Path:
    """A library that makes every sync a no-op: for comparison with receivers that never sync."""
    library = where / "no_sync.so"
    if not library.exists():
        source = where / "no_sync.c"
        source.write_text(NO_SYNC_SOURCE)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library


def _orthanc(folder: Path, port: int) -> Path:
    """Orthanc as installed, but for ports and folders, and no plug-ins."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "orthanc.json"
    keys = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpServerEnabled": False,
        "DicomPort": port,
        "DicomAet": CALLED,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
    }
    configuration.write_text(json.dumps(keys))
    return configuration
