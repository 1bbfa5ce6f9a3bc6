"""An administrator at random: real `prearc` invocations, one after another, on the sessions of one visit."""

import random
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.crash.misnaming import KnownSurveys, known_surveys
from tests.crash.shell import ANSWER_SECONDS, Shell, problem_of
from tests.crash.visit import LABELS

WAIT_SECONDS: Final = 5
"""What an invocation itself may wait for others, where the verb has an option for it."""
PROJECTS: Final = ("CRASH", "OTHER")
FIT_SHARE: Final = 0.8
"""How often a session is chosen for which the table of states allows the verb."""
AT_REST: Final = ("READY", "CONFLICT", "ERROR")
VERBS: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = MappingProxyType(
    {
        "close": (3, ("RECEIVING",)),
        "archive": (7, AT_REST),
        "relabel": (2, AT_REST),
        "move": (2, AT_REST),
        "delete": (1, AT_REST),
        "restore": (2, ("DELETED",)),
        "join": (2, AT_REST),
        "split": (2, AT_REST),
        "return": (2, ("ARCHIVED",)),
        "list": (1, ()),
        "show": (1, ()),
        "explain": (1, AT_REST),
        "doctor": (1, ()),
        "verify": (1, ()),
        "survey": (4, ("ARCHIVED",)),
        "plan": (5, ()),
        "apply": (6, ()),
        "undo": (1, ()),
    }
)
"""How often a verb is typed, and for sessions of which statuses."""
NOUNS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "explain": ("conflict", "explain"),
        "doctor": ("doctor",),
        "verify": ("verify",),
        "survey": ("survey", "run"),
        "plan": ("mitigate", "plan"),
        "apply": ("mitigate", "apply"),
        "undo": ("mitigate", "undo"),
    }
)
"""How a verb is typed that is none of a session."""
PLANS_KEPT: Final = 4
NOTHING_SURVEYED: Final = KnownSurveys()
STEPS: Final = ("PLANNED", "PLACED", "COMMITTED", "DERIVED", "CLEANED")
STEPS_OF_ITEMS: Final = ("PLACE_ITEM", "SWAP_ITEM", "CLEAN_ITEM", "TAKE_BACK_ITEM")
SLOW: Final = ",".join([*(f"{step}=sleep:0.15" for step in STEPS), *(f"{step}=sleep:0.02" for step in STEPS_OF_ITEMS)])
"""So that a kill from outside finds the operation at work rather than Python at its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A session as the administrator sees it in a list."""

    id: int
    status: str
    label: str
    scans: tuple[str, ...]
    series: tuple[str, ...]
    studies: tuple[str, ...]


def known_sessions(root: Path) -> list[Known]:
    """The sessions that hold instances."""
    with closing(sqlite3.connect(f"file:{root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)) as database:
        sessions = database.execute("SELECT id, status, label FROM session WHERE instance_count > 0").fetchall()
        scans: dict[int, list[tuple[str, str, str]]] = {}
        columns = "session_id, scan, series_instance_uid, study_instance_uid"
        for session_id, *scan in database.execute(f"SELECT {columns} FROM scan ORDER BY id"):
            scans.setdefault(session_id, []).append(tuple(scan))
    return [
        Known(
            id=number,
            status=status,
            label=label,
            scans=tuple(scan for scan, _, _ in scans.get(number, [])),
            series=tuple(series for _, series, _ in scans.get(number, [])),
            studies=tuple(dict.fromkeys(study for _, _, study in scans.get(number, []))),
        )
        for number, status, label in sessions
    ]


class Choice:
    """Draws the next command, of the verbs that this product has: `offer` is what the terminal said of it."""

    def __init__(
        self, seed: str, offer: Mapping[str, Any], *, verbs: Sequence[str] = tuple(VERBS), plans: Path | None = None
    ) -> None:
        self._chance = random.Random(seed)
        self._plans = plans
        self._planned = 0
        self._overridable: list[str] = offer["overridable"]
        offered: Mapping[str, Sequence[str]] = offer["commands"]
        self._noun = {verb: NOUNS.get(verb, ("session", verb)) for verb in VERBS}
        self._options = {verb: offered.get(" ".join(self._noun[verb]), ()) for verb in VERBS}
        self._verbs = [verb for verb in verbs if " ".join(self._noun[verb]) in offered]

    def command(self, sessions: Sequence[Known], surveys: KnownSurveys = NOTHING_SURVEYED) -> list[str]:
        """The words after `prearc`."""
        chance = self._chance
        fitting = {verb: [each for each in sessions if each.status in VERBS[verb][1]] for verb in self._verbs}
        is_fit = chance.random() < FIT_SHARE
        verbs = [verb for verb in self._verbs if fitting[verb] or not VERBS[verb][1] or not is_fit]
        verb = chance.choices(verbs, [VERBS[each][0] for each in verbs])[0] if verbs else "list"
        if verb in ("verify", "plan", "apply", "undo"):
            return self._on_all(verb, surveys) or self._survey(fitting["survey"])
        if verb in ("list", "doctor") or not sessions:
            return [*self._noun["doctor" if verb == "doctor" else "list"]]
        pool = fitting[verb] if is_fit and fitting[verb] else sessions
        session = chance.choice(pool)
        named = ["--session", str(session.id)] if verb == "survey" else [str(session.id)]
        words = [*self._noun[verb], *named, *self._arguments(verb, session, pool)]
        words += ["--wait", str(WAIT_SECONDS)] if "--wait" in self._options[verb] else []
        return words + (["--yes"] if "--yes" in self._options[verb] else [])

    def failpoints(self) -> str:
        """Mostly slow, sometimes deadly or a disk that is full for a moment."""
        chance = self._chance
        step = f"{chance.choice(STEPS)}={{}}"
        if chance.random() < 0.5:
            step = f"{chance.choice(STEPS_OF_ITEMS)}={{}}@{chance.randint(1, 9)}"
        return chance.choices(["", SLOW, step.format("kill"), step.format("errno:ENOSPC")], [3, 5, 2, 1])[0]

    def _survey(self, archived: Sequence[Known]) -> list[str]:
        """What makes something to mitigate known."""
        if not archived:
            return [*self._noun["list"]]
        return [*self._noun["survey"], "--session", str(self._chance.choice(archived).id)]

    def _on_all(self, verb: str, surveys: KnownSurveys) -> list[str]:
        """A verb that is not for one session; nothing when there is nothing to use it on."""
        chance, words = self._chance, [*self._noun[verb]]
        waiting = ["--wait", str(WAIT_SECONDS)]
        match verb:
            case "verify":
                return [*words, "--read", "--max-seconds", "3"]
            case "plan" if (surveys.divergent or surveys.to_review) and self._plans is not None:
                self._planned += 1
                path = self._plans / f"{self._planned}.json"
                (self._plans / f"{self._planned - PLANS_KEPT}.json").unlink(missing_ok=True)
                if surveys.to_review and (not surveys.divergent or chance.random() < 0.3):
                    decided = ["--include", "header-only", "--keep", chance.choice(("newest", "oldest"))]
                    return [*words, str(chance.choice(surveys.to_review)), "--output", str(path), *decided]
                return [*words, *map(str, surveys.divergent), "--output", str(path)]
            case "apply" if self._plans is not None and (plans := sorted(self._plans.glob("*.json"))):
                return [*words, str(chance.choice(plans)), "--yes", *waiting]
            case "undo" if surveys.undoable:
                return [*words, chance.choice(surveys.undoable), "--yes", *waiting]
        return []

    def _arguments(self, verb: str, session: Known, pool: Sequence[Known]) -> list[str]:
        chance = self._chance
        match verb:
            case "archive":
                return self._manner()
            case "relabel":
                return ["--label", chance.choice(LABELS)]
            case "move":
                return ["--project", chance.choice(PROJECTS)]
            case "join":
                other = chance.choice([each for each in pool if each.id != session.id] or [session])
                return [str(other.id), "--reason", "one visit"]
            case "split":
                name = chance.choice(("study", "series"))
                uids = session.studies if name == "study" else session.series
                return [f"--{name}", chance.choice(uids)] + (
                    ["--label", chance.choice(LABELS)] if "--label" in self._options[verb] else []
                )
            case "return":
                reason = ["--reason", "wrong label"] if "--reason" in self._options[verb] else []
                return [*(["--scan", chance.choice(session.scans)] if chance.random() < 0.4 else []), *reason]
        return []

    def _manner(self) -> list[str]:
        chance = self._chance
        mode = chance.choice(("none", "append", "overwrite"))
        words = ["--mode", mode]
        if chance.random() < 0.6:
            # an override keeps both of two datasets, where overwriting is to keep one
            kinds = [kind for kind in self._overridable if (kind, mode) != ("INSTANCE_DIFFERS", "overwrite")]
            words += [word for kind in kinds for word in ("--override", kind)]
            words += ["--reason", "at random"]
        return words


class CommandLine:
    """One administrator: a thread that types commands until it is stopped; they are killed from outside."""

    def __init__(self, root: Path, configuration: Path, folder: Path, *, seed: str) -> None:
        self.seed = seed
        self.codes: Counter[str] = Counter()
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.last: deque[str] = deque(maxlen=40)
        self.longest_seconds = 0.0
        self.kill = (shell := Shell(root, configuration, folder, name=f"line-{seed}")).kill
        self._root = root
        self._plans = folder / f"plans-{seed}"
        self._plans.mkdir()
        self._shell = shell
        self._choice: Choice | None = None
        self._is_paused = threading.Event()
        self._thread = threading.Thread()

    def start(self) -> None:
        """Type on."""
        self._is_paused.clear()
        self._thread = threading.Thread(target=self._work, name=f"command-line-{self.seed}", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Type nothing more; the running command ends by itself. Harmless when it does not run."""
        self._is_paused.set()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Type nothing more, and kill what runs."""
        self._is_paused.set()
        self.kill()
        self.pause()
        self._shell.close()

    def _work(self) -> None:
        try:
            if self._choice is None:
                self._choice = Choice(self.seed, self._shell.offer(), plans=self._plans)
            while not self._is_paused.is_set():
                words = self._choice.command(known_sessions(self._root), known_surveys(self._root))
                self._invoke(words, self._choice.failpoints())
        except Exception as error:  # a driver that died in silence would be a test that tests nothing
            self.problems.append(f"the driver failed: {error!r}")

    def _invoke(self, words: list[str], failpoints: str) -> None:
        said = f"{time.strftime('%X')} prearc {' '.join(words)}   [{'slow' if failpoints == SLOW else failpoints}]"
        began = time.monotonic()
        watchdog = threading.Timer(ANSWER_SECONDS, self._too_long, [said])
        watchdog.start()
        outcome = self._shell.run(*words, failpoints=failpoints)
        watchdog.cancel()
        took_seconds = time.monotonic() - began
        self.longest_seconds = max(self.longest_seconds, took_seconds)
        verb = words[0] if words[0] in ("doctor", "verify") else words[1]
        verb = "survey" if words[0] == "survey" else verb
        self.codes[f"{verb} {outcome.code} {outcome.error_kind}".rstrip()] += 1
        self.last.append(f"{said} -> {outcome.code} {outcome.error_kind} in {took_seconds:.1f} s")
        if outcome.code == 1:
            self.refusals.append(f"{said} -> {outcome.error_kind}: {outcome.error_message}")
        if problem := problem_of(outcome):
            self.problems.append(f"{problem}: {said} -> {outcome}")

    def _too_long(self, said: str) -> None:
        self.problems.append(f"no answer within {ANSWER_SECONDS} s: {said}")
        self.kill()
