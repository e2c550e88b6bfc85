"""A fine-tuned run as a module of torch, which predicts files and arrays as `foveate predict` does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from foveate.commands.predict.boxes import in_own_frame, rows_of, shown
from foveate.commands.predict.results import own_labels, own_masks
from foveate.core.boxes.tasks import BoxTask
from foveate.core.tasks import ImageTask
from foveate.core.types import Array, FoveateError, Record
from foveate.data.cache.volumes import CachedVolume
from foveate.data.sources.folder import FolderSource
from foveate.nets.weights.store import Card
from foveate.runtime.finetuned import Model, open_model, prepared, segment_volume
from foveate.runtime.inputs.facts import Gate, as_trained, trained_facts
from foveate.scoring.grids import Grid, source_grid
from foveate.scoring.inference import Pace, WindowConfig
from foveate.scoring.segment import TidyConfig

Answer = Array | dict[str, float] | list[dict[str, Any]]


@final
class LoadedModel(nn.Module):
    """The task of a run, in evaluation mode.

    Attributes:
        card: What is known of the weights.
        class_names: Of the outputs.
    """

    def __init__(self, run: str | Path, accelerator: Literal["cpu", "cuda"] = "cpu") -> None:
        super().__init__()
        self.model: Model = open_model(str(run), accelerator)
        self.task: nn.Module = self.model.task
        self.card: Card = self.model.card
        self.class_names: tuple[str, ...] = self.model.task.class_names

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, *S) with values windowed to [0, 1], to outputs (B, K, *S) or (B, K).

        Axes as the card's `axis_order` says; the softmax or sigmoid is left to the caller.
        """
        return self.model.task.outputs(images)

    @torch.no_grad()
    def predict(
        self, image: str | Path | Array, *, spacing_mm: Sequence[float] = (), force: bool = False
    ) -> Answer:
        """The answer for one image, prepared as the images of training were.

        Args:
            image: A file, a DICOM series as its folder, or an array (x, y, z) or (x, y) with RAS+ axes.
            spacing_mm: Size of a voxel of an array along its axes; 1 mm where nothing is said.
            force: Answer an image, too, that is so unlike those of training that it means nothing.

        Returns:
            A label map on the image's own grid (of classes that overlap, a mask each (K, *S)); of a task
            for whole images its values by name; of one whose answers are boxes, an entry for each as in
            `boxes.json`.
        """
        task = self.model.task
        if isinstance(task, BoxTask) and task.config.places_given:
            raise FoveateError(
                "The run scores places that a table lists, and an image has none; accepted: `foveate predict "
                "--boxes.file TABLE`, or foveate.predict."
            )
        model = replace(self.model, device=self.device, pace=Pace(self.device))
        with as_file(image, spacing_mm) as path, tempfile.TemporaryDirectory() as scratch:
            record = only_image(path, model.card.get("in_channels", 0))
            trained = trained_facts(model.card, by_voxel=model.dense)
            with prepared(record, as_trained(model.prepare, trained), Path(scratch)) as volume:
                seen = model.seen(volume)
                Gate(trained, force=force).warning(record, seen)
                return answer_of(model, record, seen)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(iter(self.parameters()), torch.zeros(())).device

    if TYPE_CHECKING:  # that of nn.Module takes and gives anything

        def __call__(self, images: Tensor) -> Tensor:
            """As `forward`."""


def answer_of(model: Model, record: Record, volume: CachedVolume) -> Answer:
    """The label map, the masks, the values by name, or the boxes."""
    task = model.task
    if isinstance(task, BoxTask):
        sure = shown(model.boxes(volume, WindowConfig().overlap), task.config)
        _, boxes = in_own_frame(model, record, volume, sure)
        return rows_of(boxes, task.class_names, absent=task.config.one_each)
    if isinstance(task, ImageTask):
        return dict(zip(task.class_names, model.predicted(volume).tolist(), strict=True))
    found = segment_volume(model, volume, WindowConfig(), TidyConfig())
    seen = Grid(shape=volume.shape, affine=np.array(volume.entry.affine))
    grid = source_grid(record, seen, unchanged=model.same_grid)
    if found.labels is not None:
        return own_labels(task, found.labels, seen, grid)
    return np.stack([mask for _, mask in own_masks(task, found, seen, grid)])


def only_image(path: Path, channels: int) -> Record:
    """The one image that a path names."""
    images = [r for r in FolderSource(expected=channels).records(path) if r.role == "image"]
    if len(images) != 1:
        raise FoveateError(f"{path}: {len(images)} images were found; accepted: one.")
    return images[0]


@contextmanager
def as_file(image: str | Path | Array, spacing_mm: Sequence[float]) -> Iterator[Path]:
    """A path as it is; an array as a file that is gone afterwards."""
    if isinstance(image, str | Path):
        yield Path(image)
        return
    spacing = tuple(spacing_mm) or (1.0,) * image.ndim
    with tempfile.TemporaryDirectory() as folder:
        if image.ndim == len("xyz") and len(spacing) == image.ndim:
            import nibabel as nib

            path = Path(folder) / "image.nii"
            nib.save(nib.Nifti1Image(np.asarray(image, np.float32), np.diag([*spacing, 1.0])), path)
        elif image.ndim == len("xy") and image.dtype in (np.uint8, np.uint16) and not spacing_mm:
            from PIL import Image

            path = Path(folder) / "image.png"
            Image.fromarray(np.ascontiguousarray(image.T)).save(path)
        else:
            raise FoveateError(
                f"An array of shape {image.shape} and type {image.dtype} with {len(spacing)} spacings; "
                "accepted: (x, y, z) of numbers with a spacing for each axis, or (x, y) of uint8 or uint16 "
                "without."
            )
        yield path
