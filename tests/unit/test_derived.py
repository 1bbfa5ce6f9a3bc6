"""Manifests, catalogs and counters of a session that grows: what they cost, and that they say what the rows say."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.model import scan_files_path
from archive.store import catalog_xml, derived, manifest, manifest_reader
from archive.store.catalogue import archived, instances, recovering, sessions
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace
from tests.workbench import change, make_workspace, rows

ENTRY = "{http://nrg.wustl.edu/catalog}entry"
HOME = "archive/PI/arc001/S1_MR"
SOURCE = "prearchive/PI/20260105_101500000/S1_MR"


def make_session(ws: Workspace, path: str, *, status: str = "ARCHIVED") -> int:
    """A session without instances, and its folder."""
    at, is_archived = "2026-01-05T10:15:00+00:00", int(status == "ARCHIVED")
    change(
        ws,
        "INSERT INTO session(project, subject, label, status, is_archived, timestamp, folder, path, key_project,"
        " key_study, key_label, accepts, autoarchive, idle_seconds, cap_seconds, boot_id, received_first,"
        " received_last)"
        " VALUES ('PI', 'S1', 'S1_MR', ?, ?, ?, 'S1_MR', ?, 'PI', '1.2', ?, 0, 'manual', 1, 1, 'b', ?, ?)",
        *(status, is_archived, path.replace("/", "_"), path, path, at, at),
    )
    [row] = rows(ws, "SELECT max(id) AS id FROM session")
    change(ws, "INSERT INTO session_study VALUES (?, '1.2', ?)", row["id"], STUDY)
    (ws.root.path / path).mkdir(parents=True, exist_ok=True)
    return int(row["id"])


STUDY = (
    '{"study_instance_uid": "1.2", "patient_id": "", "patient_name": "", "patient_birth_date": "", "patient_sex": "",'
    ' "study_date": "", "study_time": "", "study_description": "", "accession_number": "", "manufacturer": "",'
    ' "manufacturer_model_name": "", "station_name": "", "device_serial_number": "", "institution_name": ""}'
)


def scan_id(ws: Workspace, session_id: int, scan: str) -> int:
    """A scan's row and folder, made where there is none."""
    for row in rows(ws, "SELECT id FROM scan WHERE session_id = ? AND scan = ?", session_id, scan):
        return int(row["id"])
    change(
        ws,
        "INSERT INTO scan(session_id, scan, study_instance_uid, series_instance_uid, series_key, series_number,"
        " modality, description) VALUES (?, ?, '1.2', ?, ?, ?, 'MR', '')",
        *(session_id, scan, f"1.2.{scan}", f"1.2.{scan}", scan),
    )
    [row] = rows(ws, "SELECT path FROM session WHERE id = ?", session_id)
    (ws.root.path / scan_files_path(row["path"], scan)).mkdir(parents=True, exist_ok=True)
    return scan_id(ws, session_id, scan)


def add(ws: Workspace, session_id: int, scan: str, numbers: Iterable[int]) -> list[int]:
    """Rows of instances, and the counters with them; their ids."""
    owner_id, at = scan_id(ws, session_id, scan), "2026-01-05T10:15:00+00:00"
    with ws.catalogue.write() as tx:
        ids = [
            tx.execute(
                "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid,"
                " file_name, size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at) VALUES"
                " (?, ?, ?, '1.2.840.10008.5.1.4.1.1.4', '1.2.840.10008.1.2.1', ?, 1000, 400, ?, ?, ?)",
                (
                    *(session_id, owner_id, f"1.2.{scan}.{number}", f"1.2.{scan}-{number:06}-abc.dcm"),
                    *(f"{number:064x}", f"{number + 1:064x}", at),
                ),
            ).lastrowid
            for number in numbers
        ]
        sessions.recount(tx, session_id)
    return [int(each or 0) for each in ids]


@contextmanager
def counted_steps(connection: Connection, steps: list[int]) -> Iterator[None]:
    """How many steps SQLite's machine makes: what statements cost, whatever the machine they run on."""

    def step() -> int:
        steps[-1] += 1
        return 0

    steps.append(0)
    connection.set_progress_handler(step, 10)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def assert_derived(ws: Workspace, session_id: int) -> None:
    """Manifest, catalogs and counters of an archived session say what its rows say."""
    with ws.catalogue.read() as connection:
        found = instances.of_session(connection, session_id)
        path = sessions.get(connection, session_id).path
        content = manifest_reader.read(ws.root.fd, path)
        assert content is not None
        assert content.problems == ()
        assert {key: facts.is_missing for key, facts in content.instances.items()} == {
            (each.scan, each.file.name): each.is_missing for each in found
        }
        assert {key: facts.file for key, facts in content.instances.items()} == {
            (each.scan, each.file.name): each.file for each in found
        }
        names = [scan.scan for scan in sessions.scans(connection, session_id)]
        assert [each.scan for each in content.scans] == names
        assert recovering.wrong_counters(connection, session_id) == []
    catalogs = sorted((ws.root.path / path).glob("SCANS/*/DICOM/*_catalog.xml"))
    assert sorted(each.parts[-3] for each in catalogs) == sorted(names)
    for catalog in catalogs:
        entries = list(ElementTree.parse(catalog).getroot().iter(ENTRY))
        listed = sorted((entry.get("URI"), entry.get("UID")) for entry in entries)
        scan = catalog.parts[-3]
        present = [each for each in found if each.scan == scan and not each.is_missing]
        assert listed == sorted((each.file.name, each.sop_instance_uid) for each in present)


def merge(ws: Workspace, session_id: int, target_id: int, *, scan: str) -> list[int]:
    """All of a session's instances join the scan of this name."""
    with ws.catalogue.write() as tx:
        moving = instances.of_session(tx.connection, session_id)
        archived.merge_into(
            tx,
            session_id,
            target_id,
            scans={each.id: (each, scan) for each in sessions.scans(tx.connection, session_id)},
            relocations=[
                archived.Relocation(
                    instance_id=each.id, source_scan_id=each.scan_id, scan=scan, file_name=each.file.name
                )
                for each in moving
            ],
            replacements=[],
        )
    return [each.id for each in moving]


def incoming(ws: Workspace, scan: str, numbers: Iterable[int]) -> int:
    session_id = make_session(ws, SOURCE, status="ARCHIVING")
    add(ws, session_id, scan, numbers)
    return session_id


def cost_of_ten(path: Path, archived_count: int) -> tuple[int, int, int]:
    """What a merge of ten costs: steps of SQLite in the transaction and after it, bytes added to the manifest."""
    ws = make_workspace(path)
    target_id = make_session(ws, HOME)
    add(ws, target_id, "1", range(archived_count))
    add(ws, target_id, "2", range(10))
    with ws.catalogue.read() as connection:
        derived.write_all(ws.root.fd, connection, target_id)
    size_bytes = (ws.root.path / HOME / manifest.NAME).stat().st_size
    session_id = incoming(ws, "1", range(archived_count, archived_count + 10))
    steps: list[int] = []

    with ws.catalogue.read() as connection:
        pass  # the one connection, which the transaction takes again
    with counted_steps(connection, steps):
        ids = merge(ws, session_id, target_id, scan="1")
    with ws.catalogue.read() as connection, counted_steps(connection, steps):
        derived.after_merge(ws.root.fd, connection, target_id, instance_ids=ids, gone=[])

    assert_derived(ws, target_id)
    return steps[0], steps[1], (ws.root.path / HOME / manifest.NAME).stat().st_size - size_bytes


def test_a_merge_costs_what_is_new(tmp_path: Path) -> None:
    """Ten instances into 20 000 cost the steps and the bytes that ten into 500 cost."""
    small, large = cost_of_ten(tmp_path / "small", 500), cost_of_ten(tmp_path / "large", 20_000)

    assert min(small) > 0
    for few, many in zip(small, large, strict=True):
        assert many <= 1.1 * few


@pytest.mark.parametrize("piece_bytes", [1 << 20, 1000])
def test_a_catalog_is_extended_without_the_rows_of_the_others(
    tmp_path: Path, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries that were there are copied as they are, wherever a piece ends; what is new comes after them."""
    monkeypatch.setattr(catalog_xml, "_PIECE_BYTES", piece_bytes)
    ws = make_workspace(tmp_path)
    target_id = make_session(ws, HOME)
    add(ws, target_id, "1", range(100, 10_100))
    with ws.catalogue.read() as connection:
        derived.write_all(ws.root.fd, connection, target_id)
    path = ws.root.path / HOME / "SCANS/1/DICOM/scan_1_catalog.xml"
    before = path.read_bytes()
    ids = merge(ws, incoming(ws, "1", [1]), target_id, scan="1")

    with ws.catalogue.read() as connection:
        derived.after_merge(ws.root.fd, connection, target_id, instance_ids=ids, gone=[])

    assert len(before) > 1 << 20
    assert path.read_bytes().startswith(before[: before.rindex(b"</cat:entries>")])
    assert_derived(ws, target_id)


def test_a_name_that_is_gone_leaves_the_catalog(tmp_path: Path) -> None:
    """Also where the catalog has as many entries as it would have without it: it never listed a lost file."""
    ws = make_workspace(tmp_path)
    target_id = make_session(ws, HOME)
    lost, replaced, _ = add(ws, target_id, "1", [1, 2, 3])
    change(ws, "UPDATE instance SET is_missing = 1 WHERE id = ?", lost)
    with ws.catalogue.write() as tx:
        derived.write_all(ws.root.fd, tx.connection, target_id)
        [old] = instances.by_ids(tx.connection, [replaced])
        instances.remove(tx, replaced)
        sessions.recount(tx, target_id)
    ids = merge(ws, incoming(ws, "1", [7]), target_id, scan="1")

    with ws.catalogue.read() as connection:
        gone = [(old.scan, old.file.name)]
        derived.after_merge(ws.root.fd, connection, target_id, instance_ids=ids, gone=gone)

    assert_derived(ws, target_id)


def test_a_name_that_is_said_to_be_gone_and_is_not_stays(tmp_path: Path) -> None:
    """The rows are right: the manifest lists what has the name now, even if nobody said that it came."""
    ws = make_workspace(tmp_path)
    session_id = make_session(ws, SOURCE, status="READY")
    [first, _] = add(ws, session_id, "1", [1, 2])
    with ws.catalogue.read() as connection:
        manifest.write(ws.root.fd, connection, session_id)
        [there] = instances.by_ids(connection, [first])
    change(ws, "UPDATE instance SET is_missing = 1 WHERE id = ?", first)

    with ws.catalogue.read() as connection:
        gone = [(there.scan, there.file.name)]
        manifest.append(ws.root.fd, connection, session_id, instance_ids=[], gone=gone)

    assert_manifest(ws, session_id)


@pytest.mark.parametrize("count", [1, 5, 40, 2000])
def test_a_torn_tail_is_not_added_to(tmp_path: Path, count: int) -> None:
    """Whatever is left of the last line, the next change makes the manifest whole."""
    ws = make_workspace(tmp_path)
    session_id = make_session(ws, SOURCE, status="READY")
    add(ws, session_id, "1", [1, 2])
    path = ws.root.path / SOURCE / manifest.NAME
    with ws.catalogue.read() as connection:
        manifest.write(ws.root.fd, connection, session_id)
        path.write_bytes(path.read_bytes()[:-count])

        manifest.append(ws.root.fd, connection, session_id, instance_ids=[], gone=[])

    assert_manifest(ws, session_id)


def without_one(catalog: bytes) -> bytes:
    start = catalog.index(b"<cat:entry ")
    return catalog[:start] + catalog[catalog.index(b"\n", start) + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        without_one,
        lambda catalog: catalog[: len(catalog) // 2],
        lambda catalog: catalog + b" ",
        lambda catalog: b"<?xml version='1.0'?><catalog/>",
        lambda catalog: b"",
        None,
    ],
)
def test_a_catalog_that_is_not_as_it_was_left_is_written_whole(
    tmp_path: Path, spoil: Callable[[bytes], bytes] | None
) -> None:
    """One entry less, cut off, another program's or none: nothing is added to it."""
    ws = make_workspace(tmp_path)
    target_id = make_session(ws, HOME)
    add(ws, target_id, "1", range(5))
    with ws.catalogue.read() as connection:
        derived.write_all(ws.root.fd, connection, target_id)
    path = ws.root.path / HOME / "SCANS/1/DICOM/scan_1_catalog.xml"
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    ids = merge(ws, incoming(ws, "1", [7, 8]), target_id, scan="1")

    with ws.catalogue.read() as connection:
        for _ in range(2):  # a second time changes nothing
            derived.after_merge(ws.root.fd, connection, target_id, instance_ids=ids, gone=[])
            assert_derived(ws, target_id)

    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_scan_that_loses_its_last_instance_loses_its_catalog(tmp_path: Path) -> None:
    """Its row, its catalog and its lines go; what took the place of its instance is elsewhere."""
    ws = make_workspace(tmp_path)
    target_id = make_session(ws, HOME)
    [lost] = add(ws, target_id, "1", [1])
    add(ws, target_id, "2", [2])
    with ws.catalogue.read() as connection:
        derived.write_all(ws.root.fd, connection, target_id)
    session_id = incoming(ws, "2", [1])

    with ws.catalogue.write() as tx:
        [ours] = instances.of_session(tx.connection, session_id)
        [old] = instances.by_ids(tx.connection, [lost])
        count = archived.move_rows(
            tx,
            session_id,
            target_id,
            scans={each.id: (each, "2") for each in sessions.scans(tx.connection, session_id)},
            relocations=[
                archived.Relocation(
                    instance_id=ours.id, source_scan_id=ours.scan_id, scan="2", file_name=ours.file.name
                )
            ],
            replacements=[archived.Replacement(instance_id=lost, stays_id=ours.id, sop_instance_uid="1.2.1.1")],
        )
        derived.after_merge(
            ws.root.fd, tx.connection, target_id, instance_ids=[ours.id], gone=[(old.scan, old.file.name)]
        )

    assert count == 1
    assert [row["scan"] for row in rows(ws, "SELECT scan FROM scan")] == ["2"]
    assert rows(ws, "SELECT scan_count, instance_count, size_bytes FROM session ORDER BY id") == [
        {"scan_count": 1, "instance_count": 2, "size_bytes": 2000},
        {"scan_count": 0, "instance_count": 0, "size_bytes": 0},
    ]
    assert_derived(ws, target_id)


def test_names_are_asked_for_in_pieces(tmp_path: Path) -> None:
    """More candidates than a statement takes; only those in use in this scan come back."""
    ws = make_workspace(tmp_path)
    session_id = make_session(ws, HOME)
    add(ws, session_id, "1", range(700))
    add(ws, session_id, "2", range(700, 800))
    used = {row["file_name"] for row in rows(ws, "SELECT file_name FROM instance")}

    with ws.catalogue.read() as connection:
        [first, _] = sessions.scans(connection, session_id)
        taken = instances.names_in_use(connection, first.id, [*used, "free.dcm"])
        whole = list(instances.of_scan(connection, first.id))

    assert len(taken) == 700
    assert taken == {each.file.name for each in whole}


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "lose", "drop", "rename", "write", "append", "again", "tear"]),
        st.integers(min_value=0, max_value=999),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(operations=OPERATIONS)
def test_whatever_happens_the_manifest_says_what_the_rows_say(operations: list[tuple[str, int]]) -> None:
    """Rows come, go and change, manifests are written, added to, added to again and torn: it reads back as the rows."""
    with TemporaryDirectory() as folder:
        ws = make_workspace(Path(folder))
        _play(ws, operations)
        ws.close()


def _play(ws: Workspace, operations: list[tuple[str, int]]) -> None:
    session_id = make_session(ws, SOURCE, status="READY")
    ids, gone, last = list[int](), list[tuple[str, str]](), (list[int](), list[tuple[str, str]]())
    number = 0
    for what, which in [*operations, ("append", 0)]:
        found = rows(
            ws, "SELECT i.id, c.scan, i.file_name FROM instance i JOIN scan c ON c.id = i.scan_id ORDER BY i.id"
        )
        victim = found[which % len(found)] if found else None
        with ws.catalogue.read() as connection:
            path = ws.root.path / SOURCE / manifest.NAME
            if what == "add":
                ids += add(ws, session_id, str(which % 3 + 1), [number := number + 1])
            elif what == "write":
                manifest.write(ws.root.fd, connection, session_id)
                ids, gone = [], []
            elif what == "append":
                manifest.append(ws.root.fd, connection, session_id, instance_ids=ids, gone=gone)
                last, ids, gone = (ids, gone), [], []
                assert_manifest(ws, session_id)
            elif what == "again" and path.exists():
                manifest.append(ws.root.fd, connection, session_id, instance_ids=last[0] + ids, gone=[*last[1], *gone])
                assert_manifest(ws, session_id)
            elif what == "tear" and path.exists():
                path.write_bytes(path.read_bytes()[: -(which % 400) or None])
        if victim is None:
            continue
        if what == "lose":
            change(ws, "UPDATE instance SET is_missing = 1 - is_missing WHERE id = ?", victim["id"])
            ids.append(victim["id"])
        elif what == "drop":
            with ws.catalogue.write() as tx:
                instances.remove(tx, victim["id"])
                sessions.recount(tx, session_id)
            gone.append((victim["scan"], victim["file_name"]))
        elif what == "rename":
            change(ws, "UPDATE OR IGNORE instance SET file_name = ? WHERE id = ?", f"{which % 9}.dcm", victim["id"])
            ids.append(victim["id"])
            gone.append((victim["scan"], victim["file_name"]))


def assert_manifest(ws: Workspace, session_id: int) -> None:
    """The manifest alone, as `assert_derived` for an archived session."""
    with ws.catalogue.read() as connection:
        content = manifest_reader.read(ws.root.fd, SOURCE)
        assert content is not None
        assert content.problems == ()
        assert {key: (facts.file, facts.is_missing) for key, facts in content.instances.items()} == {
            (each.scan, each.file.name): (each.file, each.is_missing)
            for each in instances.of_session(connection, session_id)
        }
        assert [each.scan for each in content.scans] == [each.scan for each in sessions.scans(connection, session_id)]


def test_a_manifest_in_which_too_much_is_superseded_is_written_whole(tmp_path: Path) -> None:
    """Changing the same instance over and over does not let it grow without end."""
    ws = make_workspace(tmp_path)
    session_id = make_session(ws, SOURCE, status="READY")
    ids = add(ws, session_id, "1", range(20))
    path = ws.root.path / SOURCE / manifest.NAME
    with ws.catalogue.read() as connection:
        manifest.write(ws.root.fd, connection, session_id)
        whole_bytes = path.stat().st_size

        sizes = []
        for _ in range(100):
            manifest.append(ws.root.fd, connection, session_id, instance_ids=ids, gone=[])
            sizes.append(path.stat().st_size)

    assert sizes[0] > whole_bytes
    assert whole_bytes in sizes
    assert max(sizes) <= 3 * (1 << 16)
    assert_manifest(ws, session_id)
