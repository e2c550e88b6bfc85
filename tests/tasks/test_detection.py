"""Detection: ideal outputs score 1 through the whole chain, whatever the labels and the grid."""

import json
import math
from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pytest
from tests.data.test_boxes import affine_of, found_in as prepared_in, write_image
from tests.scoring.ideal import found_in as found_by_ideal

from foveate.commands.compare.report import scorer_of
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.listed import boxes_listed
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.images import refuse_without_boxes
from foveate.commands.predict.boxes import as_csv, in_own_frame, rows_of
from foveate.core import config as parsing
from foveate.core.boxes.geometry import Boxes, in_mm
from foveate.core.boxes.tasks import Scan
from foveate.core.types import FoveateError, LabelFacts
from foveate.data.boxes.tables import BoxesConfig
from foveate.pages.plots import read_plots
from foveate.scoring.comparison import scores_of
from foveate.tasks.detection import Config
from foveate.testing.cohorts import write_picture

SHAPE, FORMATS = (14, 12, 10), ("map", "csv mm lps", "csv voxel", "json mm ras")
CENTRES = np.array([[3.0, 3, 3], [9, 8, 6], [3, 9, 7]])
SIZES = np.array([[3.0, 3, 3], [5, 3, 3], [3, 3, 5]])
KINDS = ("a", "b", "a")


def write_labels(folder, form, affine):
    """The same boxes in voxels of the file, in any of the formats of labels."""
    boxes = Boxes.of(CENTRES, SIZES)
    if form == "map":
        cells = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
        labels = np.zeros(SHAPE, np.int16)
        for low, high, kind in zip(boxes.low, boxes.high, KINDS, strict=True):
            labels[((cells > low) & (cells < high)).all(-1)] = "ab".index(kind) + 1
        for kind in ("images", "labels"):
            (folder / kind).mkdir()
        (folder / "a.nii.gz").rename(folder / "images" / "a.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / "labels" / "a.nii.gz")
        return {}
    unit, frame = ("voxel", "ras") if "voxel" in form else ("mm", form.split()[-1])
    sides, signs = boxes.size, (-1, -1, 1) if frame == "lps" else (1, 1, 1)
    if unit == "mm":
        boxes = in_mm(boxes, affine)
        order = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(1)
        boxes, sides = Boxes.of(boxes.centre * signs, boxes.size), boxes.size[:, order]
    rows = list(zip(boxes.centre.tolist(), sides.tolist(), KINDS, strict=True))
    if form.startswith("csv"):
        lines = [",".join(["a.nii.gz", kind, *map(repr, (*c, *s))]) for c, s, kind in rows]
        head = "image,class,x,y,z,size_x,size_y,size_z"
        (folder / "boxes.csv").write_text("\n".join([head, *lines, ""]))
        return {"unit": unit, "frame": frame}
    listed = [{"class": kind, "centre": c, "size": s} for c, s, kind in rows]
    content = {"unit": unit, "frame": frame, "images": [{"image": "a.nii.gz", "boxes": listed}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    return {}


@pytest.mark.parametrize(("kind", "form"), list(product(("straight", "flipped", "oblique"), FORMATS)))
def test_ideal_outputs_score_one_for_every_label_format_and_grid(tmp_path, kind, form):
    affine = affine_of(kind)
    write_image(tmp_path / "data", affine)
    found, cache = prepared_in(tmp_path / "data", tmp_path, **write_labels(tmp_path / "data", form, affine))
    volume, preset = cache[0], Config.preset(3, "small", "none")
    facts = LabelFacts(
        values=volume.map_entry("labels").values, classes=found.classes, instances=found.instances
    )
    config = preset.settle(facts)
    assert len(config.names) == 2
    boxes = found_by_ideal(volume.shape, config.known(volume).truth, (8, 8, 8), config.stride)
    check_perfect(config, config.scan(volume, boxes))
    # the same through the table that `predict` writes, read as that of somebody else's detector
    unit, own = in_own_frame(None, found.records[0], volume, boxes)
    entry = {"image": "a.nii.gz", "unit": unit, "frame": "ras"}
    images = [entry | {"boxes": rows_of(own, config.names, absent=False)}]
    (tmp_path / "found.csv").write_text(as_csv(images, absent=False))
    table = BoxesConfig(file=str(tmp_path / "found.csv"))
    again = boxes_listed(table, found.records, [volume], config.names)
    check_perfect(config, config.scan(volume, again[0]))
    moved = replace(again[0], centre=again[0].centre + 4)
    assert config.scorer([config.scan(volume, moved)])(np.arange(1))["map"] < 1


def check_perfect(config, scan):
    metrics = config.scorer([scan])(np.arange(1))
    assert metrics["cpm"] == metrics["map"] == 1
    assert metrics["n/findings"] == 3
    assert config.row(scan) == {
        "recall": 1,
        "findings": 3,
        "hit": 3,
        "false_alarms": 0,
        "surest_false_alarm": 0,
    }
    assert config.mistakes(scan) < 0


def test_pictures_have_ideal_boxes_as_well(tmp_path):
    (tmp_path / "data").mkdir()
    write_picture(tmp_path / "data" / "p.png", np.random.default_rng(0).uniform(0, 1000, (72, 80)))
    (tmp_path / "data" / "boxes.csv").write_text("image,x_min,y_min,x_max,y_max\np.png,10,20,30.5,60\n")
    found, cache = prepared_in(tmp_path / "data", tmp_path)
    volume = cache[0]
    config = Config.preset(2, "small", "none").settle(
        LabelFacts(values=volume.map_entry("labels").values, classes=found.classes, instances=found.instances)
    )
    boxes = found_by_ideal(volume.shape, config.known(volume).truth, (32, 32), 2, classes=1)
    np.testing.assert_allclose(boxes.low, [[10, 20]], atol=1e-3)
    np.testing.assert_allclose(boxes.high, [[30.5, 60]], atol=1e-3)


def test_tables_of_other_detectors_are_refused_where_they_do_not_fit(tmp_path):
    write_image(tmp_path / "data", affine_of("straight"))
    keys = write_labels(tmp_path / "data", "csv voxel", affine_of("straight"))
    found, cache = prepared_in(tmp_path / "data", tmp_path, **keys)

    def read(text):
        (tmp_path / "t.csv").write_text(text)
        config = BoxesConfig(file=str(tmp_path / "t.csv"), unit="voxel")
        return boxes_listed(config, found.records, list(cache), ("a", "b"))

    with pytest.raises(FoveateError, match="none of the 1 images that it names"):
        read("image,x,y,z,diameter,score\nother,1,1,1,2,0.5\n")
    with pytest.raises(FoveateError, match="none of the 1 images that it names"):
        read("image,x,y,z,diameter,score\np1/a.nii.gz,1,1,1,2,0.5\n")
    with pytest.raises(FoveateError, match=r"names 'a' and 'a.nii.gz', which are the same image"):
        read("image,x,y,z,diameter,score,class\na,1,1,1,2,0.5,a\na.nii.gz,2,2,2,2,0.5,a\n")
    with pytest.raises(FoveateError, match="class 'c'; accepted: a, b"):
        read("image,x,y,z,diameter,score,class\na.nii.gz,1,1,1,2,0.5,c\n")
    with pytest.raises(FoveateError, match="not 3 coordinates"):
        read("image,x,y,diameter,score,class\na.nii.gz,1,1,2,0.5,a\n")
    with pytest.raises(
        FoveateError, match=r"a box of a has no score; accepted .* score or probability or conf"
    ):
        read("image,x,y,z,diameter,class\na,1,1,1,2,a\n")
    assert len(read("image,x,y,z,diameter,score,class\na,1,1,1,2,0.5,a\nother,1,1,1,2,0.5,b\n")[0]) == 1


def test_boxes_of_another_detector_outside_of_their_image_are_told(tmp_path, capsys):
    affine = affine_of("straight")
    write_image(tmp_path / "data", affine)
    keys = write_labels(tmp_path / "data", "csv mm lps", affine)
    found, cache = prepared_in(tmp_path / "data", tmp_path, **keys)

    def read(rows, frame):
        (tmp_path / "t.csv").write_text("image,x,y,z,diameter,score,class\n" + rows)
        config = BoxesConfig(file=str(tmp_path / "t.csv"), unit="mm", frame=frame)
        return boxes_listed(config, found.records, list(cache), ("a", "b"))

    row = "a.nii.gz,3,4.5,16,2,0.5,a\n"  # in RAS: voxel (3, 3, 8)
    with pytest.raises(
        FoveateError, match=r"1 of 1 boxes lie outside of their image.*taken as mm \(LPS\)"
    ) as error:
        read(row, "lps")
    assert "taken as mm (RAS) all of them would lie inside: say it with --frame and --unit" in str(
        error.value
    )
    assert len(read(row, "ras")[0]) == 1
    whole = list(cache)
    cache = [whole[0].replaced(entry=replace(whole[0].entry, shape=(1, 2, 2, 2)))]  # a part of the image
    assert len(read(row, "ras")[0]) == 1
    assert "outside" not in capsys.readouterr().err
    assert len(read(row + row.replace("3,4.5", "93,4.5"), "ras")[0]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 2 boxes lie outside of their image, in 1 images; of a.nii.gz: 1 of its 2 boxes have" in said
    assert "no convention (mm or voxel, RAS or LPS) places them all inside" in said


def test_numbers_that_cannot_be_are_refused():
    preset = Config.preset(3, "small", "none")
    with pytest.raises(FoveateError, match=r"task.most_iou 2: accepted are numbers from 0 to 1"):
        replace(preset, most_iou=2)
    with pytest.raises(FoveateError, match=r"task.most_boxes 0"):
        replace(preset, most_boxes=0)


def test_metrics_of_some_scans_are_those_of_them_alone():
    config = replace(Config.preset(2, "small", "none"), classes=("a=1",))
    none = Boxes.of([], [], axes=2)
    truth = Boxes.of([[5.0, 5]], [[4.0, 4]])
    good, bad = Scan(truth, none, truth), Scan(truth, none, none)
    both = config.scorer([good, bad])
    assert both(np.array([0, 1]))["cpm"] == both(np.array([0, 1]))["map"] == 0.5
    assert both(np.array([0, 0]))["cpm"] == 1
    assert both(np.array([1]))["map"] == 0


def two_scans():
    config = replace(Config.preset(2, "small", "none"), classes=("a=1",))
    none, truth = Boxes.of([], [], axes=2), Boxes.of([[5.0, 5]], [[4.0, 4]])
    return config, [Scan(truth, none, truth), Scan(truth, none, none), Scan(none, none, none)]


def test_a_report_has_the_curve_and_none_without_findings(tmp_path):
    config, scans = two_scans()
    config.report(scans, tmp_path)
    drawn = read_plots(tmp_path / "curves.json")["FROC"]
    assert (tmp_path / "froc.png").stat().st_size > 0
    assert drawn.curves["FROC"].y == [0.5] * len(drawn.curves["FROC"].x)
    (tmp_path / "empty").mkdir()
    config.report(scans[2:], tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_comparison_scores_the_boxes_that_a_run_has_kept():
    config, scans = two_scans()
    cell = {
        "learnt": parsing.to_mapping(config),
        "dimension": 2,
        "cases": [
            {"id": str(i), "patient": f"p{i}", "boxes": scan.numbers()} for i, scan in enumerate(scans)
        ],
    }
    cell = json.loads(json.dumps(cell))
    scores = scores_of(cell["cases"], "cpm", None, scorer_of(cell), less_is_better=())
    cpm = [
        config.scorer(kept)(np.arange(2))["cpm"]
        for kept in ([scans[1], scans[2]], [scans[0], scans[2]], scans[:2])
    ]
    np.testing.assert_allclose([scores[f"p{i}"] for i in range(3)], [3 * 0.5 - 2 * each for each in cpm])
    with pytest.raises(FoveateError, match="metric dice: accepted for this task are map, ap/a, cpm"):
        scores_of(cell["cases"], "dice", None, scorer_of(cell), less_is_better=())


def test_another_detector_is_scored_without_a_run(tmp_path, capsys):
    """Marks of one image of the test part: one hit, and a miss in the image that the table does not name."""
    data = tmp_path / "data"
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz"):
        write_image(data, affine_of("flipped"), name)
    head = "image,x,y,z,diameter,class,split,unit\n"
    rows = (
        "a.nii.gz,4,5,3,3,n,test,voxel",
        "b.nii.gz,4,5,3,3,n,test,voxel",
        "c.nii.gz,4,5,3,3,n,train,voxel",
    )
    (data / "boxes.csv").write_text(head + "\n".join([*rows, ""]))
    (tmp_path / "theirs.csv").write_text("image,x,y,z,diameter,score,unit\na.nii.gz,4.5,5,3,3,0.7,voxel\n")
    config = EvaluateConfig(
        run="none",
        predictions=str(tmp_path / "theirs.csv"),
        data=str(data),
        out=str(tmp_path / "out"),
        draws=20,
    )
    assert evaluate(config)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["part"], summary["cases"], summary["task"]) == ("test", 2, "detection")
    assert summary["metrics"]["sensitivity/1"]["value"] == 0.5
    assert str(tmp_path) not in (tmp_path / "out" / "summary.json").read_text()
    assert "1 of 2 images are not in" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").is_file()
    stated = {key: summary["settings"][key] for key in ("task", "frame", "unit")}
    assert stated == {"task": "detection", "frame": "stated", "unit": "stated"}
    with pytest.raises(FoveateError, match="accepted are tasks whose answers are boxes"):
        evaluate(replace(config, task="segmentation"))
    # a test part without one of the classes, and one without any finding
    for kinds, ap in ((("n", "n", "m"), 1), (("ignore", "", "n"), math.nan)):
        named = "abc"[: len(kinds)]
        cells = [f"4,5,3,3,{kind}" if kind else ",,,," for kind in kinds]
        parts = ("test", "test", "train")
        lines = [f"{n}.nii.gz,{c},{p},voxel" for n, c, p in zip(named, cells, parts, strict=True)]
        (data / "boxes.csv").write_text(head + "\n".join([*lines, ""]))
        (tmp_path / "theirs.csv").write_text(
            "image,x,y,z,diameter,score,unit,class\n"
            "a.nii.gz,4,5,3,3,0.7,voxel,n\nb.nii.gz,4,5,3,3,0.7,voxel,n\n"
        )
        assert evaluate(config)
        metrics = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]
        np.testing.assert_equal(float(metrics["ap/n"]["value"] or math.nan), ap)


def test_a_validation_without_a_box_is_refused(tmp_path):
    data = tmp_path / "data"
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(data, affine_of("straight"), name)
    rows = (
        "image,x,y,z,diameter,class,unit",
        "a.nii.gz,4,5,3,3,n,voxel",
        "b.nii.gz,4,5,3,3,ignore,voxel",
        "",
    )
    (data / "boxes.csv").write_text("\n".join(rows))
    found, cache = prepared_in(data, tmp_path)
    facts = LabelFacts(
        values=(0, 1), others=(4,), classes=found.classes, ignore=found.ignore, instances=found.instances
    )
    config = Config.preset(3, "small", "none").settle(facts)
    refuse_without_boxes(config, list(cache))
    with pytest.raises(FoveateError, match="None of the 1 validation images has a box that counts"):
        refuse_without_boxes(config, [cache[1]])
