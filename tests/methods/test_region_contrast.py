"""Localized Region Contrast against slow loops, around its bases, and the regions that it draws from."""

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.conftest import blobs

from foveate.commands.finetune import config as finetune_settings
from foveate.commands.finetune.run import finetune
from foveate.commands.pretrain import config as settings, run
from foveate.commands.pretrain.build import build_method
from foveate.core.types import FoveateError, Progress
from foveate.nets.weights import store as weights
from foveate.testing.test_method import first_batch
from foveate.views.regions import Regions, RegionSampling, batch_cells, touching

NAME = "region_contrast"


def built(tiny, dimension=2, **method):
    _, method, batch = first_batch(tiny(dimension, method={"name": NAME, **method}))
    return method.double(), {**batch, "crops": {k: v.double() for k, v in batch["crops"].items()}}


def sorted_views(maps):
    return [Regions(view) for view in maps]


def slow_sampled(anchors, positives, negatives, tau):
    total = []
    for i, anchor in enumerate(anchors):
        for a in anchor:
            logs = []
            for p in positives[i]:
                up = np.exp(a @ p / tau)
                logs.append(np.log(up / (up + sum(np.exp(a @ n / tau) for n in negatives[i]))))
            total.append(-np.mean(logs))
    return np.mean(total)


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_sampling_loss_is_the_slow_double_loop(tiny, dimension):
    method, batch = built(tiny, dimension, sampling={"negatives": 9, "anchors": 3, "positives": 2})
    maps = [method.net(x)[-1] for x in method.views(batch, 0)]
    z = [method.head(x.movedim(1, -1)).detach().flatten(0, -2).numpy() for x in maps]
    z = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in z]
    one, two = method.cells.sides(batch)
    keys, how = batch["index"], method.config.sampling
    ways = []
    for here, there, maps_of, way in ((one, two, z, "1 to 2"), (two, one, z[::-1], "2 to 1")):
        a, p, n = batch_cells(sorted_views(here), sorted_views(there), keys, how, seed=0, way=way)
        for i in range(len(a)):
            ids = {region for cell in a[i] for region in [here.reshape(-1)[cell]]}
            assert len(ids) == 1
            assert {there.reshape(-1)[cell] for cell in p[i]} == ids
            assert not ids & {there.reshape(-1)[cell] for cell in n[i]}
            sample = a[i][0] // here[0].size
            assert all(cell // here[0].size == sample for cell in [*a[i], *p[i], *n[i]])
            assert all(there.reshape(-1)[cell] > 0 for cell in n[i])
        ways.append(slow_sampled(maps_of[0][a], maps_of[1][p], maps_of[1][n], 0.1))
    assert method.region_term(batch, 0).item() == pytest.approx(np.mean(ways), rel=1e-9)


@pytest.mark.parametrize("skip", [False, True])
def test_the_region_mean_variant_is_the_slow_loop(tiny, skip):
    method, batch = built(tiny, region_pool="mean", sampling={"skip_touching": skip, "regions": 99})
    maps = [method.head(method.net(x)[-1].movedim(1, -1)).detach().numpy() for x in method.views(batch, 0)]
    regions = method.cells.sides(batch)
    losses = []
    for i in range(len(maps[0])):
        views = [r[i] for r in regions]
        shared = [r for r in np.unique(views[0]) if r and all((v == r).sum() >= 8 for v in views)]
        mean = [{r: m[i][v == r].mean(0) for r in shared} for m, v in zip(maps, views, strict=True)]
        mean = [{r: x / np.linalg.norm(x) for r, x in each.items()} for each in mean]
        apart = touching(views[0]) | touching(views[1]) if skip else set()
        for a, b in (mean, mean[::-1]):
            for r in shared:
                up = {s: np.exp(a[r] @ b[s] / 0.1) for s in shared if s == r or (r, s) not in apart}
                losses.append(-np.log(up[r] / sum(up.values())))
    assert method.region_term(batch, 0).item() == pytest.approx(np.mean(losses), rel=1e-9)


@pytest.mark.parametrize("base", ["pcrlv2", "byol"])
def test_with_weight_0_it_is_the_base_exactly(tiny, base):
    plain = first_batch(tiny(3, method={"name": base}))
    wrapped = first_batch(tiny(3, method={"name": NAME, "base": {"name": base}, "weight": 0.0}))
    both = {"name": NAME, "base": {"name": base}}
    joint = first_batch(tiny(3, method=both))
    losses = [each[1](each[2], Progress(1, 10, 0)) for each in (plain, wrapped, joint)]
    assert {k: v.item() for k, v in losses[0].items()} == {k: v.item() for k, v in losses[1].items()}
    assert {k: v.item() for k, v in losses[0].items()} == {
        k: v.item() for k, v in losses[2].items() if k != "region"
    }
    for terms in losses:
        torch.stack(list(terms.values())).sum().backward()
    ours = dict(wrapped[1].base.named_parameters())
    added = dict(joint[1].base.named_parameters())
    for name, p in plain[1].named_parameters():
        assert (p.grad is None) == (not p.requires_grad)
        if p.grad is not None:
            assert torch.equal(p.grad, ours[name].grad), name
    trained = [(n, p) for n, p in plain[1].named_parameters() if p.requires_grad]
    moved = [n for n, p in trained if not torch.equal(p.grad, added[n].grad)]
    assert any(n.startswith("net.encoder") for n in moved)


def test_over_byol_the_decoder_is_trained_and_exported(tiny):
    config = tiny(2, method={"name": NAME, "base": {"name": "byol"}}, steps=2)
    method = build_method(config)
    assert len(method.net.decoder.blocks) == 5
    assert len(method.base.net.decoder.blocks) == 0
    before = {k: v.clone() for k, v in method.net.decoder.state_dict().items()}
    assert run.pretrain(config)
    tensors, card = weights.read(config.out)
    assert card["method"]["base"]["name"] == "byol"
    changed = [k for k, v in before.items() if not torch.equal(tensors[f"decoder.{k}"], v)]
    assert {"blocks.0.convs.0.conv.weight", "blocks.4.convs.1.conv.weight"} <= set(changed)


def test_after_trains_the_regions_alone_from_given_weights(tiny):
    first = tiny(2, "first", steps=1, method={"name": "byol"})
    assert run.pretrain(first)
    config = tiny(2, "then", method={"name": NAME, "schedule": "after"}, init=first.out)
    method, batch = first_batch(config)[1:]
    assert list(method(batch, Progress(0, 10, 0))) == ["region"]
    assert list(method.crops) == ["global"]
    assert run.pretrain(config)


def test_draws_belong_to_the_sample_and_not_to_its_batch():
    rng = np.random.default_rng(0)
    one, two = (np.kron(rng.integers(0, 5, (3, 4, 4)), np.ones((1, 4, 4), int)) for _ in range(2))
    how = RegionSampling(negatives=5)
    alone = batch_cells(sorted_views(one[2:]), sorted_views(two[2:]), [12], how, seed=0, way="x")
    together = batch_cells(sorted_views(one), sorted_views(two), [10, 11, 12], how, seed=0, way="x")
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a + 2 * one[0].size, b[-len(a) :])


def test_every_allowed_cell_is_drawn_and_touching_regions_are_not():
    view = np.zeros((1, 6, 6), int)
    view[0, :2], view[0, 2:4], view[0, 4:] = 1, 2, 3
    far, every = (
        batch_cells(
            sorted_views(view),
            sorted_views(view),
            [0],
            RegionSampling(negatives=500, skip_touching=skip),
            seed=0,
            way="x",
        )
        for skip in (True, False)
    )
    flat = view.reshape(-1)
    assert [set(flat[row]) for row in far.negatives] == [
        {3},
        {1},
    ]  # the middle one touches both: not compared
    assert [set(flat[row]) for row in every.negatives] == [{2, 3}, {1, 3}, {1, 2}]
    assert [len(set(row)) for row in every.negatives] == [24] * 3


@pytest.mark.parametrize("pool", ["sample", "mean"])
def test_views_that_share_less_than_two_regions_add_nothing(tiny, pool):
    method, batch = built(tiny, region_pool=pool)
    batch["regions"] = {k: torch.ones_like(v) for k, v in batch["regions"].items()}
    del batch["drawn"]  # it is of the true regions
    term = method.region_term(batch, 0)
    term.backward()
    assert term.item() == 0.0


def test_lambda_rises_over_its_share_of_the_run(tiny):
    method, _ = built(tiny, warmup=0.5, weight=2.0)
    assert [method.weight_at(Progress(step, 8)) for step in (0, 1, 3, 7)] == [0.5, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": {"name": "context_restoration"}}, "looks at one view"),
        ({"stride": 3}, r"method.stride 3: accepted are \(16, 8, 4, 2, 1\)"),
        ({"region_appearance": {"normalisation": "none"}}, "accepted is the base's, imagenet"),
        ({"region_appearance": {"swap_count": 3}}, "move tissue"),
        ({"schedule": "after", "weight": 0.0}, "trains nothing"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, change, message):
    with pytest.raises(FoveateError, match=message):
        build_method(tiny(2, method={"name": NAME, **change}))


def resolved(**flags):
    return settings.SPEC.resolve({}, {"dimension": "3", "method.name": NAME, **flags})


def test_the_base_is_configured_by_its_own_keys():
    config = resolved(**{"method.base.name": "byol", "method.base.momentum": "0.5", "method.weight": "3"})
    assert (config.method.base.name, config.method.base.momentum, config.method.weight) == ("byol", 0.5, 3.0)
    page = settings.SPEC.help_keys({"method.name": NAME, "method.base.name": "byol"}, every=True)
    assert "--method.base.momentum" in page
    assert "--method.base.pixel_weight" not in page
    with pytest.raises(FoveateError, match=r"--method.base.momentum belongs to byol, .*uses pcrlv2"):
        resolved(**{"method.base.momentum": "0.5"})
    with pytest.raises(FoveateError, match=r"--method.base region_contrast: accepted .* are byol"):
        resolved(**{"method.base.name": NAME})
    with pytest.raises(FoveateError, match=r"--method.base.name belongs to region_contrast"):
        settings.SPEC.resolve({}, {"dimension": "3", "method.base.name": "byol"})


def test_after_starts_from_a_supervised_run(tiny, cohorts, tmp_path):
    """Any weights file with an encoder will do: here that of a fine-tuned segmenter."""
    for folder, of in (("imagesTr", lambda x: x.astype(np.int16)), ("labelsTr", lambda x: (x > 500) * 1)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(6):
            name = f"c{i}_0000" if folder == "imagesTr" else f"c{i}"
            image = nib.Nifti1Image(of(blobs((24, 26, 20), i)).astype(np.int16), np.eye(4))
            nib.save(image, tmp_path / "data" / folder / f"{name}.nii.gz")
    flags = {"data": str(tmp_path / "data"), "out": str(tmp_path / "tuned"), "task.name": "segmentation"}
    flags |= {"init": "none", "size": "small", "steps": "1", "validate_every": "1", "batch_size": "2"}
    flags |= {"num_workers": "0", "task.crops.grid": "[16, 16, 16]", "encoder.width": "4"}
    assert finetune(finetune_settings.SPEC.resolve({}, flags))
    config = tiny(
        3, method={"name": NAME, "schedule": "after"}, init=flags["out"], steps=1, optim={"lr": 0.0}
    )
    assert run.pretrain(config)
    supervised, _ = weights.read(flags["out"])
    found, _ = weights.read(config.out)
    encoder = [k for k in supervised if k.startswith("encoder.") and k.endswith("conv.weight")]
    assert encoder
    assert all(torch.equal(found[k], supervised[k]) for k in encoder)
