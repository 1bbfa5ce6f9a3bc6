"""The receivers of the interop tests as several processes: PREARC_TEST_PROCESSES says how many; unset: this one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from archive.config import Settings
from archive.rules.policy import Policy
from archive.store.root import prepare
from cli import serve

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROCESSES: Final = int(os.environ.get("PREARC_TEST_PROCESSES", "0"))
PORT: Final = re.compile(r"@127\.0\.0\.1:(\d+)")


@contextmanager
def serving(settings: Settings) -> Iterator[list[int]]:
    """``prearc serve --only scp`` with these settings; the ports it listens on. It ends with 0."""
    text = settings.model_dump_json(exclude_unset=True)
    node = subprocess.Popen(
        [sys.executable, "-m", "tests.interop.several", text],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert node.stderr is not None
        ready = next(line for line in node.stderr if line.startswith("ready "))
        yield list(dict.fromkeys(map(int, PORT.findall(ready))))
        node.terminate()
        _, rest = node.communicate(timeout=60)
        assert node.returncode == 0, rest
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
            node.communicate()


def main() -> None:
    settings = Settings.model_validate_json(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    root = prepare(settings.node.root)
    sys.exit(serve._run_node(root, settings, Policy.compile(settings), receivers=PROCESSES, with_archiver=False))


if __name__ == "__main__":
    main()
