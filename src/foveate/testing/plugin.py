"""The pytest plugin: small cohorts and configurations as fixtures, and what the contract tests run on.

Every pytest of an environment with foveate loads this file: nothing heavy is imported before a test asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from foveate.core.types import Dimension

if TYPE_CHECKING:
    from foveate.commands.pretrain.config import PretrainConfig

KINDS = {"foveate_method": "method", "foveate_encoder": "encoder"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Names to test, instead of all that are installed."""
    group = parser.getgroup("foveate")
    for option, kind in KINDS.items():
        group.addoption(
            f"--{option}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"run the contract of this {kind}",
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every contract for every name, in both dimensions."""
    for option in set(KINDS) & set(metafunc.fixturenames):
        chosen = metafunc.config.getoption(option)
        metafunc.parametrize(option, chosen or installed(KINDS[option]))


def installed(kind: str) -> list[str]:
    """All names of a kind."""
    from foveate.nets.encoders.catalogue import ENCODERS
    from foveate.runtime.registries import METHODS

    return {"method": METHODS.names, "encoder": ENCODERS.names}[kind]()


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Dimension -> folder of six images."""
    from foveate.testing.cohorts import write_cohort

    root = tmp_path_factory.mktemp("cohorts")
    return {d: write_cohort(root / f"images{d}", d) for d in (2, 3)}


@pytest.fixture
def tiny(cohorts: dict[int, Path], tmp_path: Path) -> Callable[..., PretrainConfig]:
    """(dimension, **keys) -> a complete configuration on the session's cohort."""

    def build(
        dimension: Dimension, out: str = "run", method: Mapping[str, Any] | None = None, **keys: object
    ) -> PretrainConfig:
        from foveate.commands.pretrain.config import SPEC
        from foveate.testing.runs import tiny_keys

        folder = tmp_path / out
        return SPEC.from_keys(tiny_keys(dimension, cohorts[dimension], folder, method, **keys))

    return build
