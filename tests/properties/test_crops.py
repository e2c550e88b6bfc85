"""Crops: overlap, containment, tissue, windows and resizing, whatever the volume and the request."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats
from skimage.transform import resize

from foveate.core.codes import Codes
from foveate.core.types import CropSpec, FoveateError, Tissue
from foveate.data.cache.encoding import encode
from foveate.data.cache.index import CacheEntry
from foveate.data.cache.volumes import CachedVolume
from foveate.views import geometry as g
from foveate.views.boxes import TISSUE_ATTEMPTS, Box, draw_boxes, iou, union_box, with_tissue
from foveate.views.pipeline import missed_tissue, read_views, share_above


class Memory:
    """A volume in memory."""

    planes = None
    focus = ()

    def __init__(self, array):
        self.array, self.shape, self.spacing_mm = array, array.shape[1:], (1.0,) * (array.ndim - 1)

    def codes(self, low, high):
        assert all(0 <= a < b <= s for a, b, s in zip(low, high, self.shape, strict=True))
        return Codes(self.array, 0, 1, inside=True).part(low, high)


@st.composite
def requests(draw):
    """A volume's shape and a pair with sub-crops that it can feed: (shape, specs)."""
    n = draw(st.sampled_from([2, 3]))
    numbers = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * n))  # noqa: E731
    grid = numbers(4, 12)
    shape = tuple(draw(st.integers(math.ceil(size / 2), 40)) for size in grid)
    sizes = tuple(numbers(2, 30) for _ in range(draw(st.integers(1, 3))))
    small = tuple(numbers(1, 14) for _ in range(draw(st.integers(1, 2))))
    pair = CropSpec(count=2, grid=grid, source_sizes=sizes, min_iou=draw(st.floats(0.05, 0.9)))
    local = CropSpec(count=3, grid=(2,) * n, source_sizes=small, inside="pair")
    return shape, {"pair": pair, "local": local}


def inside(box, outer):
    return all(a >= b for a, b in zip(box.low, outer.low, strict=True)) and all(
        a <= b for a, b in zip(box.high, outer.high, strict=True)
    )


@settings(max_examples=150, deadline=None)
@given(requests(), st.integers(0, 10**6))
def test_overlap_and_containment_hold_for_every_request(request_, index):
    shape, specs = request_
    boxes = draw_boxes(shape, specs, seed=1, index=index)
    first, second = boxes["pair"]
    assert iou(first, second) >= specs["pair"].min_iou
    union, volume = union_box((first, second)), Box(low=(0,) * len(shape), high=shape)
    assert all(inside(box, union) for box in boxes["local"])
    for box in (first, second):
        for axis, cells in enumerate(specs["pair"].grid):
            sticks_out = box.low[axis] < 0 or box.high[axis] > shape[axis]
            assert not sticks_out or box.size[axis] == cells > shape[axis]  # padded to the view, no further
    if inside(union, volume):
        assert all(inside(box, volume) for box in boxes["local"])


def test_every_pair_is_as_probable_as_the_procedure_says():
    """Uniform size and place of the first, uniform size among the feasible, uniform admissible place."""
    shape, sizes, least = (6, 5), ((3, 3), (4, 2)), 0.4
    spec = CropSpec(count=2, grid=(2, 2), source_sizes=sizes, min_iou=least)

    def places(size):
        starts = itertools.product(*(range(s - a + 1) for s, a in zip(shape, size, strict=True)))
        return [Box(low=low, high=tuple(a + b for a, b in zip(low, size, strict=True))) for low in starts]

    expected = {}
    for size in sizes:
        for first in places(size):
            partners = [[b for b in places(s) if iou(first, b) >= least] for s in sizes]
            feasible = [p for p in partners if p]
            for group in feasible:
                chance = 1 / (len(sizes) * len(places(size)) * len(feasible) * len(group))
                expected |= {(first, b): chance for b in group}
    assert sum(expected.values()) == pytest.approx(1)
    count = 60 * len(expected)
    seen = dict.fromkeys(expected, 0)
    for index in range(count):
        seen[draw_boxes(shape, {"a": spec}, seed=3, index=index)["a"]] += 1
    assert min(seen.values()) > 0
    chances = np.array(list(expected.values())) * count
    assert stats.chisquare(list(seen.values()), chances).pvalue > 1e-3


def test_sub_crops_are_uniform_in_the_union():
    specs = {
        "g": CropSpec(count=1, grid=(6, 6), source_sizes=((6, 5),)),
        "l": CropSpec(count=1, grid=(2, 2), source_sizes=((3, 2),), inside="g"),
    }
    seen = np.zeros((4, 4), dtype=int)
    for index in range(1600):
        boxes = draw_boxes((9, 9), specs, seed=0, index=index)
        seen[tuple(np.subtract(boxes["l"][0].low, boxes["g"][0].low))] += 1
    assert stats.chisquare(seen.ravel()).pvalue > 1e-3


def slow_share(array, box, threshold):
    """The share of tissue, voxel by voxel."""
    spans = [range(max(0, a), min(b, s)) for a, b, s in zip(box.low, box.high, array.shape[1:], strict=True)]
    values = [array[(0, *voxel)] for voxel in itertools.product(*spans)]
    return sum(value > threshold for value in values) / len(values)


@settings(max_examples=40, deadline=None)
@given(requests(), st.integers(0, 1000), st.floats(0.1, 0.9), st.floats(0, 0.5), st.floats(0.5, 1))
def test_tissue_rule_against_a_slow_loop(request_, index, threshold, at_least, at_most):
    """What is drawn keeps the rule by a loop's count, or no attempt of the draw came closer."""
    shape, specs = request_
    array = np.random.default_rng(index).random((1, *shape), dtype=np.float32)
    array[0, : shape[0] // 2] *= 0.3  # half of it is mostly background
    rule = Tissue(threshold=threshold, at_least=at_least, at_most=at_most)
    specs = {name: CropSpec(**{**fields(spec), "tissue": rule}) for name, spec in specs.items()}
    looked_at = []

    def measure(box, level):
        assert level == threshold
        looked_at.append((box, slow_share(array, box, level)))
        assert share_above(Memory(array), box, level) == pytest.approx(looked_at[-1][1], abs=1e-9)
        return looked_at[-1][1]

    boxes = draw_boxes(shape, specs, seed=0, index=index, measure=measure)
    drawn = [*boxes["pair"], *boxes["local"]]
    if not rule.accepts_all:
        assert drawn == chosen_by_a_loop(looked_at, at_least, at_most)
    first, second = boxes["pair"]
    assert iou(first, second) >= specs["pair"].min_iou
    assert all(inside(box, union_box((first, second))) for box in boxes["local"])


def chosen_by_a_loop(looked_at, at_least, at_most):
    """From all boxes that were looked at, in order, those that the rule should have taken."""
    chosen, tried = [], []
    for box, share in looked_at:
        tried.append((max(at_least - share, share - at_most, 0), len(tried), box))
        if tried[-1][0] == 0 or len(tried) == TISSUE_ATTEMPTS:
            chosen.append(min(tried[-1:] if tried[-1][0] == 0 else tried)[2])
            tried = []
    return chosen


def fields(spec):
    return {name: getattr(spec, name) for name in CropSpec.__dataclass_fields__}


def test_a_rule_that_cannot_be_kept_takes_the_closest_and_is_counted():
    shares = iter([0.1, 0.3, 0.2] + [0.0] * 100)
    boxes = iter([Box(low=(i,), high=(i + 1,)) for i in range(100)])
    rule = Tissue(threshold=0.5, at_least=0.4)
    chosen = with_tissue(lambda: next(boxes), rule, lambda _box, _level: next(shares))
    assert chosen.low == (1,)
    empty = Memory(np.zeros((1, 20, 20), np.float32))
    spec = CropSpec(count=2, grid=(4, 4), source_sizes=((6, 6),), min_iou=0.3, tissue=rule)
    free = CropSpec(count=3, grid=(4, 4), source_sizes=((6, 6),))
    assert missed_tissue(empty, 0, specs={"a": spec, "b": free}, seed=0) == (2, 2)
    full = Memory(np.ones((1, 20, 20), np.float32))
    assert missed_tissue(full, 0, specs={"a": spec, "b": free}, seed=0) == (0, 2)


def test_the_rule_finds_what_a_plain_draw_would_miss():
    array = np.zeros((1, 40, 40), np.float32)
    array[:, 25:, 25:] = 1
    spec = {"count": 2, "grid": (8, 8), "source_sizes": ((8, 8),), "min_iou": 0.3}
    rule = Tissue(threshold=0.5, at_least=0.5)
    found = {}
    for name, tissue in (("plain", Tissue()), ("ruled", rule)):
        measure = partial(share_above, Memory(array))
        specs = {"a": CropSpec(**spec, tissue=tissue)}
        drawn = [draw_boxes((40, 40), specs, seed=0, index=i, measure=measure)["a"] for i in range(60)]
        found[name] = np.mean([measure(box, 0.5) >= 0.5 for pair in drawn for box in pair])
    assert found["plain"] < 0.4
    assert found["ruled"] > 0.85


@pytest.mark.parametrize("values", [(0.5, 0.6, 0.5), (1.0, 0.0, 0.5), (-0.1, 0.0, 0.5), (0.5, -0.1, 1.0)])
def test_impossible_rules_are_refused(values):
    with pytest.raises(FoveateError, match="at_least <= at_most"):
        Tissue(threshold=values[0], at_least=values[1], at_most=values[2])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A volume in a cache file, with its values as float."""
    folder = tmp_path_factory.mktemp("cache")
    array = np.random.default_rng(0).normal(0, 500, (2, 17, 14, 11)).astype(np.float32)
    encoded = encode(array)
    np.save(folder / "v.npy", encoded.codes)
    known = {"scale": encoded.scale, "offset": encoded.offset, "low": -800.0, "high": 900.0}
    blank = dict.fromkeys(CacheEntry.__dataclass_fields__, 0)
    entry = CacheEntry(
        **{
            **blank,
            **known,
            "id": "v",
            "file": "v.npy",
            "shape": array.shape,
            "content_hash": "h",
            "maps": (),
        }
    )
    return CachedVolume(folder, entry), np.clip((array + 800) / 1700, 0, 1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_window_is_a_slice_of_the_full_read(stored, data):
    volume, values = stored
    full = volume.read((0, 0, 0), volume.shape)
    assert np.abs(full - values).max() < 1e-4
    low = [data.draw(st.integers(0, size - 1)) for size in volume.shape]
    high = [data.draw(st.integers(a + 1, size)) for a, size in zip(low, volume.shape, strict=True)]
    window = volume.read(low, high)
    assert np.array_equal(window, full[(slice(None), *map(slice, low, high))])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_pure_resize_is_that_of_scikit_image(data):
    n = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.tuples(*[st.integers(3, 20)] * n))
    grid = data.draw(st.tuples(*[st.integers(2, 20)] * n))
    image = np.random.default_rng(sum(shape)).random(shape)
    expected = resize(image, grid, order=1, mode="edge", anti_aliasing=True)
    view = read_views(Memory(image[None]), g.box_affine((0,) * n, shape, grid)[None], grid)[0]
    assert np.abs(view[0].numpy() - expected).max() < 1e-6
    narrow = Memory(image[None].astype(np.float32))
    single = read_views(narrow, g.box_affine((0,) * n, shape, grid)[None], grid)[0]
    assert np.abs(single[0].numpy() - expected).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_view_read_by_its_window_is_a_view_of_the_whole_volume(data):
    """The margin is wide enough: the window changes nothing, rotated or not."""
    shape, grid = (26, 22, 24), (7, 6, 5)
    array = np.random.default_rng(1).random((1, *shape), dtype=np.float32)
    low = data.draw(st.tuples(*[st.integers(0, 8)] * 3))
    size = data.draw(st.tuples(*[st.integers(3, 14)] * 3))
    affine = g.view_affine(
        low,
        [a + b for a, b in zip(low, size, strict=True)],
        grid,
        flips=data.draw(st.tuples(*[st.booleans()] * 3)),
        angles_degrees=data.draw(st.sampled_from([(0.0, 0.0, 0.0), (9.0, -7.0, 5.0)])),
        zooms=data.draw(st.tuples(*[st.floats(0.9, 1.1)] * 3)),
        spacing_mm=(1.0, 1.0, 2.0),
    )
    whole = g.sample(torch.from_numpy(array), affine, grid)
    assert torch.allclose(read_views(Memory(array), affine[None], grid)[0], whole, atol=2e-5)
