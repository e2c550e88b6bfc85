"""What dataset layouts are made of: visible names in a fixed order, tables, and a refusal that shows a tree.

A module of `data.sources` holds `TREE` (the layout as text), `Config`, `build(config)` and
`recognises(root)`. What it builds is a `Layout`: only the `cases` differ between data sets.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict, Unpack, final

from foveate.core.types import Dimension, FoveateError, Json, LinesError, Record, Role, spelled
from foveate.data.readers.suffixes import SUFFIXES, suffix_of
from foveate.data.tables import entries_of, parse_json

Missing = Literal["refuse", "skip"]  # what to do where a list names a file that is not there
Classes = Mapping[str, tuple[int, ...]]  # what a target is called -> the values of the map that belong to it
IGNORE = "ignore"  # what nnU-Net calls the value of voxels that nobody has labelled
SPLITS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev", "va"),
    "test": ("test", "testing", "ts"),
}


class Fields(TypedDict, total=False):
    """What a layout says of a record beside its file."""

    channels: tuple[Path, ...]
    role: Role
    evidence: str
    modality: str
    patient: str
    split: str
    maps: Mapping[str, Path]
    labels: Mapping[str, Json]


@final
class WrongLayoutError(Exception):
    """What a folder lacks; `Layout` adds the tree that was expected."""


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """One dataset layout, as `core.contracts.Source`."""

    name: str
    tree: str
    cases: Callable[[Path], Iterable[Record]]
    axes: Dimension | None = None  # where the layout allows one only; None: the suffixes of the images say
    targets: Callable[[Path], Classes] = lambda _root: {}  # and background, "ignore"
    case_is_patient: bool = False  # the layout knows of cases only: any other word on patients counts more

    def dimension(self, root: Path) -> Dimension:
        """2 or 3, from the layout or the suffixes of its images."""
        if self.axes:
            return self.axes
        return dimension_of(record for record in self.records(root) if record.role == "image")

    def classes(self, root: Path) -> Classes:
        """The targets that the layout names, empty where it names none."""
        with _refusing(self, root):
            return foreground(self.targets(root))

    def ignored(self, root: Path) -> tuple[int, ...]:
        """Values of voxels of which the layout says that nobody labelled them."""
        with _refusing(self, root):
            return tuple(self.targets(root).get(IGNORE, ()))

    def records(self, root: Path) -> Iterator[Record]:
        """Images by relative path, then the label maps that belong to them, then what had to be excluded."""
        with _refusing(self, root):
            if not root.exists():
                raise WrongLayoutError("there is no such file or folder")
            found = sorted(self.cases(root), key=lambda record: record.relative)
            images = [record for record in found if record.role == "image"]
            if not images:
                raise WrongLayoutError(_why_empty(found))
            _refuse_twice(images)
        yield from images
        yield from sorted(_maps(root, images), key=lambda record: record.relative)
        yield from (record for record in found if record.role != "image")


@contextmanager
def _refusing(layout: Layout, root: Path) -> Iterator[None]:
    """Turns what a layout misses into a paragraph with the expected tree below it."""
    try:
        yield
    except WrongLayoutError as error:
        raise LinesError(
            spelled(f"{root} is not laid out as --source {layout.name} expects: {error}. ")
            + f"Expected:\n{layout.tree.strip()}"
        ) from None


def _why_empty(found: Sequence[Record]) -> str:
    if not found:
        return "it holds no image"
    first = found[0]
    return f"none of its {len(found)} cases can be used, for instance {first.relative}: {first.evidence}"


def _refuse_twice(images: Iterable[Record]) -> None:
    name, times = Counter(record.relative for record in images).most_common(1)[0]
    if times > 1:
        raise WrongLayoutError(f"{name} is listed {times} times")


def _maps(root: Path, images: Iterable[Record]) -> Iterator[Record]:
    for image in images:
        for name, path in image.maps.items():
            evidence = f"map {name!r} of {image.relative}"
            yield case(root, path, role="label", evidence=evidence, patient=image.patient, split=image.split)


def case(root: Path, path: Path, **fields: Unpack[Fields]) -> Record:
    """A record whose name is its path below `root`, with forward slashes on every system."""
    relative = Path(os.path.relpath(path, root if root.is_dir() else root.parent)).as_posix()
    return Record(path=path, relative=relative, **fields)


def excluded_case(root: Path, path: Path, why: str) -> Record:
    """A case that cannot be used, with the reason."""
    return case(root, path, role="other", evidence=why)


def folders(folder: Path) -> list[Path]:
    """The visible folders directly below a folder; none where it does not exist."""
    return [folder / entry.name for entry in entries_of(folder) if entry.is_dir()] if folder.is_dir() else []


def below(folder: Path) -> Iterator[Path]:
    """Visible files at any depth; a link to a folder is not followed."""
    for entry in entries_of(folder):
        if entry.is_dir():
            if not entry.is_symlink():
                yield from below(folder / entry.name)
        elif entry.is_file():
            yield folder / entry.name


def either(root: Path, marker: Callable[[Path], bool], what: str) -> Path:
    """`root` or the one folder directly below it that `marker` accepts: an archive unpacks to a folder."""
    if root.is_dir():
        for folder in (root, *folders(root)):
            if marker(folder):
                return folder
    raise WrongLayoutError(f"neither it nor a folder directly in it holds {what}")


def volume(folder: Path, stem: str) -> Path | None:
    """`stem`.nii.gz or `stem`.nii in a folder, None where neither is there."""
    return next((p for s in (".nii.gz", ".nii") if (p := folder / f"{stem}{s}").is_file()), None)


def dimension_of(images: Iterable[Record]) -> Dimension:
    """The one dimension that the images' suffixes stand for."""
    first: dict[Dimension, Record] = {}
    for record in images:
        suffix = suffix_of(record.path)
        if suffix not in SUFFIXES:
            accepted = ", ".join(SUFFIXES)
            raise FoveateError(f"{record.path}: the suffix {suffix!r} is not read (accepted: {accepted}).")
        first.setdefault(SUFFIXES[suffix], record)
    if len(first) > 1:
        names = " and ".join(f"{record.path} ({axes}D)" for axes, record in sorted(first.items()))
        raise FoveateError(f"One run trains on one dimension, and the list mixes {names}.")
    return next(iter(first))


def split_of(word: str, where: str) -> str:
    """train, val or test for the words that are used for them; "" stays "".

    >>> split_of("Validation", "a.csv"), split_of("", "a.csv")
    ('val', '')
    """
    plain = word.strip().lower()
    if not plain:
        return ""
    for name, words in SPLITS.items():
        if plain in words:
            return name
    raise FoveateError(f"{where}: split {word!r}; accepted are {', '.join(SPLITS)}, or nothing.")


def read_lines(path: Path) -> list[str]:
    """The first word of every line that holds one."""
    try:
        return [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise FoveateError(f"{path} is not a list in UTF-8.") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    loaded = parse_json(path)
    if not isinstance(loaded, dict):
        raise FoveateError(f"{path} holds a {type(loaded).__name__}; accepted: an object with named fields.")
    return loaded


def wrong_field(path: Path, field: str, found: Json, accepted: str) -> NoReturn:
    """Refuse one field of a JSON file."""
    raise FoveateError(f"{path}: {field} is {found!r}; accepted: {accepted}.")


def foreground(named: Classes) -> Classes:
    """Targets alone, without background and what counts for nothing.

    >>> foreground({"background": (0,), "whole": (1, 2), "core": (2,), "ignore": (3,)})
    {'whole': (1, 2), 'core': (2,)}
    """
    return {name: values for name, values in named.items() if values != (0,) and name != IGNORE}


def named_values(labels: Mapping[str, Any], path: Path) -> Classes:
    """What the `labels` of a dataset.json name: {"0": name}, {name: 0} or {name: [1, 2]}, background too.

    >>> named_values({"background": 0, "whole": [1, 2], "core": "2"}, Path("dataset.json"))
    {'background': (0,), 'whole': (1, 2), 'core': (2,)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for key, value in labels.items():
        name, values = (value, key) if isinstance(value, str) and key.isdecimal() else (key, value)
        try:
            found[name] = tuple(int(v) for v in (values if isinstance(values, list) else [values]))
        except (TypeError, ValueError):
            wrong_field(path, f"labels[{key!r}]", value, "a whole number, a list of them, or a name")
    return found


def as_words(classes: Classes) -> tuple[str, ...]:
    """Targets as the task's configuration writes them."""
    return tuple(f"{name}={'+'.join(map(str, values))}" for name, values in classes.items())
