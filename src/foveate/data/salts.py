"""Salts: what makes hashes of names impossible to guess; apart from the hashes, for the owner alone.

A folder that may be passed on (a cache, a comparison) holds the fingerprint of its salt, which tells nothing.
The salt lies in the project's folder beside it, under that fingerprint, with mode 600.
"""

from __future__ import annotations

import os
import re
import secrets
from hashlib import blake2b
from pathlib import Path

from foveate.core.files import OWNER, create_file, replace_file
from foveate.core.types import FoveateError

PROJECT, CACHES = "foveate-project", "foveate-cache"  # beside run folders
SALTS = ".salts"  # in the project's folder
SALT, SALT_ID = "salt", "salt_id"  # the salt itself, as it lay in caches of before; its fingerprint
PLACE = "FOVEATE_PRIVATE"  # environment variable: another folder for salts
SALT_BYTES = 32
OTHERS = 0o007  # any right of anyone


def read_salt(folder: Path) -> bytes:
    """The salt of a folder that may be passed on, drawn when there is none.

    Of two processes that start at once both take one.

    Raises:
        FoveateError: the folder has one, which is not here, or whose reading is not allowed.
    """
    move_out(folder)
    if (folder / SALT).is_file():  # not ours to move
        return _read(folder / SALT)
    path = folder / SALT_ID
    if not path.exists():
        salt = secrets.token_bytes(SALT_BYTES)
        kept = _keep(salt, folder)
        create_file(path, fingerprint(salt).encode())
        if path.read_bytes() != fingerprint(salt).encode():  # another process was faster
            kept.unlink()
    return _look_up(folder, path)


def move_out(folder: Path) -> str:
    """Move a salt that lies in the folder, as in caches of before, to where salts are now; what was done."""
    path = folder / SALT
    if not path.is_file():
        return ""
    if path.stat().st_uid != os.geteuid() or not os.access(folder, os.W_OK):
        return (
            f"{path} hides the names of the images: whoever holds it can test guesses. You cannot move it; "
            f"its owner should run `foveate prepare` once. Leave it out when you pass {folder} on."
        )
    salt = _read(path)
    kept = _keep(salt, folder)
    create_file(folder / SALT_ID, fingerprint(salt).encode())
    path.unlink(missing_ok=True)
    return f"the salt of {folder} lay in it for everyone to read: moved to {kept}, for you alone"


def own_salt(path: Path) -> bytes:
    """A salt that lies where nothing is passed on, drawn when there is none."""
    try:
        if not path.exists():
            create_file(path, secrets.token_bytes(SALT_BYTES), OWNER)
        elif path.stat().st_mode & OTHERS and path.stat().st_uid == os.geteuid():  # of before
            path.chmod(OWNER)
    except OSError as error:
        raise FoveateError(_forbidden(path, error)) from None
    return _read(path)


def fingerprint(salt: bytes) -> str:
    """What tells one salt from another and nothing else."""
    return blake2b(salt, digest_size=16, person=b"foveate salt").hexdigest()


def places(folder: Path) -> list[Path]:
    """Folders in which the salt of a folder may lie, in the order in which they are tried."""
    if given := os.environ.get(PLACE):
        return [Path(given)]
    beside = folder.resolve().parent
    project = (beside.parent if beside.name == CACHES else beside) / PROJECT
    user = os.environ.get("XDG_DATA_HOME") or os.environ.get("HOME", "") + "/.local/share"
    return [project / SALTS, Path(user) / "foveate" / "salts"]


def _keep(salt: bytes, folder: Path) -> Path:
    """Write a salt into the first place that takes it."""
    for place in places(folder):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(exist_ok=True, mode=0o700)
            path = place / fingerprint(salt)
            replace_file(path, lambda stream: stream.write(salt), OWNER)
        except OSError:  # read-only, or another user's
            continue
        return path
    tried = " and ".join(map(str, places(folder)))
    raise FoveateError(
        f"The salt that hides names in {folder} can be kept nowhere: {tried} cannot be written. Set {PLACE} "
        "to a folder of your own that stays."
    )


def _look_up(folder: Path, path: Path) -> bytes:
    key = path.read_bytes().decode("ascii", "replace")
    if not re.fullmatch("[0-9a-f]{32}", key):
        raise FoveateError(f"{path} is damaged: it is no fingerprint of a salt. Delete {folder}.")
    files = [place / key for place in places(folder)]
    for file in files:
        try:
            found = file.is_file()
        except PermissionError as error:
            raise FoveateError(_forbidden(file, error)) from None
        if found and fingerprint(salt := _read(file)) == key:
            return salt
    raise FoveateError(
        f"{folder} was made with a salt that is not here: {' nor '.join(map(str, files))}. Training on it "
        "needs none; to prepare it again or to find its images by name, copy that file from where it was "
        f"made, or name its folder in {PLACE}. Where it is lost, delete {folder} or choose another folder: "
        "the images are then decoded anew."
    )


def _read(path: Path) -> bytes:
    try:
        salt = path.read_bytes()
    except OSError as error:
        raise FoveateError(_forbidden(path, error)) from None
    if len(salt) != SALT_BYTES:
        raise FoveateError(
            f"{path} is no salt: it holds {len(salt)} bytes instead of {SALT_BYTES}. Put it back from a "
            "backup, or delete it and the hashes that were made with it."
        )
    return salt


def _forbidden(path: Path, error: OSError) -> str:
    return (
        f"The salt {path} cannot be used ({error.strerror}). It belongs to whoever began this project or "
        "cache: work in a folder of your own, or have that person let you read it (chmod 640 and chgrp)."
    )
