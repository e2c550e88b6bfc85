"""foveate reads a repository in a cache of the hub, without a network: read_hub.py FOLDER.

Lays out the cache as huggingface_hub does, from the folder that `export --format huggingface` wrote.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

REVISION = "0" * 40


def lay_out(exported, cache):
    """A repository owner/name with one revision, `main`."""
    home = cache / "models--owner--name"
    for name in ("blobs", "refs", f"snapshots/{REVISION}"):
        (home / name).mkdir(parents=True)
    (home / "refs" / "main").write_text(REVISION)
    for path in exported.iterdir():
        blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (home / "snapshots" / REVISION / path.name).symlink_to(f"../../blobs/{blob.name}")


def refusal(name):
    import foveate
    from foveate.core.types import FoveateError

    try:
        foveate.load_encoder(name)
    except FoveateError as error:
        return str(error)
    return ""


def main(folder):
    import torch

    import foveate
    from foveate.cli import main as cli

    run = folder / "runs" / "narrow"
    assert cli(["export", str(run), "--format", "huggingface", "--out", str(folder / "hub")]) == 0
    lay_out(folder / "hub", Path(os.environ["HF_HUB_CACHE"]))
    x = torch.rand(1, 1, 64, 96)
    both = foveate.load_encoder(run)(x), foveate.load_encoder("hf:owner/name")(x)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*both, strict=True))
    for name in ("hf:owner/other", "hf:owner/name@another"):
        assert "not in the cache of this machine" in refusal(name)
    print("huggingface   hf:owner/name from the hub's cache: equal")


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "hub-cache")}
    main(place)
