"""Many volumes: neither memory nor open files grow with their number."""

import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

import loader_memory
from foveate.data.cache.store import OPEN_FILES, open_array


@contextmanager
def few_open_files(more):
    """Only so many files more than are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_and_files_stay_few_over_many_volumes(tmp_path):
    cache = loader_memory.fake_cache(tmp_path, 300)
    open_array.cache_clear()
    with few_open_files(OPEN_FILES + 16):
        for volume in cache.volumes[:100]:
            volume.read((0, 0, 0), volume.shape)
        before = loader_memory.anonymous_mb()
        for volume in cache.volumes * 2:
            volume.read((0, 0, 0), volume.shape)
        grown = loader_memory.anonymous_mb() - before
    assert open_array.cache_info().currsize == OPEN_FILES
    assert grown < 10  # all of it read would be 120 MB as float32, 60 MB as stored
