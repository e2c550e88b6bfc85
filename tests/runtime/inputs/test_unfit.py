"""Keys without an effect on the answers of a run are refused; no key is forgotten in the list."""

from dataclasses import fields, replace

import pytest

from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.predict.config import PredictConfig
from foveate.core import config as parsing
from foveate.core.types import FoveateError
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.runtime.inputs.unfit import FITS, SAID, kind_of, refuse_unfit
from foveate.runtime.registries import TASKS
from foveate.scoring.inference import WindowConfig
from foveate.scoring.segment import TidyConfig

OTHERS = {
    "run",
    "data",
    "out",
    "boxes",
    "force",
    "format",
    "accelerator",
    "gpu",
}  # for any, or refused elsewhere
OTHERS |= {"part", "predictions", "source", "task", "frame", "unit", "diameter", "by", "worst", "with_images"}
OTHERS |= {"draws", "seed"}
MASKS, WINDOWS, VALUES, BOXES, TABLE = "masks", "windows", "values", "boxes", "table"


def test_every_key_is_in_the_list_or_means_something_for_any_answer():
    heads = {key.partition(".")[0] for key in FITS}
    known = {each.name for config in (PredictConfig, EvaluateConfig) for each in fields(config)}
    assert known == heads | OTHERS
    assert not heads & OTHERS
    windows = {f"window.{name}" for name in parsing.to_mapping(WindowConfig())}
    assert windows == {key for key in FITS if key.startswith("window")}


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ({"probabilities": True}, {MASKS}),
        ({"uncertainty_map": True}, {MASKS}),
        ({"tidy": TidyConfig(fill_holes=True)}, {MASKS}),
        ({"window": WindowConfig(blend="flat")}, {MASKS}),
        ({"window": WindowConfig(batch_size=2)}, {MASKS}),
        ({"window": WindowConfig(skip_background=True)}, {MASKS}),
        ({"window": WindowConfig(overlap=0.25)}, {MASKS, WINDOWS}),
        ({"smooth_frames": 3}, {VALUES}),
        ({"calibration": True}, {MASKS, VALUES}),
        ({"nsd_tolerance_mm": 2.0}, {MASKS}),
        ({"mirror": "x"}, {MASKS, WINDOWS, VALUES, BOXES}),
        ({"precision": "32-true"}, {MASKS, WINDOWS, VALUES, BOXES}),
        ({"worst": 1}, {MASKS, WINDOWS, VALUES, BOXES, TABLE}),
    ],
)
def test_a_key_is_accepted_where_it_has_an_effect_and_nowhere_else(changed, kinds):
    seen = 0
    for usual in (PredictConfig(), EvaluateConfig()):
        if not hasattr(usual, next(iter(changed))):
            continue
        for kind in SAID:
            seen += 1
            if kind in kinds:
                refuse_unfit(replace(usual, **changed), usual, [kind])
                continue
            with pytest.raises(
                FoveateError, match=rf"--\S+ \S+: the answers are {SAID[kind]}; accepted for "
            ):
                refuse_unfit(replace(usual, **changed), usual, [kind])
    assert seen


def test_what_is_said_is_where_it_is_accepted():
    usual = EvaluateConfig()
    asked = replace(usual, window=WindowConfig(overlap=0.25))
    with pytest.raises(
        FoveateError,
        match=r"^--window\.overlap 0\.25: the answers are boxes; accepted for runs that make masks, or find "
        r"boxes window by window\.$",
    ):
        refuse_unfit(asked, usual, [BOXES, BOXES])
    refuse_unfit(asked, usual, [BOXES, WINDOWS])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("segmentation", MASKS),
        ("classification", VALUES),
        ("detection", WINDOWS),
        ("localization", BOXES),
        ("candidates", BOXES),
    ],
)
def test_tasks_have_the_kind_of_their_answers(name, kind):
    config = TASKS[name].Config.preset(2, "small", "none")
    config = replace(config, **{"targets": ("a",)} if kind == VALUES else {})
    config = replace(config, classes=("a=1", "b=2"))
    net = build_pyramid(UNetConfig(width=2, levels=3), DecoderConfig(skips=True), 2)
    assert kind_of(TASKS[name].build(net, config)) == kind
