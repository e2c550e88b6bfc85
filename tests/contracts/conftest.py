"""Which of the shipped contracts the suite leaves to `make test-slow`."""

import pytest

OWN_STATE = ("byol", "pcrlv2", "foveate", "region_contrast")  # in both dimensions: what others lack is theirs


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Resuming in bfloat16 and in 3D, but for some methods: it is the same loop, and slow on CPUs."""
    for item in items:
        if "test_resume_is_bit_equal[" not in item.nodeid:
            continue
        method, _, rest = item.nodeid.partition("[")[2].partition("-")
        if ("bf16" in rest and (method != "pcrlv2" or rest.endswith("-3]"))) or (
            rest.endswith("-3]") and method not in OWN_STATE
        ):
            item.add_marker("slow")
