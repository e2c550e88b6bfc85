"""One page for folders that commands wrote, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from foveate.core.types import FoveateError
from foveate.nets.weights.store import FOLDS
from foveate.pages.page import Page
from foveate.runtime.report.comparisons import CELLS, add_comparison
from foveate.runtime.report.embeddings import add_embedding
from foveate.runtime.report.evaluations import add_evaluation
from foveate.runtime.report.runs import add_run, add_runs

PAGE = "report.html"
Add = Callable[[Page, Path, str], None]


def build_page(folders: Sequence[Path], *, images: bool = True, live: bool = False) -> Page:
    """The page of one folder or several.

    Raises:
        FoveateError: when a folder is none that a command wrote.
    """
    spread = [each for folder in folders for each in runs_inside(folder)]
    adds = [add_of(folder) for folder in spread]
    names = distinct(spread)
    title = f"foveate: {names[0] if len(names) == 1 else f'{len(names)} folders'}"
    page = Page(title, images=images, live=live)
    runs = {name: folder for name, folder, add in zip(names, spread, adds, strict=True) if add is add_run}
    if len(runs) > 1:
        add_runs(page, runs)
    for name, folder, add in zip(names, spread, adds, strict=True):
        if add is not add_run or len(runs) == 1:
            add(page, folder, name if len(names) > 1 else "")
    return page


def write_page(folder: Path, *, images: bool = True) -> Path:
    """The page of a folder, in it."""
    build_page([folder], images=images).write(folder / PAGE)
    return folder / PAGE


def runs_inside(folder: Path) -> list[Path]:
    """The folder, or those of its folds that were started."""
    if not (folder / FOLDS).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("fold_*/run.yaml")) or [folder]


def add_of(folder: Path) -> Add:
    """Who knows what is in a folder."""
    for add, signs in (
        (add_run, ("run.yaml", "metrics.jsonl")),
        (add_evaluation, ("summary.json",)),
        (add_comparison, (CELLS,)),
        (add_embedding, ("features.npy",)),
    ):
        if any((folder / sign).exists() for sign in signs):
            return add
    raise FoveateError(
        f"{folder} is no folder of a run; accepted: what pretrain, finetune, evaluate, compare or embed "
        "wrote with --out."
    )


def distinct(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, with those above it where two would be alike."""
    whole = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{place}: {folder.name}" for place, folder in enumerate(folders, 1)]  # one was named twice
