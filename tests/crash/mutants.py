"""Deliberately broken products, each with the named test that must fail on it, and what that test must say.

A mutant leaves out one step of a promise, or takes it in the wrong order. A test that acquits one of them is worth
nothing; a step that no test misses is not tested.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """Of each of `changes`, (file, sound text, broken text), the broken one; then `test` fails with `complaint`.

    `test` is a path below ``tests/`` with the test's name; `is_quick`: it is tried in `make test` as well.
    """

    name: str
    changes: tuple[tuple[str, str, str], ...]
    test: str
    complaint: str
    is_quick: bool = False


PARTS: Final = "archive/store/parts.py"
COMMITTER: Final = "archive/intake/committer.py"
FILING: Final = "archive/intake/filing.py"
CONNECTION: Final = "archive/store/catalogue/connection.py"
ORDER: Final = "crash/test_call_order.py::test_bytes_names_folders_and_rows_are_synced_before_the_answer"
EVERY_ORDER: Final = "crash/test_call_order.py::test_everything_is_synced_before_the_answer_in_every_order"
CUT: Final = "crash/test_sync_order.py::test_what_was_acknowledged_last_survives_a_cut_right_after"
BEFORE_ANSWERS: Final = "answered before it was durable"
_SYNC_PART: Final = "            else:\n                os.fsync(self.fd)\n"
_SYNC_NAME: Final = '        failpoints.hit("P6")\n        os.fsync(self.fd)\n'
_SYNC_FOLDER: Final = "                    os.fsync(folder_fd)\n"

DEAD: Final = "spec/test_dead_processes.py::"
EACH: Final = "spec/test_associations_for_each.py::"

RECEIVING: Final = (
    Mutant(
        name="a-session-is-let-go-before-it-is-settled",
        changes=(("archive/dead_processes.py", "not _settle(ws, session_id, associations, notes)", "session_id < 0"),),
        test=f"{DEAD}test_a_file_without_a_row_is_adopted_and_the_session_let_go",
        complaint="report.adopted ==",
    ),
    Mutant(
        name="what-could-not-be-looked-at-is-built",
        changes=(
            (
                "archive/store/catalogue/intake.py",
                "          AND NOT EXISTS (SELECT 1 FROM session_unread WHERE session_id = s.id)\n",
                "",
            ),
            ("archive/examination/building.py", "        verify_read(tx.connection, session_id)\n", ""),
        ),
        test="spec/test_unread.py::test_it_is_neither_built_nor_archived_by_itself",
        complaint="FAILED",
    ),
    Mutant(
        name="a-session-is-settled-while-others-file-into-it",
        changes=(
            ("archive/upkeep/comparison.py", "if holds.is_held_besides(connection, session.id, dead):", "if False:"),
        ),
        test=f"{DEAD}test_a_session_others_file_into_waits_until_they_are_done",
        complaint="report.adopted ==",
    ),
    Mutant(
        name="a-hold-is-let-go-while-somebody-relies-on-it",
        changes=(("archive/intake/holdings.py", "if any(each.borrowers and ", "if any(False and "),),
        test=f"{EACH}test_no_session_is_let_go_under_an_association_that_relies_on_it",
        complaint="assert seen ==",
    ),
    Mutant(
        name="a-place-that-was-lent-is-not-held",
        changes=(
            ("archive/intake/lending.py", "        intake.hold(tx, self.place.session_id, self._association)\n", ""),
        ),
        test=f"{EACH}test_an_association_behind_another_is_one_transaction",
        complaint="held_and_open(workspace) == (1, 1)",
    ),
    Mutant(
        name="parts-of-the-living-are-set-aside",
        changes=(
            (
                "archive/upkeep/parts.py",
                "if owner in living if owner else living:",
                "if False:",
            ),
        ),
        test=f"{DEAD}test_parts_of_the_dead_go_to_lost_and_found_and_those_of_the_living_stay",
        complaint="lost_parts ==",
    ),
    Mutant(
        name="no-sync-of-the-file",
        changes=(
            (PARTS, _SYNC_PART, "            else:\n                pass\n"),
            (PARTS, _SYNC_NAME, '        failpoints.hit("P6")\n'),
        ),
        test=ORDER,
        complaint="its bytes were not synced",
    ),
    Mutant(
        name="one-sync-the-name-before-the-bytes",
        changes=(
            (PARTS, "                write_out(self.fd)\n", "                pass\n"),
            (PARTS, "            begin_writing_out(self.fd, 0, 0)\n", "            pass\n"),
        ),
        test="crash/test_sync_order.py::test_a_name_that_survives_leads_to_a_whole_file[one sync]",
        complaint="assert datasets_below(",
    ),
    Mutant(
        name="one-sync-and-not-even-that",
        changes=((PARTS, _SYNC_NAME, '        failpoints.hit("P6")\n'),),
        test=f"{EVERY_ORDER}[one sync]",  # not by a cut: whoever syncs anything just then saves the name as well
        complaint="its bytes were not synced",
    ),
    Mutant(
        name="one-sync-and-not-even-that-on-xfs",
        changes=((PARTS, _SYNC_NAME, '        failpoints.hit("P6")\n'),),
        test=f"{EVERY_ORDER}[one sync on XFS]",
        complaint="its bytes were not synced",
    ),
    Mutant(
        name="the-part-is-not-synced",
        changes=((PARTS, _SYNC_PART, "            else:\n                pass\n"),),
        test=f"{EVERY_ORDER}[file and folder]",
        complaint="its bytes were not synced",
    ),
    Mutant(
        name="the-folder-is-not-synced",
        changes=((COMMITTER, _SYNC_FOLDER, "                    pass\n"),),
        test=f"{EVERY_ORDER}[file and folder]",
        complaint="its name was not synced",
    ),
    Mutant(
        name="a-commit-that-is-not-synced",
        changes=((CONNECTION, "synchronous = FULL", "synchronous = NORMAL"),),
        test=f"{CUT}[one sync]",
        complaint=BEFORE_ANSWERS,
    ),
    Mutant(
        name="a-commit-that-is-not-synced-seen-without-a-cut",
        changes=((CONNECTION, "synchronous = FULL", "synchronous = NORMAL"),),
        test=ORDER,
        complaint="its row was not synced",
    ),
    Mutant(
        name="no-sync-of-the-folders-above",
        changes=(
            (
                "archive/store/files.py",
                "                except FileExistsError:\n                    pass\n                os.fsync(fd)\n",
                "                except FileExistsError:\n                    pass\n",
            ),
        ),
        test=ORDER,
        complaint="was not synced",
    ),
    Mutant(
        name="answered-before-the-commit",
        changes=(
            (
                "archive/receive.py",
                "            receipt = self._intake.filer.file(part, filing, self._places)\n",
                "            import copy, threading\n"
                "            later, part._fd = copy.copy(part), None\n"
                "            threading.Timer(0.2, self._intake.filer.file, (later, filing, self._places)).start()\n"
                "            return replace(self._refused_nothing(request, part), outcome=Outcome.STORED)\n"
                "            receipt = self._intake.filer.file(part, filing, self._places)\n",
            ),
            (
                "archive/receive.py",
                "    def _forget(self, part: Part) -> None:\n",
                "    def _refused_nothing(self, request, part):\n"
                '        return Receipt(sop_instance_uid=request.sop_instance_uid, outcome=None, status=0, peer="",\n'
                '            calling_ae_title="", called_ae_title="", received_at=self._intake.clock.now(),\n'
                "            session_id=None, path=None, dataset_sha256=part.dataset_sha256)\n\n"
                "    def _forget(self, part: Part) -> None:\n",
            ),
        ),
        test=ORDER,
        complaint="its row was not written",
    ),
    Mutant(
        name="a-failed-sync-is-tried-again",
        changes=(
            (
                PARTS,
                _SYNC_PART,
                "            else:\n"
                "                try:\n"
                "                    os.fsync(self.fd)\n"
                "                except OSError:\n"
                "                    os.fsync(self.fd)\n",
            ),
            (
                PARTS,
                _SYNC_NAME,
                '        failpoints.hit("P6")\n'
                "        try:\n"
                "            os.fsync(self.fd)\n"
                "        except OSError:\n"
                "            os.fsync(self.fd)\n",
            ),
        ),
        test="crash/test_faults.py::test_a_sync_that_failed_is_not_tried_again",
        complaint="AssertionError",
    ),
    Mutant(
        name="unlinked-when-the-commit-is-in-doubt",
        changes=(
            (
                FILING,
                "        except InDoubt:\n            raise\n        except StoreError:",
                "        except StoreError:",
            ),
            (
                FILING,
                "if not intake.is_listed(tx.connection, place.scan_id, linked.file.name, linked.file.dataset_sha256):",
                "if True:",
            ),
        ),
        test="crash/test_faults.py::test_a_commit_in_doubt_keeps_its_file",
        complaint="its file missing",
    ),
    Mutant(
        name="renamed-instead-of-linked",
        changes=(
            (
                PARTS,
                "os.link(self._name, name, src_dir_fd=spool_fd, dst_dir_fd=folder_fd, follow_symlinks=False)",
                "os.rename(self._name, name, src_dir_fd=spool_fd, dst_dir_fd=folder_fd)",
            ),
        ),
        test="spec/test_receiving_troubles.py::test_bytes_that_nobody_knows_are_never_replaced",
        complaint="FAILED",
    ),
    Mutant(
        name="acknowledged-while-degraded",
        changes=(
            (
                COMMITTER,
                "        if reason is not None:\n            waiting",
                "        if False:\n            waiting",
            ),
        ),
        test="spec/test_receiving_troubles.py::test_nothing_is_acknowledged_after_a_folder_could_not_be_synced",
        complaint="FAILED",
        is_quick=True,
    ),
    Mutant(
        name="duplicates-told-by-their-uid-alone",
        changes=(
            (
                "archive/store/catalogue/known.py",
                'AND i.dataset_sha256 = ?"\n',
                'AND i.dataset_sha256 IS NOT ?"\n',
            ),
        ),
        test="spec/test_duplicates.py::test_another_dataset_under_the_same_uid_is_held_beside",
        complaint="FAILED",
    ),
    Mutant(
        name="duplicates-not-compared-with-the-file",
        changes=(("archive/intake/filing.py", "if not self._known_files.confirm(known, part):", "if False:"),),
        test="spec/test_duplicates.py::test_a_resend_replaces_a_damaged_file_and_loses_no_byte_of_it",
        complaint="FAILED",
    ),
    Mutant(
        name="parts-of-the-living-are-cleared",
        changes=(
            (
                "archive/upkeep/parts.py",
                "if owner in living if owner else living:",
                "if False:",
            ),
        ),
        test="spec/test_recovery.py::test_a_living_importers_part_is_left_alone",
        complaint="FAILED",
    ),
    Mutant(
        name="the-quarantine-has-no-bounds",
        changes=(("archive/intake/quarantine.py", "self._used.add(size_bytes, limit=self._limit_bytes)", "True"),),
        test="spec/test_bad_input.py::test_the_quarantine_is_bounded",
        complaint="FAILED",
    ),
    Mutant(
        name="the-header-is-not-compared-with-the-request",
        changes=(("archive/receive.py", "return identity_problem(request, header) or header", "return header"),),
        test="spec/test_bad_input.py::test_what_cannot_be_filed_is_refused_traced_and_kept",
        complaint="FAILED",
    ),
    Mutant(
        name="a-session-that-moved-on-gets-the-row",
        changes=(("archive/store/catalogue/intake.py", " AND s.status = 'RECEIVING' AND s.path = {path}", ""),),
        test="spec/test_prearchive.py::test_an_instance_is_rehomed_when_its_session_is_claimed_before_the_commit",
        complaint="FAILED",
    ),
    Mutant(
        name="a-full-disk-leaves-the-part",
        changes=(
            (
                PARTS,
                "        self.failure = failure\n        self.drop()\n",
                "        self.failure = failure\n        self._fd = None\n",
            ),
        ),
        test="spec/test_bad_input.py::test_a_write_that_fails_in_the_middle_leaves_nothing",
        complaint="FAILED",
    ),
    Mutant(
        name="no-watch-over-a-hung-disk",
        changes=(("archive/intake/waits.py", "if each[2] < now]", "if each[2] < 0]"),),
        test="spec/test_degraded.py::test_a_disk_that_hangs_closes_the_node_and_nothing_is_acknowledged",
        complaint="FAILED",
        is_quick=True,
    ),
    Mutant(
        name="a-degraded-node-opens-without-a-probe",
        changes=(
            (
                "archive/intake/admission.py",
                "                for place in self._places:\n                    self._root.probe(place)\n",
                "                pass\n",
            ),
        ),
        test="spec/test_degraded.py::test_probes_come_at_growing_intervals",
        complaint="FAILED",
    ),
    Mutant(
        name="what-is-in-flight-does-not-count",
        changes=(
            ("archive/intake/space.py", "free_bytes(self._place) - self.in_flight_bytes", "free_bytes(self._place)"),
        ),
        test="spec/test_degraded.py::test_what_is_in_flight_counts_before_it_is_written",
        complaint="FAILED",
    ),
)

PLACING: Final = "archive/placing.py"
_SYNC_PLACES: Final = """    for folder in sorted(folders):
        files.sync_folder(ws.root.fd, folder)


def take_back"""
_LINK_PLACE: Final = "            files.link(ws.root.fd, item.src, name)\n"

ARCHIVING: Final = (
    Mutant(
        name="no-sync-of-the-archive-folder-before-the-commit",
        changes=((PLACING, _SYNC_PLACES, "\n\ndef take_back"),),
        test="crash/test_power_cuts_while_archiving.py::test_a_power_cut_right_after_the_commit_loses_no_name",
        complaint="a row without bytes",
    ),
    Mutant(
        name="no-sync-of-a-copy",
        changes=(
            (
                "archive/store/copying.py",
                "                os.fsync(fd)\n                os.posix_fadvise",
                "                os.posix_fadvise",
            ),
        ),
        test="crash/test_call_order.py::test_a_copy_is_durable_before_its_source_goes",
        complaint="its bytes were not synced",
    ),
    Mutant(
        name="source-unlinked-before-the-commit",
        changes=((PLACING, _LINK_PLACE, f"{_LINK_PLACE}            files.unlink(ws.root.fd, item.src)\n"),),
        test="crash/test_archiving_kills.py::test_a_kill_between_the_places_loses_nothing",
        complaint="answered before it was durable",
    ),
    Mutant(
        name="a-last-name-is-taken-back",
        changes=((PLACING, "name) and _has_old_name(", "name) or _has_old_name("),),
        test="crash/test_archiving_disturbed.py::test_a_new_name_is_not_taken_back_when_the_old_one_is_gone",
        complaint="recovery calls its file missing",
    ),
    Mutant(
        name="no-compare-and-set",
        changes=(
            (
                "archive/store/catalogue/sessions.py",
                "    following = next_status(current, event)\n",
                "    from archive.rules.states import TRANSITIONS\n"
                "    following = next(to for (_, each), to in TRANSITIONS.items() if each is event)\n",
            ),
            (
                "archive/store/catalogue/opening.py",
                'row is not None and SessionStatus(row["status"]) in OPEN:',
                "row is not None:",
            ),
        ),
        test="crash/test_archiving_disturbed.py::test_instances_that_come_while_their_session_is_archived_are_kept",
        complaint="promises broken",
    ),
)
