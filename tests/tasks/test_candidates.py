"""Candidates: a score for each listed place, from LUNA16's table to its CPM; how training draws them."""

import csv
import json
import math
from dataclasses import replace
from types import MethodType

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from tests.commands.predict.test_predict import given  # noqa: F401 - a fixture
from tests.data.sources.miniatures import LUNA_COLUMNS, table
from tests.data.test_boxes import affine_of, found_in, write_image

from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.run import evaluate
from foveate.commands.predict.model import LoadedModel
from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import Scan
from foveate.core.types import FoveateError, LabelFacts
from foveate.data.boxes.places import around_places
from foveate.data.boxes.tables import BoxesConfig
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cohort.labelled import from_source
from foveate.data.loader import batches
from foveate.data.sources.luna16 import Config as Luna, build
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.runtime.finetuned import Model
from foveate.tasks.candidates import Candidates, Config
from foveate.views.pipeline import make_views

SHAPE, GRID = (30, 28, 26), (8, 8, 8)  # of a scan, x first; of a cube
PLACES = [[(8, 9, 10), (20, 18, 15)], [(21, 6, 12)]]  # voxels with a finding, by scan
OTHERS = [[(20, 9, 10), (8, 18, 15), (14, 14, 5), (3, 3, 3)], [(6, 6, 12), (15, 21, 20), (28, 27, 25)]]


def settled(facts):
    preset = Config.preset(3, "small", "none")
    return replace(preset, crops=replace(preset.crops, grid=GRID, source_sizes=(GRID,))).settle(facts)


def facts_of(found, cache):
    values = {value for volume in cache for value in volume.map_entry("labels").values}
    return LabelFacts(
        values=tuple(values), classes=found.classes, ignore=found.ignore, instances=found.instances
    )


@pytest.fixture
def luna16(tmp_path):
    """Scans of mhd and raw with flipped axes, candidates in LPS mm; findings are bright voxels."""
    findings, candidates = [f"{LUNA_COLUMNS}diameter_mm"], [f"{LUNA_COLUMNS}class"]
    for i, (bright, dark) in enumerate(zip(PLACES, OTHERS, strict=True)):
        voxels = np.random.default_rng(i).integers(0, 60, SHAPE[::-1]).astype(np.int16)
        for x, y, z in bright:
            voxels[z, y, x] = 1000
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.7, 0.8, 1.25))
        image.SetOrigin((-98.1, 33.0, -135.2))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        (tmp_path / f"luna/subset{i}").mkdir(parents=True)
        sitk.WriteImage(image, str(tmp_path / f"luna/subset{i}/1.{i}.mhd"))
        for flag, places in ((0, dark), (1, bright)):
            for place in places:
                world = ",".join(f"{c:.6g}" for c in image.TransformIndexToPhysicalPoint(place))
                candidates.append(f"1.{i},{world},{flag}")
                findings += [f"1.{i},{world},4.5"] * flag
    table(tmp_path / "luna/annotations.csv", *findings)
    table(tmp_path / "luna/candidates_V2.csv", *candidates)
    return tmp_path / "luna"


@pytest.fixture
def cached(luna16, tmp_path):
    """The scans with candidates as the source yields them, and the task that their labels complete."""
    found = from_source(build(Luna(candidates="v2")), luna16, "boxes")
    cache = prepare(found.records, tmp_path / "cache", PrepareConfig(), lambda *_: None)
    return cache, settled(facts_of(found, cache))


def ideal(config):
    """A task that answers with what is brightest in the four cells in the middle of a cube."""
    task = Candidates(build_pyramid(UNetConfig(width=2, levels=2), DecoderConfig(skips=True), 3), config)
    middle = (slice(None), slice(None), *[slice(3, 5)] * 3)
    task.outputs = MethodType(
        lambda _self, images: 4 * images[middle].flatten(1).amax(1, keepdim=True) - 2, task
    )
    return task


def test_every_candidate_has_a_score_and_the_auroc_is_over_all_of_them(cached):
    cache, config = cached
    task = ideal(config)
    assert config.names == ("nodule",)
    scans = [config.scan(volume, task.predict(volume)) for volume in cache]
    found = config.scorer(scans)(np.arange(2))
    assert (found["auroc"], found["n/candidates"], found["n/findings"]) == (1, 10, 3)
    assert [len(scan.truth) for scan in scans] == [len(places) for places in PLACES]
    assert config.row(scans[1]) == pytest.approx(
        {"auroc": 1, "candidates": 4, "findings": 1, "surest_without": 0.52, "least_sure_finding": 0.881},
        abs=0.02,
    )
    assert [Scan.from_numbers(scan.numbers()).numbers() for scan in scans] == [s.numbers() for s in scans]
    assert config.mistakes(scans[1]) == pytest.approx(0.52 - 0.881, abs=0.02)
    mirrored = task.predict(cache[0], mirrored=(0, 2))
    np.testing.assert_array_equal(mirrored.score, task.predict(cache[0]).score)
    model = Model(task=task, card={}, device=torch.device("cpu"), others=(task,))
    both = model.boxes(cache[0], 0.5, "x")  # places are not merged, scores are averaged
    np.testing.assert_array_equal(both.centre, mirrored.centre)
    np.testing.assert_allclose(both.score, mirrored.score)
    assert not config.lacking(cache[0].map_entry("labels").values)
    assert config.lacking((1, 3)) == "a candidate without a finding"
    assert config.lacking((2, 4)) == "a candidate with a finding"


def test_places_that_a_table_of_scores_leaves_out_are_counted(cached, luna16, tmp_path, capsys):
    cache, config = cached
    own = ideal(config).predict(cache[0])
    assert config.unscored(cache[0], own) == 0
    assert config.unscored(cache[0], own.picked(np.arange(len(own)) != 2)) == 1
    assert config.unscored(cache[0], own.picked([])) == 6
    rows = [each.split(",") for each in (luna16 / "candidates_V2.csv").read_text().splitlines()[1:]]
    lines = [",".join([*row[:4], "0.5"]) for row in rows[:-2]]
    (tmp_path / "theirs.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,probability", *lines]))
    keys = {"data": str(luna16), "predictions": str(tmp_path / "theirs.csv"), "frame": "lps", "unit": "mm"}
    listed = BoxesConfig(file="candidates_V2.csv", frame="lps", unit="mm", diameter=4)
    asked = EvaluateConfig(
        run="none", task="candidates", boxes=listed, diameter=4, draws=9, with_images=False, **keys
    )
    assert evaluate(replace(asked, out=str(tmp_path / "scores")))
    assert "2 of the places that the labels list have no score in " in capsys.readouterr().err
    assert json.loads((tmp_path / "scores/summary.json").read_text())["places_without_score"] == 2


def test_luna16_from_its_table_to_the_cpm_of_the_challenge(luna16, cached, given, tmp_path, capsys):  # noqa: F811
    """`predict` reads candidates_V2.csv as it is; `evaluate` scores what it writes by annotations.csv."""
    card = {"task": {"name": "candidates"}, "intensity": {"profile": "ct"}, "dimension": 3}
    model = Model(task=ideal(cached[1]), card=card, device=torch.device("cpu"))
    keys = {
        "boxes.file": "candidates_V2.csv",
        "boxes.frame": "lps",
        "boxes.unit": "mm",
        "boxes.diameter": "4",
    }
    with pytest.raises(FoveateError, match=r"there is none; accepted: boxes\.csv or boxes\.json"):
        given(luna16, model=model)
    finished, out = given(luna16, model=model, **keys)
    assert finished
    rows = list(csv.DictReader((out / "boxes.csv").open()))
    listed = list(csv.DictReader((luna16 / "candidates_V2.csv").open()))
    own = sorted((-float(r["coordX"]), -float(r["coordY"]), float(r["coordZ"])) for r in listed)
    written = sorted(tuple(float(row[a]) for a in "xyz") for row in rows)
    np.testing.assert_allclose(written, own, atol=1e-3)
    assert {(row["class"], row["size_x"], row["unit"], row["frame"]) for row in rows} == {
        ("nodule", "4.0", "mm", "ras")
    }
    assert str(luna16) not in (out / "predict.json").read_text()
    config = EvaluateConfig(
        run="none",
        data=str(luna16),
        boxes=BoxesConfig(file="annotations.csv", frame="lps", unit="mm"),
        predictions=str(out / "boxes.csv"),
        out=str(tmp_path / "scores"),
        draws=9,
        with_images=False,
    )
    assert evaluate(config)
    metrics = json.loads((tmp_path / "scores/summary.json").read_text())["metrics"]
    assert (metrics["cpm"]["value"], metrics["n/findings"]["value"]) == (1, 3)
    # an image that the table does not name, and a candidate outside of its image
    table(
        tmp_path / "some.csv", *(luna16 / "candidates_V2.csv").read_text().splitlines()[:4], "1.0,900,0,0,1"
    )
    finished, _ = given(luna16, "again", model=model, **keys | {"boxes.file": str(tmp_path / "some.csv")})
    said = capsys.readouterr().err
    assert not finished
    assert "1 of 2 images are not in some.csv: nothing is scored in them" in said
    assert "1 of its 4 boxes have their centre outside of it" in said


def drawn(cache, config, first, steps):
    """Batches of training, as the loader makes them."""
    source, specs = around_places(cache, config), ideal(config).crops

    def views(volume, index):
        return make_views(volume, index, specs=specs, seed=3)

    return list(batches(source, views, seed=3, first_step=first, steps=steps, batch_size=4))


def test_candidates_without_a_finding_are_drawn_anew_at_the_stated_ratio(cached):
    cache, config = cached
    source = around_places(cache, replace(config, ratio=3.0))
    order = [source.mix.position(3, index) for index in range(120)]
    labels = [source[position].labels["nodule"] for position in order]
    assert [sum(labels[at : at + 32]) for at in (0, 32, 64)] == [8, 8, 8]  # a block is 32 samples
    with_finding = [each for each, label in zip(order, labels, strict=True) if label]
    assert [sorted(with_finding[at : at + 3]) for at in range(0, 30, 3)] == [[0, 1, 2]] * 10
    without = [each for each, label in zip(order, labels, strict=True) if not label]
    assert [sorted(without[at : at + 7]) for at in range(0, 84, 7)] == [list(range(3, 10))] * 12
    assert len({tuple(without[at : at + 7]) for at in range(0, 84, 7)}) > 6  # in another order every time
    assert source[order[0]].map_names == ()


def test_a_resumed_run_goes_on_with_the_same_samples(cached):
    cache, config = cached
    whole, rest = drawn(cache, config, 0, 4), drawn(cache, config, 2, 4)
    for one, other in zip(whole[2:], rest, strict=True):
        assert one["index"] == other["index"]
        assert torch.equal(one["labels"]["nodule"], other["labels"]["nodule"])
        assert torch.equal(one["crops"]["image"], other["crops"]["image"])
    assert {label for batch in whole for label in batch["labels"]["nodule"].tolist()} == {0, 1}


def test_both_kinds_are_moved_and_turned_alike_and_lie_anywhere_around_the_middle(cached):
    """The same sample around any place has the same view but for where it is: the position says nothing."""
    cache, config = cached
    specs, places = ideal(config).crops, np.array([PLACES[0][1], OTHERS[0][2]])
    cells = []
    for index in range(40):
        found = []
        for place in places:
            views = make_views(cache[0].focused(place.tolist()), index, specs=specs, seed=0)["image"]
            affine = views.affines[0].double().numpy()
            cells.append(np.linalg.solve(affine[:, :3], place - affine[:, 3]))
            found.append(np.c_[affine[:, :3], affine[:, 3] - place])
        np.testing.assert_allclose(*found, atol=1e-4)
    away = np.array(cells) - 3.5
    middle = (0, 0.5, 0.5)  # a candidate is the fifth of eight voxels, and x is mirrored
    assert np.abs(away.mean(0) - middle).max() < 0.25
    assert away.std(0).min() > 0.4
    assert np.ptp(away, 0).min() > 1.2


@pytest.mark.parametrize("place", [(0, 0, 0), (29, 3, 25), (1, 27, 12)])
def test_a_candidate_at_the_rim_is_in_the_middle_too_with_0_beyond(cached, place):
    cache, config = cached
    (cube,) = ideal(config).cube(cache[0], np.array(place)).numpy()[:, 0]
    wide = np.pad(cache[0].read((0, 0, 0), SHAPE)[0], 8)
    low = [c + 8 - 4 for c in place]
    np.testing.assert_allclose(cube, wide[tuple(slice(a, a + 8) for a in low)], atol=1e-5)
    assert cube[4, 4, 4] == pytest.approx(wide[tuple(c + 8 for c in place)], abs=1e-5)


def test_a_place_that_is_listed_with_a_finding_and_without_has_it(cached):
    config = cached[1]
    own, none = (i for i, number in sorted(enumerate(config.numbers), key=lambda each: each[1]))
    twice = config.of_kinds(Boxes.of([[3.0, 3, 3], [3, 3, 3], [5, 5, 5]], np.ones((3, 3)), [none, own, none]))
    assert list(zip(twice.centre[:, 0].tolist(), twice.label.tolist(), strict=True)) == [(3, 0), (5, 1)]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        *(
            ({"ratio": ratio}, r"task\.ratio .*from 0\.001 to 1000")
            for ratio in (1e-4, math.nan, math.inf, -1)
        ),
        ({"around_probability": 0.5}, r"task\.crops\.around.*lies around a listed place"),
        ({"around": "labels"}, r"task\.crops\.around.*lies around a listed place"),
    ],
)
def test_settings_that_no_sample_could_follow_are_refused(cached, keys, words):
    config = cached[1]
    own = {"ratio": keys["ratio"]} if "ratio" in keys else {"crops": replace(config.crops, **keys)}
    with pytest.raises(FoveateError, match=words):
        replace(config, **own)


def test_an_image_alone_has_no_places_to_score(cached, monkeypatch):
    model = Model(task=ideal(cached[1]), card={}, device=torch.device("cpu"))
    monkeypatch.setattr("foveate.commands.predict.model.open_model", lambda *_: model)
    with pytest.raises(FoveateError, match=r"foveate predict --boxes\.file TABLE"):
        LoadedModel("run").predict(np.zeros(SHAPE))


def test_scores_belong_to_the_nearest_listed_place_and_the_auroc_is_that_of_pairs(cached):
    cache, config = cached
    rng = np.random.default_rng(0)
    scans, pairs = [], []
    for volume in cache:
        listed = config.places(volume)
        score = rng.integers(0, 4, len(listed)) / 4
        order = rng.permutation(len(listed))[1:]  # the score of one is missing
        moved = (listed.centre + rng.uniform(-0.1, 0.1, listed.centre.shape))[order]
        stray = Boxes.of(np.vstack([moved, [[13.0, 2, 22]]]), np.ones((len(order) + 1, 3)))
        scans.append(config.scan(volume, replace(stray, score=np.append(score[order], 0.9))))
        known = np.where(np.isin(np.arange(len(listed)), order), score, 0.0)
        pairs += list(zip(known.tolist(), (listed.label == 0).tolist(), strict=True))
    above = [(a > b) + (a == b) / 2 for a, finding in pairs for b, other in pairs if finding and not other]
    found = config.scorer(scans)(np.arange(2))
    assert found["auroc"] == found["auroc/nodule"] == pytest.approx(np.mean(above))
    assert found["n/candidates"] == 10
    empty = config.scorer([Scan(*[Boxes.of([], [], axes=3)] * 3)])(np.arange(1))
    assert list(empty) == list(found)
    assert np.isnan(empty["auroc"])


def test_a_table_without_sizes_or_with_one_kind_of_candidates_is_refused(tmp_path):
    write_image(tmp_path / "data", affine_of("straight"))
    places = tmp_path / "data/boxes.csv"
    places.write_text("image,x,y,z,class\na,3,3,3,1\na,8,8,6,0\n")
    with pytest.raises(FoveateError, match=r"or x,y,z alone, with --boxes.diameter"):
        found_in(tmp_path / "data", tmp_path, unit="voxel")
    found, cache = found_in(tmp_path / "data", tmp_path, unit="voxel", diameter=4.0)
    config = settled(facts_of(found, cache))
    assert config.names == ("finding",)  # a flag is no name
    np.testing.assert_allclose(config.places(cache[0]).size, np.full((2, 3), 4.0))
    assert config.places(cache[0]).label.tolist() == [0, 1]
    assert len(config.known(cache[0]).truth) == 1
    listed = {
        "image": "a",
        "boxes": [{"class": "1", "centre": [3, 3, 3]}, {"class": "0", "centre": [8, 8, 6]}],
    }
    (tmp_path / "data/boxes.json").write_text(json.dumps({"unit": "voxel", "images": [listed]}))
    keys = {"file": "boxes.json", "diameter": 4.0}
    again = found_in(tmp_path / "data", tmp_path, **keys)[1][0]
    np.testing.assert_array_equal(config.places(again).centre, config.places(cache[0]).centre)
    with pytest.raises(FoveateError, match=r"--task.negative a,b: .* classes 0, 1; accepted: names of those"):
        settled_as(("a", "b"), facts_of(found, cache))
    with pytest.raises(FoveateError, match="the labels are label maps; accepted: a table that lists"):
        settled(LabelFacts(values=(0, 1), classes=(), ignore=(), instances=0))


def settled_as(negative, facts):
    return replace(Config.preset(3, "small", "none"), negative=negative).settle(facts)
