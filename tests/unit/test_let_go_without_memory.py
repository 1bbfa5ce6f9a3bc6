"""A lock is let go of without memory: none stays locked, for which all others would wait for ever.

One allocation of the interpreter fails, each in turn. A `threading.Condition` that is entered itself needs one to be
left.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from archive.callers import Caller
from archive.intake.endings import Endings
from archive.intake.holdings import Holdings
from archive.intake.sightings import Sightings
from archive.rules.admitting import Standing
from archive.store.catalogue.endings import Ending
from scp.crew import Crew
from scp.limits import Connections
from tests.no_memory import failing_interpreter
from tests.workbench import SteppedClock, make_workspace

MOST_ALLOCATIONS: Final = 100


def fail_each_allocation(step: Callable[[], object], is_free: Callable[[], bool]) -> list[int]:
    """Those allocations of a step after whose failure a lock stays locked."""
    interpreter = failing_interpreter()
    stuck = []
    for number in range(MOST_ALLOCATIONS):
        interpreter.set_nomemory(number, number + 1)
        try:
            step()
        except MemoryError:
            pass
        finally:
            interpreter.remove_mem_hooks()
        if not is_free():
            stuck.append(number)
            break
    return stuck


def test_the_places_of_connections() -> None:
    """Nobody could come or go any more."""
    connections = Connections[str](total=2, per_address=2)

    def step() -> None:
        connections.judge("192.0.2.1")
        connections.is_filling("192.0.2.1")
        connections.enter("one", "192.0.2.1")
        connections.leave("one")
        connections.members()

    assert fail_each_allocation(step, lambda: not connections._guard.locked()) == []


def test_the_threads_that_wait_for_connections() -> None:
    """No thread could take one any more."""
    crew = Crew(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]

    def step() -> None:
        crew._waiting = 1
        crew._leave_relief()
        crew._wait_again()
        crew._change(entering=1)

    assert fail_each_allocation(step, lambda: not crew._guard.locked()) == []


def test_the_ends_of_associations(tmp_path: Path) -> None:
    """No association could end any more."""
    endings = Endings(make_workspace(tmp_path).catalogue, Holdings())
    endings._is_closed = True

    def step() -> None:
        endings._fail(True)
        endings._fail(False)
        endings._goes_on()
        endings.add(Ending(association_id=1, untold=None, is_in_doubt=False))
        endings._owed.clear()

    assert fail_each_allocation(step, lambda: not endings._guard.locked()) == []


def test_the_list_of_callers(tmp_path: Path) -> None:
    """Nobody could call any more."""
    sightings = Sightings(make_workspace(tmp_path).catalogue)
    sightings._is_closed = True
    clock = SteppedClock()
    caller = Caller(calling_ae_title="CT", called_ae_title="PREARC", peer_host="192.0.2.7", certificate=None)

    def step() -> None:
        sightings.note(caller, Standing.ALLOWED, clock)
        sightings._wait()

    assert fail_each_allocation(step, lambda: not sightings._guard.locked()) == []
