"""Which of the shipped contracts the suite leaves to `make test-slow`."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Resuming in bfloat16, but for one method: it is the same loop, and slow on CPUs."""
    for item in items:
        if (
            "test_resume_is_bit_equal[" in item.nodeid
            and "bf16" in item.nodeid
            and "pcrlv2" not in item.nodeid
        ):
            item.add_marker("slow")
