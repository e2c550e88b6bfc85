"""The probe of a run: found by name, split by patient, and without a trace in the weights."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from foveate.commands.pretrain import probe, run
from foveate.commands.pretrain.build import build_method
from foveate.core.types import FoveateError


@pytest.fixture
def labels(tmp_path, cohorts):
    """(dimension, kind) -> a folder of masks or with a labels.csv."""

    def build(dimension, kind):
        folder = tmp_path / f"labels{dimension}{kind}"
        folder.mkdir()
        images = sorted(path for path in cohorts[dimension].iterdir() if path.suffix in (".gz", ".png"))
        if kind == "csv":
            with (folder / "labels.csv").open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["image", "label", "patient"])
                writer.writerows([path.name, "ab"[i % 2], f"p{i}"] for i, path in enumerate(images))
            return folder
        for path in images:
            if dimension == 3:
                image = nib.load(path)
                mask = (image.get_fdata() > 300).astype(np.uint8)
                nib.save(nib.Nifti1Image(mask, image.affine), folder / path.name)
            else:
                Image.fromarray((np.asarray(Image.open(path)) > 80).astype(np.uint8)).save(folder / path.name)
        return folder

    return build


def weights_of(config):
    (path,) = (Path(config.out) / "checkpoints").glob("*.ckpt")
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("dimension", "kind"), [(2, "csv"), (2, "masks"), (3, "masks")])
def test_probe_and_health_leave_the_trained_weights_bit_equal(tiny, labels, dimension, kind):
    plain = tiny(dimension, "plain", health_every=0)
    probed = tiny(dimension, "probed", health_every=2, probe=str(labels(dimension, kind)), probe_every=2)
    assert run.pretrain(plain)
    assert run.pretrain(probed)
    one, other = weights_of(plain), weights_of(probed)
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(one["model"][name], x) for name, x in other["model"].items())
    rows = [json.loads(line) for line in (Path(probed.out) / "metrics.jsonl").read_text().splitlines()]
    found = [row for row in rows if any(name.startswith("probe/") for name in row)]
    assert [row["step"] for row in found] == [2, 4]
    if kind == "masks":
        assert 0 <= found[-1]["probe/voxel_dice"] <= 1
    else:
        assert 0 <= found[-1]["probe/linear_balanced_accuracy"] <= 1
        assert found[-1]["probe/chance"] == 0.5


@pytest.mark.parametrize("dimension", [2, 3])
def test_voxels_and_their_labels_are_of_the_same_place(tiny, labels, monkeypatch, dimension):
    """The image itself as the only feature: its threshold is read off."""
    monkeypatch.setattr(probe, "pyramid_of", lambda _method, images: [images])
    config = tiny(dimension, probe=str(labels(dimension, "masks")))
    method = build_method(config)
    data = probe.probe_set(config, method)
    assert probe.score(data, method, run.build_fabric(config), 0)["probe/voxel_dice"] > 0.8


def test_patients_of_the_table_are_kept_apart(tiny, labels):
    folder = labels(2, "csv")
    table = folder / "labels.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    pairs = [lines[0]] + [[image, label, f"p{i // 2}"] for i, (image, label, _) in enumerate(lines[1:])]
    table.write_text("\n".join(",".join(line) for line in pairs))
    config = tiny(2, probe=str(folder))
    records, masks = probe.cases_of(config)
    data = probe.probe_set(config, build_method(config))
    assert not masks
    by_patient = {}
    for record, training in zip(records, data.training, strict=True):
        by_patient.setdefault(record.patient, set()).add(bool(training))
    assert [len(sides) for sides in by_patient.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,value\np0.png,1\n", "columns image, label"),
        ("image,label\nnobody.png,1\n", "line 2: no image below --data is called nobody.png"),
        ("image,label\np0.png,a\np1.png,a\np2.png,a\n", "two classes or more"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tiny, tmp_path, text, message):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    config = tiny(2, probe=str(table))
    with pytest.raises(FoveateError, match=message):
        probe.probe_set(config, build_method(config))


def test_a_folder_without_a_fitting_mask_is_refused(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FoveateError, match="named like the images"):
        probe.cases_of(tiny(2, probe=str(tmp_path / "empty")))
    with pytest.raises(FoveateError, match=r"a folder of masks, or a labels\.csv"):
        probe.cases_of(tiny(2, probe=str(tmp_path / "nowhere")))


def test_rows_without_a_label_are_left_out_with_a_word(tiny, labels, cohorts, capsys):
    folder = labels(2, "csv")
    rows = (folder / "labels.csv").read_text().splitlines()
    rows[1] = rows[1].replace(",a,", ",,")
    (folder / "labels.csv").write_text("\n".join(rows))
    cases, _ = probe.cases_of(tiny(2, probe=str(folder)))
    assert {case.labels[probe.LABEL] for case in cases} == {"a", "b"}
    assert len(cases) == len(rows) - 2
    assert f"1 of {len(rows) - 1} rows have no label" in capsys.readouterr().err
