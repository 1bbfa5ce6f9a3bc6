"""What is switched off in pynetdicom and pydicom before the network is used."""

import logging
import warnings

from pynetdicom import _config


def quiet() -> None:
    """Turn off the libraries' own logs; idempotent.

    Their handlers print raw bytes from the network and user identity passwords, and they format every PDU
    even when nobody listens; pydicom warns of each odd UID with its text. prearc logs its own facts,
    escaped. Process-wide, because the libraries' configuration is.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "pydicom"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
