"""benchmarks/gpu/report.py on the pretended device, in miniature, to its end (`make test-device`)."""

import json
import os
import subprocess
import sys

import pytest
from tests.device.started import HERE, ROOT, needs_compiler

pytestmark = [pytest.mark.device, needs_compiler]
SCRIPT = ROOT / "benchmarks" / "gpu" / "report.py"


def reported(folder, *arguments):
    """The exit code and the results."""
    out = folder / "gpu.json"
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--miniature", "--patience", "9", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    return done.returncode, json.loads(out.read_text(encoding="utf-8")), done.stdout


def test_every_section_is_measured(tmp_path):
    code, results, text = reported(tmp_path, "--launcher", str(HERE / "on_device.py"))
    assert code == 0, text
    assert [section["ending"] for section in results.values()] == ["done"] * 8
    rows = {name: section["rows"] for name, section in results.items()}
    assert {"what": "GPU", "value": "pretended"} in rows["environment"]
    assert all(row["samples/s"] > 0 and row["GFLOP a sample"] > 0 for row in rows["steps"])
    assert all(row["equal voxels"] > 0.99 for row in rows["predict"] if "MONAI, s" in row)


def test_without_a_gpu_every_row_that_needs_one_says_so(tmp_path):
    code, results, _ = reported(tmp_path, "--sections", "environment,ceiling")
    assert code == 1
    assert all("failed" in row for row in results["ceiling"]["rows"])
    assert any(row["what"] == "foveate" and "value" in row for row in results["environment"]["rows"])
