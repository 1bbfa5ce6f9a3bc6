"""Modalities: which of them make a session what it is, and whether two sets of them belong together."""

from collections.abc import Collection
from typing import Final

NOT_IMAGES: Final = frozenset(
    {
        *("ANN", "AU", "DOC", "FID", "KO", "M3D", "OT", "PLAN", "POS", "PR", "REG", "RWV", "SC", "SEG", "SMR", "SR"),
        *("STAIN", "TEXTUREMAP", "ASMT", "HC"),
        *("RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT"),
        *("ECG", "EEG", "EMG", "EOG", "EPS", "HD", "RESP"),
    }
)
"""Modalities (DICOM PS3.3 C.7.3.1.1.1) of what is made from images or goes along with them."""

HYBRID: Final = frozenset({"PT", "NM"})
"""A scanner of these carries a second one (CT, MR), and both send into one study."""


def image_modalities(modalities: Collection[str]) -> frozenset[str]:
    """Those that make a session what it is, in capitals."""
    names = {modality.strip().upper() for modality in modalities}
    return frozenset(names - NOT_IMAGES - {""})


def are_foreign(incoming: Collection[str], archived: Collection[str], *, is_same_study: bool) -> bool:
    """Whether the image modalities of two sessions say that they do not belong together.

    They do when they share one, when a side has none, and when a hybrid scanner made both parts of one study.
    """
    ours, theirs = image_modalities(incoming), image_modalities(archived)
    if not ours or not theirs or ours & theirs:
        return False
    return not (is_same_study and (ours | theirs) & HYBRID)
