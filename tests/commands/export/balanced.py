"""Images without a symmetry, and a run changed so that every class is somewhere in its answers."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from tests.nets.weights.untrained import ramp

from foveate.commands.predict.model import only_image
from foveate.nets.weights import store as weights
from foveate.runtime.finetuned import load_task, open_model, prepared


@torch.no_grad()
def balance(run, images):
    """Shift and stretch the last layer: over the first image all classes have the same mean and deviation."""
    task, card = load_task(run)
    model = open_model(str(run), "cpu")
    path = min(Path(images).iterdir())
    with prepared(only_image(path, card["in_channels"]), model.prepare, Path(run) / "scratch") as volume:
        seen = model.seen(volume)
        part = seen if seen.planes is None else seen.planes[len(seen.planes) // 2]
        whole = torch.from_numpy(part.read([0] * len(part.shape), part.shape))[None]
    stride = task.net.stride
    sizes = [n // stride * stride for n in whole.shape[2:]]
    logits = task.outputs(whole[(..., *map(slice, sizes))]).transpose(0, 1).flatten(1)
    scale = 1 / logits.std(1).clamp_min(1e-6)
    head = task.heads[str(task.scales[0])]
    head.weight.mul_(scale.reshape(-1, *[1] * (head.weight.ndim - 1)))
    head.bias.copy_((head.bias - logits.mean(1)) * scale)
    folder = weights.locate(run).parent
    weights.save(task.exported(), {k: v for k, v in card.items() if k != "weights_sha256"}, folder)
    return folder


def write_scan(folder):
    """A volume that is different along every axis and lies askew, and one smaller than a window."""
    folder.mkdir()
    affine = np.array([[0, -1.2, 0, 5], [0.7, 0, 0, -3], [0, 0, -2.5, 9], [0, 0, 0, 1]])
    for name, shape, kind in (("a", (40, 23, 18), np.int16), ("b", (30, 21, 9), np.float32)):
        values = (1000 * ramp(*shape)[0, 0].numpy()).astype(kind) + 100 * np.random.default_rng(0).normal(
            size=shape
        ).astype(kind)
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}.nii.gz")


def write_picture(folder):
    """A picture that is different along both axes."""
    folder.mkdir()
    picture = (255 * ramp(100, 70)[0, 0].numpy()).astype(np.uint8)
    picture[20:60, 10:30] = 255 - picture[20:60, 10:30]
    Image.fromarray(picture.T).save(folder / "a.png")
