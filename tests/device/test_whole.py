"""Every method's steps, and whole runs of every command that computes, on the pretended device.

Minutes long, so not in the suite: `make test-device`.
"""

import pytest
from tests.device.limits import LIMITS, over
from tests.device.started import HERE, checked, needs_compiler, program
from tests.device.test_steps import check_answers

pytestmark = [pytest.mark.device, needs_compiler, pytest.mark.parametrize("dimension", [2, 3])]
MOVING = ("pcrlv2", "pgl", "masked", "context_restoration", "region_contrast")


def checks(group, dimension):
    """The names of all checks of a group."""
    names = program(HERE / "names.py", group, dimension).splitlines()
    return [f"{group} {name} {dimension}D" for name in names]


def test_no_step_waits_more_than_it_may(tmp_path, dimension):
    """Of any method or task: a new one needs a limit."""
    names = checks("waits", dimension)
    assert {name.removeprefix("waits ").rpartition(" ")[0] for name in names} == set(LIMITS)
    assert over(checked(tmp_path, *names)) == {}


def test_a_prediction_waits_once_a_slab(tmp_path, dimension):
    check_answers(checked(tmp_path, f"answers {dimension}D")[f"answers {dimension}D"])


@pytest.mark.parametrize("method", MOVING)
def test_no_move_to_the_device_can_be_left_out(tmp_path, dimension, method):
    checked(tmp_path, f"forgotten moves {method} {dimension}D")


@pytest.mark.parametrize("group", ["pretrain", "encoder", "task", "rest"])
def test_whole_runs(tmp_path, dimension, group):
    """Health, previews, saving, going on, export; prediction and evaluation; plan; dry runs."""
    assert checked(tmp_path, *checks(group, dimension))
