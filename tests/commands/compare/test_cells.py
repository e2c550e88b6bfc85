"""Finished runs that are kept in a folder: a comparison goes on with them elsewhere, or refuses them."""

import json
import shutil

import pytest
from tests.commands.compare.test_compare import NAMES, cells, data, grid, resolve, write

from foveate.commands.compare import run as compare
from foveate.commands.compare.cells import FACTS, rows_of
from foveate.core.types import FoveateError

__all__ = ["data"]


@pytest.fixture(scope="module")
def kept(data, tmp_path_factory):
    """(the content of the grid's file, a folder of finished runs, where they were done)."""
    home = tmp_path_factory.mktemp("kept")
    content = grid(data=str(data), label_sets=[2], seeds=[1])
    content["tasks"]["blobs"]["labels"] = [1]
    config = resolve(str(write(home, content)), {"out": str(home / "out"), "cells": str(home / "cells")})
    assert compare.compare(config)
    return content, home / "cells", home / "out"


def in_another_place(kept, tmp_path, **flags):
    """The same comparison on a machine where only the folder of finished runs is left."""
    content, folder, _ = kept
    mine = tmp_path / "cells"
    if not mine.exists():
        shutil.copytree(folder, mine)
    return resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out"), "cells": str(mine), **flags})


def values(cell):
    """What the tables are made from, in the order of the images."""
    return sorted(case["mean_fg_dice"] for case in cell["cases"])


def test_a_kept_run_has_what_the_tables_need_and_no_name(kept):
    _, folder, out = kept
    whole = cells(out)
    files = {path.stem: json.loads(path.read_text()) for path in (folder / "cells").iterdir()}
    assert set(files) == set(whole)
    assert len(whole) == 7  # a pre-training; three arms with two labelled sets
    for name, found in files.items():
        assert {k: v for k, v in found.items() if k != "cases"} == {
            k: v for k, v in whole[name].items() if k != "cases"
        }
        assert {"fingerprint", "commit", "seconds", "label_set"} <= set(found)
        if "cases" in found:
            rows = rows_of(found["cases"])
            assert [row["id"] for row in rows] == [1, 2, 3, 4]
            assert values({"cases": rows}) == pytest.approx(values(whole[name]), rel=1e-4)
    text = "".join(path.read_text() for path in folder.rglob("*.json"))
    salted = [case["id"] for cell in whole.values() for case in cell.get("cases", [])]
    assert not [name for name in [*NAMES, *salted, "case1"] if name in text]
    assert all(path.stat().st_size < 4000 for path in (folder / "cells").iterdir())


def test_in_another_place_nothing_is_done_again(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.work, "work", lambda _, job: pytest.fail(f"{job.name} was done again"))
    config = in_another_place(kept, tmp_path)
    assert compare.compare(config)
    here, before = cells(tmp_path / "out"), cells(kept[2])
    assert set(here) == set(before)
    for name, cell in here.items():
        assert cell["fingerprint"] == before[name]["fingerprint"]
        assert "cases" not in cell or values(cell) == pytest.approx(values(before[name]), rel=1e-4)
    assert "4 patients x 2 seeds on 2 labelled sets" in (tmp_path / "out/table.md").read_text()
    assert not list((tmp_path / "out/runs").glob("blobs-*"))


@pytest.mark.slow
def test_what_is_missing_is_done_with_the_pre_training_that_it_starts_from(kept, tmp_path, capsys):
    config = in_another_place(kept, tmp_path)
    missing = "blobs-restoring-p0-full-n1-l2-f0"
    (tmp_path / f"cells/cells/{missing}.json").unlink()
    said = compare.dry_run(config)
    assert "1 are left" in said
    assert compare.compare(config)
    done = {path.name for path in (tmp_path / "out/runs").glob("blobs-*")}
    assert done == {"blobs-restoring-p0-pretrain", missing}
    again = json.loads((tmp_path / f"cells/cells/{missing}.json").read_text())
    before = json.loads((kept[1] / f"cells/{missing}.json").read_text())
    assert again["cases"] == before["cases"]  # the same network, from the same weights
    assert again["first_batch"] == before["first_batch"]


def test_other_grids_codes_and_data_are_refused(kept, tmp_path):
    config = in_another_place(kept, tmp_path / "a")
    cell = next((tmp_path / "a/cells/cells").glob("*scratch-*.json"))
    cell.write_text(cell.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(FoveateError, match="with another configuration"):
        compare.compare(config)
    config = in_another_place(kept, tmp_path / "b")
    facts = tmp_path / "b/cells" / FACTS
    found = json.loads(facts.read_text())
    found["blobs"]["losses"]["restoring"][1] *= 1.01
    facts.write_text(json.dumps(found))
    with pytest.raises(FoveateError, match="blobs/restoring computes something else"):
        compare.compare(config)
    config = in_another_place(kept, tmp_path / "c")
    for part, names in (("train", NAMES[1:3]), ("unlabelled", NAMES[:1])):  # one labelled image fewer
        (tmp_path / f"c/split/{part}.txt").write_text("".join(f"{name}\n" for name in names))
    with pytest.raises(FoveateError, match="on other images, label maps or lists"):
        compare.compare(config)


def test_sets_and_seeds_fit_the_counts(data, tmp_path):
    for wrong, words in (
        ({"label_sets": [1, 2]}, "one for each of the 1 counts"),
        ({"seeds": [3]}, "numbers from 1 to 2"),
        ({"label_sets": [10]}, "numbers from 1 to 9"),
    ):
        with pytest.raises(FoveateError, match=words):
            resolve(str(write(tmp_path, grid(data=str(data), **wrong))), {"out": "x"})
