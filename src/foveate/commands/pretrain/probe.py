"""The probe of a run: labelled cases found by name, cached like any image, seen as the method sees them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.contracts import CropViews, Method
from foveate.core.dims import LAYERS
from foveate.core.labels import is_missing
from foveate.core.rng import key, stream
from foveate.core.types import FoveateError, Record
from foveate.data.cache.prepare import cache_folder, prepare
from foveate.data.cache.volumes import Cache
from foveate.data.named_sets import paths_of
from foveate.data.readers.suffixes import SUFFIXES, suffix_of
from foveate.nets.layers import cumulative_statistics
from foveate.nets.pyramid import Pyramid
from foveate.runtime.images import of_dimension, seen_in
from foveate.runtime.selection import images_for_pretraining
from foveate.scoring import probes
from foveate.train.health import undisturbed
from foveate.train.logging import say
from foveate.views.pipeline import make_views, normalise, with_channels

CASES = 60  # at most, drawn by the seed
VIEWS = 2  # of each case
VOXELS = 400  # of each view
MASK, LABEL = "labels", "label"


@dataclass(frozen=True, kw_only=True)
class ProbeSet:
    """Labelled views in memory."""

    views: list[CropViews]  # one a case: images (VIEWS, C, *S), maps (VIEWS, *S)
    labels: NDArray[np.str_]  # one a case; empty strings where masks are the labels
    training: NDArray[np.bool_]
    masks: bool


def stem_of(path: Path) -> str:
    """The file name without its suffix, .nii.gz being one."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in SUFFIXES else path.stem


def by_stem(records: list[Record]) -> dict[str, Record]:
    """Images by their stem and by their path below the data."""
    found: dict[str, Record] = {}
    for record in records:
        if (twin := found.get(stem_of(record.path))) is not None:
            raise FoveateError(
                f"--probe: {twin.relative} and {record.relative} have the same stem; accepted: unique stems."
            )
        found[stem_of(record.path)] = record
    return found


def masked_cases(folder: Path, images: Mapping[str, Record]) -> list[Record]:
    """Images that have a mask of their own stem in a folder."""
    masks = [path for path in sorted(folder.iterdir()) if suffix_of(path) in SUFFIXES]
    found = [replace(images[stem_of(path)], maps={MASK: path}) for path in masks if stem_of(path) in images]
    if not found:
        raise FoveateError(
            f"--probe {folder}: {len(masks)} masks, none with the stem of an image below --data; accepted: a "
            "folder of masks named like the images, or one with a labels.csv."
        )
    return found


def listed_cases(table: Path, images: Mapping[str, Record]) -> list[Record]:
    """Images that a labels.csv names (columns image, label and, where known, patient)."""
    with table.open(newline="", encoding="utf-8-sig") as stream_:
        rows = list(csv.DictReader(stream_))
    if not rows or not {"image", "label"} <= set(rows[0]):
        raise FoveateError(
            f"--probe {table}: accepted are columns image, label and patient (may be missing)."
        )
    found = []
    for line, row in enumerate(rows, start=2):
        record = images.get(stem_of(Path(row["image"])))
        if record is None:
            raise FoveateError(
                f"--probe {table}, line {line}: no image below --data is called {row['image']}."
            )
        patient = row.get("patient") or record.patient
        if not is_missing(label := (row["label"] or "").strip()):
            found.append(replace(record, labels={LABEL: label}, patient=patient))
    if missing := len(rows) - len(found):
        say(f"--probe {table}: {missing} of {len(rows)} rows have no label and are excluded")
    return found


def cases_of(config: PretrainConfig) -> tuple[list[Record], bool]:
    """The labelled cases, and whether masks are their labels."""
    trained = [
        image
        for data in paths_of(config.data)
        for image in images_for_pretraining(config.source, data, config.split, config.patient_pattern)
    ]  # never those of a test
    source, images = Path(config.probe), by_stem(of_dimension(trained, config.dimension))
    table = source / "labels.csv" if source.is_dir() else source
    if table.is_file():
        return listed_cases(table, images), False
    if not source.is_dir():
        raise FoveateError(f"--probe {source}: accepted are a folder of masks, or a labels.csv.")
    return masked_cases(source, images), True


def probe_set(config: PretrainConfig, method: Method) -> ProbeSet:
    """Some labelled cases, split by patient, with their views."""
    cases, masks = cases_of(config)
    order = stream(config.seed, "probe cases").permutation(len(cases))[:CASES]
    cases = [cases[i] for i in np.sort(order)]
    target = cache_folder(Path(config.out).parent, Path(config.probe), config.prepare)
    cache = prepare(cases, target, config.prepare, lambda _done, _total: None)
    cache = seen_in(cache, config.dimension, config.slices)
    kept = {case.relative: case for case in cases}
    cases = [kept[volume.relative] for volume in cache]
    labels = np.array([str(case.labels.get(LABEL, "")) for case in cases])
    patients = [case.patient or case.relative for case in cases]
    training = probes.split_patients(patients, labels.tolist(), config.seed)
    if not masks:
        probes.check_classes(labels, training)
    return ProbeSet(views=views_of(cache, method, config.seed), labels=labels, training=training, masks=masks)


def views_of(cache: Cache, method: Method, seed: int) -> list[CropViews]:
    """Views of the size that the method is trained on, neither rotated nor flipped."""
    name, spec = "global", method.crops["global"]
    plain = replace(spec, count=VIEWS, flip_axes=(), rotation_degrees=0.0, zoom=0.0, min_iou=0.0)
    make = partial(make_views, specs={name: plain}, seed=key(seed, "probe views") >> 1)
    return [make(volume, index)[name] for index, volume in enumerate(cache)]


def score(data: ProbeSet, method: Method, fabric: Fabric, seed: int) -> dict[str, float]:
    """Train the small learners on frozen features; nothing of the method changes."""
    with undisturbed(method), torch.no_grad(), fabric.autocast():
        net = cast(Pyramid, method.net)
        with cumulative_statistics(net):  # as before an export: of clean views, here of those that train
            for case in np.flatnonzero(data.training):
                pyramid_of(method, fabric.to_device(data.views[case].images))
        method.eval()
        maps = [pyramid_of(method, fabric.to_device(each.images)) for each in data.views]
    if not all(torch.isfinite(x).all() for scales in maps for x in scales):
        return {}  # nothing to learn from; the loop will stop this run with its own words
    if not data.masks:
        rows = np.stack([x[0].flatten(2).mean((0, 2)).numpy() for x in maps])
        found = probes.case_probe(rows, data.labels, data.training)
    else:
        found = probes.voxel_probe(*voxels_of(maps, data, seed))
    return {f"probe/{name}": value for name, value in found.items()}


def pyramid_of(method: Method, images: Tensor) -> list[Tensor]:
    """The bottleneck and every decoder map, coarse to fine, on the CPU."""
    net = cast(Pyramid, method.net)
    encoded = net.encoder(normalise(with_channels(images[None], net.in_channels)[0], method.normalisation))
    return [x.float().cpu() for x in (encoded[-1], *net.decoder(encoded, len(net.channels)))]


def voxels_of(
    maps: list[list[Tensor]], data: ProbeSet, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of all maps at randomly drawn voxels, the same at every call, with labels and sides."""
    rows, labels, sides = [], [], []
    for case, (scales, views) in enumerate(zip(maps, data.views, strict=True)):
        wanted = views.maps[MASK]
        chosen = stream(seed, "probe voxels", case).integers(wanted[0].numel(), size=VOXELS)
        at = torch.from_numpy(chosen)
        stacked = torch.cat([resized(x, wanted.shape[1:]).flatten(2) for x in scales], dim=1)
        rows.append(stacked[:, :, at].transpose(1, 2).flatten(0, 1).numpy())
        labels.append(wanted.flatten(1)[:, at].flatten().numpy())
        sides.append(np.full(wanted.shape[0] * VOXELS, data.training[case]))
    return np.concatenate(rows), np.concatenate(labels), np.concatenate(sides)


def resized(image: Tensor, shape: torch.Size) -> Tensor:
    """Linear interpolation to a view's grid."""
    return F.interpolate(image, size=tuple(shape), mode=LAYERS[len(shape)].linear_interpolation)


def open_probe(config: PretrainConfig, method: Method, fabric: Fabric) -> Callable[[], dict[str, float]]:
    """The probe that a configuration describes, on whatever the weights are when it is called."""
    data = probe_set(config, method)
    return lambda: score(data, method, fabric, config.seed)
