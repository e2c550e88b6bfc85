"""Super-pixels, and derived inputs in general: computed once, kept beside the volume, seen with its views."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from foveate.core.contracts import DerivedSpec
from foveate.core.types import CropSpec, FoveateError, Record
from foveate.data.cache.derived import with_derived
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.superpixels import SuperpixelConfig, superpixels
from foveate.views.pipeline import make_views

SHAPE = (64, 48)
CUT = SuperpixelConfig(kind="felzenszwalb", scale=0.1, sigma=0.0)


def patches():
    """A picture of 108 squares of different values above a black rim."""
    picture = np.zeros(SHAPE)
    values = np.arange(40, 40 + 2 * 108, 2)
    picture[8:56, 6:42] = np.kron(
        np.random.default_rng(0).permutation(values).reshape(12, 9), np.ones((4, 4))
    )
    return picture


def cached(folder, pictures):
    records = []
    for i, picture in enumerate(pictures):
        path = folder / f"p{i}.png"
        Image.fromarray(picture.astype(np.uint8).T).save(path)
        records.append(Record(path=path, relative=path.name))
    config = PrepareConfig(window="range", intensity_range=(0.0, 255.0))
    return prepare(records, folder / "cache", config, lambda _done, _total: None)


def spec(config=CUT):
    return DerivedSpec(compute=superpixels, config=config, fewest=2, advice="Look at it.")


def quiet(_done, _total):
    pass


def test_the_regions_of_a_piecewise_constant_picture_are_its_pieces_and_follow_its_views(tmp_path):
    cache = with_derived(cached(tmp_path, [patches()]), {"superpixels": spec()}, quiet)
    turned = CropSpec(
        count=2, grid=(32, 32), volume_share=(0.4, 0.9), flip_axes=(0, 1), rotation_degrees=20.0
    )
    exact = CropSpec(count=2, grid=(32, 32), source_sizes=((32, 32),), flip_axes=(0, 1))
    seen = set()
    for index in range(6):
        for crop in make_views(cache[0], index, specs={"a": turned, "b": exact}, seed=0).items():
            name, view = crop
            ids, values = view.maps["superpixels"].numpy(), (view.images[:, 0].numpy() * 255).round(2)
            pieces = np.unique(patches())
            pure = np.isin(values, pieces)
            assert pure.all() or name == "a"
            pairs = set(zip(ids[pure].tolist(), values[pure].tolist(), strict=True))
            # A blend of two pieces may by chance have the value of a third.
            counts = {p: ((ids == p[0]) & (values == p[1])).sum() for p in pairs}
            seen |= {p for p, count in counts.items() if count > 4}
    assert len({region for region, _ in seen}) == len({value for _, value in seen}) == len(seen) == 109
    assert (0, 0.0) in seen


@pytest.mark.parametrize("kind", ["felzenszwalb", "slic"])
def test_regions_of_a_volume_are_deterministic_and_numbered_without_air(kind):
    rng = np.random.default_rng(0)
    values = np.kron(rng.uniform(0.3, 1, (3, 3, 4)), np.ones((6, 6, 3)))[None].astype(np.float32)
    values[:, :6] = 0
    how = SuperpixelConfig(kind=kind, scale=0.1, sigma=0.0, segments=20)
    one, two = (superpixels(values, (1.0, 1.0, 2.0), how) for _ in range(2))
    assert np.array_equal(one, two)
    assert set(np.unique(one)) == set(range(one.max() + 1))
    assert (one[:6] > 0).mean() < 0.1
    assert (one[6:] > 0).mean() > 0.9
    if kind == "felzenszwalb":  # planes share no region
        planes = [set(np.unique(one[..., i])) - {0} for i in range(one.shape[2])]
        assert sum(map(len, planes)) == len(set().union(*planes)) > 12


def test_nothing_is_found_in_air_and_tiny_regions_are_dropped():
    assert not superpixels(np.zeros((1, 9, 9), np.float32), (1, 1), CUT).any()
    values = np.full((1, 40, 40), 0.8, np.float32)
    values[:, :20] = 0.3
    speck = SuperpixelConfig(kind="felzenszwalb", scale=0.1, sigma=0.0, smallest=0.3)
    assert superpixels(values, (1, 1), speck).max() == 2
    values[:, 20:22] = 0.0  # of the lower half a strip is air
    assert set(np.unique(superpixels(values, (1, 1), CUT)[20:22])) <= {0, 1, 2}


def test_maps_are_computed_once_per_configuration_and_a_cut_off_run_goes_on(tmp_path):
    cache = cached(tmp_path, [patches(), patches()[::-1]])
    calls = []

    def counted(values, spacing, config):
        calls.append(config)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return superpixels(values, spacing, config)

    how = DerivedSpec(compute=counted, config=CUT)
    with pytest.raises(KeyboardInterrupt):
        with_derived(cache, {"superpixels": how}, quiet)
    first = with_derived(cache, {"superpixels": how}, quiet)
    assert len(calls) == 3  # the first volume's map was there
    again = with_derived(cache, {"superpixels": how}, quiet)
    assert len(calls) == 3
    whole = partial(first[1].read_map, "superpixels", (0, 0), SHAPE)
    assert np.array_equal(whole(), again[1].read_map("superpixels", (0, 0), SHAPE))
    with_derived(
        cache, {"superpixels": DerivedSpec(compute=counted, config=SuperpixelConfig(kind="slic"))}, quiet
    )
    assert len(calls) == 5
    names = [path.name for path in (tmp_path / "cache" / "volumes").iterdir() if "superpixels" in path.name]
    assert len(names) == 4
    assert cache[0].map_names == ()
    assert cache.data_hash == first.data_hash


def test_a_picture_without_regions_is_named(tmp_path):
    cache = cached(tmp_path, [np.linspace(100, 255, 64 * 48).reshape(SHAPE)])
    with pytest.raises(FoveateError, match=r"p0.png: 1 regions were found in it; accepted: at least 2. Look"):
        with_derived(cache, {"superpixels": spec(replace(CUT, scale=1e6, smallest=0.001))}, quiet)
