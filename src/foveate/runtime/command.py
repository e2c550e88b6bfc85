"""What a command is: a row of the command line's table, and how its configuration is found.

Imports nothing heavy: `foveate --help` and the error for an unknown key answer before torch is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar, final

from foveate.core import config as parsing, key_help
from foveate.core.registry import nearest
from foveate.core.types import Dataclass, Ending, FoveateError

C = TypeVar("C", bound=Dataclass)
Given = Mapping[str, Any]  # dotted keys and their values
Alternatives = parsing.Others  # "method" -> name -> Config of what was not chosen

SHORT = {  # keys that may be written shorter
    "channels.fourth_axis": "prepare.fourth_axis",
    "channels.colour": "prepare.colour",
    "channels.missing": "prepare.missing_channels",
    "skip_background": "window.skip_background",
}
OWN_PATHS = "private/paths.yaml"  # in a run folder, readable by its owner alone


@final
@dataclass(frozen=True, kw_only=True)
class Spec(Generic[C]):
    """How the configuration of a command is found, from its keys to a frozen dataclass.

    Attributes:
        name: The command's name, for messages.
        defaults: The first pass: defaults for the names, the dimension and the size among the given keys.
        required: Keys that a run cannot do without, with the word that stands for their value.
        spares: A switch and the required key that a run with it does without.
        alternatives: Configs of what was not chosen, so that an error can say which choice has a key.
        check: Refuses values that contradict each other.
        recipes: Whether `--recipe NAME` names a YAML that ships with foveate.
        shown: The names that help assumes where none are given.
        note: What help says between the summary and the keys.
        found: Keys whose default is detected from the data.
        read: For a configuration that is no flat dataclass: from the YAML, the flags and the folder of
            the file.
        keys: What help says of the keys of such a configuration.
        often: The keys that are used most, which `--help` shows where there are many more; empty: all.
        examples: Complete commands, for `--help`.
    """

    name: str
    defaults: Callable[[Given], C]
    required: Mapping[str, str]
    spares: Mapping[str, str] = field(default_factory=dict)
    alternatives: Callable[[C], Alternatives] = lambda _config: {}
    check: Callable[[C, C], None] = lambda _config, _defaults: None
    recipes: bool = False
    shown: Callable[[Given], Given] = lambda given: given
    note: Callable[[C], str] = lambda _config: ""
    found: tuple[str, ...] = ()
    read: Callable[[parsing.Nested, Mapping[str, str], Path], C] | None = None
    keys: Callable[[], str] | None = None
    often: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def resolve(self, yaml_keys: parsing.Nested, flags: Mapping[str, str], home: Path = Path()) -> C:
        """Both passes: the complete configuration, every key and value checked."""
        if self.read:
            return self.read(yaml_keys, flags, home)
        yaml_keys, flags = in_own_words(yaml_keys, flags)
        given = {**dict(parsing.flatten(yaml_keys)), **flags}
        defaults = self.defaults(given)
        parsing.check_keys(given, defaults, lambda: self.alternatives(defaults), verb=self.name)
        config = parsing.parse(defaults, yaml_keys, flags)
        self.check(config, defaults)
        return config

    def help_keys(self, given: Given, *, every: bool) -> str:
        """The keys of the configuration that the given names describe, those used most or every one."""
        if self.keys:
            return self.keys()
        config = self.defaults(self.shown(in_own_words({}, given)[1]))
        sections = key_help.help_sections(config, frozenset(self.found))
        if self.often and not every:
            rows = {key: row for section in sections.values() for key, row in section.items()}
            title, *_ = sections
            more = f"`foveate {self.name} --help_all` explains all {len(rows)} options."
            sections = {f"most used {title}": {key: rows[key] for key in self.often}, more: {}}
        return "\n\n".join(filter(None, [self.note(config), help_text(sections)]))

    def require(self, given: Given, positional: str = "") -> None:
        """Refuse to start without the keys that a run needs; one of them may be written without its name."""
        words = {
            key: word if key == positional else f"--{key.removesuffix('.name')} {word}"
            for key, word in self.required.items()
        }
        spared = {key for switch, key in self.spares.items() if str(given.get(switch)).lower() == "true"}
        for key, word in words.items():
            if not given.get(key) and key not in spared:
                usage = " ".join(words.values())
                raise FoveateError(f"{word.split()[0]} is missing; write `foveate {self.name} {usage}`.")

    @property
    def recipes_of(self) -> str:
        """The command whose recipes `--recipe` names; empty: the key has no meaning."""
        return self.name if self.recipes else ""

    def from_keys(self, keys: Mapping[str, Any]) -> C:
        """The configuration that keyword arguments describe, on top of the recipe and the file they name."""
        named = {name: str(keys[name]) for name in ("recipe", "config") if keys.get(name)}
        base, _ = layers(named, recipes=self.recipes_of)
        own = parsing.spelled_out({k: v for k, v in keys.items() if k not in named})
        merged = {**dict(parsing.flatten(base)), **written_out(dict(parsing.flatten(own)))}
        self.require(merged)
        return self.resolve(parsing.nest(merged), {}, Path(named.get("config", "")).parent)


@final
@dataclass(frozen=True, kw_only=True)
class Command:
    """One row of the command line's table: what help shows, and where the rest is.

    Attributes:
        name: What follows `foveate`.
        summary: One line, for the overview.
        usage: Its options in short.
        spec: "module:SPEC", imported when the command is asked for.
        run: "module:function" that takes the configuration.
        dry_run: The same for `--dry_run`, which says what a run would do; empty where there is none.
        positional: The key that an argument without `--` sets.
        yes: Keys that may be written without a value, for true.
        repeated: Keys that may be written several times: all of their values count.
    """

    name: str
    summary: str
    usage: str
    spec: str
    run: str
    dry_run: str = ""
    positional: str = ""
    yes: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    def read_words(self, words: list[str], switches: Collection[str]) -> tuple[dict[str, str], set[str]]:
        """The keys of a command line with their values, written out, and the switches among its words."""
        words = ["--help" if word == "-h" else word for word in words]
        if self.positional in self.repeated:
            words = keyed(words, self.positional, switches)
        words = gathered(words, self.repeated)
        flags, found = parsing.read_flags(words, switches, self.positional, self.yes)
        return written_out(flags), found

    def load_spec(self) -> Spec[Dataclass]:
        """How its configuration is found."""
        found: Spec[Dataclass] = resolve_name(self.spec)
        return found

    def start(self, config: Dataclass) -> Ending:
        """Run it."""
        run: Callable[[Dataclass], Ending] = resolve_name(self.run)
        return run(config)

    def start_dry_run(self, config: Dataclass) -> str:
        """What a run would do, as text, without writing anything."""
        if not self.dry_run:
            raise FoveateError(f"`foveate {self.name}` has no --dry_run.")
        dry_run: Callable[[Dataclass], str] = resolve_name(self.dry_run)
        return dry_run(config)

    def help_page(self, given: Given, *, every: bool = False) -> str:
        """What it does, examples, and keys of the configuration that the given names describe."""
        spec = self.load_spec()
        options = [
            *(["  --recipe NAME    start from a run that ships with foveate"] if spec.recipes else []),
            "  --config FILE    read options from a YAML, such as the run.yaml of an earlier run",
            "  --print_config   print the complete YAML and stop",
            *(["  --dry_run        print what a run would do; write nothing"] if self.dry_run else []),
        ]
        head = [f"foveate {self.name} {self.usage}", f"{self.summary}."]
        if spec.examples:
            head.append("\n".join(["examples:", *(f"  {example}" for example in spec.examples)]))
        return "\n\n".join([*head, "\n".join(options), spec.help_keys(given, every=every)])


def help_text(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Sections of help as `key_help.help_sections` gives them, as text."""
    return "\n\n".join("\n".join([title, *rows.values()]) for title, rows in sections.items())


def keyed(words: list[str], key: str, switches: Collection[str]) -> list[str]:
    """The same words with a key before each that stands alone.

    >>> keyed(["A", "--out", "X", "B", "--help"], "run", ["help"])
    ['--run', 'A', '--out', 'X', '--run', 'B', '--help']
    """
    named: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("--"):
            named += [f"--{key}", word]
            continue
        named.append(word)
        if "=" not in word and word[2:] not in switches and queue and not queue[0].startswith("--"):
            named.append(queue.pop(0))
    return named


def gathered(words: list[str], keys: Collection[str]) -> list[str]:
    """The same words, but that the values of a key that may be repeated are one list.

    >>> gathered(["--run", "A", "--out", "X", "--run=B, c"], ["run"])
    ['--out', 'X', '--run=["A", "B, c"]']
    >>> gathered(["--run", "[A, B]"], ["run"])
    ['--run=[A, B]']
    """
    rest: list[str] = []
    lists: dict[str, list[str]] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        valued = bool(equals) or bool(queue and not queue[0].startswith("--"))
        if name not in [f"--{key}" for key in keys] or not valued:
            rest.append(word)
            continue
        lists.setdefault(name, []).append(value if equals else queue.pop(0))
    for name, values in lists.items():
        written = len(values) == 1 and values[0].startswith("[")
        rest.append(f"{name}={values[0] if written else json.dumps(values)}")
    return rest


def written_out(keys: Given) -> dict[str, Any]:
    """Keys with the short ones written out."""
    return {SHORT.get(key, key): value for key, value in keys.items()}


def layers(flags: Mapping[str, str], *, recipes: str = "") -> tuple[parsing.Nested, dict[str, str]]:
    """The keys of the command's recipe and of the config file, which overrides it, and the other flags."""
    rest = dict(flags)
    recipe = rest.pop("recipe", "") if recipes else ""
    config = rest.pop("config", "")
    below = parsing.read_yaml(recipe_path(recipes, recipe)) if recipe else {}
    above = parsing.read_yaml(Path(config)) if config else {}
    own = own_paths(Path(config)) if config else {}
    if not (below or own):  # as it was written: keys of a comparison may be dotted and nested
        return above, rest
    own |= {"out": str(Path(config).parent)} if own else {}  # a folder that was moved is where it is
    merged = {**dict(parsing.flatten(below)), **dict(parsing.flatten(above))}
    merged |= {key: path for key, path in own.items() if not merged.get(key)}
    return parsing.nest(merged), rest


def in_own_words(yaml_keys: Given, flags: Given) -> tuple[parsing.Nested, dict[str, Any]]:
    """Keys and flags with words such as `auto` replaced by what they stand for."""
    return named_gpus(*fitted_batch(*named_device(yaml_keys, flags)))


def named_gpus(yaml_keys: Given, flags: Given) -> tuple[parsing.Nested, dict[str, Any]]:
    """Keys and flags with `devices: 0,2` as configurations have it: two devices, and which.

    >>> named_gpus({"devices": [3]}, {})[0]
    {'devices': 1, 'gpus': [3]}
    >>> named_gpus({"devices": 2, "gpus": [0, 2]}, {"devices": "1"})[1]
    {'devices': '1', 'gpus': '[]'}
    """
    both = [dict(yaml_keys), dict(flags)]
    for keys in both:
        said = keys.get("devices")
        words = str(said).strip("[]()").split(",")
        if isinstance(said, list | tuple) or len(words) > 1:
            found = [each.strip() for each in words if each.strip()]
            if not found or not all(each.isdigit() for each in found):
                raise FoveateError(f"--devices {said}: accepted are a number, or GPUs by index, such as 0,2.")
            gpus = [int(each) for each in found]
            spelled = keys is both[1]  # flags are words, what a file holds is not
            keys["devices"], keys["gpus"] = (str(len(gpus)), str(gpus)) if spelled else (len(gpus), gpus)
        elif said is not None and keys is both[1] and both[0].get("gpus"):
            keys["gpus"] = "[]"  # a number on the command line goes before the GPUs of a file
    return both[0], both[1]


def fitted_batch(yaml_keys: Given, flags: Given) -> tuple[parsing.Nested, dict[str, Any]]:
    """Keys and flags with `batch_size: auto` as configurations have it: the default, to be fitted."""
    both = [dict(yaml_keys), dict(flags)]
    wanted = str((both[0] | both[1]).get("batch_size"))
    for keys, yes in zip(both, (True, "true"), strict=True):
        if str(keys.get("batch_size")) == "auto":
            del keys["batch_size"]
            if wanted == "auto":
                keys["fit_batch"] = yes
    return both[0], both[1]


def named_device(yaml_keys: Given, flags: Given) -> tuple[parsing.Nested, dict[str, Any]]:
    """Keys and flags with `accelerator` as configurations have it: gpu is cuda, auto what is found."""
    both = [dict(yaml_keys), dict(flags)]
    wanted = str((both[0] | both[1]).get("accelerator", "cpu"))
    if wanted not in ("cpu", "cuda", "gpu", "auto"):
        raise FoveateError(f"--accelerator {wanted}: accepted are cpu, cuda (or gpu), and auto, the default.")
    for keys in both:
        if "accelerator" in keys and wanted == "auto":
            del keys["accelerator"]
        elif "accelerator" in keys and wanted == "gpu":
            keys["accelerator"] = "cuda"
    return both[0], both[1]


def recipe_path(command: str, name: str) -> Path:
    """The YAML of a command's recipe inside the package, by file name."""
    root = Path(str(files("foveate") / "recipes" / command))
    known = {path.stem: path for path in sorted(root.rglob("*.yaml"))}
    stem = Path(name).stem
    if stem not in known:
        hint = nearest(stem, list(known))
        raise FoveateError(f"--recipe {name}: no such recipe{hint}. Accepted: {', '.join(known)}.")
    return known[stem]


def own_paths(file: Path) -> parsing.Nested:
    """Paths, under dotted keys, of the run whose run.yaml is given, if this is its folder and its owner."""
    paths = file.parent / OWN_PATHS
    here = file.name == "run.yaml" and os.access(paths, os.R_OK)
    return dict(parsing.read_yaml(paths)) if here else {}
