"""Defaults that a command needs which loads no configuration: loading it takes longer than surveying a scan."""

from pathlib import Path
from typing import Final

ROOT: Final = Path("var")
CONFIG_NAME: Final = "prearc.toml"
TEMPLATE: Final = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"
