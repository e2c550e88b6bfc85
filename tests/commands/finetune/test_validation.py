"""Which images validations predict while fine-tuning, and how."""

import json
from types import SimpleNamespace

import pytest
import torch
from tests.commands.finetune.test_finetune import keys, labelled, started  # noqa: F401 - fixtures

from foveate.commands.finetune import config as finetune_settings, run
from foveate.core.types import FoveateError


@pytest.mark.parametrize(
    ("cases", "positions"), [("0", [0, 1, 2, 3, 4]), ("9", [0, 1, 2, 3, 4]), ("2", [0, 2]), ("3", [0, 1, 3])]
)
def test_some_validation_images_are_chosen_evenly_and_always_the_same(keys, cases, positions):  # noqa: F811
    config = finetune_settings.SPEC.resolve({}, keys(2, **{"validation.cases": cases}))
    images = SimpleNamespace(val=range(5), config=config)
    assert run.validated(images) == positions


def test_validations_predict_as_they_are_asked_to(keys, tmp_path, monkeypatch):  # noqa: F811
    seen = []

    def judged(task, case):
        seen.append((case.entry.id, task.validation_overlap))
        return [0.5]

    monkeypatch.setattr("foveate.tasks.segmentation.Segmentation.judged", judged)
    flags = {"validation.cases": "1", "validation.overlap": "0.25", "split.val_share": "0.5"}
    assert started(keys(2, **flags))
    assert len(json.loads((tmp_path / "run/split.json").read_text())["val"]) == 3
    assert len(seen) == 2  # after steps 2 and 4
    assert len(set(seen)) == 1
    assert seen[0][1] == 0.25
    for key, value in (("validation.cases", "-1"), ("validation.overlap", "1")):
        with pytest.raises(FoveateError, match=f"--{key} -?1.*accepted are numbers from"):
            finetune_settings.SPEC.resolve({}, keys(2, **{key: value}))


def test_validations_and_their_pictures_compute_as_training_does(keys, monkeypatch):  # noqa: F811
    """In another precision other weights could be the best."""
    seen = {"judged": set(), "outlines": set()}

    def noted(name, answer):
        def note(*_):
            seen[name].add(torch.is_autocast_enabled("cpu"))
            return answer

        monkeypatch.setattr(f"foveate.tasks.segmentation.Segmentation.{name}", note)

    noted("judged", [0.5])
    noted("outlines", [])
    for precision, half in (("32-true", False), ("bf16-mixed", True)):
        assert started(keys(2, out=precision, precision=precision, steps="2"))
        assert seen == {"judged": {half}, "outlines": {half}}
        for each in seen.values():
            each.clear()
