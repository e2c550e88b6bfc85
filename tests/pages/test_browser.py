"""Pages in a browser: Debian's headless Chromium opens them from file://; one browser for the whole file."""

import json
import re
import resource
import shutil
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.commands.compare.test_compare import grid, write
from tests.commands.finetune.test_finetune import write_pair
from tests.conftest import VIEWS, tiny_keys, write_cohort
from tests.runtime.test_report import HOSTILE, RUNS, training, write_evaluation, write_run

import foveate
from foveate.cli import main
from foveate.commands.watch.server import Server
from foveate.data.readers.formats import read_volume
from foveate.pages.page import Page
from foveate.pages.viewer import Layer, Scene, viewer
from foveate.runtime.report.build import PAGE, build_page

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)")
PIXELS = (
    """canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""
)


def seconds_of_processors():
    """Of this process, and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.fixture(scope="module", autouse=True)
def _seconds_printed(pytestconfig):
    """What this file costs, told and not judged: it depends on the machine."""
    before, clock = seconds_of_processors(), time.monotonic()
    yield
    spent, wall = seconds_of_processors() - before, time.monotonic() - clock
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\npages in a browser: {wall:.0f} s, {spent:.0f} s of processors")


@pytest.fixture(scope="module")
def browser(_seconds_printed):
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


class Opened:
    """A page with everything that went wrong on it."""

    def __init__(self, browser, file, **context):
        self.errors, self.requests = [], []
        self.page = browser.new_page(**context)
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message) or dialog.dismiss())
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(Path(file).as_uri())
        for each in self.page.locator(".viewer").all():
            playwright.expect(each).to_have_attribute("data-ready", re.compile(r"\d+"))

    def is_clean(self):
        outside = [url for url in self.requests[1:] if not url.startswith("data:")]
        return self.errors == [] and outside == []


@pytest.fixture
def opened(browser):
    pages = []

    def open_one(file, **context):
        pages.append(Opened(browser, file, **context))
        return pages[-1]

    yield open_one
    for each in pages:
        each.page.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Pages of real runs in 2D and 3D, of an evaluation and a comparison, each of seconds."""
    root, pages = tmp_path_factory.mktemp("real"), {}
    for dimension in (2, 3):
        write_cohort(root / f"images{dimension}", dimension)
        run, every = root / f"run{dimension}", {"log_every": 1, "preview_every": 2, "health_every": 2}
        assert foveate.pretrain(**tiny_keys(dimension, root / f"images{dimension}", run, **every))
        pages[f"{dimension}D run"] = root / f"run{dimension}.html"
        assert main(["report", str(run), "--out", str(pages[f"{dimension}D run"])]) == 0
    for i in range(8):
        write_pair(root / "labelled", 3, i)
    view = str(VIEWS[3][0])
    small = f"--size small --batch_size 2 --num_workers 0 --encoder.width 4 --task.crops.grid|{view}|"
    small += f"--task.crops.source_sizes|[{view}]|--steps 2 --split.test_share 0.3 --split.val_share 0.2"
    words = [word for part in small.split("|") for word in ([part] if part[0] == "[" else part.split())]
    tuned, data = str(root / "tuned"), str(root / "labelled")
    main(["finetune", "--data", data, "--task", "segmentation", "--init", "none", "--out", tuned, *words])
    assert (
        main(["evaluate", "--run", tuned, "--data", data, "--out", str(root / "scores"), "--draws", "20"])
        == 0
    )
    pages["evaluate"] = root / "scores" / PAGE
    names = [f"images/c{i}.nii.gz" for i in range(8)]
    parts = {"train": names[:3], "val": names[3:4], "test": names[4:]}
    file = write(root, {**grid(data=data), "finetune_seeds": [0], "draws": 20}, parts)
    words = ["--config", str(file), "--out", str(root / "compared"), "--only", "scratch"]
    assert main(["compare", *words]) == 0
    pages["compare"] = root / "compared" / PAGE
    return pages


@pytest.mark.parametrize("kind", ["2D run", "3D run", "evaluate", "compare"])
def test_real_pages_open_cleanly_and_axe_finds_nothing_serious(real, opened, kind):
    one = opened(real[kind], color_scheme="light")
    assert one.is_clean(), one.errors + one.requests
    assert serious(one.page) == []
    one.page.emulate_media(color_scheme="dark")
    assert serious(one.page, runOnly=["color-contrast"]) == []
    widgets = one.page.locator("[data-widget]")
    assert all(widgets.nth(i).inner_html() != "" for i in range(widgets.count()))


def serious(page, **options):
    """What axe finds that is serious or worse: rule and element."""
    found = axe.Axe().run(page, options=options).response["violations"]
    worst = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], each["nodes"][0]["html"]) for each in worst]


@pytest.mark.parametrize("kind", ["2D run", "evaluate", "compare"])
def test_narrow_pages_do_not_scroll_sideways(real, opened, kind):
    one = opened(real[kind], viewport={"width": 400, "height": 800})
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_slider_shows_earlier_previews(real, opened):
    page = opened(real["3D run"]).page
    image, slider = page.locator(".slider img"), page.locator(".slider input")
    last = image.get_attribute("src")
    assert page.locator(".slider figcaption").inner_text() == "step 4"
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator(".slider figcaption").inner_text() == "step 2"
    assert image.get_attribute("src") != last
    assert image.evaluate("image => image.naturalWidth") > 100


def test_a_chart_says_values_under_the_pointer_and_by_keys(real, opened):
    page = opened(real["3D run"]).page
    chart = page.locator(".chart").first
    readout = chart.locator(".readout")
    box = chart.locator("svg[role=img]").bounding_box()
    chart.locator("svg[role=img]").hover(position={"x": box["width"] * 0.97, "y": box["height"] / 2})
    assert readout.inner_text().startswith("step 4 · all terms ")
    chart.locator("svg[role=img]").press("Home")
    assert readout.inner_text().startswith("step 1 · all terms ")
    chart.locator("button", has_text="all terms").click()
    assert "all terms" not in readout.inner_text()


def test_two_hundred_cases_are_sorted_and_filtered_in_a_small_document(tmp_path, opened):
    folder = write_evaluation(tmp_path / "scores", 200)
    build_page([folder]).write(tmp_path / "page.html")
    one = opened(tmp_path / "page.html")
    page, rows = one.page, one.page.locator("[data-kind=table] tbody tr")
    values = [float(text) for text in rows.locator("td:nth-child(3)").all_inner_texts()]
    assert len(values) == 25
    assert values == sorted(values)
    page.get_by_role("button", name="mean_fg_dice").click()
    assert float(rows.first.locator("td:nth-child(3)").inner_text()) > 0.9
    page.get_by_label("Text").fill("nowhere")
    assert rows.count() == 0
    page.get_by_label("Text").fill("id14")
    assert all("id14" in text for text in rows.all_inner_texts())
    page.get_by_label("Text").fill("")
    page.get_by_label("Only where").select_option("2")
    page.get_by_label("to", exact=True).fill("0.1")
    assert 0 < rows.count() <= 25
    assert all(float(text) <= 0.1 for text in rows.locator("td:nth-child(3)").all_inner_texts())
    assert page.evaluate("document.querySelectorAll('*').length") < 600
    assert one.is_clean()


def test_a_long_run_has_few_nodes(tmp_path, opened):
    rows = [{"step": i, "loss": 1 / i, **{f"loss/{k}": 1 / i for k in "abc"}} for i in range(1, 10_001)]
    build_page([write_run(tmp_path / "run", rows)]).write(tmp_path / "page.html")
    page = opened(tmp_path / "page.html").page
    assert page.evaluate("document.querySelectorAll('*').length") < 400


def test_theme_and_print(real, opened):
    page = opened(real["2D run"], color_scheme="light").page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    button = page.get_by_role("button", name="Theme")
    button.click()
    assert page.evaluate(background) == light
    button.click()
    dark = page.evaluate(background)
    assert dark != light
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(background) == light
    assert not page.locator("nav").is_visible()
    assert not any(each.is_visible() for each in page.locator(".controls:not(.legend, figcaption)").all())
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("section h2").first.is_visible()


def test_hostile_words_are_shown_as_text(tmp_path, opened):
    run = write_run(tmp_path / "run", RUNS["collapsing"], encoder={"name": HOSTILE})
    (run / "train.log").write_text(HOSTILE)
    folder = write_evaluation(tmp_path / "scores", 3)
    build_page([run, folder]).write(tmp_path / "page.html")
    one = opened(tmp_path / "page.html")
    assert one.is_clean()
    assert one.page.locator("body [onclick]").count() == 0
    assert HOSTILE in one.page.locator("dd").all_inner_texts()
    assert one.page.locator(".verdict").first.inner_text().startswith("run: collapsing")


def test_a_live_page_follows_its_run_without_being_loaded_again(tmp_path, browser):
    run = write_run(tmp_path / "run", RUNS["healthy"])
    server = Server(run, 0, images=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        page = browser.new_page()
        page.clock.install()
        page.goto(server.address)
        playwright.expect(page.get_by_role("status")).to_contain_text("follows the run")
        page.evaluate("window.stays = true")
        with (run / "metrics.jsonl").open("a") as stream:
            for row in training(30, wait=0.9):
                stream.write(json.dumps({**row, "step": 200 + row["step"]}) + "\n")
        page.clock.fast_forward(6000)
        playwright.expect(page.locator(".verdict")).to_contain_text("starving")
        assert page.locator(".chart").count() > 0
        assert page.evaluate("window.stays")
        page.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def oblique(tmp_path):
    """A file with turned axes in another order, three voxel sizes, and its canonical voxels by nibabel."""
    rng = np.random.default_rng(3)
    array = rng.integers(0, 256, (9, 14, 11)).astype(np.uint8)
    turn = np.deg2rad(20)
    around = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    axes = np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]])  # of the file: backwards, upwards, to the right
    affine = np.eye(4)
    affine[:3, :3] = around @ axes * [2.0, 0.7, 1.1]
    image = nib.Nifti1Image(array, affine)
    nib.save(image, tmp_path / "oblique.nii.gz")
    return tmp_path / "oblique.nii.gz", np.asanyarray(nib.as_closest_canonical(image).dataobj)


def test_pixels_after_a_scroll_are_numpys_slices_in_three_planes(oblique, tmp_path, opened):
    file, canonical = oblique
    volume = read_volume(file)
    assert volume.spacing_mm != tuple(sorted(volume.spacing_mm))
    regions = (canonical > 200).astype(np.uint8) * 2
    layer = Layer(name="prediction", regions=regions)
    scenes = [
        Scene(name="bare", image=volume.array[0], spacing_mm=volume.spacing_mm),
        Scene(name="under regions", image=volume.array[0], spacing_mm=volume.spacing_mm, layers=[layer]),
    ]
    page = Page("an oblique volume")
    page.add("Volume", viewer(page, scenes))
    page.write(tmp_path / "page.html")
    one = opened(tmp_path / "page.html")
    at = [n // 2 for n in canonical.shape]
    for name, across, ticks in (("axial", 2, 3), ("coronal", 1, -2), ("sagittal", 0, 1)):
        plane = one.page.locator(f".plane[data-plane={name}]")
        plane.locator("canvas").hover()
        for _ in range(abs(ticks)):
            one.page.mouse.wheel(0, 100 if ticks > 0 else -100)
        at[across] += ticks
        playwright.expect(plane.locator("input")).to_have_js_property("value", str(at[across]))
        assert np.array_equal(grey_of(plane), slice_of(canonical, across, at)), name
        right, up = [axis for axis in range(3) if axis != across]
        box = plane.locator("canvas").bounding_box()
        wide, high = (canonical.shape[a] * volume.spacing_mm[a] for a in (right, up))
        assert box["width"] / box["height"] == pytest.approx(wide / high, rel=0.02)
    one.page.locator(".viewer select").select_option("1")
    playwright.expect(one.page.locator(".viewer")).to_have_attribute("data-ready", "1")
    plane = one.page.locator(".plane[data-plane=axial]")
    middle = [n // 2 for n in canonical.shape]
    grey, over = slice_of(canonical, 2, middle), slice_of(regions, 2, middle) > 0
    red = rgba_of(plane)[..., 0]
    assert np.array_equal(red[~over], grey[~over])
    assert np.abs(red[over] - (0.6 * grey[over] + 0.4 * 230)).max() <= 1
    one.page.get_by_label("prediction opacity").press("Home")
    assert np.array_equal(grey_of(plane), grey)
    one.page.get_by_label("Width").press("Home")
    assert set(np.unique(grey_of(plane))) <= {0, 255, *range(256)}
    assert np.isin(grey_of(plane), (0, 255)).mean() > 0.9
    assert one.is_clean()


def slice_of(volume, across, at):
    """Rows of pixels from the top: to the right and upwards the two other axes rise."""
    return np.take(volume, at[across], axis=across).T[::-1]


def rgba_of(plane):
    canvas = plane.locator("canvas")
    size = canvas.evaluate("canvas => [canvas.height, canvas.width, 4]")
    return np.array(canvas.evaluate(PIXELS)).reshape(size)


def grey_of(plane):
    pixels = rgba_of(plane)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 3] == 255).all()
    return pixels[..., 0]
