"""Files that belong together by their names: `X_t1` and `X_tissue` are one case, all `*_tissue` one family.

The words are not known beforehand. A family is an end of names that comes after stems which other files
share; where nothing is shared, an end with letters that several names have; and else the plain names of a
folder.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from foveate.data.readers.suffixes import suffix_of

Key = tuple[str, str, bool]  # end, suffix, and whether a folder is the case

SEPARATORS = "-_. +"
FEWEST = 2  # cases that an end must follow, where there are more than two files
SMALL = 8  # files of a folder that may be the folder's case: t1.nii.gz and tissue.nii.gz in one folder each
FEWEST_ALONE = 3  # names that have an end which follows no shared stem


@dataclass(frozen=True, slots=True)
class Place:
    """What a name consists of."""

    folder: str
    case: str
    end: str  # "" for a plain name
    suffix: str

    @property
    def key(self) -> Key:
        """What all files of a family have in common."""
        return self.end, self.suffix, not self.case

    @property
    def pattern(self) -> str:
        """The family's names as `--pairs` writes them."""
        return f"{{case}}{self.end if self.case else f'/{self.end}'}{self.suffix}"

    @property
    def shown(self) -> str:
        """The family's names for people."""
        return f"*{self.end}" if self.end and self.case else f"{self.end or '*'}{self.suffix}"


def places(relatives: Iterable[str]) -> dict[str, Place]:
    """Relative paths -> case and family; folders are looked at together, as a case may have one of its own.

    >>> found = places(["1_a_qx.nii", "1_zz.nii", "2_a_qx.nii", "2_zz.nii"])
    >>> [(place.case, place.end) for place in found.values()]
    [('1', '_a_qx'), ('1', '_zz'), ('2', '_a_qx'), ('2', '_zz')]
    """
    names = list(relatives)
    sizes = Counter(PurePosixPath(name).parent for name in names)
    cuts = {name: list(_cuts(name, whole=sizes[PurePosixPath(name).parent] <= SMALL)) for name in names}
    ends: dict[tuple[str, str], set[Key]] = defaultdict(set)
    for place in chain.from_iterable(cuts.values()):
        ends[place.folder, place.case].add(place.key)
    shared = {name: [p for p in found if len(ends[p.folder, p.case]) > 1] for name, found in cuts.items()}
    support = Counter(place.key for found in shared.values() for place in found)
    alone = Counter(place.key for place in chain.from_iterable(cuts.values()) if place.end and place.case)
    fewest = min(FEWEST, max(1, len(names) - 1))
    return {
        name: max(
            [place for place in shared[name] if support[place.key] >= fewest],
            key=lambda place: support[place.key],  # of equals the first: the shortest end
            default=next((place for place in found if alone[place.key] >= FEWEST_ALONE), found[0]),
        )
        for name, found in cuts.items()
    }


def _cuts(relative: str, *, whole: bool) -> Iterator[Place]:
    """Every way to read a name, from the shortest end; what counts, such as slices, is no family."""
    pure = PurePosixPath(relative)
    folder, suffix = pure.parent.as_posix(), suffix_of(Path(pure.name))
    suffix = pure.name[len(pure.name) - len(suffix) :]
    stem = pure.name[: len(pure.name) - len(suffix)]
    yield Place(folder, stem, "", suffix)
    for at in range(len(stem) - 1, 0, -1):
        if stem[at] in SEPARATORS and not _counts(stem[at:]):
            yield Place(folder, stem[:at], stem[at:], suffix)
    if whole and not _counts(stem):
        yield Place(folder, "", stem, suffix)


def _counts(end: str) -> bool:
    """Whether an end is a number, or has one as its last word.

    >>> _counts("_001"), _counts("_slice_01"), _counts("_t1")
    (True, True, False)
    """
    last = re.split(f"[{re.escape(SEPARATORS)}]", end)[-1]
    return not any(map(str.isalpha, last))
