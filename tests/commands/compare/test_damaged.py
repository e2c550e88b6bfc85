"""A run of a comparison that was cut while it was written: a paragraph that names it, and nothing is lost."""

import pytest
from tests.commands.compare.test_compare import data, grid, resolve, write

from foveate.commands.compare import report
from foveate.commands.compare.folder import CELLS
from foveate.commands.compare.grid import jobs_of
from foveate.core.types import FoveateError

__all__ = ["data"]


@pytest.mark.parametrize("text", ['{"name": "pre', "", "[1]", "9" * 6000])
def test_a_cut_result_is_named_and_the_tables_stay_as_they_were(data, tmp_path, text):
    config = resolve(str(write(tmp_path, grid(data=str(data)))), {"out": str(tmp_path / "out")})
    (tmp_path / "out" / CELLS).mkdir(parents=True)
    (tmp_path / "out" / "results.json").write_text("[]")
    name = jobs_of(config)[-1].name
    (tmp_path / "out" / CELLS / f"{name}.json").write_text(text)
    with pytest.raises(FoveateError, match=rf"{name}\.json is damaged .*remove it, and the same command"):
        report.write(config, tmp_path / "out")
    assert (tmp_path / "out" / "results.json").read_text() == "[]"
