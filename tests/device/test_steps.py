"""The training step on the pretended device: what must be refused is, and what waits is counted.

More of it, every method and whole runs, is in test_whole.py (`make test-device`). Skipped where there is no
C++ compiler. What no such device can show stands in docs/cluster.md.
"""

from tests.device.limits import LIMITS, over
from tests.device.started import checked, needs_compiler

pytestmark = needs_compiler
FEW = ("waits pcrlv2 2D", "waits task segmentation 2D")
FAULTS = ("rules", "planted faults", "forgotten moves simsiam 2D")


def test_the_device_refuses_what_cuda_refuses_and_steps_wait_no_more_than_they_may(tmp_path):
    """A move left out, a CPU tensor, a generator of the wrong device, numpy: refused. An item: counted."""
    found = checked(tmp_path, *FAULTS, *FEW, "answers 2D")
    assert len(found["forgotten moves simsiam 2D"]) > 1
    assert over({name: found[name] for name in FEW}) == {}
    check_answers(found["answers 2D"])


def check_answers(found):
    """Of one volume: the labels of each slab come back, once; nothing else waits."""
    assert found["slabs"] == 5
    assert found["waits"] <= 5
    assert found["blocking"] == 0
    assert set(found["batches"][:-1]) == {4}
    assert sum(found["batches"]) >= 15
    assert min(found["same"]) > 0.999  # bfloat16 may round otherwise in other batches


def test_a_limit_can_be_broken():
    waits, blocking = LIMITS["pcrlv2"][2]
    check = "waits pcrlv2 2D"
    assert over({check: [waits, blocking]}) == {}
    assert over({check: [waits + 1, blocking]}) == {check: [waits + 1, blocking]}
    assert over({check: [waits, blocking + 1]}) == {check: [waits, blocking + 1]}
