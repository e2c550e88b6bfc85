"""What other packages add, and what a broken one may not do."""

from importlib.metadata import EntryPoint

import pytest

from foveate.commands.pretrain.config import SPEC
from foveate.core import registry
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.runtime.registries import METHODS, TASKS, list_foreign_methods


@pytest.fixture(params=[METHODS, TASKS, SOURCES, ENCODERS], ids=lambda r: r.group)
def group(request, monkeypatch):
    """A registry to which two packages add: one that works, one that does not."""
    added = [
        EntryPoint("theirs", "json:dumps", request.param.group),
        EntryPoint("broken", "no_such_package", request.param.group),
    ]

    def found(*, group, name=None):
        return [each for each in added if each.group == group and name in (None, each.name)]

    monkeypatch.setattr(registry, "entry_points", found)
    return request.param


def test_entry_points_are_names_like_our_own(group):
    assert {"theirs", "broken"} <= set(group.names())
    assert group["theirs"]({}) == "{}"
    with pytest.raises(FoveateError, match=r"theirz: there is no such .*did you mean theirs"):
        group["theirz"]


def test_a_package_that_cannot_be_loaded_is_named_and_stops_nobody_else(group):
    with pytest.raises(
        FoveateError, match=r"broken: another package, which adds it, cannot be loaded \(Module"
    ):
        group["broken"]
    assert "broken" not in group.others("theirs")
    assert "theirs" not in group.others("theirs")


def test_a_run_and_the_list_go_on_beside_a_broken_package(monkeypatch):
    broken = [EntryPoint("broken", "no_such_package", "foveate.methods")]
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda *, group, name="": [e for e in broken if group == e.group and name in ("", e.name)],
    )
    assert SPEC.resolve({"dimension": 3}, {}).method.name == "pcrlv2"
    assert "cannot be loaded; --method broken says why" in "\n".join(list_foreign_methods())
