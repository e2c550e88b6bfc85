"""`make tutorials` runs docs/tutorials whole; the suite looks at how they are written."""

import os
import re
import shutil
from pathlib import Path

import pytest

from foveate.cli import OWN
from tests.tutorials.pages import FOLDER, PAGES, Block, blocks, missing, run

ROOT = FOLDER.parents[1]
SHOWN_ONLY = {"cluster": 2}  # blocks that need a cluster: they have no language


@pytest.mark.tutorial
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs_and_prints_what_it_shows(page):
    folder = Path(os.environ.get("TUTORIALS", ROOT / "build" / "tutorials")) / page.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    printed = ""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "text":
            lost = missing(block.text, printed)
            assert not lost, f"not printed: {lost}\nprinted:\n{printed}"
        elif block.language:
            printed = run(block, folder)


def test_what_is_not_printed_is_found():
    printed = "step 10/20: loss 0.1\nexported w.safetensors\n"
    assert missing("step .../20: loss ...\n  exported w.safetensors", printed) == []
    assert missing("exported w.safetensors\nstep .../20: loss ...", printed) == ["step .../20: loss ..."]
    assert missing("step 10/20", printed) == ["step 10/20"]  # a line is compared whole


def test_blocks_are_run_saved_or_refused(tmp_path):
    page = "```sh\necho a; echo b >&2\n```\n\n```yaml\n# task.yaml\nx: 1\n```\n\n```text\na\n```\n"
    first, saved, shown = blocks(page)
    assert (first.language, saved.file, shown) == ("sh", "task.yaml", Block("text", "a\n"))
    assert run(first, tmp_path) == "a\nb\n"
    assert run(saved, tmp_path) == ""
    assert (tmp_path / "task.yaml").read_text() == "# task.yaml\nx: 1\n"
    with pytest.raises(AssertionError, match="false"):
        run(Block("sh", "false\n"), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nothing_is_left_out_of_a_run(page):
    found = blocks(page.read_text(encoding="utf-8"))
    assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(found), "a block that is not read"
    assert {block.language for block in found} <= {"", "sh", "python", "yaml", "text"}
    assert sum(not block.language for block in found) == SHOWN_ONLY.get(page.stem, 0)
    assert all(block.file for block in found if block.language == "yaml")
    for block in found:
        assert not re.search(r"\|\| *true|set \+e|# *(skip|doctest)", block.text)
        names = re.findall(r"^foveate (\w+)", block.text, re.MULTILINE)
        assert set(names) <= {command.name for command in OWN}


def test_the_pages_are_in_the_navigation_and_in_the_readme():
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"[{title}]({page.name})" in index
        assert f"(docs/tutorials/{page.name})" in readme
    (tree,) = re.findall(r"^```{toctree}\n(.*?)^```$", index, re.MULTILINE | re.DOTALL)
    listed = [line for line in tree.split() if not line.startswith(":")]
    assert sorted(listed) == [page.stem for page in PAGES]
    assert "tutorials/index" in (FOLDER.parent / "index.md").read_text(encoding="utf-8")
