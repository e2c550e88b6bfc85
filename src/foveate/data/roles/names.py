"""What the name of a file and of the folders above it says: that it is a label, and which modality it has."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

LABEL_FOLDER = re.compile(
    r"(labels?|masks?|segs?|segmentations?|annotations?|ground[-_ ]?truths?|gts?|rois?|contours?)"
    r"([-_ ]?(tr|ts|va))?"
)
LABEL_STEM = re.compile(
    r"(^|.*[-_. +])(a?seg|segmentations?|segs?|masks?|labels?|labelmap|gt|ground[-_ ]?truth|roi)\d*"
)
WORD = re.compile(r"[a-z0-9]+")
MODALITY_WORDS = {  # excluded on purpose: pt (patient), cr, us and t1, t2 (time points)
    **dict.fromkeys(("ct", "cbct", "ldct", "cect", "ncct"), "CT"),
    **dict.fromkeys(("mr", "mri", "t1w", "t2w", "t1ce", "t1gd", "flair"), "MR"),
    **dict.fromkeys(("pet", "fdg"), "PT"),
    **dict.fromkeys(("cxr", "xray", "xrays", "radiograph", "radiographs"), "DX"),
    **dict.fromkeys(("mammogram", "mammograms", "mammography"), "MG"),
    **dict.fromkeys(("ultrasound", "sonography"), "US"),
}


def label_evidence(relative: str) -> str:
    """Why a relative path names a label, or "" when nothing says so.

    >>> label_evidence("labelsTr/a.nii.gz"), label_evidence("p1/a_seg.nii.gz"), label_evidence("a.png")
    ('folder labelsTr', 'name ends in seg', '')
    """
    pure = PurePosixPath(relative)
    for folder in pure.parts[:-1]:
        if LABEL_FOLDER.fullmatch(folder.lower()):
            return f"folder {folder}"
    match = LABEL_STEM.fullmatch(_stem(pure.name).lower())
    return f"name ends in {match[2]}" if match else ""


def named_modality(relative: str, root: str = "", *, picture: bool = False) -> str:
    """The modality that the file's name says, else the nearest folder's, else the root's; "" where unclear.

    A picture of a CT has no Hounsfield units any more: nothing of the modality is left to go by.

    >>> named_modality("PET/a_ct.nii.gz"), named_modality("PET/a.nii.gz"), named_modality("a.nii", "ct_mr")
    ('CT', 'PT', '')
    >>> named_modality("ct/a.png", picture=True), named_modality("cxr/a.png", picture=True)
    ('', 'DX')
    """
    pure = PurePosixPath(relative)
    for name in (_stem(pure.name), *reversed(pure.parts[:-1]), root):
        found = {MODALITY_WORDS[word] for word in WORD.findall(name.lower()) if word in MODALITY_WORDS}
        if found:
            modality = found.pop() if len(found) == 1 else ""
            return "" if picture and modality == "CT" else modality
    return ""


def _stem(name: str) -> str:
    """A file's name without its suffix, .nii.gz counting as one."""
    return PurePosixPath(name[:-3] if name.lower().endswith(".gz") else name).stem
