"""The method of docs/plugins.md, as a file beside an entry point that nobody installed."""

import re
import sys
from pathlib import Path

import torch

from foveate.core.types import Progress
from foveate.runtime.registries import list_foreign_methods
from foveate.testing.test_method import first_batch

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"


def test_the_method_in_one_file_is_listed_and_has_a_loss(tiny, tmp_path, monkeypatch):
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "agree.py").write_text(code)
    info = tmp_path / "agree-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agree\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[foveate.methods]\nagree = agree\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert "Agree: two views have one embedding" in "\n".join(list_foreign_methods())
        _, method, batch = first_batch(tiny(2, method={"name": "agree", "embedding": 8}))
        losses = method(batch, Progress(0, 4, 0))
        assert list(losses) == ["agreement"]
        losses["agreement"].backward()
        assert all(torch.isfinite(p.grad).all() for p in method.exported()["encoder"].parameters())
    finally:
        sys.modules.pop("agree", None)
