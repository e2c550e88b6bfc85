"""Opens regular files only, and of the files that a header points to only those within the data.

A name in a header is untrusted text: it must be a plain name, what it leads to must lie where the header
lies or below the folder that was given as `--data`, and it must be a file, not a device that never ends.
"""

from __future__ import annotations

import os
import stat
import sys
from io import BufferedReader
from pathlib import Path, PurePath

from foveate.data.readers.refusals import RefusalError

if sys.platform == "win32":
    FLAGS, NO_LINK = os.O_RDONLY | os.O_BINARY, 0
else:
    FLAGS, NO_LINK = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, os.O_NOFOLLOW


def open_regular(path: Path, flags: int = 0) -> BufferedReader:
    """Opens a file for reading; what is no regular file is refused before a byte is read.

    The descriptor that was opened is asked, so nothing can be put in its place; a pipe does not block.
    """
    descriptor = os.open(path, FLAGS | flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RefusalError("it is no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def size_of(file: BufferedReader) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def beside(header: Path, name: str, root: Path | None) -> Path:
    """Where the file is to which a header points, with its links resolved.

    Raises:
        RefusalError: the name is no plain one, or a link leads out of `root` (unknown: the header's folder).
    """
    if not _is_plain(name):
        raise RefusalError("its data are not in one file beside it; convert it to one file (.mha or .nrrd)")
    folder = Path(os.path.realpath(header.parent))
    found = Path(os.path.realpath(folder / name))
    if found != folder / name and not found.is_relative_to(os.path.realpath(root or folder)):
        raise RefusalError("the link to its data leads out of the data's folder; put the file itself there")
    return found


def open_beside(header: Path, name: str, root: Path | None) -> BufferedReader:
    """Opens the file to which a header points.

    Raises:
        RefusalError: as `beside`, or there is no such file.
    """
    try:
        return open_regular(beside(header, name, root), NO_LINK)
    except FileNotFoundError:
        raise RefusalError("the file with its data is not beside it") from None


def _is_plain(name: str) -> bool:
    """Whether a name is one file in the same folder: no path, no list, no pattern."""
    listed = "%" in name or name.upper().split()[:1] == ["LIST"]
    return PurePath(name).name == name and name != ".." and "\\" not in name and not listed
