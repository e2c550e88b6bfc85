"""The configuration of a comparison: which arms, on which tasks, with how many labels and seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, final

from foveate.commands.compare.arms import LONG, NAME, SCRATCH, TWICE, ArmConfig, arm_of, check_after
from foveate.commands.compare.keys import Keys, checked, groups_of, mapping_of, refused, search_of
from foveate.core import config as parsing, key_help
from foveate.core.types import FoveateError
from foveate.runtime.command import Given, Spec, help_text
from foveate.runtime.registries import TASKS

SEEDS_PER_PRETRAINING = 1000  # seeds of runs on different pre-trainings never meet
SEEDS_PER_SET, MOST_SETS = 10**5, 9  # nor do those on different sets of labelled images

# Set once per task for pre-training and fine-tuning, so that scratch has the same network as the others.
BOTH = (
    *("size", "dimension", "slices.", "encoder.", "prepare.", "source.", "patient_pattern"),
    *("accelerator", "precision"),
)
BOTH_MAY = (*BOTH, "num_workers", "batch_size")
OURS = (
    *("data", "out", "seed", "init", "split", "split.", "folds", "fold"),
    *("recipe", "config", "on_seen", "method.name", "unlabelled"),
)


@final
@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One task that all arms learn.

    Attributes:
        data: Labelled images; $VARIABLES of the environment are expanded.
        split: Folder with train.txt, val.txt and test.txt, as `foveate split` writes it; a relative path
            starts at the folder of the comparison's YAML, and $VARIABLES are expanded.
        labels: Numbers of labelled training images; each set contains the smaller ones.
        count: What `labels` and the other numbers of labels count: "patients", with all of their images, or
            "cases", which is refused where a patient is known to have several.
        fractions: The same as shares of the training images, in addition to `labels`.
        metric: The metric that is compared, a name of docs/metrics.md; those of which less is better, such as
            wall_mm or mae, are taken with a minus.
        choice_labels: Number of labels with which learning rates are chosen; one of the counts.
        probe_labels: Numbers of labels with which features are probed; all counts, or some of them.
        label_sets: How many sets of labelled images are drawn for each of the counts, in ascending order;
            with every set all seeds are run. Empty: every seed draws its own set.
        seeds: How many of finetune_seeds are run for each of the counts, in ascending order; empty: all.
        long_labels: Numbers of labels for scratch_long, which is the most expensive; empty: all counts.
        long_steps: Fine-tuning steps of scratch_long; 0: as many as take the time of the most expensive
            arm's pre-training and fine-tuning, measured once and recorded in budget.json.
        both: Keys of `foveate pretrain` and `foveate finetune` for all arms.
        pretrain: Keys of `foveate pretrain` for all arms.
        finetune: Keys of `foveate finetune` for all arms.
        probe: Keys of `foveate finetune` for the probe.
        search: Lists of values of optim.warmup_steps, tuning.transfer, tuning.layer_decay or
            tuning.frozen_steps: every arm tries all combinations with all learning rates; those without
            weights try what concerns no weights.
    """

    data: str = ""
    split: str = ""
    labels: tuple[int, ...] = ()
    count: Literal["cases", "patients"] = "cases"
    fractions: tuple[float, ...] = ()
    metric: str = "mean_fg_dice"
    choice_labels: int = 0
    probe_labels: tuple[int, ...] = ()
    label_sets: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    long_labels: tuple[int, ...] = ()
    long_steps: int = 0
    both: Keys = field(default_factory=dict)
    pretrain: Keys = field(default_factory=dict)
    finetune: Keys = field(default_factory=dict)
    probe: Keys = field(default_factory=dict)
    search: Keys = field(default_factory=dict)

    @property
    def chooses(self) -> bool:
        """Whether more than the learning rate is searched."""
        return any(len(values) > 1 for values in self.search.values())


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Keys of the whole comparison.

    Attributes:
        out: Folder for runs, cells and the report; running the same command again continues.
        pretrain_seeds: Seeds of the pre-trainings of every arm.
        finetune_seeds: Seeds of the fine-tunings on every pre-training: they draw the labelled images, the
            batches and the initial weights of what is not transferred.
        learning_rates: Candidates; every arm takes the one with its best score on the validation images. A
            single one is used as it is.
        choice_seed: Seed of the runs that choose the learning rate; not one of `finetune_seeds`.
        devices: GPUs to use, by index, such as 0,2; empty: all. Every process takes one that no other process
            of the comparison holds.
        only: Arms to run now, separated by commas; empty: all.
        budget_minutes: Start no further run after this many minutes; 0: no limit.
        draws: Resamples of the bootstrap and of the permutation test.
        cells: Folder of finished runs that outlives `out`, such as one in a repository: what is there is
            taken over where grid, code and data agree, and every run that finishes is written there as well.
            Empty: none.
        allow_different: "inputs": compare arms whose networks see differently normalised images, which the
            report's title then says; "": refuse them.
    """

    out: str = ""
    pretrain_seeds: tuple[int, ...] = (0,)
    finetune_seeds: tuple[int, ...] = (0, 1, 2)
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    choice_seed: int = 900
    devices: tuple[int, ...] = ()
    only: str = ""
    budget_minutes: float = 0.0
    draws: int = 4000
    cells: str = ""
    allow_different: Literal["", "inputs"] = ""


@final
@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """One comparison, complete."""

    grid: GridConfig
    arms: Mapping[str, ArmConfig]
    tasks: Mapping[str, TaskConfig]

    @property
    def everyone(self) -> tuple[str, ...]:
        """All arms, scratch first."""
        return (SCRATCH, LONG, *self.arms)

    @property
    def pretrained(self) -> tuple[str, ...]:
        """The arms that a method pre-trains."""
        return tuple(name for name, arm in self.arms.items() if arm.method)

    def origin(self, name: str) -> str:
        """The arm whose pre-trained weights an arm starts with: itself, or the one that it comes after."""
        return self.arms[name].after or name if name in self.arms else name

    def own_keys(self, name: str) -> Keys:
        """Keys of fine-tuning of an arm only; those of the arm that it comes after apply as well."""
        before, own = (self.arms.get(each, ArmConfig()).finetune for each in (self.origin(name), name))
        return {**before, **own}

    @property
    def working(self) -> tuple[str, ...]:
        """The arms to run now: those of `only`, or all."""
        named = [name.strip() for name in self.grid.only.split(",") if name.strip()]
        for name in named:
            if name not in self.everyone:
                raise FoveateError(f"--only {name}: accepted are {', '.join(self.everyone)}.")
        return tuple(name for name in self.everyone if not named or name in named)


def read(keys: parsing.Nested, flags: Mapping[str, str], home: Path) -> CompareConfig:
    """The comparison that a file describes, command line on top; every key checked."""
    keys = dict(keys)
    groups = {name: mapping_of(keys.pop(name, None), name, "--config") for name in ("arms", "tasks")}
    parsing.check_keys([*keys, *flags], GridConfig(), dict, verb="compare")
    grid = parsing.parse(GridConfig(), keys, flags)
    arms = {name: arm_of(name, said) for name, said in groups["arms"].items()}
    tasks = {name: task_of(name, said, home) for name, said in groups["tasks"].items()}
    config = CompareConfig(grid=grid, arms=arms, tasks=tasks)
    check(config)
    return config


def task_of(name: str, said: object, home: Path) -> TaskConfig:
    """One task, its paths complete."""
    where = f"tasks.{name}"
    if not NAME.fullmatch(name):
        raise FoveateError(f"{where}: accepted are names of small letters, digits and underscores.")
    config, parts = groups_of(said, TaskConfig(), where)
    for part, keys in parts.items():
        refused(keys, OURS, f"{where}.{part}", "the comparison sets it")
        if "fit_batch" in keys or str(keys.get("batch_size")) == "auto":
            raise FoveateError(
                f"{where}.{part}: batch_size is auto; accepted: a number, the same for all arms and machines."
            )
    checked(parts.get("both", {}), BOTH_MAY, f"{where}.both", "not a key of both pretrain and finetune")
    for part in ("pretrain", "finetune", "probe"):
        refused(parts.get(part, {}), BOTH, f"{where}.{part}", f"set it in {where}.both, for all arms")
    refused(parts.get("finetune", {}), ("optim.lr",), f"{where}.finetune", "set learning_rates instead")
    ours = "set it in arms.NAME.finetune of an arm with unlabelled"
    refused(parts.get("finetune", {}), ("semi.",), f"{where}.finetune", ours)
    if "task.name" not in parts.get("finetune", {}):
        raise FoveateError(f"{where}.finetune.task is missing; accepted: {', '.join(TASKS)}.")
    data = os.path.expandvars(config.data)
    if not data or "$" in data:
        raise FoveateError(f"{where}.data {config.data!r}: missing, or an environment variable is not set.")
    # complete, since the command that goes on may be given in another folder
    split = home.resolve() / os.path.expandvars(config.split)
    config = replace(config, data=str(Path(data).resolve()), split=str(split))
    return replace(
        config,
        both=parts.get("both", {}),
        pretrain=parts.get("pretrain", {}),
        finetune=parts.get("finetune", {}),
        probe=parts.get("probe", {}),
        search=search_of(parts.get("search", {}), f"{where}.search"),
    )


def check(config: CompareConfig) -> None:
    """Refuse what cannot be compared."""
    grid = config.grid
    if not grid.out:
        raise FoveateError("--out is missing; write `foveate compare --config FILE --out DIR`.")
    for key, chosen in (
        ("pretrain_seeds", grid.pretrain_seeds),
        ("finetune_seeds", grid.finetune_seeds),
        ("learning_rates", grid.learning_rates),
    ):
        if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
            raise FoveateError(f"{key} {list(chosen)}: accepted are different numbers, at least one.")
    if max(*grid.finetune_seeds, grid.choice_seed) >= SEEDS_PER_PRETRAINING:
        raise FoveateError(f"finetune_seeds and choice_seed: accepted are below {SEEDS_PER_PRETRAINING}.")
    if grid.choice_seed in grid.finetune_seeds:
        raise FoveateError(f"choice_seed {grid.choice_seed} is one of finetune_seeds; accepted: another.")
    for name, task in config.tasks.items():
        if not (Path(task.split) / "test.txt").is_file():
            raise FoveateError(
                f"tasks.{name}.split {task.split} has no test.txt; accepted: a folder with train.txt, "
                "val.txt and test.txt."
            )
        if task.fractions and task.count == "patients":
            raise FoveateError(
                f"tasks.{name}.fractions: accepted with count: cases only; give labels instead."
            )
        counts = counts_of(task)
        if not counts:
            raise FoveateError(f"tasks.{name}.labels: accepted are counts from 1, or fractions.")
        for key, values in (
            ("choice_labels", [task.choice_labels]),
            ("probe_labels", task.probe_labels),
            ("long_labels", task.long_labels),
        ):
            needed = key != "choice_labels" or len(grid.learning_rates) > 1 or task.chooses
            if needed and (strange := sorted(set(values) - set(counts))):
                raise FoveateError(f"tasks.{name}.{key} {strange[0]}: accepted are {list(counts)}.")
        check_sets(name, task, len(grid.finetune_seeds))
    check_arms(config)
    assert config.working


def check_sets(name: str, task: TaskConfig, seeds: int) -> None:
    """Refuse numbers of labelled sets and of seeds that do not fit the counts."""
    counts = counts_of(task)
    for key, numbers, most in (("label_sets", task.label_sets, MOST_SETS), ("seeds", task.seeds, seeds)):
        if numbers and (len(numbers) != len(counts) or not 1 <= min(numbers) <= max(numbers) <= most):
            raise FoveateError(
                f"tasks.{name}.{key} {list(numbers)}: accepted are numbers from 1 to {most}, one for each of "
                f"the {len(counts)} counts in ascending order."
            )


def check_arms(config: CompareConfig) -> None:
    """Refuse keys of one arm that are searched for all, and a planted gain that lacks labels."""
    known = {count for task in config.tasks.values() for count in counts_of(task)}
    for name, arm in config.arms.items():
        if strange := sorted(set(arm.labels) - known):
            raise FoveateError(f"arms.{name}.labels {strange[0]}: accepted are {sorted(known)}.")
    for name, arm in config.arms.items():
        for task in config.tasks.values():
            own = "is searched for every arm; it cannot be set for one"
            refused(arm.finetune, task.search, f"arms.{name}.finetune", own)
    check_after(config.arms)
    gains = [name for name, arm in config.arms.items() if arm.planted == "gain"]
    for task in config.tasks.values() if gains else ():
        most, asked = len(lines_of(task.split, "train")), TWICE * max(counts_of(task))
        if asked > most:
            raise FoveateError(
                f"arms.{gains[0]}: {asked} labels, twice the largest number, are more than the {most} "
                "training images; accepted: fewer labels, or no planted gain."
            )


def lines_of(split: str, part: str) -> list[str]:
    """Names in a list of a split."""
    path = Path(split) / f"{part}.txt"
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    return [line for line in text.split("\n") if line]


def counts_of(task: TaskConfig) -> tuple[int, ...]:
    """Label counts in ascending order; fractions are of the training images."""
    train = len(lines_of(task.split, "train"))
    counts = {*task.labels, *(max(1, round(share * train)) for share in task.fractions)}
    for count in counts:
        if not 1 <= count <= train:
            raise FoveateError(f"labels {count}: accepted are 1 to {train}, the training images.")
    return tuple(sorted(counts))


def help_keys() -> str:
    """The keys of the grid, and those of every arm and task in the file."""
    parts = [
        "FILE is a YAML with the options below, `arms` (what is compared) and `tasks` (on what);\n"
        "docs/protocol.md explains it, benchmarks/evidence/fewlabel/ has examples. Options can be given\n"
        "on the command line as well.",
        help_text(key_help.help_sections(GridConfig())),
    ]
    for title, config in (("arms.NAME", ArmConfig), ("tasks.NAME", TaskConfig)):
        meanings = key_help.attribute_help(config)
        parts.append("\n".join([f"{title}:", *(key_help.help_row(*each) for each in meanings.items())]))
    return "\n\n".join(parts)


def nothing(_given: Given) -> CompareConfig:
    """A comparison has no defaults but those of its grid."""
    return CompareConfig(grid=GridConfig(), arms={}, tasks={})


SPEC = Spec(
    name="compare",
    defaults=nothing,
    required={"config": "FILE", "out": "DIR"},
    read=read,
    keys=help_keys,
    examples=(
        "foveate compare --config arms.yaml --out COMPARED --dry_run   # hours first",
        "foveate compare --config arms.yaml --out COMPARED             # continues after a stop",
    ),
)
