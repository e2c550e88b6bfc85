"""Arms that see other inputs, and labels that count images of one patient: refused, or said in the title."""

import pytest
from tests.commands.compare.test_compare import NAMES, data, grid, resolve, write

from foveate.commands.compare import held, report
from foveate.commands.compare.fair import check_count, check_inputs, normalisations
from foveate.commands.compare.grid import example
from foveate.core.types import FoveateError

__all__ = ["data"]


def test_arms_whose_inputs_differ_are_refused_unless_that_is_allowed(data, tmp_path):
    content = grid(data=str(data))
    fair = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out")})
    assert normalisations(fair, "blobs") == {"scratch": "zscore", "restoring": "zscore"}
    check_inputs(fair, "blobs")
    look = {"method.global_appearance.normalisation": "none"}
    content["arms"]["other"] = {"method": "context_restoration", "pretrain": look}
    file = str(write(tmp_path, content))
    unfair = resolve(file, {"out": str(tmp_path / "out")})
    with pytest.raises(
        FoveateError, match=r"scratch: zscore, other: none, restoring: zscore.*allow_different"
    ):
        check_inputs(unfair, "blobs")
    allowed = resolve(file, {"out": str(tmp_path / "out"), "allow_different": "inputs"})
    check_inputs(allowed, "blobs")
    assert report.title(fair) == ""
    assert report.title(allowed).startswith("# Not a fair comparison")
    with pytest.raises(FoveateError, match="allow_different"):
        resolve(file, {"out": "x", "allow_different": "everything"})


def test_labels_count_patients_where_some_have_several_images(data, tmp_path):
    content = grid(data=str(data))
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out")})

    def train():
        return held.split_of(example(config, "blobs", tmp_path / "none"))[0]["train"]

    check_count("blobs", train())  # nothing names patients
    owners = dict(zip(NAMES, "aabcdefg", strict=True))
    (data / "patients.csv").write_text("image,patient\n" + "".join(f"{n},p{o}\n" for n, o in owners.items()))
    try:
        with pytest.raises(FoveateError, match="count is cases, but 1 of 2 training patients have several"):
            check_count("blobs", train())
    finally:
        (data / "patients.csv").unlink()
