"""Named counter streams: reproducible, independent of each other and of history."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from foveate.core import rng
from foveate.core.rng import key, rows_to_draw, stream, torch_stream, torch_streams, uniforms


def test_a_stream_is_a_function_of_its_name_alone():
    first = stream(3, "flip", 7).uniform(size=5)
    stream(3, "rotation", 7).uniform(size=100)  # a draw elsewhere
    stream(3, "flip", 8).uniform(size=100)
    assert np.array_equal(first, stream(3, "flip", 7).uniform(size=5))


def test_a_stream_is_philox_under_the_key():
    """However the generator is made: a resumed run must go on with the same draws."""
    expected = np.random.Generator(np.random.Philox(key=key(3, "flip", 7)))
    found = stream(3, "flip", 7)
    assert np.array_equal(found.integers(0, 1000, 50), expected.integers(0, 1000, 50))
    assert np.array_equal(found.standard_normal(50), expected.standard_normal(50))


def test_seed_purpose_and_every_counter_matter():
    keys = {
        key(s, p, *c) for s in (0, 1) for p in ("a", "b") for c in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))
    }
    assert len(keys) == 2 * 2 * 6


def test_names_and_counters_cannot_be_confused():
    assert key(1, "view", 23) != key(1, "view2", 3)
    assert key(12, "view") != key(1, "2view")


def test_streams_of_neighbouring_counters_are_uncorrelated():
    draws = np.stack([stream(0, "noise", i).standard_normal(2000) for i in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_the_same_in_another_process():
    """Python's own hash would not be."""
    code = "from foveate.core.rng import key; print(key(4, 'box/global', 9))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found) == key(4, "box/global", 9)


def test_torch_streams_repeat():
    cpu = torch.device("cpu")
    first, second = (torch.randn(4, generator=torch_stream(cpu, 1, "noise", 2)) for _ in range(2))
    other = torch.randn(4, generator=torch_stream(cpu, 1, "noise", 3))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_numbers_of_a_reused_generator_are_those_of_a_stream_of_its_own():
    """Whatever was drawn before, in whatever thread, and while a stream is half used."""
    half = stream(1, "half")
    half.integers(0, 9)  # keeps 32 bits for the next draw
    expected = stream(1, "half")
    expected.integers(0, 9)

    def drawn(index):
        return [uniforms(seed, "x", index, width=width).tolist() for seed in (0, 2**40) for width in (5, 1)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(drawn, range(300)))
    for index, rows in enumerate(found):
        firsts = [stream(seed, "x", index).random(5).tolist() for seed in (0, 2**40)]
        assert rows == [row for first in firsts for row in (first, first[:1])]
    assert half.integers(0, 9, 20).tolist() == expected.integers(0, 9, 20).tolist()


def test_one_generator_for_many_keys_gives_what_one_for_each_gives():
    cpu = torch.device("cpu")
    streams = torch_streams(cpu, 1, "noise", (2, 5, 9))
    one = [torch.randn(n, generator=next(streams)) for n in (3, 17, 40)]
    many = [torch.randn(n, generator=torch_stream(cpu, 1, "noise", i)) for n, i in ((3, 2), (17, 5), (40, 9))]
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


def test_views_of_a_sample_are_drawn_at_once_where_every_draw_is_asked_for_by_the_host(monkeypatch):
    """On a CPU each has the numbers of its own key, in whatever company."""
    cpu, keys = torch.device("cpu"), (4, 5, 10, 11)
    bulk = torch.empty(4, 3, 7)
    for rows, generator in rows_to_draw(bulk, 1, "noise", keys, 2):
        rows.normal_(generator=generator)
    own = [torch.empty(3, 7).normal_(generator=torch_stream(cpu, 1, "noise", i)) for i in keys]
    assert torch.equal(bulk, torch.stack(own))
    monkeypatch.setattr(rng, "torch_streams", lambda *named: named[3])
    elsewhere = list(rows_to_draw(bulk.to("meta"), 1, "noise", keys, 2))
    assert [(len(rows), counter) for rows, counter in elsewhere] == [(2, 4), (2, 10)]
