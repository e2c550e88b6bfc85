"""Batches depend on (seed, step) alone, and failures say what to do."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest
import torch
from torch import multiprocessing

from foveate.core.contracts import CropViews
from foveate.core.rng import stream
from foveate.core.types import FoveateError
from foveate.data.loader import batches, records_of, volume_of, worker_deaths_explained


class Corners:
    """Two views of a volume at a corner drawn from the sample's index."""

    def __call__(self, volume, index):
        views, affines = [], []
        for view in range(2):
            draws = stream(5, "corner", index, view)
            low = [int(draws.integers(0, size - 3)) for size in volume.shape]
            views.append(torch.from_numpy(volume.read(low, [start + 4 for start in low])))
            affine = torch.eye(4)[:3]
            affine[:, 3] = torch.tensor(low)
            affines.append(affine)
        return {"global": CropViews(torch.stack(views), torch.stack(affines), {})}


class Fails:
    """Fails at one sample, in a chosen way."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, volume, index):
        if index == 5 and self.how == "raise":
            raise KeyError("grid")
        if index == 5 and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 5 and self.how == "hang":
            time.sleep(1000)
        made = Corners()(volume, index)
        if index == 5 and self.how == "shape":
            made["global"] = made["global"]._replace(images=made["global"].images[..., :2])
        return made


def run(cache, view_maker=None, **changes):
    options = {"seed": 3, "first_step": 0, "steps": 4, "batch_size": 2} | changes
    return list(batches(cache, view_maker or Corners(), **options))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one["index"] == two["index"]
        assert torch.equal(one["crops"]["global"], two["crops"]["global"])
        assert torch.equal(one["affines"]["global"], two["affines"]["global"])


def test_batch_has_the_shapes_of_the_contract(cache):
    batch = run(cache)[0]
    assert batch["crops"]["global"].shape == (2, 2, 1, 4, 4, 4)
    assert batch["affines"]["global"].shape == (2, 2, 3, 4)
    assert batch["index"] == (0, 1)
    assert (batch["regions"], batch["labels"]) == ({}, {})


def test_crops_come_from_the_volume_of_their_index(cache):
    for batch in run(cache):
        named = records_of(cache, seed=3, indices=batch["index"])
        for row, volume in enumerate(named):
            expected = Corners()(volume, batch["index"][row])["global"].images
            assert torch.equal(batch["crops"]["global"][row], expected)


def test_result_does_not_depend_on_workers_or_the_global_stream(cache):
    torch.manual_seed(1)
    alone = run(cache, accumulate=2)
    state = torch.get_rng_state()
    assert_same(alone, run(cache, accumulate=2, num_workers=2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resumed_run_sees_what_the_straight_one_saw(cache, num_workers):
    straight = run(cache, steps=6, accumulate=2)
    resumed = run(cache, steps=6, accumulate=2, first_step=4, num_workers=num_workers)
    assert_same(straight[8:], resumed)


@pytest.mark.parametrize(("world", "accumulate", "batch_size"), [(1, 1, 8), (2, 2, 2), (4, 1, 2), (1, 4, 2)])
def test_ranks_share_the_same_samples_of_a_step(cache, world, accumulate, batch_size):
    ranks = [
        run(cache, steps=3, world=world, rank=rank, accumulate=accumulate, batch_size=batch_size)
        for rank in range(world)
    ]
    for step in range(3):
        micro = slice(step * accumulate, (step + 1) * accumulate)
        seen = [i for rank in ranks for batch in rank[micro] for i in batch["index"]]
        assert sorted(seen) == list(range(step * 8, (step + 1) * 8))
    first = [batch["index"][0] for batch in ranks[-1][:accumulate]]
    assert first == [(m * world + world - 1) * batch_size for m in range(accumulate)]


def test_every_volume_comes_once_per_epoch_in_a_new_order():
    epochs = [[volume_of(7, epoch * 50 + place, 50) for place in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != [volume_of(8, place, 50) for place in range(50)]


def test_batch_larger_than_the_cache_is_filled(cache):
    (batch,) = run(cache, steps=1, batch_size=10)
    counts = Counter(volume.entry.id for volume in records_of(cache, seed=3, indices=batch["index"]))
    assert sorted(counts.values()) == [2] * 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_failing_sample_names_its_volume_in_one_paragraph(cache, num_workers):
    with pytest.raises(FoveateError, match=r"Sample 5 from JaneDoe_scan_\d.*KeyError: 'grid'") as caught:
        run(cache, Fails("raise"), num_workers=num_workers)
    assert "\n" not in str(caught.value)
    assert "Fails" in "".join(caught.value.__notes__) or "__call__" in "".join(caught.value.__notes__)


def test_killed_worker_is_explained(cache):
    with pytest.raises(FoveateError, match=r"lower --num_workers .*\(num_workers is 1\)"):
        run(cache, Fails("kill"), num_workers=1)


def test_report_of_a_death_is_explained_anywhere_and_other_errors_pass():
    with pytest.raises(FoveateError, match="shared memory"), worker_deaths_explained(3):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible")
    with pytest.raises(RuntimeError, match="CUDA"), worker_deaths_explained(3):
        raise RuntimeError("CUDA error in a worker stream")


def test_full_shared_memory_is_explained(cache, monkeypatch):
    def full(_samples):
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_5>: No space left on device"
        )

    monkeypatch.setattr("foveate.data.loader.default_collate", full)
    with pytest.raises(FoveateError, match=r"shared memory \(/dev/shm\) is full.*--batch_size\."):
        run(cache, num_workers=1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_views_of_unequal_shapes_name_their_samples(cache, num_workers):
    with pytest.raises(FoveateError, match=r"Samples \[4, 5\] do not fit into one batch"):
        run(cache, Fails("shape"), num_workers=num_workers)


def marked(batch):
    return {**batch, "labels": {"process": os.getpid()}}


def refusing(batch):
    raise FoveateError(f"swap_patch does not fit samples {batch['index']}.")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_is_done_to_a_batch_at_last_is_done_by_a_worker_and_says_itself_what_does_not_fit(
    cache, num_workers
):
    made = run(cache, num_workers=num_workers, finish=marked)
    assert all((batch["labels"]["process"] == os.getpid()) == (num_workers == 0) for batch in made)
    with pytest.raises(FoveateError, match=r"^swap_patch does not fit samples \(0, 1\)\."):
        run(cache, num_workers=num_workers, finish=refusing)


@pytest.mark.parametrize("how", ["", "hang"])
def test_leaving_early_stops_the_workers(cache, how, monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.3)  # patience, for what hangs
    stream_of_batches = batches(
        cache, Fails(how), seed=0, first_step=0, steps=10_000, batch_size=2, num_workers=2
    )
    others = set(multiprocessing.active_children())  # of earlier tests in this process
    next(stream_of_batches)
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    stream_of_batches.close()
    for worker in workers:
        worker.join(10)
    assert not workers & set(multiprocessing.active_children())


@pytest.mark.parametrize("how", ["raise", "shape", "kill"])
def test_an_error_leaves_no_workers(cache, how):
    others = set(multiprocessing.active_children())
    with pytest.raises(FoveateError) as caught:
        run(cache, Fails(how), num_workers=2)
    assert set(multiprocessing.active_children()) <= others
    del caught  # held until here: the error keeps the frames alive that held the processes


def test_a_batch_says_how_large_its_images_are(cache):
    for batch in run(cache):
        assert batch["extent"].tolist() == [[9, 10, 11]] * 2
        assert batch["spacing"].tolist() == [[1.0, 1.0, 2.5]] * 2
