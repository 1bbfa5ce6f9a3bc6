"""One visit as a hard case: two studies under one label, resends, and SOP Instance UIDs with several datasets."""

import random
from collections.abc import Iterator
from typing import Final

from pydicom.uid import MRImageStorage

from tests.crash.instances import (
    INSTANCES_PER_SERIES,
    SERIES_PER_STUDY,
    SyntheticInstance,
    identified,
    synthetic_instance,
)

STUDIES: Final = 2
INSTANCES: Final = STUDIES * SERIES_PER_STUDY * INSTANCES_PER_SERIES
SUBJECT: Final = "S1"
LABELS: Final = ("VISIT", "VISIT_2")
"""What its instances ask for, and what they are relabelled to."""
VARIANTS: Final = 3
NEW_SHARE: Final = 0.5
VARIANT_SHARE: Final = 0.15


def visit_instances(seed: int, *, first: int = 0, step: int = 1, project: str = "CRASH") -> Iterator[SyntheticInstance]:
    """Endless traffic of a bounded visit: half of it new until all is sent, resends, now and then other bytes."""
    chance = random.Random(f"visit {seed} {first}")
    numbers = list(range(first, INSTANCES, step))
    chance.shuffle(numbers)
    sent = 0
    while True:
        if sent < len(numbers) and (sent == 0 or chance.random() < NEW_SHARE):
            sent += 1
            yield visit_instance(seed, numbers[sent - 1], project=project)
            continue
        number = numbers[chance.randrange(sent)]
        is_variant = chance.random() < VARIANT_SHARE
        yield visit_instance(seed, number, variant=chance.randrange(1, VARIANTS) if is_variant else 0, project=project)


def visit_instance(seed: int, number: int, *, variant: int = 0, project: str = "CRASH") -> SyntheticInstance:
    """Instance `number` of the visit; variant 1 has another header and variant 2 other pixels under the same UID."""
    dataset = synthetic_instance(seed, number, project=project).dataset
    dataset.SOPClassUID = MRImageStorage
    dataset.Modality = "MR"
    dataset.PatientName = f"Crash^Seed{seed}"
    dataset.PatientID = f"CRASH-{seed}"
    dataset.StationName = "STATION"
    dataset.DeviceSerialNumber = "1"
    dataset.PatientComments = f"Project:{project} Subject:{SUBJECT} Session:{LABELS[0]}"
    if variant == 1:
        dataset.SeriesDescription = "Renamed at the scanner"
    elif variant == 2:
        dataset.PixelData = bytes(reversed(dataset.PixelData))
    return identified(dataset)
