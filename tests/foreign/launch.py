"""A program of a library: launch.py NAME ARGUMENT ... .

FOVEATE_LIBRARY, where set, is a folder with another version of it, which goes first.

The wheel of torchvision may be built for another device than torch: its operators for detection are absent
then, and importing it fails, which nnU-Net does when it looks for trainers. They are passed over.
"""

import os
import sys
from importlib.metadata import entry_points

import torch


def import_torchvision():
    """The library, whatever its operators are."""
    real = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    try:
        import torchvision.models
    finally:
        torch.library.register_fake = real
    return torchvision


if __name__ == "__main__":
    if "FOVEATE_LIBRARY" in os.environ:
        sys.path.insert(0, os.environ["FOVEATE_LIBRARY"])
    import_torchvision()
    sys.argv = sys.argv[1:]
    (program,) = entry_points(group="console_scripts", name=sys.argv[0])
    program.load()()
