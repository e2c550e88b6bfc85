"""What can be set is described: in the help of the command line and in the page of the method."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from foveate.cli import OWN
from foveate.core.config import field_values, is_config
from foveate.core.key_help import attribute_help
from foveate.core.types import FoveateError
from foveate.runtime.registries import METHODS
from tests.test_listing import CHOICES

PAGES = Path(__file__).parents[1] / "docs" / "methods"


def configs_in(config):
    """A Config and those in it."""
    yield config
    for value in field_values(config).values():
        if is_config(value):
            yield from configs_in(value)


def undescribed(config):
    """Fields of a Config without a line of help; groups have their class's docstring, names need none."""
    said = attribute_help(type(config))
    leaves = [n for n, v in field_values(config).items() if not is_config(v) and not isinstance(v, Mapping)]
    return [f"{type(config).__module__}.{name}" for name in leaves if name != "name" and not said.get(name)]


@pytest.mark.parametrize("command", OWN, ids=lambda command: command.name)
def test_every_key_of_a_command_is_described(command):
    spec, missing = command.load_spec(), set()
    for chosen in CHOICES:
        try:
            found = spec.defaults({"dimension": 3, "task.name": "segmentation", **chosen})
        except FoveateError:  # an encoder of the other dimension
            continue
        missing |= {field for config in configs_in(found) for field in undescribed(config)}
    assert not missing, 'give these fields a line below "Attributes:" in the docstring of their Config'


def test_a_field_without_a_line_is_found():
    @dataclasses.dataclass
    class Config:
        """Mine.

        Attributes:
            said: Described.
        """

        said: int = 0
        unsaid: int = 0

    assert undescribed(Config()) == [f"{__name__}.unsaid"]


@pytest.mark.parametrize("name", METHODS.own)
def test_every_field_of_a_method_is_on_its_page(name):
    page, config = PAGES / f"{name}.md", METHODS[name].Config
    assert page.exists(), f"write docs/methods/{name}.md: the paper, the losses, the fields, what differs"
    fields = {field.name for field in dataclasses.fields(config)} & set(config.__annotations__) - {"name"}
    text = page.read_text(encoding="utf-8")
    missing = sorted(field for field in fields if f"`{field}`" not in text)
    assert not missing, f"add these fields to the table of docs/methods/{name}.md"
