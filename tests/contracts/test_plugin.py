"""Which contracts run for which names, and what a method that breaks one is told."""

from types import SimpleNamespace

import pytest
import torch

from foveate.core.types import Progress
from foveate.runtime.registries import METHODS
from foveate.testing import plugin, test_method as contract


def names_of(option, **given):
    """What a contract of a kind is run for, when these names were given on the command line."""
    found = {}
    options = {name: given.get(name, []) for name in plugin.KINDS}
    plugin.pytest_generate_tests(
        SimpleNamespace(
            fixturenames=[option, "tmp_path"],
            config=SimpleNamespace(getoption=options.get),
            parametrize=found.__setitem__,
        )
    )
    return found[option]


def test_without_names_all_are_tested_and_with_one_only_that():
    assert names_of("foveate_method") == METHODS.names()
    assert names_of("foveate_method", foveate_method=["byol"]) == ["byol"]
    (skipped,) = names_of("foveate_encoder", foveate_method=["byol"])
    assert [mark.name for mark in skipped.marks] == ["skip"]


class Broken(torch.nn.Module):
    """A method of one exported layer, whose forward is given."""

    def __init__(self, forward):
        super().__init__()
        self.used, self.idle = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        self.forward = lambda batch, _progress: forward(self, batch)

    def exported(self):
        return {"encoder": self}


@pytest.mark.parametrize(
    ("check", "forward", "said"),
    [
        ("finite", lambda _m, _b: {}, "forward gave no term"),
        ("finite", lambda m, b: {"sides": m.used(b["crops"]["global"])}, "no finite scalar"),
        ("finite", lambda m, b: {"mine": m.used(b["crops"]["global"]).sum()}, "no term reaches"),
        ("every_weight", lambda m, b: {"mine": m.used(b["crops"]["global"]).sum()}, "anchored"),
        ("repeats", lambda _m, _b: {"mine": torch.rand(())}, "draw with foveate.core.rng"),
        ("repeats", lambda _m, b: {"mine": b["crops"]["global"].mul_(0).sum()}, "in place"),
    ],
)
def test_a_method_that_breaks_a_contract_is_told_how(tiny, monkeypatch, check, forward, said):
    """The messages, on a module that is no method of ours."""
    method, batch = Broken(forward), {"crops": {"global": torch.ones(3, 2)}}
    monkeypatch.setattr(contract, "first_batch", lambda _config: (None, method, batch))

    def losses(_config):
        found = method(batch, Progress(0, 4, 0))
        if found and all(value.ndim == 0 for value in found.values()):
            torch.stack(list(found.values())).sum().backward()
        return method, found

    monkeypatch.setattr(contract, "first_losses", losses)
    checks = {
        "finite": lambda *at: contract.test_finite_and_every_exported_parameter_gets_a_gradient(
            *at, "32-true"
        ),
        "every_weight": contract.test_every_weight_has_a_gradient_at_every_step,
        "repeats": contract.test_input_is_not_modified_and_a_step_repeats,
    }
    with pytest.raises(AssertionError, match=said):
        checks[check](tiny, 2, "byol")
