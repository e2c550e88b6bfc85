"""`split --structures`: series with and without the structures that are asked for."""

import pytest
from pydicom.uid import generate_uid
from tests.data.readers.dicom.drawings import contour, rtstruct, series

from foveate import cli
from foveate.commands.split.config import SPEC
from foveate.commands.split.run import split
from foveate.core.types import FoveateError


def test_series_with_the_structures_are_split_and_the_others_are_unlabelled(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    square = [(2.5, 3.5), (2.5, 8.5), (8.5, 8.5), (8.5, 3.5)]
    for k in range(6):
        uid, frame = generate_uid(), generate_uid()
        series(data / f"p{k}", uid=uid, frame=frame, patient=f"P{k % 5}", value=k)
        rtstruct(data / f"p{k}/rs", {"Heart" if k == 4 else "GTV": [contour(square, 3)]}, uid, frame)
    shares = ["--val_share", "0.25", "--test_share", "0.25"]
    assert cli.main(["split", str(data), "--out", str(out), "--structures", "tumour=GTV", *shares]) == 0
    told = capsys.readouterr()
    assert "--structures tumour: in 5 of 6 series with structures (GTV)" in told.err
    parts = [
        [name.split("/")[0] for name in (out / f"{part}.txt").read_text().split()]
        for part in ("train", "val", "test", "unlabelled")
    ]
    assert sorted(parts[0] + parts[1] + parts[2]) == ["p0", "p1", "p2", "p3", "p5"]
    assert parts[3] == ["p4"]
    assert sum({"p0", "p5"} <= set(part) for part in parts) == 1  # one patient
    keys = {"data": str(data), "out": str(out), "structures": "tumour=GTV"}
    with pytest.raises(FoveateError, match="accepted with --source folder and without --pairs"):
        split(SPEC.from_keys({**keys, "pairs": "{case}_a={case}_b"}))
