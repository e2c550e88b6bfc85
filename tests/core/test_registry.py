"""What other packages add, and what a broken one may not do."""

import dataclasses
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from foveate.commands.pretrain.config import SPEC
from foveate.core import registry
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.runtime.registries import METHODS, TASKS, base_names, list_foreign_methods


def module_of(group, name):
    """What a package adds to a registry under a name: one of ours as theirs."""
    module, ours = ModuleType("their_package"), group[next(iter(group.own))]
    if group is ENCODERS:
        return ours
    named = [("name", str, name)]
    module.Config = dataclasses.make_dataclass(
        "Config", named, bases=(ours.Config,), frozen=True, kw_only=True
    )
    module.build = ours.build
    return module


@pytest.fixture(params=[METHODS, TASKS, SOURCES, ENCODERS], ids=lambda r: r.group)
def group(request, monkeypatch):
    """A registry to which two packages add: one that works, one that does not."""
    holder = ModuleType("their_package")
    holder.theirs = module_of(request.param, "theirs")
    monkeypatch.setitem(sys.modules, "their_package", holder)
    add(monkeypatch, request.param, theirs="their_package:theirs", broken="no_such_package")
    return request.param


def add(monkeypatch, group, **values):
    """Entry points of other packages, by name."""
    added = [EntryPoint(name, value, group.group) for name, value in values.items()]

    def found(*, group, name=None):
        return [each for each in added if each.group == group and name in (None, each.name)]

    monkeypatch.setattr(registry, "entry_points", found)


def test_entry_points_are_names_like_our_own(group):
    assert {"theirs", "broken"} <= set(group.names())
    assert group["theirs"] is sys.modules["their_package"].theirs
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
    add(monkeypatch, METHODS, broken="no_such_package", other="json")
    assert SPEC.resolve({"dimension": 3}, {}).method.name == "pcrlv2"
    assert {"broken", "other"}.isdisjoint(base_names())
    broken, other = list_foreign_methods()
    assert "cannot be loaded (ModuleNotFoundError: No module named 'no_such_package')" in broken
    assert "json has no Config and no build; accepted: Config, build" in other


def test_what_is_no_plugin_is_named_with_what_it_lacks(group, monkeypatch):
    theirs = sys.modules["their_package"].theirs
    add(monkeypatch, group, theirs="json")
    needed = " and no ".join(group.needs)
    with pytest.raises(FoveateError, match=f"theirs: another package, .* json has no {needed}; accepted"):
        group["theirs"]
    assert "theirs" not in group.others("")
    if group is ENCODERS:
        return
    add(monkeypatch, group, another="their_package:theirs")
    with pytest.raises(FoveateError, match=r"field name is 'theirs'; accepted: name: Literal\[\"another\"\]"):
        group["another"]
    theirs.Config = ModuleType
    with pytest.raises(FoveateError, match=r"Config that cannot be one; accepted: a frozen .*dataclass"):
        group["another"]
