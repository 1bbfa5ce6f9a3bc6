"""What surveying a file costs, beside what people use instead, on the same tree in one run.

    python -m benchmarks.survey [--files 20000] [--small 2000] [--folder 200] [--sample 400] [--rounds 3] [--where DIR]

Compared are wall-clock seconds a file: `prearc survey scan`, with its start and its table; a Python loop of
`pydicom.dcmread(stop_before_pixels=True)` in a process that has imported it; loops of one `dcmdump` and one `dcmftest`
a file (on a sample: they are slow); and one `dcmftest` of all. Cold is after `posix_fadvise(DONTNEED)` of every file,
and after dropping all caches where root may. Memory is the highest RSS of the command, and the sum of the highest RSS
of its children, with the small tree and the whole one.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import quoteattr

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from archive.defaults import TEMPLATE as DEFAULT_TEMPLATE
from archive.rules.header import file_reader, read_file_header
from archive.rules.naming import NameTemplate
from scp.synthetic import SeriesSpec, study

TEMPLATE = NameTemplate.compile(DEFAULT_TEMPLATE)
LOOP = """
import os, sys, time, pydicom
folders = os.walk(sys.argv[1])
files = [os.path.join(parent, name) for parent, _, names in folders for name in names if name.endswith(".dcm")]
started, cpu = time.perf_counter(), time.process_time()
for file in files:
    pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID
print((time.perf_counter() - started) / len(files), (time.process_time() - cpu) / len(files))
"""


def rich(dataset: Dataset) -> Dataset:
    """About as many attributes as a scanner sends: 60 public ones, two sequences, 50 private ones with one of 8 KiB."""
    for number in range(60):
        dataset.add_new(0x00189000 + number, "DS", f"{number}.5")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    dataset.ReferencedImageSequence = Sequence([deepcopy(item) for _ in range(3)])
    dataset.SourceImageSequence = Sequence([deepcopy(item) for _ in range(3)])
    block = dataset.private_block(0x0029, "EXAMPLE CSA", create=True)
    for number in range(50):
        block.add_new(number, "LO", f"private {number}")
    block.add_new(0xF0, "OB", bytes(8192))
    return dataset


def make(folder: Path, count: int, per_folder: int, *, is_rich: bool) -> int:
    """A tree of XNAT's layout with catalogs; one file of a hundred has another name. The bytes of one file."""
    (template,) = study(patient_id="P1", patient_name="Doe^Jane", series=[SeriesSpec(number=1, instances=1, rows=64)])
    template = rich(template) if is_rich else template
    uid = str(template.SOPInstanceUID)
    buffer = BytesIO()
    template.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    for start in range(0, count, per_folder):
        home = folder / f"P{start // (per_folder * 20)}/arc001/S{start // per_folder}/SCANS/1/DICOM"
        home.mkdir(parents=True)
        entries = []
        for number in range(start, min(start + per_folder, count)):
            other = f"{uid[:-8]}{number:08d}"
            path = home / "x"
            path.write_bytes(data.replace(uid.encode(), other.encode()))
            with path.open("rb") as stream:
                name = TEMPLATE.name(read_file_header(file_reader(stream.fileno()), len(data))[1])
            name = f"IM{number}.dcm" if number % 100 == 99 else name
            path.rename(home / name)
            uri = quoteattr(name)
            entries.append(f'<cat:entry ID={uri} UID="{other}" URI={uri} xsi:type="cat:dcmEntry"/>')
        (home / "scan_1_catalog.xml").write_text(
            '<cat:DCMCatalog xmlns:cat="http://nrg.wustl.edu/catalog" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" UID="1.2"><cat:entries>'
            + "\n".join(entries)
            + "</cat:entries></cat:DCMCatalog>"
        )
    return len(data)


def environment() -> dict[str, str]:
    """Compiled modules are kept, as in every installation: a start costs what it costs there."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "prearc-benchmark-pycache")}


def names_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*.dcm"))]


def survey(folder: Path) -> None:
    command = [sys.executable, "-m", "cli", "survey", "scan", str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, env=environment())
    assert done.returncode == 3, done.returncode  # every hundredth name is wrong


def each(program: list[str], files: list[str]) -> float:
    """Seconds a file of one process a file."""
    started = time.perf_counter()
    for file in files:
        subprocess.run([*program, file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - started) / len(files)


def at_once(program: list[str], files: list[str]) -> float:
    """Seconds a file of one process for all."""
    started = time.perf_counter()
    for start in range(0, len(files), 500):
        command = [*program, *files[start : start + 500]]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - started) / len(files)


def loop(folder: Path) -> tuple[float, float]:
    """Seconds a file, by the clock and of a processor."""
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(folder)], env=environment(), capture_output=True, text=True, check=True
    )
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def timed(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Seconds a file, by the clock and of the processors of all that was started."""
    started, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return (time.perf_counter() - started) / count, cpu / count


def cool(folder: Path) -> str:
    """Throw the files out of the page cache; how far that went."""
    os.sync()
    for name in names_of(folder):
        fd = os.open(name, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return "content"
    return "content and names"


def memory(folder: Path) -> tuple[float, float]:
    """Highest RSS of the command and of its children together, MiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "survey", "scan", str(folder)], stdout=subprocess.DEVNULL, env=environment()
    )
    highest: dict[int, int] = {}
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(0.02):
            for pid in [process.pid, *children(process.pid)]:
                highest[pid] = max(highest.get(pid, 0), peak_kib(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    is_done.set()
    watcher.join()
    own = highest.pop(process.pid)
    return own / 1024, sum(highest.values()) / 1024


def children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def peak_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def run(where: Path, options: argparse.Namespace, *, is_rich: bool) -> None:
    whole, small = where / "whole", where / "small"
    size = make(whole, options.files, options.folder, is_rich=is_rich)
    make(small, options.small, options.folder, is_rich=is_rich)
    files = names_of(whole)
    sample = files[:: max(1, len(files) // options.sample)]
    print(f"\n{options.files} files of {size} bytes, {'rich' if is_rich else 'small'} headers; µs a file, warm:")
    survey(small)  # compiles
    rounds: dict[str, list[float]] = {}
    processors: dict[str, list[float]] = {}
    for _ in range(options.rounds):  # in turns, so that what else the machine does hits all alike
        (ours, our_cpu), (theirs, their_cpu) = timed(lambda: survey(whole), options.files), loop(whole)
        results = {"prearc survey scan": ours, "pydicom loop": theirs}
        processors.setdefault("prearc survey scan", []).append(our_cpu)
        processors.setdefault("pydicom loop", []).append(their_cpu)
        if shutil.which("dcmdump"):
            results["dcmdump loop"] = each(["dcmdump", "+P", "0008,0018"], sample)
            results["dcmftest loop"] = each(["dcmftest"], sample)
            results["dcmftest, all at once"] = at_once(["dcmftest"], files)
        for name, seconds in results.items():
            rounds.setdefault(name, []).append(seconds)
    show(rounds)
    print("processor time, which others' work disturbs less:")
    show(processors)
    print(f"cold ({cool(whole)}):")
    cold = {"prearc survey scan": [timed(lambda: survey(whole), options.files)[0]]}
    cool(whole)
    cold["pydicom loop"] = [loop(whole)[0]]
    show(cold)
    for folder, count in ((small, options.small), (whole, options.files)):
        own, others = memory(folder)
        print(f"memory with {count} files: {own:.0f} MiB, its readers {others:.0f} MiB")


def show(rounds: dict[str, list[float]]) -> None:
    """Medians, and how often ours each is."""
    ours = statistics.median(rounds["prearc survey scan"])
    for name, seconds in rounds.items():
        median = statistics.median(seconds)
        print(f"  {name:24}{median * 1e6:9.1f}  {median / ours:7.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("files", 20_000), ("small", 2_000), ("folder", 200), ("sample", 400), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--where", type=Path, default=None)
    options = parser.parse_args()
    for is_rich in (True, False):
        with tempfile.TemporaryDirectory(dir=options.where) as where:
            run(Path(where), options, is_rich=is_rich)


if __name__ == "__main__":
    main()
