"""Tables and lists of boxes: CSV with a box in each row, or JSON.

A CSV has a column with the image, and the box as `x,y,z,diameter`, as `x,y,z,size_x,size_y,size_z`, or as
corners `x_min,...,z_max`; of pictures without z. A row without any of these numbers says that the image has
no box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from foveate.core.files import from_cell
from foveate.core.labels import number_of
from foveate.core.types import FoveateError, Json
from foveate.data.boxes.listing import Frame, Unit
from foveate.data.tables import (
    IMAGE_COLUMNS,
    PATIENT_COLUMNS,
    column_of,
    parse_json,
    patient_word,
    read_table,
)

NAMES = ("boxes.csv", "boxes.json")  # of a table in the folder of the data
IMAGES = (*IMAGE_COLUMNS, "seriesuid")
CLASSES = ("class", "class_name", "category", "label")
SCORES = ("score", "probability", "confidence")
DIAMETERS = ("diameter", "diameter_mm")
LETTERS = "xyz"
CENTRES = {a: (a, f"coord{a}", f"centre_{a}", f"center_{a}") for a in LETTERS}
SIZES = {a: (f"size_{a}",) for a in LETTERS}
CORNERS = {a: ((f"{a}_min", f"{a}1"), (f"{a}_max", f"{a}2")) for a in LETTERS}
STATED = ("unit", "frame")  # conventions that a table may state
UNNAMED = "finding"
FORMS = "x,y,z,diameter; x,y,z,size_x,size_y,size_z; x_min,y_min,z_min,x_max,y_max,z_max"

Numbers = tuple[float, ...]
Number = Callable[[str], float]  # the number in a field


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesConfig:
    """Boxes from a table.

    Attributes:
        file: A CSV or JSON of boxes, as a path or below the data; empty: boxes.csv or boxes.json there, else
            boxes are made from label maps.
        frame: Which way millimetres of the table grow: "ras" to the right, the front and the head, as NIfTI
            has it, "lps" to the left and the back, as DICOM, ITK and LUNA16 have it; "stated": the table
            says it in a column or field `frame`.
        unit: Whether the numbers of the table are millimetres in the world, or voxels counted from 0 in the
            file's own order of axes; "stated": the table says it in a column or field `unit`.
        diameter: Diameter of places that a table lists without any size, in the unit of the table; 0: a table
            without sizes is refused.
    """

    file: str = ""
    frame: Literal["stated", "ras", "lps"] = "stated"
    unit: Literal["stated", "mm", "voxel"] = "stated"
    diameter: float = 0.0

    def __post_init__(self) -> None:
        if self.diameter < 0:
            raise FoveateError(f"boxes.diameter {self.diameter:g}: accepted are numbers from 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBox:
    """A box of a table; labels need no score."""

    name: str
    centre: Numbers
    size: Numbers
    score: float | None


@dataclass(slots=True, kw_only=True)
class TableImage:
    """An image of a table with its boxes."""

    image: str
    unit: Unit
    frame: Frame
    patient: str = ""
    split: str = ""
    boxes: list[TableBox] = field(default_factory=list)


def table_of(data: Path, config: BoxesConfig) -> Path | None:
    """The table of boxes of a data set; None where it has none."""
    if config.file:
        beside = data / config.file if data.is_dir() else data.parent / config.file
        found = next((path for path in (beside, Path(config.file)) if path.is_file()), None)
        if found is None:
            raise FoveateError(f"--boxes.file {config.file}: there is no such file, nor one below {data}.")
        return found
    if data.is_dir():
        return next((data / name for name in NAMES if (data / name).is_file()), None)
    if data.suffix.lower() == ".csv" and data.is_file():
        columns = list(next(read_table(data, ()), {}))
        return data if columns and form_of(columns, data, config.diameter) else None
    if data.suffix.lower() == ".json" and data.is_file():
        return data if any("boxes" in entry for entry in _entries(parse_json(data))) else None
    return None


def read_boxes(path: Path, config: BoxesConfig) -> list[TableImage]:
    """The images of a table with their boxes, in its order.

    Raises:
        FoveateError: it cannot be read, a number is none, a side is not positive, or a convention is not
            stated.
    """
    read = _from_json if path.suffix.lower() == ".json" else _from_csv
    found: dict[str, TableImage] = {}
    for each in read(path, config):
        known = found.setdefault(each.image, each)
        if known is each:
            continue
        if (known.unit, known.frame, known.patient, known.split) != (
            each.unit,
            each.frame,
            each.patient,
            each.split,
        ):
            raise FoveateError(
                f"{path}: the rows of {each.image} differ in unit, frame, patient or split; accepted: the "
                "same for all of them."
            )
        known.boxes += each.boxes
    if not found:
        raise FoveateError(f"{path} lists no image; accepted: at least one row.")
    return list(found.values())


def form_of(
    columns: Sequence[str], path: Path, nominal: float = 0.0
) -> Callable[[Number], tuple[Numbers, Numbers]] | None:
    """What makes centre and sides of the numbers of a row; None where the columns are none of a box.

    `nominal`: diameter of places without a size; 0: they are none.

    Raises:
        FoveateError: they are x, y, width, height, of which nobody knows which point x, y is.
    """
    centre = [column_of(columns, CENTRES[a]) for a in LETTERS]
    sides = [column_of(columns, SIZES[a]) for a in LETTERS]
    ends = [[column_of(columns, names) for names in CORNERS[a]] for a in LETTERS]
    diameter = column_of(columns, DIAMETERS)
    centre, sides = [name for name in centre if name], [name for name in sides if name]
    ends = [pair for pair in ends if all(pair)]
    if len(centre) > 1 and diameter:
        return lambda number: (tuple(map(number, centre)), (number(diameter),) * len(centre))
    if len(centre) > 1 and len(sides) == len(centre):
        return lambda number: (tuple(map(number, centre)), tuple(map(number, sides)))
    if len(ends) > 1:

        def between(number: Number) -> tuple[Numbers, Numbers]:
            low, high = ([number(pair[i]) for pair in ends] for i in range(2))
            both = list(zip(low, high, strict=True))
            return tuple((a + b) / 2 for a, b in both), tuple(b - a for a, b in both)

        return between
    if len(centre) > 1 and all(column_of(columns, (name,)) for name in ("width", "height")):
        raise FoveateError(
            f"{path} has the columns {', '.join(columns)}: x, y with size_x, size_y would be the centre of a "
            "box, but with width and height, in COCO and RSNA, they are its upper left corner; accepted: "
            f"one of {FORMS} (of pictures without z)."
        )
    if len(centre) > 1 and nominal:
        return lambda number: (tuple(map(number, centre)), (nominal,) * len(centre))
    return None


def _from_csv(path: Path, config: BoxesConfig) -> Iterator[TableImage]:
    rows = list(read_table(path, ()))
    columns = list(rows[0]) if rows else []
    image, form = column_of(columns, IMAGES), form_of(columns, path, config.diameter)
    if not image or form is None:
        raise FoveateError(
            f"{path} has the columns {', '.join(columns) or 'nothing'}; accepted: "
            f"{' or '.join(IMAGES[:3])} with the image, and one of {FORMS} (of pictures without z), or x,y,z "
            "alone, with --boxes.diameter (of predictions --diameter)."
        )
    kind, score = column_of(columns, CLASSES), column_of(columns, SCORES)
    patient = column_of(columns, PATIENT_COLUMNS)
    split, *stated = (column_of(columns, (name,)) for name in ("split", *STATED))
    numeric = [c for c in columns if c not in (image, kind, score, patient, split, *stated)]
    for line, row in enumerate(rows, 2):
        where = f"{path}, line {line}"

        def number(name: str, row: Mapping[str, str] = row, where: str = where) -> float:
            return _number(row[name], name, where)

        said = {key: row[name] for key, name in zip(STATED, stated, strict=True) if name}
        unit, frame = conventions(said, config, where, flat=not column_of(columns, _third()))
        found = TableImage(
            image=from_cell(row[image]),
            unit=unit,
            frame=frame,
            patient=row[patient] if patient else "",
            split=row[split] if split else "",
        )
        if any(row[name] for name in numeric if _of_a_box(name)):
            centre, size = form(number)
            value = _number(row[score], score, where) if score and row[score] else None
            name = from_cell(row[kind]) if kind else ""
            found.boxes.append(_checked(name or UNNAMED, centre, size, value, where))
        yield found


def _third() -> tuple[str, ...]:
    """Names of columns that boxes of volumes alone have."""
    return (*CENTRES["z"], *CORNERS["z"][0])


def _of_a_box(name: str) -> bool:
    every = [*DIAMETERS, *(n for names in (*CENTRES.values(), *SIZES.values()) for n in names)]
    every += [name for pairs in CORNERS.values() for names in pairs for name in names]
    return bool(column_of([name], every))


def _from_json(path: Path, config: BoxesConfig) -> Iterator[TableImage]:
    content = parse_json(path)
    shared = content if isinstance(content, Mapping) else {}
    every = [
        _json_image(entry, f"{path}, image {place}", config.diameter)
        for place, entry in enumerate(_entries(content), 1)
    ]
    axes = {len(box.centre) for _, _, boxes in every for box in boxes}
    for place, (entry, named, boxes) in enumerate(every, 1):
        said = {key: str(_field(entry, key, _field(shared, key, ""))) for key in STATED}
        flat = max((len(box.centre) for box in boxes), default=max(axes, default=3)) < len(LETTERS)
        unit, frame = conventions(said, config, f"{path}, image {place}", flat=flat)
        patient = column_of(list(entry), PATIENT_COLUMNS)
        yield TableImage(
            image=named,
            unit=unit,
            frame=frame,
            patient=patient_word(entry.get(patient)),
            split=str(_field(entry, "split", "")),
            boxes=boxes,
        )


def _field(entry: Mapping[str, Json], name: str, otherwise: Json) -> Json:
    """The value of a field, however its name is spelled."""
    return entry.get(column_of(list(entry), (name,)), otherwise)


def _entries(content: Json) -> list[Mapping[str, Json]]:
    """The images of a list."""
    listed = content.get("images", []) if isinstance(content, Mapping) else content
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def _json_image(
    entry: Mapping[str, Json], where: str, nominal: float
) -> tuple[Mapping[str, Json], str, list[TableBox]]:
    """An entry with the name of its image and its boxes."""
    named = next((entry[name] for name in IMAGES if name in entry), None)
    listed = entry.get("boxes")
    if not isinstance(named, str) or not isinstance(listed, list):
        raise FoveateError(
            f'{where}: accepted is {{"image": PATH, "boxes": [{{"class": NAME, "centre": [x, y, z], '
            '"diameter": D}, ...]}, with "size" for "diameter", or "low" and "high" for all of it.'
        )
    there = [each for each in listed if not (isinstance(each, Mapping) and each.get("present") is False)]
    return entry, named, [_json_box(each, f"{where}, box {i}", nominal) for i, each in enumerate(there, 1)]


def _json_box(entry: Json, where: str, nominal: float) -> TableBox:
    values = entry if isinstance(entry, Mapping) else {}

    def numbers(*names: str) -> Numbers:
        name = next((each for each in names if each in values), "")
        held = values.get(name)
        listed = held if isinstance(held, list) else [] if held is None else [held]
        return tuple(_number(each, name, where) for each in listed)

    centre, size, low, high = (
        numbers(*names) for names in (("centre", "center"), ("size", "diameter"), ("low",), ("high",))
    )
    if low and len(low) == len(high):
        both = list(zip(low, high, strict=True))
        centre, size = tuple((a + b) / 2 for a, b in both), tuple(b - a for a, b in both)
    size = size or (nominal,) * bool(nominal)
    size = size * len(centre) if len(size) == 1 else size
    if len(centre) not in (2, 3) or len(size) != len(centre):
        raise FoveateError(
            f"{where}: accepted are centre with diameter or size, or low and high, of 2 or 3 numbers each."
        )
    named = next((values[name] for name in CLASSES if name in values), UNNAMED)
    scored = column_of(list(values), SCORES)
    value = values.get(scored)
    score = None if value is None else _number(value, scored, where)
    return _checked(str(named), centre, size, score, where)


def conventions(
    row: Mapping[str, str], config: BoxesConfig, where: str, *, flat: bool = False
) -> tuple[Unit, Frame]:
    """Unit and frame of a row: what the configuration says, else what the row states.

    Of a picture (`flat`) numbers are pixels where nothing is said, and there is no frame.
    """
    unit = (row.get("unit", "") if config.unit == "stated" else config.unit).lower() or "voxel" * flat
    frame = (row.get("frame", "") if config.frame == "stated" else config.frame).lower()
    if unit not in get_args(Unit):
        raise FoveateError(
            f"{where}: whether its numbers are millimetres or voxels is not stated ({unit or 'nothing'}); "
            "accepted: --boxes.unit mm or voxel, or a column or field `unit` with one of them."
        )
    frame = "ras" if unit == "voxel" or (flat and not frame) else frame
    if frame not in get_args(Frame):
        raise FoveateError(
            f"{where}: which way its millimetres grow is not stated ({frame or 'nothing'}); accepted: "
            "--boxes.frame ras (NIfTI) or lps (DICOM, ITK, LUNA16), or a column or field `frame` with one of "
            "them."
        )
    return cast(Unit, unit), cast(Frame, frame)


def _number(value: Json, name: str, where: str) -> float:
    found = number_of(value)
    if found is None or not math.isfinite(found):
        raise FoveateError(f"{where}: {name} is {str(value)[:40]!r}; accepted: a number.")
    return found


def _checked(name: str, centre: Numbers, size: Numbers, score: float | None, where: str) -> TableBox:
    """A box whose sides are positive."""
    if not all(side > 0 for side in size):
        sides = ", ".join(f"{side:g}" for side in size)
        raise FoveateError(
            f"{where}: the sides of the box are {sides}; accepted: positive lengths, of corners the lower "
            "one first."
        )
    return TableBox(name=name.strip(), centre=centre, size=size, score=score)
