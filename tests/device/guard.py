"""Loads `guard.cpp`, which is built on first use, into the process: before torch, which looks for it once."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
COMPILER = os.environ.get("CXX", "g++")
loaded = False


def built():
    """The shared library, kept in a folder of this user's own for the next process."""
    torch = Path(find_spec("torch").origin).parent
    made_of = SOURCE.read_bytes() + (torch / "version.py").read_bytes()
    folder = Path(tempfile.gettempdir()) / f"foveate-pretended-cuda-{os.getuid()}"
    library = folder / f"{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            flags = ["-shared", "-fPIC", "-O0", "-w", "-std=c++20", f"-I{torch / 'include'}"]
            out = Path(scratch) / "guard.so"
            subprocess.run([COMPILER, *flags, str(SOURCE), "-o", str(out)], check=True)
            out.rename(library)  # at once, whoever else builds it
    return library


def why_not():
    """Why there can be no pretended device here; empty where there can."""
    if sys.platform != "linux":
        return "the pretended CUDA device is built on Linux only"
    found = shutil.which(COMPILER)
    return "" if found else f"the pretended CUDA device needs a C++ compiler, and there is no {COMPILER}"


def load():
    """Both libraries with their symbols for all."""
    global loaded  # noqa: PLW0603 (a process has it or not)
    if "torch" in sys.modules:
        raise ImportError("guard must be loaded before torch, which asks for CUDA's hooks only once")
    library = built()
    torch = Path(find_spec("torch").origin).parent
    for path in (torch / "lib" / "libtorch_cpu.so", library):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    loaded = True
