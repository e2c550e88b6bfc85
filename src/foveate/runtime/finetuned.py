"""Rebuilds a fine-tuned model from its card, and prepares an image as its training images were."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from foveate.core import config as parsing
from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.suppression import fused
from foveate.core.boxes.tasks import AnyTask, BoxConfig, BoxTask, averaged
from foveate.core.memory import is_out_of_memory
from foveate.core.tasks import DenseTask, ImageTask, TaskConfig
from foveate.core.types import Dimension, FoveateError, Json, Normalisation, Record
from foveate.data.boxes.listing import listed_of
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import CachedVolume
from foveate.data.readers.suffixes import dimension_of
from foveate.data.salts import CACHES
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.layers import laid_out
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.weights import store as weights
from foveate.runtime.config import from_card
from foveate.runtime.precision import Answering, Precision, answering_precision, device_of, set_up_device
from foveate.runtime.processes import plugin_of
from foveate.runtime.registries import TASKS
from foveate.scoring.inference import HOST, Pace, WindowConfig, one_window, out_of_memory
from foveate.scoring.members.doubt import Asked
from foveate.scoring.members.mirrors import Mirror, mirror_images
from foveate.scoring.members.shares import mean_of
from foveate.scoring.segment import Segmentation, TidyConfig, segment
from foveate.train.logging import say

SCRATCH_FOLDER = ".scratch"
ANY_BOX = -1.0  # where a class has one box at most, it is one whether or not they overlap
SAME_BOX = 0.1  # intersection over union of boxes of several networks that count as one


@final
@dataclass(frozen=True, kw_only=True)
class Model:
    """A task with its weights, its card, its device, what it computes in there and how much at once.

    Of several runs, `others` has the further networks: their probabilities are averaged with those of `task`.
    """

    task: AnyTask
    card: weights.Card
    device: torch.device
    precision: Precision = "32-true"
    pace: Pace = field(default_factory=Pace)
    others: tuple[AnyTask, ...] = ()

    @property
    def dense(self) -> bool:
        """Whether it predicts a class for every voxel."""
        return isinstance(self.task, DenseTask)

    @property
    def networks(self) -> tuple[AnyTask, ...]:
        """All that answer."""
        return (self.task, *self.others)

    @property
    def prepare(self) -> PrepareConfig:
        """How its images were prepared."""
        return from_card(PrepareConfig, self.card["intensity"])

    @property
    def same_grid(self) -> bool:
        """Whether preparation neither cuts nor resamples."""
        said: Mapping[str, str] = self.card["intensity"]
        return said.get("spacing_mm", "native") == "native" and said.get("foreground", "keep") != "crop"

    def spared(self) -> str:
        """How many windows were not computed, in words; "" where all were."""
        pace = self.pace
        words = f"{pace.skipped} of {pace.windows} windows held only background and were not computed"
        return words * bool(pace.skipped)

    @property
    def slices(self) -> SlicesConfig | None:
        """How volumes were cut into slices; None where the network sees images as they are."""
        said = self.card.get("slices")
        return None if said is None else from_card(SlicesConfig, said)

    def seen(self, volume: CachedVolume) -> CachedVolume:
        """An image as the network sees it: a volume slice by slice, where it was trained so."""
        if self.slices is None or len(volume.shape) == self.card["dimension"]:
            return volume
        return volume.replaced(cut=self.slices.cut(volume.spacing_mm))

    def dimension_of(self, record: Record) -> int:
        """That of the answer for an image: a volume's slices are put together again."""
        own: int = self.card["dimension"]
        return own if self.slices is None else max(own, dimension_of(record))

    def computing(self) -> AbstractContextManager[None]:
        """Inside, networks compute in this precision, exactly as in training and its validation."""
        return plugin_of(self.precision, self.device.type).forward_context()

    def predicted(self, volume: CachedVolume, mirror: Mirror = "none") -> Tensor:
        """The answer for a whole image (K,), of a task that gives one."""
        return mean_of(self.opinions(volume, mirror))

    def opinions(self, volume: CachedVolume, mirror: Mirror = "none") -> Tensor:
        """What each network answers for a whole image (M, K), or one network for each mirror image."""
        mirrors = mirror_images(mirror, len(volume.shape))
        with memory_explained(self.device, one_window(self.task.patch)), self.computing():
            found = [
                torch.stack([task.predict(volume, axes) for axes in mirrors])
                for task in self.networks
                if isinstance(task, ImageTask)
            ]
        return found[0] if len(found) == 1 else torch.stack([mean_of(each) for each in found])

    def boxes(self, volume: CachedVolume, overlap: float, mirror: Mirror = "none") -> Boxes:
        """Scored boxes in voxels of a whole image, those of all networks and mirror images as one answer."""
        mirrors = mirror_images(mirror, len(volume.shape))
        with memory_explained(self.device, one_window(self.task.patch)), self.computing():
            found = [
                task.predict(volume, overlap, axes)
                for task in self.networks
                if isinstance(task, BoxTask)
                for axes in mirrors
            ]
        config = self.task.config
        if isinstance(config, BoxConfig) and config.places_given:
            return averaged(found)
        least = ANY_BOX if isinstance(config, BoxConfig) and config.one_each else SAME_BOX
        return found[0] if len(found) == 1 else fused(found, least, len(volume.shape))

    def answer(self, images: Tensor) -> Tensor:
        """The outputs for clean images on this device, those of several networks side by side."""
        with self.computing():
            return torch.cat([task.outputs(images) for task in self.networks], 1)


@contextmanager
def memory_explained(device: torch.device, doing: str) -> Iterator[None]:
    """Turn an allocator's error into what to do; `doing`: with or while what memory ran out, in words."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        own = isinstance(error, MemoryError | OSError) or "CPUAllocator" in str(error)
        raise FoveateError(out_of_memory(doing, HOST if own else device)) from error


def open_model(run: str | Sequence[str], accelerator: str, precision: Answering = "auto") -> Model:
    """The task of a run, with its weights, on a device; of several runs, all of their networks."""
    device = device_of(accelerator)
    runs = [run] if isinstance(run, str) else list(run)
    loaded = [load_task(each) for each in runs]
    card = loaded[0][1]
    precisions = [answering_precision(precision, own, accelerator) for _, own in loaded]
    if len(runs) > 1:
        refuse_misfits(
            runs, [traits_of(*both, p[0], accelerator) for both, p in zip(loaded, precisions, strict=True)]
        )
    chosen, words = precisions[0]
    set_up_device(accelerator, float32_matmul=card.get("float32_matmul", "highest"))
    if words:
        say(words)
    if accelerator == "cuda":
        for network, _ in loaded:
            laid_out(network, card["dimension"], "cuda")
    with memory_explained(device, "while the weights were copied there"):
        first, *rest = [network.to(device) for network, _ in loaded]
    pace = Pace(device, tell=say)
    return Model(task=first, card=card, device=device, precision=chosen, pace=pace, others=tuple(rest))


def traits_of(task: AnyTask, card: weights.Card, precision: Precision, accelerator: str) -> dict[str, Json]:
    """What runs must share to answer the same windows together; each normalises its input by itself."""
    shared = ("dimension", "in_channels", "intensity", "slices")
    found: dict[str, Json] = {
        "task": task.config.name,
        "class_names": task.class_names,
        "label_values": task.label_values if isinstance(task, DenseTask) else (),
        "activation": task.activation,
        "patch": task.patch,
        **{key: card.get(key) for key in shared},
        "precision": precision,
        "float32_matmul": card.get("float32_matmul") if accelerator == "cuda" else None,
    }
    return dict(parsing.flatten(found))


def refuse_misfits(runs: Sequence[str], traits: Sequence[Mapping[str, Json]]) -> None:
    """Refuse a run that cannot answer together with the first; the first field that differs is named."""
    known = traits[0]
    for run, mine in zip(runs, traits, strict=True):
        for name in {**known, **mine}:
            if known.get(name) != mine.get(name):
                raise FoveateError(
                    f"--run {run}: its {name} is {mine.get(name)}, that of {runs[0]} is {known.get(name)}; "
                    "accepted: runs of one task with the same classes, windows, channels and preparation."
                )


@contextmanager
def prepared(record: Record, config: PrepareConfig, out: Path) -> Iterator[CachedVolume]:
    """One image as training saw it, in a scratch folder of its own that is gone afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH_FOLDER, dir=out))  # the next image may be read meanwhile
    try:
        listed = listed_of(record) is not None  # places to be scored, which are no labels
        bare = replace(record, maps=record.maps if listed else {}, role="image")
        yield prepare([bare], folder / CACHES, config, lambda _done, _total: None)[0]
    except FoveateError as error:
        raise FoveateError(str(error).partition(f"{record.path}: ")[2] or str(error)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def segment_volume(
    model: Model,
    volume: CachedVolume,
    window: WindowConfig,
    tidy: TidyConfig,
    probabilities: bool = False,
    mirror: Mirror = "none",
    doubt: Asked = "none",
) -> Segmentation:
    """The segmentation of one volume."""
    shape = " x ".join(map(str, volume.shape))
    with memory_explained(model.device, f"while an image of {shape} was segmented"):
        return segment(
            volume,
            model.answer,
            patch=model.task.patch,
            classes=len(model.task.class_names),
            activation=model.task.activation,
            window=window,
            tidy=tidy,
            probabilities=probabilities,
            pace=model.pace,
            members=len(model.networks),
            mirror=mirror,
            doubt=doubt,
        )


def load_task(source: str | Path) -> tuple[AnyTask, weights.Card]:
    """The task of a run folder or a weights file, in evaluation mode, and its card.

    Raises:
        FoveateError: when the weights are those of a pre-training run, or do not fill the task.
    """
    tensors, card = weights.read(source)
    if "task" not in card:
        raise FoveateError(
            f"{source} holds pre-trained weights and no task; accepted: the run folder of `foveate finetune`."
        )
    encoder = from_card(ENCODERS[card["encoder"]["name"]].config, card["encoder"])
    net = build_pyramid(encoder, DecoderConfig(**card["decoder"]), card["dimension"])
    config = task_config(card["task"], card["dimension"], card["normalisation"])
    task = TASKS[config.name].build(net, config)
    assert isinstance(task, AnyTask)
    weights.transfer(task.exported(), tensors, min_share=1.0)
    return task.eval(), card


def task_config(values: Mapping[str, Any], dimension: Dimension, normalisation: Normalisation) -> TaskConfig:
    """The Config of a task from its plain mapping in a card or a cell of a comparison."""
    preset = TASKS[values["name"]].Config.preset(dimension, "small", normalisation)
    return parsing.parse(preset, dict(values), {})
