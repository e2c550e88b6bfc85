"""Features and what they say: against brute force, with planted duplicates and outliers, and after a stop."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from tests.nets.weights.untrained import write_run

from foveate import load_encoder
from foveate.cli import main
from foveate.commands.embed import features, likeness, picture
from foveate.commands.embed.table import claim
from foveate.nets.heads import pooled

COPY, STRANGE = 9, 10


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("run"), 2, "resnet10", width=4, card={"views": {"global": [64, 64]}}
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Nine smooth pictures, one that is nearly the first of them, and noise, of six patients."""
    folder = tmp_path_factory.mktemp("Zqxwvy")
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64), indexing="ij")
    waves = [np.sin(a * x * 5 + b) + np.cos(c * y * 5 + d) for a, b, c, d in rng.uniform(0, 3, (COPY, 4))]
    waves += [waves[0] + rng.normal(0, 0.003, x.shape), rng.normal(0, 1, x.shape)]
    for i, wave in enumerate(waves):
        grey = np.uint8(255 * (wave - wave.min()) / np.ptp(wave))
        Image.fromarray(grey.T).save(folder / f"p{i // 2}_{i:02d}.png")
    return folder


def embed(run, data, out, *more):
    flags = ["--run", str(run), "--data", str(data), "--out", str(out), "--num_workers", "0"]
    return main(["embed", *flags, "--batch_size", "4", "--projection", "pca", *more])


@pytest.fixture(scope="module")
def embedded(run, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "features"
    assert embed(run, pictures, out, "--suggest", "4", "--patient_pattern", r"(p\d+)_") == 0
    return out


def table(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


# ---------------------------------------------------------------- the table


@torch.no_grad()
def test_a_row_is_the_pooled_maps_of_the_normalised_image(run, pictures, embedded):
    found = np.load(embedded / "features.npy", allow_pickle=False)
    encoder, card = load_encoder(run), json.loads((embedded / "card.json").read_text())
    assert found.shape == (11, sum(encoder.channels))
    assert card["columns"]["stride_2"] == [0, encoder.channels[0]]
    names = {row["id"]: row["image"] for row in table(embedded / "private" / "names.csv")}
    index = table(embedded / "rows.csv")
    assert len({row["patient"] for row in index}) == 6
    for number in (0, 7):
        values = np.asarray(Image.open(pictures / names[index[number]["id"]]), dtype=np.float64).T
        low, high = np.percentile(values, (0.5, 99.5))
        image = torch.from_numpy(((values - low) / (high - low)).clip(0, 1))[None, None]
        image = ((image - image.mean()) / image.std(unbiased=False)).float()
        wanted = torch.cat([pooled(m) for m in encoder(image)], 1)[0].numpy()
        assert np.abs(found[number] - wanted).max() <= 0.02 * np.abs(wanted).max()  # of 8 bits


def test_no_name_is_in_anything_but_the_private_file(pictures, embedded):
    files = [path for path in embedded.rglob("*") if path.is_file() and path.parent.name != "private"]
    assert {"features.npy", "rows.csv", "card.json", "neighbours.csv", "report.html"} <= {
        path.name for path in files
    }
    for path in files:
        for word in (b"p0_00", pictures.name.encode(), b".png"):
            assert word not in path.read_bytes(), path
    assert (embedded / "private" / "names.csv").stat().st_mode & 0o777 == 0o600


def test_the_room_of_the_table_is_taken_before_it_is_filled(tmp_path):
    claim(tmp_path, {}, (1000, 100), 5)
    assert (tmp_path / "features.npy").stat().st_blocks * 512 >= 400_000  # no hole


def test_what_was_stopped_goes_on_and_other_features_are_refused(
    run, pictures, embedded, tmp_path, monkeypatch, capsys
):
    real, left = features.Seen.maps, [2]

    def stopping(self, images):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(features.Seen, "maps", stopping)
    assert embed(run, pictures, tmp_path / "features") == 130
    assert np.load(tmp_path / "features" / "done.npy").tolist() == [True] * 8 + [False] * 3
    left[0] = 1  # of three batches
    assert embed(run, pictures, tmp_path / "features") == 0
    whole = np.load(embedded / "features.npy", allow_pickle=False)
    assert np.array_equal(whole, np.load(tmp_path / "features" / "features.npy", allow_pickle=False))
    capsys.readouterr()
    assert embed(run, pictures, tmp_path / "features", "--grid", "32,32") == 2
    assert "holds features made otherwise (grid differ)" in capsys.readouterr().err
    assert embed(run, pictures, tmp_path / "other", "--grid", "30,32") == 2
    assert "accepted: 2 multiples of 32" in capsys.readouterr().err


def test_volumes_give_a_row_for_every_slice(run, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(2):
        volume = rng.integers(0, 99, (40, 36, 3 + i)).astype(np.int16)
        (tmp_path / "data").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 5, 1])), tmp_path / "data" / f"{i}.nii.gz")
    assert embed(run, tmp_path / "data", tmp_path / "out", "--batch_size", "2", "--pictures", "2") == 0
    rows = table(tmp_path / "out" / "rows.csv")
    assert [row["slice"] for row in rows] == ["0", "1", "2", "0", "1", "2", "3"]
    first = {row["id"] for row in rows[:3]}
    near = table(tmp_path / "out" / "neighbours.csv")
    assert all(rows[int(near[i]["neighbour_1"])]["id"] not in first for i in range(3))


def test_parquet_holds_the_same_numbers(embedded):
    found = parquet.read_table(embedded / "features.parquet")
    values = np.array(found["features"].to_pylist(), np.float32)
    assert np.array_equal(values, np.load(embedded / "features.npy", allow_pickle=False))


# ---------------------------------------------------------------- what it says


def test_a_planted_copy_and_a_stranger_are_found(embedded):
    first = table(embedded / "duplicates.csv")[0]
    assert {first["row1"], first["row2"]} == {"0", str(COPY)}
    assert table(embedded / "outliers.csv")[0]["row"] == str(STRANGE)
    rows = table(embedded / "rows.csv")
    chosen = [rows[int(each["row"])]["patient"] for each in table(embedded / "suggested.csv")]
    assert len(chosen) == len(set(chosen)) == 4


def test_the_map_has_the_axes_of_scikit_learn(embedded):
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(2).normal(size=(50, 5)) * [1, 5, 2, 3, 1]
    places, shares = picture.principal(rows)
    known = PCA(2).fit(rows)
    assert np.allclose(np.abs(places), np.abs(known.transform(rows)))
    assert np.allclose(shares, known.explained_variance_ratio_)
    with Image.open(embedded / "map.png") as drawn:
        assert np.asarray(drawn.convert("L")).std() > 5
        assert not drawn.text


def test_the_query_finds_its_own_picture(run, pictures, tmp_path, capsys):
    query = tmp_path / "query.png"
    Image.open(pictures / "p2_04.png").save(query)
    assert (
        embed(run, pictures, tmp_path / "out", "--query", str(query), "--neighbours", "2", "--pictures", "0")
        == 0
    )
    said = capsys.readouterr().err + capsys.readouterr().out
    assert "p2_04.png: 0.000" in said.split("nearest to")[1].splitlines()[1]


def test_neighbours_are_those_of_brute_force():
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(1100, 6)) * [1, 2, 3, 10, 20, 30] + 5
    rows, centre, factors = likeness.comparable(raw, {"a": [0, 3], "b": [3, 6]})
    scaled = (raw - centre) * factors
    assert np.allclose([np.square(scaled[:, :3]).sum(1).mean(), np.square(scaled[:, 3:]).sum(1).mean()], 1)
    groups = rng.integers(0, 300, 1100)
    found, apart = likeness.nearest(rows, 3, groups)
    for row in (0, 500, 1099):
        unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        distance = np.where(groups == groups[row], np.inf, 1 - unit @ unit[row])
        assert np.allclose(apart[row], np.sort(distance)[:3], atol=1e-5)
        assert np.allclose(distance[found[row]], apart[row], atol=1e-5)


def test_suggestions_are_far_apart_and_of_different_patients():
    angles = np.radians([0, 1, 2, 90, 91, 180, 181])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    chosen = likeness.k_centre(rows, 9, np.array([0, 0, 0, 1, 1, 2, 0]))
    assert chosen == [3, 6, 5]  # the nearest to the mean (64 degrees), the farthest, another patient's
