"""Weights on the Hugging Face hub, or in its cache on this machine, under the name `hf:owner/name`."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from foveate.core.types import FoveateError

PREFIX, WEIGHTS = "hf:", "model.safetensors"
NEEDED = "huggingface_hub"
NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def on_hub(source: str | Path) -> bool:
    """Whether a name means a repository of the hub.

    >>> on_hub("hf:owner/name"), on_hub("runs/hf")
    (True, False)
    """
    return str(source).startswith(PREFIX)


def from_hub(source: str | Path) -> Path:
    """The weights file of a repository, `hf:owner/name` or `hf:owner/name@revision`.

    It is downloaded once into the hub's own cache; with HF_HUB_OFFLINE=1 nothing is asked for. Only the
    safetensors file is taken.

    Raises:
        FoveateError: when it cannot be had.
    """
    name = NAME.fullmatch(str(source).removeprefix(PREFIX))
    if name is None:
        raise FoveateError(f"{source}: accepted are {PREFIX}owner/name and {PREFIX}owner/name@revision.")
    if find_spec(NEEDED) is None:
        raise FoveateError(
            f"{source} needs {NEEDED}: `pip install 'foveate[hub]'`; or download {WEIGHTS} and name the file."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name["repository"], WEIGHTS, revision=name["revision"]))
    except LocalEntryNotFoundError:
        why = "it is not in the cache of this machine, and the hub was not reached (or HF_HUB_OFFLINE is set)"
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = f"the hub has no such file, or refused it ({type(error).__name__})"
    raise FoveateError(
        f"{source}: {WEIGHTS} is not to be had: {why}. Accepted: a repository with the folder that "
        "`foveate export --format huggingface` writes."
    )
