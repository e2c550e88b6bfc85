"""docs/evidence.md is what write_page.py makes of the finished runs, and says what is not run."""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from foveate.commands.compare.arms import LONG, SCRATCH
from foveate.commands.compare.cells import FACTS
from foveate.commands.compare.grid import jobs_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks/evidence"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("write_page", FOLDER / "write_page.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["write_page"] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    for name in ("FOVEATE_DATA", "FOVEATE_EVIDENCE"):
        monkeypatch.setenv(name, str(tmp_path))


def test_the_page_is_that_of_the_finished_runs(script):
    made = script.page(FOLDER / "results")
    assert (ROOT / "docs/evidence.md").read_text() == made, "python benchmarks/evidence/write_page.py"


def test_without_runs_the_page_says_so_and_has_no_score(script, tmp_path):
    made = script.page(tmp_path)
    assert made.count("Not run: 0 of ") == len(script.GRIDS)
    assert "0." not in made.replace("0 of", "")


def test_every_figure_comes_from_the_cells(script, tmp_path):
    grid, rng = script.read("acdc", tmp_path), np.random.default_rng(0)
    folder = tmp_path / "acdc/cells"
    folder.mkdir(parents=True)
    gains = {SCRATCH: 0.0, LONG: 0.02, "foveate": 0.2}
    scores = {}
    for job in jobs_of(grid.config):
        if job.kind == "test" and job.arm in gains:
            own = 0.4 + gains[job.arm] + 0.02 * job.label_set + rng.normal(0, 0.002, 40)
            scores.setdefault((job.arm, job.labels), []).append(own.mean())
            cases = {"id": [*range(1, 41)], "patient": [1 + i // 2 for i in range(40)]}
            cell = {
                **{key: value for key, value in asdict(job).items() if key != "rate"},
                "seconds": 360.0,
                "commit": "abc",
                "first_batch": f"{job.labels} {job.label_set} {job.finetune_seed}",
                "cases": {**cases, "mean_fg_dice": own.tolist()},
            }
            (folder / f"{job.name}.json").write_text(json.dumps(cell))
    (tmp_path / "acdc" / FACTS).write_text(json.dumps({"heart": {"commit": "before"}}))
    made = script.page(tmp_path)
    rows = {(c[1].strip(), c[2].strip()): c for line in made.splitlines() if len(c := line.split("|")) == 10}
    for (arm, labels), values in scores.items():
        assert rows[arm, str(labels)][3].split()[0] == f"{np.mean(values):.3f}"
    assert "better (n = 20 patients x 6 seeds on 3 labelled sets)" in rows["foveate", "1"][5]
    assert "not resolvable" in rows["foveate", "8"][5]  # one labelled set
    assert rows["foveate", "8"][7].strip() == "unknown, exploratory"
    assert rows["foveate", "1"][8].strip() == f"{0.1 * 10:.2f}"
    assert rows["semi", "1"][3].strip() == "not run"
    assert "stood at commit before before the first test score; runs were done at abc." in made
    assert made.count("Main limitation: ") == 1
    assert made.count("Not run: 0 of ") == len(script.GRIDS) - 1
