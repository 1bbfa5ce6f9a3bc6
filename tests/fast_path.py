"""Which way the nodes of a test run take data through the network: past the library's decoder or through it."""

import os
from typing import Final

VARIABLE: Final = "PREARC_TEST_FAST_PATH"
"""An environment variable: "false" runs every node of the tests without the fast path."""


def is_fast_path() -> bool:
    """What this run's nodes have as ``node.fast_path``."""
    return os.environ.get(VARIABLE, "true") != "false"
