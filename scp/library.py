"""What is switched off in pynetdicom before anything of it runs."""

import logging

from pynetdicom import _config


def quiet() -> None:
    """Turn off the library's own log; idempotent.

    Its handlers print raw bytes from the network and user identity passwords, and they format every PDU
    even when nobody listens. prearc logs its own facts, escaped. Process-wide, because the library's
    configuration is.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    logger = logging.getLogger("pynetdicom")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
