"""A folder of DICOM series with RTSTRUCT and SEG, from fine-tuning to evaluation."""

import csv
import json

import numpy as np
import pytest
from pydicom.uid import generate_uid
from tests.data.readers.dicom import drawings
from tests.data.readers.dicom.drawings import contour, rtstruct, segmentation, series

import foveate
from foveate.cli import main
from foveate.commands.finetune.config import labelled_or_drawn
from foveate.core.types import FoveateError
from foveate.data.boxes.tables import BoxesConfig
from foveate.data.sources.folder import Config
from foveate.testing.runs import task_keys

SHAPE = (12, 18, 18)


@pytest.fixture
def cohort(tmp_path):
    """Eight series: a tumour in RTSTRUCT of seven, in SEG of the last."""
    data = tmp_path / "data"
    for k in range(8):
        uid = generate_uid()
        series(data / f"p{k}", SHAPE, uid, generate_uid(), f"Doe^Jane{k}", value=k)
        square = [(2.5, 3.5), (2.5, 12.5), (11.5, 12.5), (11.5, 3.5)]
        if k < 7:
            rtstruct(data / f"p{k}" / "rs", {"GTV": [contour(square, z) for z in range(3, 9)]}, uid)
        else:
            mask = np.zeros(SHAPE, dtype=bool)
            mask[3:9, 4:13, 3:12] = True
            segmentation(data / "seg", drawings.sources(data / f"p{k}"), {"gtv": mask})
    return data


def test_structures_are_learned_and_evaluated(cohort, tmp_path, capsys):
    keys = task_keys("segmentation", 3, cohort, tmp_path / "run", "")
    foveate.finetune(**keys, structures="tumour=GTV")
    assert "tumour: in 8 of 8 series with structures (GTV, gtv)" in capsys.readouterr().err
    card = json.loads((tmp_path / "run/exported/card.json").read_text())
    assert card["task"]["classes"] == ["tumour=1"]
    where = {"run": tmp_path / "run", "data": cohort, "out": tmp_path / "scores"}
    words = [part for key, value in where.items() for part in (f"--{key}", str(value))]
    assert main(["evaluate", *words, "--draws", "20", "--worst", "0", "--accelerator", "cpu"]) == 0
    with (tmp_path / "scores/cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    assert all("dice/tumour" in row for row in rows)
    for path in [*(tmp_path / "run").rglob("*"), *(tmp_path / "foveate-cache").rglob("*")]:
        text = path.read_bytes() if path.is_file() else b""
        assert b"Doe" not in text
        assert b"gtv" not in text  # a name that a file has, and the user did not say


def test_without_structures_the_names_that_are_there_are_said(cohort):
    keys = {"pairs": "", "patient_pattern": "", "boxes": BoxesConfig()}
    with pytest.raises(FoveateError, match="DICOM series there have the structures GTV, gtv: say which"):
        labelled_or_drawn(Config(), cohort, "maps", structures="", **keys)
    for wrong in ({"want": "values"}, {"want": "maps", "pairs": "{case}_a={case}_b"}):
        with pytest.raises(FoveateError, match="accepted for tasks that learn label maps"):
            labelled_or_drawn(Config(), cohort, structures="a=GTV", **(keys | wrong))
