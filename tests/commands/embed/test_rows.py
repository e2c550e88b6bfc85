"""What rows are, against slow loops: regions, places, tiles; several processes, parts of a split, the map."""

import csv
import json
from contextlib import nullcontext

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from tests.nets.weights.untrained import write_run

from foveate import embed as from_python, load_encoder
from foveate.cli import main
from foveate.commands.embed import (
    config as settings,
    features,
    layout,
    likeness,
    picture,
    run as commands,
    share,
)
from foveate.core import config as parsing
from foveate.core.types import FoveateError
from foveate.views.pipeline import normalise

SIDE = 64


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    card = {"views": {"global": [SIDE, SIDE]}}
    return write_run(tmp_path_factory.mktemp("run"), 2, "resnet10", width=4, card=card)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three labelled pictures; the second is wider, the third nearly the first."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    grey = [rng.integers(0, 255, (width, SIDE), np.uint8) for width in (SIDE, 96, SIDE)]
    grey[2] = np.uint8(np.clip(grey[0] + rng.integers(0, 2, grey[0].shape), 0, 255))
    for i, values in enumerate(grey):
        mask = np.zeros(values.shape, np.uint8)
        mask[5:20, 30:50] = 1
        mask[50:51, 7:8] = 2 + i  # a single pixel
        Image.fromarray(values.T).save(folder / "images" / f"p{i}.png")
        Image.fromarray(mask.T).save(folder / "labels" / f"p{i}.png")
    return folder


def embed(run, data, out, *more):
    flags = ["--run", str(run), "--data", str(data), "--out", str(out), "--num_workers", "0"]
    return main(["embed", *flags, "--batch_size", "2", "--pictures", "0", *more])


def table(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def features_in(out):
    return np.load(out / "features.npy", allow_pickle=False)


def sampled(run, data, name):
    """The picture as the encoder sees it, (x, y) in [0, 1], and its mask."""
    values = np.asarray(Image.open(data / "images" / name), np.float64).T
    low, high = np.percentile(values, (0.5, 99.5))
    return ((values - low) / (high - low)).clip(0, 1), np.asarray(Image.open(data / "labels" / name)).T


@torch.no_grad()
def spread_maps(run, image):
    """Maps of an image of the size of the grid, cells repeated over their pixels, side by side (x, y, D)."""
    x = normalise(torch.from_numpy(image).float()[None, None], "zscore")
    columns = []
    for each in load_encoder(run)(x):
        values = each[0].numpy()
        step = image.shape[0] // values.shape[1]
        columns.append(values.repeat(step, 1).repeat(step, 2))
    return np.moveaxis(np.concatenate(columns), 0, -1)


def close(found, wanted):
    return np.abs(found - wanted).max() <= 0.02 * np.abs(wanted).max()  # intensities are kept in 8 bits


# ---------------------------------------------------------------- regions, places, tiles


def test_a_row_of_a_region_is_the_mean_over_its_pixels(run, data, tmp_path):
    assert embed(run, data, tmp_path / "out", "--labels") == 0
    rows, found = table(tmp_path / "out" / "rows.csv"), features_in(tmp_path / "out")
    assert [row["label"] for row in rows] == ["1", "2", "1", "3", "1", "4"]
    image, mask = sampled(run, data, "p0.png")
    maps = spread_maps(run, image)
    for number, value in ((0, 1), (1, 2)):
        assert close(found[number], maps[mask == value].mean(0))
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["pooling"].startswith("mean over a region")
    assert card["regions"] == "labels"


def test_a_row_of_a_place_is_the_mean_over_its_box(run, data, tmp_path):
    assert embed(run, data / "images" / "p0.png", tmp_path / "out", "--grid_mm", "20") == 0
    rows, found = table(tmp_path / "out" / "rows.csv"), features_in(tmp_path / "out")
    assert len(rows) == 9
    maps = spread_maps(run, sampled(run, data, "p0.png")[0])
    for number, row in enumerate(rows):  # boxes of 20 pixels between the borders of 2
        x, y = (round(float(row[key]) + 0.5) for key in ("x_mm", "y_mm"))
        assert (x, y) == (12 + 20 * (number // 3), 12 + 20 * (number % 3))
        assert close(found[number], maps[x - 10 : x + 10, y - 10 : y + 10].mean((0, 1)))


def test_a_row_of_a_tile_is_the_image_of_its_own_voxels_there(run, data, tmp_path):
    assert embed(run, data / "images", tmp_path / "out", "--tiles") == 0
    rows, found = table(tmp_path / "out" / "rows.csv"), features_in(tmp_path / "out")
    assert [row["x_mm"] for row in rows] == ["31.5", "31.5", "63.5", "31.5"]
    image, _ = sampled(run, data, "p1.png")
    for number, start in ((1, 0), (2, 32)):
        assert close(found[number], spread_maps(run, image[start : start + SIDE]).mean((0, 1)))


def test_regions_in_tiles_are_weighted_by_what_every_tile_shows(run, data, tmp_path):
    assert embed(run, data, tmp_path / "out", "--labels", "--tiles") == 0
    image, mask = sampled(run, data, "p1.png")
    sums, count = 0, 0
    for start in (0, 32):
        part = slice(start, start + SIDE)
        inside = spread_maps(run, image[part])[mask[part] == 1]
        sums, count = sums + inside.sum(0), count + len(inside)
    assert close(features_in(tmp_path / "out")[2], sums / count)


def test_regions_of_slices_are_rows_where_they_are(run, tmp_path):
    rng = np.random.default_rng(0)
    mask = np.zeros((70, 40, 4), np.uint8)
    mask[3:30, 5:9, 1:3], mask[60, 30, 2] = 2, 7
    for kind, values in (("images", rng.integers(0, 99, mask.shape).astype(np.int16)), ("labels", mask)):
        (tmp_path / kind).mkdir()
        affine = np.diag([1, 1, 5, 1]) + np.array([[0, 0, 0, shift] for shift in (10, 20, 30, 0)])
        nib.save(nib.Nifti1Image(values, affine), tmp_path / kind / "a.nii.gz")
    assert embed(run, tmp_path, tmp_path / "out", "--labels") == 0
    rows = table(tmp_path / "out" / "rows.csv")
    assert [(row["slice"], row["label"]) for row in rows] == [("1", "2"), ("2", "2"), ("2", "7")]
    assert embed(run, tmp_path / "images", tmp_path / "places", "--grid_mm", "40") == 0
    middles = [
        [float(row[key]) for key in ("x_mm", "y_mm", "z_mm")]
        for row in table(tmp_path / "places" / "rows.csv")
    ]
    assert middles == [[44.5, 39.5, z] for z in (30, 35, 40, 45)]


def test_amounts_in_cells_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (7, 5, 6))

    window = layout.Window(0, (-1, 0, 2), (7, 5, 8))  # it sticks out on two sides
    cells = (4, 2, 3)
    mapped = layout.Mapped(values[:, :, 2:], (0, 0, 2))
    found = layout.region_amounts(mapped, window, np.array([1, 2]), cells)
    wanted = np.zeros((2, *cells))
    fine = 20  # points along a voxel
    for voxel in np.ndindex(values.shape):
        if not values[voxel]:
            continue
        lines = []
        for at, low, high, count in zip(voxel, window.low, window.high, cells, strict=True):
            points = (at + (np.arange(fine) + 0.5) / fine - low) / (high - low) * count
            inside = points[(points >= 0) & (points < count)].astype(int)
            lines.append(np.bincount(inside, minlength=count) / fine)
        wanted[values[voxel] - 1] += np.einsum("a,b,c->abc", *lines)
    assert np.allclose(found, wanted, atol=1e-5)


def test_contradictions_are_refused(run, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(settings, "find_spec", lambda _name: None)  # as where umap-learn is not installed
    for words, flags in (
        ("accepted is one of them", ("--labels", "--grid_mm", "3")),
        ("accepted are lengths in mm", ("--grid_mm", "-1")),
        ("accepted with --labels true", ("--pairs", "{case}.png")),
        ("accepted are whole numbers from 1", ("--devices", "0")),
        ("pip install 'foveate[embed]'", ("--projection", "umap", "--pictures", "3")),
    ):
        assert embed(run, data, tmp_path / "out", *flags) == 2
        assert words in capsys.readouterr().err


# ---------------------------------------------------------------- processes


def test_several_processes_fill_one_table(run, data, tmp_path, monkeypatch):
    keys = {"run": str(run), "data": str(data), "labels": True, "pictures": 0, "batch_size": 2}
    alone = from_python(**keys, out=tmp_path / "alone", num_workers=1)
    started = []

    def one_after_the_other(entry, config, _hint):
        assert entry == share.RANK
        path = tmp_path / "config.yaml"
        path.write_text(parsing.to_yaml(config))
        for rank in range(config.devices):
            monkeypatch.setenv("LOCAL_RANK", str(rank))
            done = np.load(tmp_path / "many" / "done.npy").tolist()
            started.append(done)
            assert commands.one_of_several(path) is share.Ending.FINISHED
        return share.Ending.FINISHED

    monkeypatch.setattr(share, "run_processes", one_after_the_other)
    monkeypatch.setattr(commands.CONSOLE, "quiet", False)
    many = from_python(**keys, out=tmp_path / "many", num_workers=0, devices=2)
    assert started == [[False] * 3, [True, True, False]]
    assert np.array_equal(alone.features, many.features)
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("grid: []", "grid: [32, 32]"))
    with pytest.raises(FoveateError, match="changed meanwhile"):
        commands.one_of_several(tmp_path / "config.yaml")


@pytest.mark.parametrize(("order", "ending"), [(1, "STOPPED"), (2, "REQUEUE")])
def test_a_process_that_is_told_to_stop_keeps_what_is_done(run, data, tmp_path, monkeypatch, order, ending):
    def stopped(entry, config, _hint):
        path = tmp_path / "config.yaml"
        path.write_text(parsing.to_yaml(config))
        monkeypatch.setenv("LOCAL_RANK", "0")
        return commands.one_of_several(path)

    monkeypatch.setattr(share, "run_processes", stopped)
    monkeypatch.setattr(commands, "stop_signals", lambda: nullcontext({"order": order}))
    monkeypatch.setattr(commands.CONSOLE, "quiet", False)
    keys = {"run": str(run), "data": str(data), "out": str(tmp_path / "out"), "labels": True, "pictures": 0}
    config = commands.SPEC.from_keys({**keys, "batch_size": 1, "num_workers": 0, "devices": 2})
    assert commands.run_embed(config) is share.Ending[ending]
    assert np.load(tmp_path / "out" / "done.npy").sum() == 1


@pytest.mark.slow
def test_devices_start_processes(run, data, tmp_path):
    assert embed(run, data, tmp_path / "alone") == 0
    assert embed(run, data, tmp_path / "many", "--devices", "2") == 0
    assert np.array_equal(features_in(tmp_path / "alone"), features_in(tmp_path / "many"))


# ---------------------------------------------------------------- what it says


def test_near_duplicates_across_the_parts_of_a_split_are_leaks(run, tmp_path, capsys):
    lists, images = tmp_path / "split", tmp_path / "images"
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE), indexing="ij")
    waves = [np.sin(a * x * 5 + b) + np.cos(c * y * 5 + d) for a, b, c, d in rng.uniform(0, 3, (8, 4))]
    lists.mkdir()
    images.mkdir()
    for i, wave in enumerate([*waves, waves[0] + rng.normal(0, 0.003, x.shape)]):
        Image.fromarray(np.uint8(60 * (wave + 2)).T).save(images / f"p{i}.png")
    (lists / "train.txt").write_text("p0.png\np1.png\n")
    (lists / "test.txt").write_text("p8.png\np2.png\n")
    flags = ("--split", str(lists), "--neighbours", "1")
    assert embed(run, images, tmp_path / "out", *flags) == 0
    found = [list(row.values()) for row in table(tmp_path / "out" / "leaks.csv")]
    assert [(row[0], row[3], row[4], row[7]) for row in found] == [("0", "train", "8", "test")]
    assert "leaks: 1 pairs" in capsys.readouterr().err
    assert "Leaks" in (tmp_path / "out" / "report.html").read_text()
    (lists / "test.txt").write_text("p2.png\n")
    assert embed(run, images, tmp_path / "out", *flags) == 0
    assert table(tmp_path / "out" / "leaks.csv") == []
    for names, words in (
        ("nobody.png\n", "names 'nobody.png': no image has that name"),
        ("p0.png\n", "in two parts"),
    ):
        (lists / "test.txt").write_text(names)
        capsys.readouterr()
        assert embed(run, images, tmp_path / "out", *flags) == 2
        assert words in capsys.readouterr().err


def test_parquet_is_read_back_with_what_rows_are(run, data, tmp_path):
    assert embed(run, data, tmp_path / "out", "--labels") == 0
    found = parquet.read_table(tmp_path / "out" / "features.parquet")
    assert np.array_equal(np.stack(found["features"].to_numpy()), features_in(tmp_path / "out"))
    rows = table(tmp_path / "out" / "rows.csv")
    for name in ("id", "patient", "slice", "label"):
        assert [str(value) for value in found[name].to_pylist()] == [row[name] for row in rows]
    assert json.loads(found.schema.metadata[b"foveate"])["rows"] == len(rows)


def test_neighbours_by_scikit_learn_are_those_of_comparing_all(monkeypatch):
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(300, 8)).astype(np.float32)
    rows = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    rows[7] = rows[250]
    groups = rng.integers(0, 60, 300)
    groups[:40] = 60  # more than scikit-learn is asked for
    wanted, apart = likeness.nearest(rows, 4, groups)
    for name, value in (("MANY", 1), ("SPARE", 6), ("PAIRS", 1000)):
        monkeypatch.setattr(likeness, name, value)
    found, distances = likeness.nearest(rows, 4, groups)
    assert np.array_equal(found, wanted)
    assert np.allclose(distances, apart, atol=1e-6)


def test_pictures_in_the_map_do_not_overlap():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(400, 2)) * [1, 2]
    low, high, inches = picture.limits(places)
    scaled = (places - low) / (high - low) * inches
    side = picture.THUMBNAIL + picture.GAP
    shown = picture.spread(scaled, 60, side)
    assert 20 < len(shown) <= 60
    apart = np.abs(scaled[shown][:, None] - scaled[shown][None]).max(-1) + 99 * np.eye(len(shown))
    assert apart.min() >= side
    assert scaled[shown].min() >= picture.THUMBNAIL / 2
    assert scaled[shown].max() <= inches - picture.THUMBNAIL / 2
    assert len(picture.spread(scaled, 3, side)) == 3
    assert picture.spread(np.zeros((5, 2)), 60, side) == [0]  # they are all the same


@pytest.mark.slow
def test_umap_gives_the_same_map_again_and_keeps_groups_together():
    pytest.importorskip("umap", reason="umap-learn is an extra")
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(3, 8), 20, 0) + rng.normal(size=(60, 8)) * 0.05
    places, names = picture.projected(rows, "auto")
    assert names == ("UMAP 1", "UMAP 2")
    assert np.array_equal(places, picture.projected(rows, "umap")[0])
    middles = places.reshape(3, 20, 2).mean(1)
    nearest = np.linalg.norm(places[:, None] - middles, axis=-1).argmin(1)
    assert np.array_equal(nearest, np.repeat(np.arange(3), 20))


def test_jobs_are_the_same_windows_wherever_one_starts(run, data, tmp_path):
    found = from_python(
        run=run, data=data / "images", out=tmp_path / "out", tiles=True, batch_size=3, num_workers=0
    )
    groups = list(features.jobs_of(found.seen, found.cache))
    assert [[tuple(job) for job in group] for group in groups] == [
        [(range(0, 2), 0, 3, True)],
        [(range(2, 3), 0, 1, True)],
    ]
