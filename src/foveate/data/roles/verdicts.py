"""Files of one family have one role: where most hold labels, the others are label maps too.

A label map of few voxels may pass for an image, and an ultrasound picture with saturated areas for a label
map. What most of a family's files hold decides for all of them; where a family is small, or its files are
named alike by chance only, every file's own values decide.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foveate.data.roles.families import Place, places

FEWEST = 3  # files of a family that have been looked at
CLEAR_SHARE, FEWEST_PLAIN = 0.9, 10  # of plain names, which say nothing of what the files are

Group = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one family's files are."""

    labels: bool
    shown: str  # the family's names, for the terminal alone
    holding: int  # files that hold labels
    seen: int
    overruled: tuple[str, ...]  # relative paths of those whose own values say otherwise

    @property
    def reason(self) -> str:
        """Why an overruled file is what it is, without a name."""
        count = self.holding if self.labels else self.seen - self.holding
        held = "labels" if self.labels else "images"
        return f"{count} of the {self.seen} files that are named alike hold {held}"

    @property
    def note(self) -> str:
        """For the terminal."""
        role, held = ("label maps", "labels") if self.labels else ("images", "images")
        count = self.holding if self.labels else self.seen - self.holding
        return f"{self.seen} files named {self.shown} count as {role}: {count} of {self.seen} hold {held}"


def verdicts(looks: Mapping[str, bool], others: Iterable[str] = ()) -> list[Verdict]:
    """The families in which some files are not what most of them are.

    Args:
        looks: Relative path -> whether its values look like labels, for every file that could be read.
        others: Further relative paths, which show what names have in common.
    """
    if len(set(looks.values())) < 2:
        return []
    found = places([*looks, *others])
    families: dict[Group, list[str]] = defaultdict(list)
    groups = _groups({name: found[name] for name in looks})
    for name, group in groups.items():
        families[group].append(name)
    return [v for members in families.values() if (v := _verdict(members, found[members[0]], looks))]


def _groups(found: Mapping[str, Place]) -> dict[str, Group]:
    """Families by folder; those that have too few files in one are taken together."""
    counts = Counter((p.folder, p.end, p.suffix) for p in found.values())
    return {
        name: (p.folder if not p.end or counts[p.folder, p.end, p.suffix] >= FEWEST else "*", p.end, p.suffix)
        for name, p in found.items()
    }


def _verdict(members: list[str], place: Place, looks: Mapping[str, bool]) -> Verdict | None:
    holding, seen = sum(looks[name] for name in members), len(members)
    labels = 2 * holding > seen
    share = max(holding, seen - holding) / seen
    clear = 2 * holding != seen if place.end else share >= CLEAR_SHARE and seen >= FEWEST_PLAIN
    overruled = tuple(name for name in members if looks[name] != labels)
    if seen < FEWEST or not clear or not overruled:
        return None
    return Verdict(labels=labels, shown=place.shown, holding=holding, seen=seen, overruled=overruled)
