"""How often one optimizer step may make the host wait for the device. Each number may only become less.

Name -> (waits, blocking copies) in 2D and in 3D, of steps that do not log, save or measure;
`waits.py` prints today's. The aim is at most one wait and no blocking copy.
"""

LIMITS = {
    "byol": {2: (1, 6), 3: (1, 5)},
    "context_restoration": {2: (1, 1), 3: (1, 1)},
    "masked": {2: (2, 1), 3: (2, 1)},
    "moco": {2: (1, 6), 3: (1, 5)},
    "models_genesis": {2: (1, 7), 3: (1, 7)},
    "pcrlv2": {2: (2, 15), 3: (2, 11)},
    "pgl": {2: (3, 18), 3: (3, 19)},
    "region_contrast": {2: (6, 27), 3: (6, 22)},
    "simclr": {2: (1, 6), 3: (1, 5)},
    "simsiam": {2: (1, 6), 3: (1, 5)},
    "vicreg": {2: (1, 6), 3: (1, 5)},
    "simsiam, every corruption": {2: (1, 26), 3: (1, 36)},
    "context_restoration, moved_weight 3": {2: (2, 2), 3: (2, 2)},
    "region_contrast, means": {2: (16, 24), 3: (16, 19)},
    "task segmentation": {2: (1, 5), 3: (1, 4)},
    "task classification": {2: (1, 5), 3: (1, 4)},
}


def over(found):
    """The checks of `waits NAME 2D` whose numbers are over their limits."""
    return {check: value for check, value in found.items() if exceeds(check, value)}


def exceeds(check, value):
    name, _, dimension = check.removeprefix("waits ").rpartition(" ")
    return any(n > limit for n, limit in zip(value, LIMITS[name][int(dimension[0])], strict=True))
