"""Run a program on the pretended CUDA device.

python tests/device/on_device.py PROGRAM.py [ARGUMENT ...]
"""

import os
import runpy
import sys
from pathlib import Path

import guard


def main():
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if reason := guard.why_not():
        raise SystemExit(reason)
    guard.load()
    from torch_cuda import pretended_cuda

    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    with pretended_cuda():
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
