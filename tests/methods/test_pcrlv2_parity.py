"""PCRLv2 against the published step.

The authors' own recordings hold their inputs as megabytes of arrays, so they stay outside of the repository:
`FOVEATE_FIXTURES=FOLDER` runs the two tests that need them, this package against the authors and the plain
transcription against the authors. What always runs is narrow, has hashed weights and hashed inputs, and says:

- `test_parity_with_the_transcription`: this package computes what the transcription does (outputs, terms and
  gradient norms at every scale, one SGD step). It does not say that the transcription is the authors' code.
- `test_the_pair_computes_its_recorded_figures`: neither moved since the day both agreed with each other, and
  the transcription with the authors' recordings. The figures are the transcription's, not the authors'.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import parity
import pcrlv2_transcription as transcription

GRIDS = {2: ([64, 64], [32, 32]), 3: ([16, 16, 8], [8, 8, 8])}
FIXTURES = os.environ.get("FOVEATE_FIXTURES", "")
needs_fixtures = pytest.mark.skipif(
    not FIXTURES,
    reason="the authors' recorded numbers are not in the repository; set FOVEATE_FIXTURES to them",
)

# Of width 4, seed 5: loss terms at every scale (one pixel for all), gradient norms at scale 1, outputs.
FIGURES = {
    2: {
        "pixel": 1.637979568,
        "global": [-0.09005805632, -0.1036949315, 0.1209129754, 0.0609944614, 0.01645057004],
        "local": [0.006067533813, -0.001057874537, 0.01851110085, -0.005098446439, -0.02381886179],
        "mid": [1.381212521, 0.7319589473, 0.838637193, 0.8446216789, 1.058200945],
        "z1_0": [0.01203080082, 0.9944341269, -1.098645327, -1.455108109, -1.466258813],
        "restored": [0.2407893968, 1.221008895, -0.4707182689, 0.3425873664, 0.138971172],
        "gradient model.encoder.conv1.weight": 29.88532834,
        "gradient model.decoder.blocks.1.conv2.0.weight": 1.664237173,
        "gradient model.decoder.blocks.1.predictor_head.0.weight": 0.4434947802,
        "gradient model.decoder.blocks.1.deep_supervision_head.3.weight": 0.6334336502,
    },
    3: {
        "pixel": 0.140806107,
        "global": [-0.04719372432, -0.0293163035, 0.04088427407],
        "local": [-0.0002555405288, 0.03186711681, 0.01644095682],
        "mid": [0.1113737342, 0.09544937951, 0.1316336773],
        "z1_0": [-0.0005782613558, 1.000628922, -1.301589569, 1.389990601, -0.2149183557],
        "restored": [0.6571945636, 0.1736720206, 0.5113139165, 0.5637598605, 0.5888298789],
        "gradient down_tr64.ops.0.conv1.weight": 3.729145143,
        "gradient up_tr128.ops.1.conv1.weight": 2.374682863,
        "gradient up_tr128.predictor_head.0.weight": 0.4757400455,
        "gradient up_tr128.deep_supervision_head.conv1.weight": 0.02998323479,
    },
}


def recorded(folder, dimension, seed=5):
    inputs = transcription.hashed_inputs(seed, dimension, 4, *GRIDS[dimension])
    return transcription.record(folder, dimension, 4, seed, inputs)


def compared(folder, dimension):
    """A parity run's worst error of every quantity."""
    run = parity.Parity(folder, dimension)
    run.run()
    return run.worst


@pytest.mark.parametrize("seed", [5, 6])
@pytest.mark.parametrize("dimension", [2, 3])
def test_parity_with_the_transcription(dimension, seed, tmp_path):
    recorded(tmp_path, dimension, seed)
    worst = compared(tmp_path, dimension)
    assert len(worst) == 13
    assert {name: error for name, error in worst.items() if error > parity.BOUND} == {}


def test_parity_notices_a_change(tmp_path):
    """The comparison can fail: a loss that is off by 1e-5."""
    facts = recorded(tmp_path, 3)
    facts["loss"]["2"]["mid"] *= 1 + 1e-5
    (tmp_path / "pcrlv2_3d.json").write_text(json.dumps(facts))
    over = [name for name, error in compared(tmp_path, 3).items() if error > parity.BOUND]
    assert over == ["loss: middle"]


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_pair_computes_its_recorded_figures(dimension, tmp_path):
    facts = recorded(tmp_path, dimension)
    with np.load(tmp_path / f"pcrlv2_{dimension}d.npz") as arrays:
        found = figures(facts, dimension, arrays)
    for name, expected in FIGURES[dimension].items():
        cosine = name.startswith(("global", "local"))
        close = {"rel": 0, "abs": 1e-6} if cosine else {"rel": 1e-6, "abs": 0}
        assert found[name] == pytest.approx(expected, **close), name


def figures(facts, dimension, arrays):
    """A few recorded numbers by name."""
    losses = [facts["loss"][str(s)] for s in range(facts["scales"])]
    found = {"pixel": losses[0]["pixel"]}
    found |= {term: [row[term] for row in losses] for term in ("global", "local", "mid")}
    for name, (array, entries) in {"z1_0": (arrays["z1_0"], 3), "restored": (arrays["restored"], 3)}.items():
        found[name] = [float(array.mean()), float(array.std()), *array.ravel()[:entries].tolist()]
    gradients = facts["grad_norm"]["1"]
    return found | {f"gradient {name}": gradients[name] for name in WATCHED[dimension]}


WATCHED = {  # stem, a decoder convolution, an embedder's and a restorer's layer
    2: (
        "model.encoder.conv1.weight",
        "model.decoder.blocks.1.conv2.0.weight",
        "model.decoder.blocks.1.predictor_head.0.weight",
        "model.decoder.blocks.1.deep_supervision_head.3.weight",
    ),
    3: (
        "down_tr64.ops.0.conv1.weight",
        "up_tr128.ops.1.conv1.weight",
        "up_tr128.predictor_head.0.weight",
        "up_tr128.deep_supervision_head.conv1.weight",
    ),
}


@pytest.mark.parametrize("dimension", [2, 3])
def test_float32_losses_are_those_of_float64_within_a_hundredth(dimension, tmp_path):
    """Relative to the term; a cosine, which may be next to 0, relative to its range of 2."""
    recorded(tmp_path, dimension)
    run = parity.Parity(tmp_path, dimension)
    for scale in range(run.facts["scales"]):
        with torch.no_grad():
            exact = run.terms(run.fresh(), scale)
        double, run.arrays = run.arrays, {name: x.float() for name, x in run.arrays.items()}
        with torch.no_grad():
            single = run.terms(run.fresh().float(), scale)
        run.arrays, run.method = double, run.method.double()
        for name, value in exact.items():
            size = 2.0 if name in ("siamese", "local") else value.item()
            assert single[name].dtype == torch.float32
            assert abs(single[name].item() - value.item()) <= 1e-2 * size, (scale, name)


@needs_fixtures
def test_parity_with_the_authors_recordings(capsys):
    assert parity.main(Path(FIXTURES)) == 0, capsys.readouterr().out


@needs_fixtures
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_transcription_computes_the_authors_recordings(dimension, tmp_path):
    """Every recorded number except outputs that are bounded tensor by tensor: those go through the losses."""
    authors = parity.Parity(Path(FIXTURES), dimension)
    inputs = {name: authors.arrays[name] for name in ("x1", "x2", "locals", "target")}
    width = authors.facts["state_dict"][parity.STEM[dimension]][0]
    ours = transcription.record(tmp_path, dimension, width, authors.facts["seed"], inputs)
    assert ours["state_dict"] == authors.facts["state_dict"]
    for scale, terms in authors.facts["loss"].items():
        assert ours["loss"][scale] == pytest.approx(terms, rel=1e-6, abs=1e-6)
        close_norms(ours["grad_norm"][scale], authors.facts["grad_norm"][scale])
    close_norms(ours["sgd_update_norm_scale1"], authors.facts["sgd_update_norm_scale1"])


def close_norms(ours, theirs):
    floor = 1e-6 * max(theirs.values())
    assert set(ours) == set(theirs)
    worst = max(abs(ours[name] - norm) / max(norm, floor) for name, norm in theirs.items())
    assert worst <= parity.BOUND
    assert math.isfinite(worst)
