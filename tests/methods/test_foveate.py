"""One comparison over places: the pairs of published methods, on real views, and the terms that count."""

import numpy as np
import pytest
import torch
from tests.conftest import tiny_keys

from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC
from foveate.core.types import FoveateError, Progress
from foveate.losses.places import Kernel, sites
from foveate.methods import context_restoration
from foveate.methods.positional import Positional
from foveate.testing.cohorts import write_volume
from foveate.testing.test_method import first_batch
from foveate.views.alignment import REACH, Sites, read_at
from foveate.views.regions import Regions

START = Progress(0, 10, 0)
BOTH = pytest.mark.parametrize("dimension", [2, 3])


def built(tiny, dimension, name="foveate", **keys):
    _, method, batch = first_batch(tiny(dimension, method={"name": name, **keys}, batch_size=3))
    return method, batch


def source_voxels(batch, at):
    """Where cells lie in their images, one by one."""
    affines, view = batch["affines"]["global"].double().numpy(), np.array(batch["crops"]["global"].shape[3:])
    found = np.empty(at.shape)
    for b, v, c in np.ndindex(*at.shape[:3]):
        index = (at[b, v, c].numpy() + 1) / 2 * view - 0.5
        found[b, v, c] = affines[b, v, :, :-1] @ index + affines[b, v, :, -1]
    return found


def pairs_of(kernel, cells):
    return {(i, j) for i, j in (kernel(cells) > 0).nonzero().tolist()}


def numbered(at):
    """(row, sample, view, cell) of every cell."""
    return [(row, *where) for row, where in enumerate(np.ndindex(*at.shape[:3]))]


@BOTH
def test_cells_lie_where_the_affines_say(tiny, dimension):
    _, batch = built(tiny, dimension)
    found = Sites(crop="global", cells=8).draw(batch, 0)
    voxels, at = source_voxels(batch, found["at"]), found["at"]
    spacing, extent = (batch[name].double().numpy()[:, None, None] for name in ("spacing", "extent"))
    assert np.allclose(found["place"][:, :, :-1], voxels * spacing)
    assert np.allclose(found["position"][:, :, :-1], np.clip((voxels + 0.5) / extent, 0, 1))
    assert (at.abs() <= REACH + 1e-6).all()
    affines, view = batch["affines"]["global"].double().numpy(), batch["crops"]["global"].shape[3:]
    for b, v in np.ndindex(*at.shape[:2]):
        linear = affines[b, v, :, :-1]
        cell = np.abs(np.linalg.det(linear)) * np.prod(batch["spacing"][b].numpy())
        assert np.allclose(found["width"][b, v, :-1] ** dimension, cell, rtol=1e-5)
        assert np.allclose(found["width"][b, v, -1] ** dimension, cell * np.prod(view), rtol=1e-5)
        corners = [linear @ (np.array(c) * view / 2) for c in np.ndindex(*[2] * dimension)]
        corners += [linear @ ((2 * np.array(c) - 1) * view / 2) for c in np.ndindex(*[2] * dimension)]
        reach = 2 * np.max(np.abs(corners), 0)
        assert np.allclose(found["extent"][b, v, -1], reach / batch["extent"][b].numpy(), rtol=1e-5)


@BOTH
def test_a_cell_is_seen_in_every_view_that_shows_its_place(tiny, dimension):
    _, batch = built(tiny, dimension)
    at = Sites(crop="global", cells=12).draw(batch, 0)["at"]
    voxels, alike = source_voxels(batch, at), 0
    for b, c in np.ndindex(at.shape[0], at.shape[2]):
        own, other = c % 2, 1 - c % 2
        affine = batch["affines"]["global"][b, other].double().numpy()
        index = np.linalg.solve(affine[:, :-1], voxels[b, own, c] - affine[:, -1])
        unit = (index + 0.5) * 2 / batch["crops"]["global"].shape[3:] - 1
        same = np.allclose(voxels[b, own, c], voxels[b, other, c], atol=1e-3)
        assert same == (np.abs(unit) <= REACH).all()
        alike += same
    assert 3 <= alike < at.shape[0] * at.shape[2]


def test_slices_of_volumes_know_where_they_lie(tmp_path):
    """Slices whose brightness says which they are: the third number of their positions is that slice's."""
    (tmp_path / "data").mkdir()
    for i in range(3):
        level = np.broadcast_to(np.linspace(100, 200, 5, dtype=np.float32), (72, 64, 5)).copy()
        level[:20] = 0
        level += np.random.default_rng(i).normal(0, 2, level.shape)
        write_volume(tmp_path / f"data/v{i}.nii.gz", level)
    keys = tiny_keys(2, tmp_path / "data", tmp_path / "run", {"name": "foveate"}, batch_size=6)
    _, method, batch = first_batch(SPEC.from_keys(keys))
    place = (batch["slice"][:, 1].double() + 0.5) / 5
    assert len(set(place.tolist())) > 2
    brightest = batch["crops"]["global"].flatten(1).amax(1)
    assert (brightest[place.argsort(stable=True)].diff() > -0.05).all()
    found = method.sites.draw(batch, 0)
    assert torch.equal(found["position"][..., 2], place[:, None, None].expand(6, 2, 17))
    assert not found["extent"][..., 2].any()
    positional = Positional.places(method_of(tmp_path, "positional"), batch, 0)
    assert torch.equal(positional.position[:, 0], place.repeat_interleave(2).float())
    losses = method(batch, START)
    assert all(torch.isfinite(x) for x in losses.values())


def method_of(tmp_path, name):
    return build_method(SPEC.from_keys(tiny_keys(2, tmp_path / "data", tmp_path / "run", {"name": name})))


@BOTH
def test_the_pairs_of_pgl(tiny, dimension):
    """The same place in the other view of the same image."""
    method, batch = built(tiny, dimension)
    found = method.sites.draw(batch, 0)
    voxels, rows = source_voxels(batch, found["at"]), numbered(found["at"])
    slow = {
        (i, j)
        for i, b, v, c in rows
        for j, d, w, e in rows
        if b == d and v != w and np.abs(voxels[b, v, c] - voxels[d, w, e]).max() < 1e-3
    }
    assert slow
    assert pairs_of(Kernel(sigma=1e-4, gamma=0.0), sites(found, 1)) == slow


@BOTH
def test_the_pairs_of_pcrlv2_and_of_positional_contrast(tiny, dimension):
    method, batch = built(tiny, dimension)
    found = method.sites.draw(batch, 0)
    views = [(i, i // 2) for i in range(6)]
    slow = {(i, j) for i, b in views for j, d in views if b == d and i != j}
    assert pairs_of(Kernel(sigma=torch.inf, gamma=0.0), sites(found, 0)) == slow
    positional, _ = built(tiny, dimension, "positional", threshold=0.06)
    middle = source_voxels(batch, torch.zeros(3, 2, 1, dimension, dtype=torch.float64))[:, :, 0, -1]
    along = ((middle + 0.5) / batch["extent"][:, -1:].numpy()).clip(0, 1).reshape(-1)
    slow |= {(i, j) for i, b in views for j, d in views if b != d and abs(along[i] - along[j]) < 0.06}
    assert 6 < len(slow) < 30
    assert pairs_of(positional.kernel, positional.places(batch, 0)) == slow


def test_the_pairs_of_region_contrast(tiny):
    """Cells of one super-pixel in both views; cells of no super-pixel have none."""
    method, batch = built(tiny, 2, kernel={"gated": True, "sigma": float("inf"), "gamma": 0.0}, cells=40)
    found = method.sites.draw(batch, 0)
    maps, size = batch["regions"]["superpixels/global"].numpy(), np.array(batch["crops"]["global"].shape[3:])
    where = np.rint((found["at"].numpy() + 1) / 2 * size - 0.5).astype(int)
    region = [int(maps[b, v][tuple(where[b, v, c])]) for _, b, v, c in numbered(found["at"])]
    rows = numbered(found["at"])
    slow = {
        (i, j)
        for i, b, v, _ in rows
        for j, d, w, _ in rows
        if b == d and v != w and region[i] == region[j] > 0
    }
    assert slow
    assert 0 in region
    assert len(Regions(maps[0, 0]).ids) > 1
    assert pairs_of(method.config.kernel, sites(found, 1)) == slow


@BOTH
def test_restoration_alone_is_context_restoration(tiny, dimension):
    off = {"whole_weight": 0.0, "cells_weight": 0.0, "middle_weight": 0.0}
    method, batch = built(tiny, dimension, **off)
    c = method.config
    config = context_restoration.Config(global_crops=c.global_crops, global_appearance=c.global_appearance)
    other = context_restoration.build(method.net, config)
    other.restore = method.restore
    losses = method(batch, START)
    assert list(losses) == ["pixel"]
    assert losses["pixel"].item() == pytest.approx(other(batch, START)["restoration"].item(), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "terms", "blocks"),
    [
        ({"whole_weight": 0.0}, ["cells", "pixel", "middle"], 3),
        ({"pixel_weight": 0.0, "levels": [-1, 0]}, ["whole", "cells", "middle"], 3),
        ({"pixel_weight": 0.0, "middle_weight": 0.0}, ["whole", "cells"], 2),
        ({"pixel_weight": 0.0, "middle_weight": 0.0, "levels": []}, ["whole"], 0),
        ({"pixel_weight": 0.0, "middle_weight": 0.0, "whole_weight": 0.0, "levels": [-2]}, ["cells"], 0),
    ],
)
def test_a_weight_of_0_leaves_a_term_out_and_every_weight_has_a_gradient(tiny, change, terms, blocks):
    method, batch = built(tiny, 3, **change)
    assert len(method.net.decoder.blocks) == blocks
    for step in (0, 1):
        method.zero_grad()
        losses = method(batch, Progress(step, 10, 0))
        assert list(losses) == terms
        sum(losses.values()).backward()
        assert [n for n, p in method.named_parameters() if p.grad is None] == []


def test_maps_are_read_at_the_places_of_their_views():
    """A map of coordinates gives the coordinates back."""
    lines = [torch.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in (8, 4, 6)]
    maps = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
    at = torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
    torch.testing.assert_close(read_at(maps, at), at, rtol=1e-5, atol=1e-5)


def test_the_share_of_cells_that_another_image_has_something_for_is_measured(tiny):
    method, batch = built(tiny, 2, levels=[0])
    found = method.measures(batch, START)
    assert sorted(found) == ["positives/stride16", "positives/whole"]
    cells = sites(method.sites.draw(batch, 0), 16)
    table = method.config.kernel.other_samples(cells).numpy()
    assert found["positives/stride16"].item() == pytest.approx((table.sum(1) > 0).mean())
    alone, _ = built(tiny, 2, levels=[0], kernel={"falloff": "step", "rho": 0.02})
    assert alone.measures(batch, START)["positives/stride16"].item() < 1


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("foveate", {"levels": [7]}, r"method.levels: \(7,\) does not fit this network; accepted: some of"),
        ("foveate", {"cells": 0}, "accepted are 2 views, 1 cell"),
        (
            "foveate",
            dict.fromkeys(("whole_weight", "cells_weight", "pixel_weight", "middle_weight"), 0.0),
            "one must count",
        ),
        ("positional", {"threshold": 0.0}, r"method.threshold 0.0: accepted"),
        ("positional", {"global_crops": {"count": 1}}, r"method.global_crops.count: accepted"),
    ],
)
def test_what_trains_nothing_is_refused(tiny, name, wrong, message):
    with pytest.raises(FoveateError, match=message):
        build_method(tiny(2, method={"name": name, **wrong}))
