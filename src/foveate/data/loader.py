"""Batches as a function of (seed, step) alone, whatever the workers, the ranks and where a run resumed.

Optimizer step t covers the global sample indices [t*G, (t+1)*G), G = world * accumulate * batch_size;
micro-batch m of rank r holds t*G + m*world*batch_size + r*batch_size + [0, batch_size).
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast, final

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from foveate.core.contracts import CropViews, ViewMaker
from foveate.core.processes.signals import outlive_first_order
from foveate.core.rng import key
from foveate.core.types import Batch, FoveateError, reason_of
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.order import volume_of
from foveate.data.transport import Sent, packed, unpacked

PREFETCH_BATCHES = 2  # of every worker
PREFETCH_FOR_A_GPU = 4  # its steps are short: one slow image must not stop them
SHARED_MEMORY = "shared memory (/dev/shm) is full: enlarge it (docker: --shm-size 8g) or lower --num_workers"
REPORT_SECONDS = 0.5  # between a connection that breaks and the signal that says why
T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Labelled images, and from global sample index `first` on every second sample an unlabelled one.

    A pair of samples 2k, 2k+1 stays in one micro-batch where its size is even.
    """

    labelled: Cache
    unlabelled: Cache
    first: int

    def volume(self, seed: int, index: int) -> CachedVolume:
        """The volume behind a global sample index; either kind is seen once per epoch of its own."""
        pair, second = divmod(index - self.first, 2)
        if pair >= 0 and second:
            order = key(seed, "unlabelled images") >> 1
            return self.unlabelled[volume_of(order, pair, len(self.unlabelled))]
        place = index if pair < 0 else self.first + pair
        return self.labelled[volume_of(seed, place, len(self.labelled))]


def volume_at(cache: Cache | Mixture, seed: int, index: int) -> CachedVolume:
    """The volume behind a global sample index."""
    if isinstance(cache, Mixture):
        return cache.volume(seed, index)
    if cache.mix:
        return cache[cache.mix.position(seed, index)]
    return cache[volume_of(seed, index, len(cache))]


def records_of(cache: Cache | Mixture, *, seed: int, indices: Iterable[int]) -> list[CachedVolume]:
    """The volumes behind global sample indices, to name those of a bad batch."""
    return [volume_at(cache, seed, int(index)) for index in indices]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which samples of every step one process takes."""

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    def indices(self, step: int, micro_batch: int) -> list[int]:
        """Global sample indices of one micro-batch."""
        whole = step * self.world * self.accumulate * self.batch_size
        first = whole + (micro_batch * self.world + self.rank) * self.batch_size
        return list(range(first, first + self.batch_size))


@final
class _Schedule(Sampler[list[int]]):
    """The micro-batches of one process from one step to another."""

    def __init__(self, share: Share, steps: range) -> None:
        self.share, self.steps = share, steps

    def __len__(self) -> int:
        return len(self.steps) * self.share.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            for micro_batch in range(self.share.accumulate):
                yield self.share.indices(step, micro_batch)


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of one sample, sent as a value: torch would bury its text in a traceback."""

    text: str
    trace: str


_Sample = dict[str, Any]


@final
class _Samples(Dataset[_Sample | _Failure]):
    """One sample for every global index."""

    def __init__(self, cache: Cache | Mixture, view_maker: ViewMaker, seed: int) -> None:
        self.cache, self.view_maker, self.seed = cache, view_maker, seed

    def __getitem__(self, index: int) -> _Sample | _Failure:
        volume = volume_at(self.cache, self.seed, index)
        try:
            return _sample(self.view_maker(volume, index), volume, index)
        except Exception as error:  # whatever it is, the volume must be named
            return _Failure(_describe(volume, index, error), traceback.format_exc())


def _sample(views: dict[str, CropViews], volume: CachedVolume, index: int) -> _Sample:
    cut = next(iter(views.values())).slice
    return {
        "crops": {crop: each.images for crop, each in views.items()},
        "affines": {crop: each.affines for crop, each in views.items()},
        "regions": {f"{name}/{crop}": x for crop, each in views.items() for name, x in each.maps.items()},
        "labels": {name: torch.tensor(float(value)) for name, value in volume.labels.items()},
        "extent": torch.tensor(volume.place.extent),
        "spacing": torch.tensor(volume.place.spacing_mm),
        **({"slice": torch.tensor(cut)} if cut else {}),
        "index": index,
    }


def _describe(volume: CachedVolume, index: int, error: Exception) -> str:
    name = volume.relative or volume.entry.id
    what = str(error) if isinstance(error, FoveateError) else f"{type(error).__name__}: {error}"
    what = " ".join(what.split())  # one paragraph
    return f"Sample {index} from {name} (shape {volume.shape}) could not be made: {what}"


def _collate(samples: Sequence[_Sample | _Failure], finish: Callable[[Batch], Batch]) -> Batch | _Failure:
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
    made = [sample for sample in samples if not isinstance(sample, _Failure)]
    try:
        merged = default_collate([{k: v for k, v in sample.items() if k != "index"} for sample in made])
        return finish(cast(Batch, {**merged, "index": tuple(sample["index"] for sample in made)}))
    except FoveateError as error:  # what is drawn for a batch says itself what does not fit
        return _Failure(str(error), traceback.format_exc())
    except Exception as error:  # a view maker's views of unequal shapes, or no room for the batch
        if "shared memory" in str(error):
            text = f"A batch has no room: {SHARED_MEMORY} or --batch_size."
            return _Failure(text, traceback.format_exc())
        return _Failure(_describe_batch(samples, error), traceback.format_exc())


def _collate_and_pack(
    samples: Sequence[_Sample | _Failure], finish: Callable[[Batch], Batch]
) -> Sent | _Failure:
    made = _collate(samples, finish)
    return made if isinstance(made, _Failure) else packed(made)


def _as_it_is(item: T) -> T:
    return item


def _describe_batch(samples: Sequence[_Sample | _Failure], error: Exception) -> str:
    indices = [sample["index"] for sample in samples if not isinstance(sample, _Failure)]
    return (
        f"Samples {indices} do not fit into one batch: {type(error).__name__}: {' '.join(str(error).split())}"
    )


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)  # the workers are the parallelism
    gc.freeze()  # else every full collection goes through all that torch has imported
    outlive_first_order()  # else the main process loses the batches of the step it is to save


def batches(
    cache: Cache | Mixture,
    view_maker: ViewMaker,
    *,
    seed: int,
    first_step: int,
    steps: int,
    batch_size: int,
    accumulate: int = 1,
    rank: int = 0,
    world: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
    finish: Callable[[Batch], Batch] = _as_it_is,
) -> Generator[Batch]:
    """The micro-batches of this rank for optimizer steps `first_step` to `steps` (not included).

    `finish` is what a worker does to a batch at last, such as draws for its step (`views.drawn.draw_ahead`).

    Raises:
        FoveateError: when a sample cannot be made or a worker dies.
    """
    share = Share(batch_size=batch_size, accumulate=accumulate, rank=rank, world=world)
    ahead = PREFETCH_FOR_A_GPU if pin_memory else PREFETCH_BATCHES
    loader = DataLoader(
        _Samples(cache, view_maker, seed),
        batch_sampler=_Schedule(share, range(first_step, steps)),
        collate_fn=partial(_collate_and_pack if num_workers else _collate, finish=finish),
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        prefetch_factor=ahead if num_workers else None,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),  # else every start would draw from the global stream
    )
    with _ending_workers(loader):
        yield from map(_unwrapped, _watched(loader, num_workers))


@final
class _Jobs(Dataset[T | _Failure], Generic[T]):
    """What a function makes of every number below a count."""

    def __init__(self, make: Callable[[int], T], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> T | _Failure:
        try:
            return self.make(number)
        except Exception as error:  # sent as a value: `make` names the image
            return _Failure(reason_of(error), traceback.format_exc())


def made_ahead(make: Callable[[int], T], count: int, *, num_workers: int = 0) -> Generator[T]:
    """What `make` gives for 0, 1 ... count - 1, in order, made by worker processes while the caller is busy.

    Raises:
        FoveateError: when it fails for a number, or a worker dies.
    """
    loader = DataLoader(
        _Jobs(make, count),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        prefetch_factor=PREFETCH_BATCHES if num_workers else None,
        generator=torch.Generator(),
    )
    with _ending_workers(loader):
        for item in _watched(loader, num_workers):
            if isinstance(item, _Failure):
                raise _as_error(item)
            yield item


@contextmanager
def _ending_workers(loader: DataLoader[Any]) -> Iterator[None]:
    """Ends the processes of a loader here and now.

    The garbage collector, which is left with them after an error, closes their queues before it asks them
    to end, and then waits ten seconds for each; and what hangs in a library outlives a polite signal.
    """
    try:
        yield
    finally:
        if loader.num_workers and (running := cast(Any, loader._iterator)):
            try:
                running._shutdown_workers()
            finally:
                for worker in running._workers:
                    if worker.is_alive():
                        worker.kill()


def _unwrapped(item: Batch | Sent | _Failure) -> Batch:
    if isinstance(item, _Failure):
        raise _as_error(item)
    return unpacked(item) if isinstance(item, Sent) else item


def _as_error(failure: _Failure) -> FoveateError:
    error = FoveateError(failure.text)
    error.add_note(failure.trace)
    return error


def _watched(loader: Iterable[T], num_workers: int) -> Iterator[T]:
    """Passes batches on and explains the death of a worker, which may first show as a broken connection."""
    with worker_deaths_explained(num_workers):
        try:
            yield from loader
        except (
            OSError,
            EOFError,
            AssertionError,
        ) as error:  # what multiprocessing raises when a peer is gone
            if not num_workers:
                raise
            time.sleep(REPORT_SECONDS)  # torch's own report, which says more, may interrupt this
            raise _death(type(error).__name__, num_workers) from error


@contextmanager
def worker_deaths_explained(num_workers: int) -> Iterator[None]:
    """Turns torch's report of a dead worker into a paragraph.

    A signal handler of torch raises that report wherever the main process happens to be, so wrap the
    whole training loop in this, not only the loader.
    """
    try:
        yield
    except RuntimeError as error:
        report = str(error)
        if not report.startswith(("DataLoader worker", "Pin memory thread")):
            raise
        raise _death(report.splitlines()[0], num_workers) from error


def _death(report: str, num_workers: int) -> FoveateError:
    if "Bus error" in report or "shared memory" in report:
        advice = SHARED_MEMORY
    else:
        advice = "it was probably killed for want of memory: lower --num_workers or --batch_size"
    report = report.rstrip(". ")
    return FoveateError(
        f"A process that loads data died ({report}); {advice} (num_workers is {num_workers})."
    )
