"""Pages of folders: verdicts at the top, what is half written, hostile words, and a bounded size."""

import gzip
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from foveate.cli import main
from foveate.core.types import FoveateError
from foveate.pages.curves import Curve
from foveate.pages.plots import Plot, read_plots, write_plots
from foveate.runtime.report.build import build_page, distinct
from foveate.runtime.report.curves import place_of
from foveate.runtime.report.evaluations import mistakes
from foveate.runtime.report.written import mapping_of, rows_of

RECORDED = Path(__file__).parents[1] / "train" / "recorded"
HOSTILE = "<b onclick=alert(1)>\"'&</script><script>alert(2)</script>"


def write_run(folder, rows, steps=400, **keys):
    (folder / "previews").mkdir(parents=True)
    said = {"steps": steps, "batch_size": 4, "method": {"name": "pcrlv2"}, "dimension": 3, **keys}
    (folder / "run.yaml").write_text(yaml.safe_dump(said))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def training(count, wait=0.05, every=10):
    return [
        {"step": every * i, "loss": 1 / i + 0.5, "lr": 1e-3, "data_wait": wait, "seconds_per_step": 0.1}
        for i in range(1, count + 1)
    ]


def health(step, std):
    return {"step": step, "features/stride4/std": std, "features/stride8/std": 0.3, "health_seconds": 1.0}


RUNS = {
    "collapsing": [*training(10), health(100, 0.01), health(200, 0.005)],
    "starving": training(10, wait=0.8),
    "diverging": [*training(10), *({"step": 100 + i, "loss": 40.0} for i in range(3))],
    "healthy": [*training(10), health(100, 0.2), health(200, 0.2)],
}


def text_of(*folders, **keys):
    return "".join(build_page(folders, **keys).parts())


@pytest.mark.parametrize("kind", RUNS)
def test_verdicts_stand_at_the_top_and_a_healthy_run_has_none(tmp_path, kind):
    text = text_of(write_run(tmp_path / "run", RUNS[kind]))
    found = re.findall(r'<div class="verdict"><p><b>(.*?)</b>', text)
    if kind == "healthy":
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith(kind)
        assert text.index('class="verdict"') < text.index("<h2")
        assert "To do: " in text


def test_a_short_run_has_the_verdict_of_its_only_measurement_and_one_advice_for_all_scales(tmp_path):
    once = {**health(400, 0.005), "features/stride8/std": 0.004}
    text = text_of(write_run(tmp_path / "run", [*training(40), once]))
    (found,) = re.findall(r'<div class="verdict"><p><b>(.*?)</b>', text)
    assert re.findall(r"scale 1/\d", found) == ["scale 1/4", "scale 1/8"]
    assert text.count("To do: ") == 1


@pytest.mark.parametrize("kind", [*RUNS, "drowned"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_recorded_runs_that_went_wrong_say_so_at_the_top(tmp_path, kind, dimension):
    with gzip.open(RECORDED / f"{kind}{dimension}.jsonl.gz", "rt") as stream:
        rows = [json.loads(line) for line in stream]
    text = text_of(write_run(tmp_path / "run", rows, rows[-1]["step"]))
    found = " ".join(re.findall(r'<div class="verdict"><p><b>(.*?)</b>', text))
    assert kind.replace("drowned", "drowns") in found if kind != "healthy" else found == ""


def test_a_run_that_crashed_is_shown_as_far_as_it_came(tmp_path):
    run = write_run(tmp_path / "run", training(3))
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 40, "lo')  # the disk was full
    (run / "previews" / "step-000000010.png").write_bytes(b"\x89PNG broken")
    (run / "previews" / "views.npz").write_bytes(b"PK")
    (run / "environment.json").write_text("{")
    text = text_of(run)
    assert "not at its end: step 30 of 400" in text
    assert "step-000000010.png could not be read" in text
    assert [row["step"] for row in rows_of(run / "metrics.jsonl")] == [10, 20, 30]


def test_an_empty_start_has_a_page(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("steps: 5\n")
    assert "step 0 of 5" in text_of(tmp_path / "run")


def test_hostile_names_and_messages_are_text(tmp_path):
    rows = [{**row, f"loss/{HOSTILE}": 1.0, "verdict": HOSTILE} for row in training(3)]
    run = write_run(tmp_path / HOSTILE.replace("/", "_"), rows, encoder={"name": HOSTILE})
    (run / "train.log").write_text(HOSTILE)
    (run / "transfer.json").write_text(json.dumps({"share": 0.5, "matched": [HOSTILE], "notes": [HOSTILE]}))
    text = text_of(run)
    assert "<b onclick" not in text
    assert "<script>alert" not in text
    assert text.count("<script") == 2
    assert str(tmp_path) not in text


def test_previews_become_a_slider_unless_pixels_are_left_out(tmp_path):
    run = write_run(tmp_path / "run", training(3))
    for step in range(1, 21):
        image = Image.fromarray(np.full((8, 8), step, np.uint8))
        image.save(run / "previews" / f"step-{step:09d}.png")
    page = build_page([run])
    (frames,) = (each["frames"] for name, each in page.data.items() if name.startswith("slider"))
    assert [frames[0]["label"], frames[-1]["label"]] == ["step 1", "step 20"]
    assert len(frames) == 12
    text = text_of(run, images=False)
    assert "data:image" not in text
    assert "Pictures are left out" in text


def test_several_runs_are_side_by_side_under_names_that_differ(tmp_path):
    runs = [write_run(tmp_path / name / "run", RUNS[name]) for name in ("healthy", "starving")]
    text = text_of(*runs)
    assert "starving/run: starving: the device waits" in text
    assert "Loss of all runs" in text
    assert distinct([*runs, runs[0]]) == ["1: run", "2: run", "3: run"]


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    with pytest.raises(FoveateError, match="is no folder of a run; accepted: what pretrain"):
        build_page([tmp_path])
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report.txt")]) == 2
    assert "ends in .html" in capsys.readouterr().err


def test_the_command_takes_several_folders_and_makes_the_folder_of_the_page(tmp_path):
    runs = [str(write_run(tmp_path / name, RUNS[name])) for name in ("healthy", "starving")]
    out = tmp_path / "new" / "page.html"
    assert main(["report", runs[0], "--out", str(out), runs[1], "--with_images=false"]) == 0
    assert "starving" in out.read_text()


def test_a_long_run_and_many_cases_have_a_bounded_page(tmp_path, capsys):
    sizes, seconds = {}, {}
    for count in (1000, 10_000):
        run = write_run(tmp_path / f"run{count}", training(count, every=1), steps=count)
        started = time.perf_counter()
        sizes[count] = len(text_of(run))
        seconds[count] = time.perf_counter() - started
    ratio = seconds[10_000] / seconds[1000]
    with capsys.disabled():
        print(f"\n10,000 steps: {sizes[10_000]} bytes; against 1,000 steps {ratio:.1f} times the seconds")
    assert sizes[10_000] < 1.3 * sizes[1000]
    evaluation = write_evaluation(tmp_path / "evaluation", 200)
    assert len(text_of(evaluation)) < 200_000


def write_evaluation(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [f"id{i},p{i // 2},{dice:.4f}" for i, dice in enumerate(rng.uniform(size=count))]
    (folder / "cases.csv").write_text("\n".join(["id,patient,mean_fg_dice", *rows]) + "\n")
    metrics = {"mean_fg_dice": {"value": 0.5, "low": 0.4, "high": 0.6}}
    summary = {"task": "segmentation", "cases": count, "note": HOSTILE, "metrics": metrics}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_cases_of_an_evaluation_are_sorted_worst_first(tmp_path):
    page = build_page([write_evaluation(tmp_path / "evaluation", 30)])
    (table,) = (each for name, each in page.data.items() if name.startswith("table"))
    assert (table["sort"], table["falling"]) == (2, False)
    assert table["numbers"] == [False, False, True]


@pytest.mark.parametrize(("named", "falling"), [(["my_error_mm"], True), ([], False)])
def test_the_first_metric_of_cases_is_sorted_as_its_task_says(tmp_path, named, falling):
    summary = {"task": "mine", "metrics": {}, "less_is_better": named}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "cases.csv").write_text("id,patient,my_error_mm/x,dice\na,p,1.5,0.5\n")
    page = build_page([tmp_path])
    (table,) = (each for name, each in page.data.items() if name.startswith("table"))
    assert (table["sort"], table["falling"]) == (2, falling)


def test_answers_are_sorted_by_their_distance_to_the_label():
    head = ["id", "answer/no", "answer/yes", "label/disease"]
    logits = [["a", "0", "3", "1"], ["b", "3", "0", "1"]]
    found = mistakes(head, logits)
    assert math.isclose(found[0], 1 / (1 + math.exp(3)))
    assert found[1] > 0.9
    findings = mistakes(["answer/x", "label/x"], [["0.25", "1"], ["2", "2"]])
    assert findings == [0.75, 0.0]


def test_a_comparison_that_was_killed_shows_its_runs_and_what_failed(tmp_path):
    for folder in ("cells", "failures"):
        (tmp_path / folder).mkdir()
    for seed in range(3):
        cell = {"task": "blobs", "kind": "test", "arm": "scratch", "labels": 2, "finetune_seed": seed}
        said = {**cell, "validation": 0.1 * seed, "seconds": 90.0, "cases": []}
        (tmp_path / "cells" / f"blobs-scratch-f{seed}.json").write_text(json.dumps(said))
    (tmp_path / "cells" / "blobs-scratch-f3.json").write_text('{"task": "bl')
    (tmp_path / "failures" / "blobs-other.json").write_text(json.dumps({"reason": HOSTILE}))
    write_run(tmp_path / "runs" / "blobs-other", RUNS["diverging"])
    page = build_page([tmp_path])
    text = "".join(page.parts())
    assert "after these tables were written, or before there were any: 4." in text
    assert "blobs-other: diverging" in text
    assert "&lt;b onclick" in text
    (table,) = (each for name, each in page.data.items() if name.startswith("table"))
    assert [row[0] for row in table["rows"]] == [f"blobs-scratch-f{seed}" for seed in range(4)]
    assert table["rows"][0][-1] == 1.5


def test_curves_that_an_evaluation_wrote_are_drawn_under_their_titles(tmp_path):
    folder = write_evaluation(tmp_path / "scores", 3)
    curve = Curve([0.0, 0.125, 1.0], [0.0, 0.25, 0.5])
    write_plots(folder / "curves.json", {HOSTILE: Plot("false positives", "sensitivity", {"a": curve}, True)})
    page = build_page([folder])
    (drawn,) = (each for name, each in page.data.items() if name.startswith("chart"))
    assert (drawn["label"], drawn["x"], drawn["logX"]) == (HOSTILE, "false positives", True)
    assert drawn["series"][0]["y"] == [0, 0.25, 0.5]


@pytest.mark.parametrize("findings", [False, True])
def test_answers_for_whole_images_have_roc_curves_and_of_one_column_the_confusion(tmp_path, findings):
    names = ("a", "b")
    labels = names if findings else ("disease",)
    head = ["id", "patient", *(f"answer/{n}" for n in names), *(f"label/{n}" for n in labels)]
    rows = [
        [f"id{i}", f"p{i}", -1.0 if i % 3 else 1.0, 1.0 if i % 3 else -1.0, *[i % 2] * len(labels)]
        for i in range(6)
    ]
    rows.append(["id6", "p6", 0.0, 0.0, *[""] * len(labels)])  # a label that is missing
    text = "\n".join(",".join(map(str, row)) for row in [head, *rows]) + "\n"
    (tmp_path / "cases.csv").write_text(text)
    summary = {"metrics": {"auroc": {"value": 0.5, "low": 0.1, "high": 0.9}}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = build_page([tmp_path])
    (roc,) = (each for name, each in page.data.items() if name.startswith("chart"))
    assert [each["name"] for each in roc["series"]] == ["a", "b"]
    assert [(each["x"][-1], each["y"][-1]) for each in roc["series"]] == [(1, 1), (1, 1)]
    confused = "".join(page.parts()).partition("Confusion</caption>")[2].partition("</table>")[0]
    found = [int(word) for word in re.findall(r'<td class="n">(\d+)</td>', confused)]
    assert found == ([] if findings else [1, 2, 1, 2])


def test_a_table_of_a_comparison_has_differences_with_their_p_and_curves_over_labels(tmp_path):
    (tmp_path / "cells").mkdir()
    head = "task,arm,way,labels,score_mean,score_low,score_high,minus_scratch_mean,minus_scratch_low,"
    head += "minus_scratch_high,minus_scratch_p_holm,minus_scratch_verdict,resolves,note"
    rows = ["lungs,scratch,full,10,0.5,0.4,0.6,,,,,,0.02,", "lungs,pgl,full,2,,,,,,,,,,not run yet"]
    rows.append("lungs,pgl,full,10,0.6,0.5,0.7,0.1,0.05,0.15,0.0123456,better,0.02,")
    (tmp_path / "table.csv").write_text("\n".join([head, *rows]) + "\n")
    (tmp_path / "table.md").write_text("# Not fair\n\n## lungs\n\n| arm |\n|---|\n\nScores: Dice.\n")
    page = build_page([tmp_path])
    text = "".join(page.parts())
    assert "+0.100 [+0.050, +0.150]<br>p = 0.0123 (Holm)<br>better" in text
    assert "<p>Not fair</p><p>Scores: Dice.</p>" in text
    assert "<td>0.020</td>" in text
    (curves,) = (each["series"] for name, each in page.data.items() if name.startswith("chart"))
    assert curves[1] == {
        "name": "pgl", "colour": 1, "x": [10.0], "y": [0.6], "low": [0.5], "high": [0.7]
    }  # fmt: skip


def test_the_folds_of_a_cross_validation_are_runs(tmp_path):
    for number in range(2):
        write_run(tmp_path / f"fold_{number}", RUNS["healthy"])
    (tmp_path / "folds.json").write_text(json.dumps({"folds": 3}))
    text = text_of(tmp_path)
    assert "fold_0: Summary" in text
    assert "fold_1: Summary" in text


def test_keys_have_their_chart():
    assert place_of("loss") == ("Loss", "all terms")
    assert place_of("grad_norm/encoder") == ("Length of the gradient", "encoder")
    assert place_of("restoration/restored/psnr") == ("Health, restoration: psnr", "restored")


def test_one_validation_of_each_run_can_be_seen_side_by_side(tmp_path):
    """A line needs two points: few ones are marked."""
    rows = [*training(3), {"step": 3, "val/score": 0.5}]
    page = build_page([write_run(tmp_path / name / "run", rows) for name in ("a", "b")])
    (scores,) = (each for each in page.data.values() if each.get("label") == "Validation score of all runs")
    assert scores["dots"]


@pytest.mark.parametrize("text", ["[" * 9000, "9" * 6000, "a: 1\na: 2\n", "\x00", "- a"])
def test_hostile_files_of_a_run_are_as_none(tmp_path, text):
    for name in ("run.yaml", "card.json", "metrics.jsonl", "curves.json"):
        (tmp_path / name).write_text(text)
    assert mapping_of(tmp_path / "run.yaml") == mapping_of(tmp_path / "card.json") == {}
    assert rows_of(tmp_path / "metrics.jsonl") == []
    assert read_plots(tmp_path / "curves.json") == {}
