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
    from foveate.commands.finetune.config import FinetuneConfig
    from foveate.commands.pretrain.config import PretrainConfig

KINDS = {"foveate_method": "method", "foveate_encoder": "encoder", "foveate_task": "task"}


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
    group.addoption(
        "--foveate_target",
        default="grade",
        metavar="COLUMN",
        help="what tasks for whole images learn: grade (0 to 3), found (0 or 1), age, or kind (a or b)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every contract for every name that was given, or for all where none of any kind was."""
    given = {option: list(metafunc.config.getoption(option)) for option in KINDS}
    for option in set(KINDS) & set(metafunc.fixturenames):
        names = given[option] if any(given.values()) else installed(KINDS[option])
        metafunc.parametrize(option, names or [pytest.param("", marks=pytest.mark.skip(f"no --{option}"))])


def installed(kind: str) -> list[str]:
    """All names of a kind."""
    from foveate.nets.encoders.catalogue import ENCODERS
    from foveate.runtime.registries import METHODS, TASKS

    return {"method": METHODS.names, "encoder": ENCODERS.names, "task": TASKS.names}[kind]()


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Dimension -> folder of six images."""
    from foveate.testing.cohorts import write_cohort

    root = tmp_path_factory.mktemp("cohorts")
    return {d: write_cohort(root / f"images{d}", d) for d in (2, 3)}


def share_cache(session: Path, beside: Path) -> None:
    """Let the runs in a folder find the images that other tests of the session have decoded."""
    from foveate.data.salts import CACHES

    (session / CACHES).mkdir(exist_ok=True)
    if not (beside / CACHES).exists():
        (beside / CACHES).symlink_to(session / CACHES)


@pytest.fixture
def tiny(
    cohorts: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., PretrainConfig]:
    """(dimension, **keys) -> a complete configuration on the session's cohort, which is decoded once.

    Runs of this process end with one batch of recalibration, where others make several.
    """

    def build(
        dimension: Dimension, out: str = "run", method: Mapping[str, Any] | None = None, **keys: object
    ) -> PretrainConfig:
        from foveate.commands.pretrain.config import SPEC
        from foveate.testing.runs import tiny_keys

        folder = tmp_path / out
        monkeypatch.setattr("foveate.commands.pretrain.run.CALIBRATION_BATCHES", 1)
        share_cache(cohorts[dimension].parent, tmp_path)
        return SPEC.from_keys(tiny_keys(dimension, cohorts[dimension], folder, method, **keys))

    return build


@pytest.fixture(scope="session")
def labelled_cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Dimension -> folder of eight images with label maps and a table of values."""
    from foveate.testing.cohorts import write_labelled

    root = tmp_path_factory.mktemp("labelled")
    return {d: write_labelled(root / f"labelled{d}", d) for d in (2, 3)}


@pytest.fixture
def tiny_task(
    labelled_cohorts: dict[int, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[str, Dimension], FinetuneConfig]:
    """(task, dimension) -> a complete configuration on the session's labelled cohort."""

    def build(task: str, dimension: Dimension) -> FinetuneConfig:
        from foveate.commands.finetune.config import SPEC
        from foveate.testing.runs import task_keys

        target = str(request.config.getoption("foveate_target"))
        share_cache(labelled_cohorts[dimension].parent, tmp_path)
        return SPEC.from_keys(
            task_keys(task, dimension, labelled_cohorts[dimension], tmp_path / "run", target)
        )

    return build
