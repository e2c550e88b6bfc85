"""What pages are made of: text is escaped, curves keep their extremes, volumes come back as they were."""

import base64
import json
import math
import re
import zlib

import numpy as np
import pytest

from foveate.core.types import FoveateError
from foveate.pages import page as pages
from foveate.pages.cases import MOST_ROWS, case_table
from foveate.pages.curves import BUCKETS, Curve, chart, thinned
from foveate.pages.elements import Html, el, facts, table
from foveate.pages.page import Page, asset, script
from foveate.pages.pictures import spread
from foveate.pages.plots import Plot, read_plots, write_plots
from foveate.pages.scenes import corners_of, read_scenes, write_scenes
from foveate.pages.viewer import Box, Layer, Scene, block_means, coarser, numbered, packed, viewer

HOSTILE = "<img src=x onerror=alert(1)>'\"&</script>"


def text_of(page):
    return "".join(page.parts())


def test_text_is_escaped_wherever_it_stands():
    page = Page(HOSTILE)
    page.add(HOSTILE, HOSTILE, el("p", HOSTILE, title=HOSTILE), table((HOSTILE,), [(HOSTILE,)], HOSTILE))
    page.add("facts", facts([(HOSTILE, HOSTILE)]), case_table(page, HOSTILE, [HOSTILE], [[HOSTILE]]))
    text = text_of(page)
    assert "<img" not in text
    assert text.count("</script>") == 2  # of the data and of our own
    assert json.loads(data_of(text))["table-1"]["rows"] == [[HOSTILE]]


def data_of(text):
    return re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1]


def test_the_policy_allows_our_script_and_nothing_else():
    text = text_of(Page("a page"))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src &#x27;none&#x27;" in policy
    assert f"script-src &#x27;sha256-{pages.script_hash()}&#x27;" in policy
    assert "connect-src" not in policy
    assert "connect-src" in text_of(Page("live", live=True))


def test_modules_are_joined_without_imports():
    assert not re.search(r"^(import|export)\b", script(), re.MULTILINE)
    imported = {n for m in pages.MODULES for n in re.findall(r'from "\./(.+?)"', asset(m))}
    assert imported <= set(pages.MODULES)
    order = [pages.MODULES.index(n) for n in pages.MODULES]
    for module in pages.MODULES:
        before = pages.MODULES[: pages.MODULES.index(module)]
        assert set(re.findall(r'from "\./(.+?)"', asset(module))) <= set(before), module
    assert order == sorted(order)


def test_a_name_at_the_top_of_two_modules_is_refused(monkeypatch):
    monkeypatch.setattr(pages, "asset", lambda _name: "export function twice() {}\n")
    with pytest.raises(AssertionError, match="twice"):
        pages.script.__wrapped__()


def test_our_files_fit_on_a_few_screens():
    for name in (*pages.MODULES, "style.css", "widgets.css"):
        assert len(asset(name).splitlines()) <= 350, name


def test_a_long_curve_keeps_its_extremes_and_few_points():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_000)
    values[1234], values[7777], values[5000] = 50, -50, math.nan
    few = thinned(Curve(list(range(10_000)), values.tolist()))
    assert len(few.x) <= 2 * BUCKETS + 2
    assert (max(few.y), min(few.y)) == (50, -50)
    assert few.x[0] == 0
    assert few.x[-1] == 9999
    assert all(values[x] == y for x, y in zip(few.x, few.y, strict=True))
    short = Curve([1, 2], [3, 4])
    assert thinned(short) == short


def test_a_curve_without_a_number_is_not_drawn_and_many_are_split():
    page = Page("curves")
    curves = {f"c{i}": Curve([1], [i]) for i in range(10)}
    assert chart(page, "none", {"nothing": Curve([1], [math.nan])}) == ""
    assert chart(page, "many", curves).count("data-widget") == 2


def test_a_curve_has_its_colour_in_every_chart_that_shows_it():
    page, names = Page("colours"), [f"c{i}" for i in range(10)]
    chart(page, "some", {name: Curve([1], [1]) for name in ("c9", "c2", "c8", "c1")}, names=names)
    shown = [[(each["name"], each["colour"]) for each in data["series"]] for data in page.data.values()]
    assert shown == [[("c1", 1), ("c2", 2)], [("c8", 0), ("c9", 1)]]


def test_charts_come_back_from_their_file_and_a_damaged_one_gives_none(tmp_path):
    curve = Curve([0.125, 8.0], [0.5, math.nan], [0.25, 0.5], [0.75, 1.0])
    plots = {"FROC": Plot("false positives per image", "sensitivity", {"nodule": curve}, log_x=True)}
    path = tmp_path / "curves.json"
    write_plots(path, plots)
    again = read_plots(path)
    assert again["FROC"]._replace(curves={}) == plots["FROC"]._replace(curves={})
    for one, two in zip(again["FROC"].curves["nodule"], curve, strict=True):
        assert np.array_equal(one, two, equal_nan=True)
    for damaged in (
        path.read_text()[:-9],
        '{"FROC": {"x": 1}}',
        "[]",
        '{"a": {"x": "", "y": "", "log_x": 0, "curves": {"b": {"z": [1]}}}}',
    ):
        path.write_text(damaged)
        assert read_plots(path) == {}


def test_tables_are_bounded_and_say_so():
    page = Page("rows")
    drawn = case_table(page, "many", ["a"], [[float(i)] for i in range(MOST_ROWS + 1)])
    assert len(page.data["table-1"]["rows"]) == MOST_ROWS
    assert f"of {MOST_ROWS + 1} rows" in drawn


def scene(shape=(5, 4, 3), **keys):
    image = np.arange(math.prod(shape), dtype=np.uint8).reshape(shape)
    return Scene(name="a case", image=image, spacing_mm=(1.0, 2.0, 3.0)[: len(shape)], **keys)


def unpacked(text, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def test_a_volume_is_packed_as_it_is():
    one = scene(layers=[Layer(name="label", regions=np.eye(5, 4, dtype=np.uint8)[..., None].repeat(3, 2))])
    found = packed(one)
    assert np.array_equal(unpacked(found["image"], found["shape"]), one.image)
    assert np.array_equal(unpacked(found["layers"][0]["data"], found["shape"]), one.layers[0].regions)
    assert found["note"] == ""


def test_too_many_voxels_are_made_fewer_and_that_is_said():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (200, 160, 131), dtype=np.uint8)
    corners = np.array([[-0.5, -0.5, -0.5], [199.5, 159.5, 130.5]])
    one = Scene(name="a", image=image, spacing_mm=(1, 1, 2), boxes=[Box(name="all", corners=corners)])
    few = coarser(one)
    assert few.image.shape == (100, 80, 66)
    assert few.spacing_mm == [2, 2, 4]
    assert few.image[3, 4, 5] == round(float(image[6:8, 8:10, 10:12].mean()))
    assert few.image[0, 0, -1] == round(float(image[:2, :2, 130:].mean()))  # the block that sticks out
    assert np.allclose(few.boxes[0].corners, [[-0.5] * 3, [99.5, 79.5, 65.0]])
    assert "by 2 along every axis" in few.note
    assert coarser(scene()).note == ""


def test_block_means_of_one_are_the_image():
    assert np.array_equal(block_means(scene().image, 1), scene().image)


def test_scenes_come_back_from_their_file_and_a_damaged_one_gives_none(tmp_path):
    one = scene(
        layers=[Layer(name="overlap", regions=np.ones((5, 4, 3), bool), outlined=True)],
        boxes=[Box(name="local views", corners=np.arange(24.0).reshape(8, 3))],
        classes=["lung"],
        note="said",
        body=False,
    )
    path = tmp_path / "views.npz"
    write_scenes(path, [one, scene((4, 3))])
    again = read_scenes(path)
    assert [each.name for each in again] == ["a case", "a case"]
    assert np.array_equal(again[0].image, one.image)
    assert np.array_equal(again[0].layers[0].regions, np.ones((5, 4, 3)))
    assert again[0].layers[0].outlined
    assert np.array_equal(again[0].boxes[0].corners, one.boxes[0].corners)
    assert (again[0].classes, again[0].note, again[0].body) == (["lung"], "said", False)
    whole = path.read_bytes()
    write_scenes(path, [one, scene((4, 3))])
    assert path.read_bytes() == whole  # no time of writing in it
    path.write_bytes(whole[: len(whole) // 2])
    assert read_scenes(path) == []
    assert read_scenes(tmp_path / "absent.npz") == []


def test_corners_of_a_view_are_those_of_its_outermost_cells():
    affine = np.array([[[2.0, 0, 10], [0, 3.0, 20]]])
    assert corners_of(affine, (4, 2))[0].tolist() == [[9, 18.5], [17, 18.5], [9, 24.5], [17, 24.5]]


def test_smaller_masks_are_seen_where_masks_overlap():
    whole, part = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    part[1, 1] = True
    assert numbered({"core": part, "whole": whole}).tolist() == [[2, 2, 2], [2, 1, 2], [2, 2, 2]]


def test_a_page_stays_below_its_limit(tmp_path):
    rng = np.random.default_rng(0)
    noise = [
        Scene(name=f"{i}", image=rng.integers(0, 255, (128,) * 3, dtype=np.uint8), spacing_mm=(1, 1, 1))
        for i in range(8)
    ]
    page = Page("full")
    page.add("volumes", viewer(page, noise))
    page.write(tmp_path / "full.html")
    assert (tmp_path / "full.html").stat().st_size < pages.MOST
    assert "images are left out" in text_of(page)
    page.add("more", Html("x" * pages.MOST))
    with pytest.raises(FoveateError, match=r"full.html would have 2\d MB.*--with_images false"):
        page.write(tmp_path / "full.html")


def test_pixels_are_left_out_where_they_are_not_wanted():
    page = Page("secret", images=False)
    assert "left out" in viewer(page, [scene()])
    assert page.data == {}


def test_pictures_are_spread_evenly():
    assert spread(3, 12) == [0, 1, 2]
    assert spread(100, 12)[0] == 0
    assert spread(100, 12)[-1] == 99
    assert len(spread(100, 12)) == 12
