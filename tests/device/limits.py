"""How often one optimizer step may make the host wait for the device. Each number may only become less.

Name -> (waits, blocking copies) in 2D and in 3D, of steps that do not log, save or measure;
`waits.py` prints today's.
"""

LIMITS = {
    "byol": {2: (0, 0), 3: (0, 0)},
    "context_restoration": {2: (0, 0), 3: (0, 0)},
    "foveate": {2: (0, 0), 3: (0, 0)},
    "masked": {2: (0, 0), 3: (0, 0)},
    "moco": {2: (0, 0), 3: (0, 0)},
    "models_genesis": {2: (0, 0), 3: (0, 0)},
    "pcrlv2": {2: (0, 0), 3: (0, 0)},
    "pgl": {2: (0, 0), 3: (0, 0)},
    "positional": {2: (0, 0), 3: (0, 0)},
    "region_contrast": {2: (0, 0), 3: (0, 0)},
    "simclr": {2: (0, 0), 3: (0, 0)},
    "simsiam": {2: (0, 0), 3: (0, 0)},
    "vicreg": {2: (0, 0), 3: (0, 0)},
    "simsiam, every corruption": {2: (0, 0), 3: (0, 0)},
    "context_restoration, moved_weight 3": {2: (0, 0), 3: (0, 0)},
    "region_contrast, means": {2: (0, 0), 3: (0, 0)},
    "task segmentation": {2: (0, 0), 3: (0, 0)},
    "task segmentation, unlabelled": {2: (0, 0), 3: (0, 0)},
    "task segmentation, unlabelled, overlapping classes": {2: (0, 0), 3: (0, 0)},
    "task classification": {2: (0, 0), 3: (0, 0)},
}


def over(found):
    """The checks of `waits NAME 2D` whose numbers are over their limits."""
    return {check: value for check, value in found.items() if exceeds(check, value)}


def exceeds(check, value):
    name, _, dimension = check.removeprefix("waits ").rpartition(" ")
    return any(n > limit for n, limit in zip(value, LIMITS[name][int(dimension[0])], strict=True))
