"""The command line: one verb, one call into `run`, one exit code.

Exit codes: 0 done, 1 some files failed and the others are done, 2 something the user can mend, 130 stopped by
a signal with a checkpoint saved, 75 the same by SIGUSR1, so that a cluster's script puts the job into the
queue again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.core.types import FoveateError, LostPeerError

INCOMPLETE, STOPPED = 1, 130


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; errors that the user can mend are one paragraph on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    try:
        if verb in ("--help", "-h", "help"):
            print(overview())
            return 0
        if verb == "--version":
            from importlib.metadata import version

            print(f"foveate {version('foveate')}")
            return 0
        if verb not in VERBS:
            from foveate.core.registry import nearest

            hint = nearest(verb, list(VERBS))
            raise FoveateError(f"There is no verb {verb!r}{hint}. Accepted: {', '.join(VERBS)}.")
        return VERBS[verb](rest)
    except FoveateError as error:
        if not isinstance(error, LostPeerError) or is_first():
            print(f"foveate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("foveate: interrupted", file=sys.stderr)
        return STOPPED


def is_first() -> bool:
    """Whether this is process 0 of those that torchrun or SLURM started: one says that another is gone."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def pretrain(arguments: list[str]) -> int:
    """Pre-train on a folder: --data FOLDER --out RUN [--method pcrlv2] [--size small]."""
    from foveate.run import settings

    return _train(arguments, settings, "pretrain")


def plan(arguments: list[str]) -> int:
    """What a run will cost, from ten steps on this machine: --data FOLDER [the options of pretrain]."""
    from foveate.core import config as parsing
    from foveate.run import settings

    flags, switches = parsing.read_flags(arguments, ("help",))
    yaml_keys, flags = settings.layers(flags)
    if "help" in switches:
        print(settings.help_page(yaml_keys, flags).replace("foveate pretrain", "foveate plan", 1))
        return 0
    config = settings.resolve(yaml_keys, {"out": "RUN", **flags}, "plan")
    settings.require(config)
    from foveate.run import plan as run

    print(run.plan(config))
    return 0


def scan(arguments: list[str]) -> int:
    """What a folder holds, what is left out and why: SRC --out INV [--pass stat|headers|full]."""
    from foveate.core.config import read_flags
    from foveate.run import scan as run

    named = ["--data"] if arguments and not arguments[0].startswith("-") else []
    flags, switches = read_flags([*named, *arguments], run.SWITCHES)
    print(run.help_page() if "help" in switches else run.scan(run.resolve(flags)))
    return 0


def prepare(arguments: list[str]) -> int:
    """Decode a folder into a cache once: --data FOLDER --out CACHE [--prepare.profile ct|mr|...]."""
    from foveate.core import config as parsing
    from foveate.run import prepare as run

    flags, switches = parsing.read_flags(arguments, ("help", "print_config"))
    if "help" in switches:
        print(run.help_page())
        return 0
    config = run.resolve(flags)
    if "print_config" in switches:
        print(parsing.to_yaml(config), end="")
        return 0
    run.run_prepare(config)
    return 0


def split(arguments: list[str]) -> int:
    """Patient-grouped lists and nested label fractions: DATA --out DIR [--fractions 0.01,0.1] [--seed N]."""
    from foveate.core.config import read_flags
    from foveate.run import split as run

    named = ["--data"] if arguments and not arguments[0].startswith("-") else []
    flags, switches = read_flags([*named, *arguments], run.SWITCHES)
    print(run.help_page(flags) if "help" in switches else run.split(run.resolve(flags)))
    return 0


def convert(arguments: list[str]) -> int:
    """Bring other people's weights in: FILE --out NEW.safetensors [--in_channels N] [--inflate mean]."""
    from foveate.run import convert as run

    if {"--help", "-h"} & set(arguments):
        print(run.help_page())
        return 0
    source, config = run.parse_arguments(arguments)
    run.show(run.convert(source, config), config)
    return 0


def finetune(arguments: list[str]) -> int:
    """Learn a task from labels: --data FOLDER --task NAME --init RUN|FILE|none --out RUN2 [--size small]."""
    from foveate.run import finetune_settings

    return _train(arguments, finetune_settings, "finetune")


def _train(arguments: list[str], keys: Any, verb: str) -> int:  # noqa: ANN401 - the verb's own settings
    """The verbs that train: help, the configuration, one step for a look, or the run."""
    from importlib import import_module

    from foveate.core import config as parsing
    from foveate.run import settings

    flags, switches = parsing.read_flags(arguments, settings.SWITCHES)
    yaml_keys, flags = settings.layers(flags)
    if "help" in switches:
        print(keys.help_page(yaml_keys, flags))
        return 0
    config = keys.resolve(yaml_keys, flags)
    if "print_config" in switches:
        print(parsing.to_yaml(config), end="")
        return 0
    keys.require(config)
    run = import_module(f"foveate.run.{verb}")
    from foveate.run.processes import requeue_before_the_first_step

    if "dry_run" in switches:
        print(run.dry_run(config))
        return 0
    requeue_before_the_first_step()
    return int(getattr(run, verb)(config).value)


def predict(arguments: list[str]) -> int:
    """Masks or classes of images, from a fine-tuned run: --run RUN2 --data FILES --out FOLDER."""
    import foveate.run.predict as run

    return _on_files(spelled_out(arguments, "--force"), run, predict, run.predict)


def spelled_out(arguments: list[str], switch: str) -> list[str]:
    """A yes-or-no option that stands alone means yes.

    >>> spelled_out(["--force", "--run", "R"], "--force"), spelled_out(["--force", "false"], "--force")
    (['--force', 'true', '--run', 'R'], ['--force', 'false'])
    """
    following = [*arguments[1:], "--"]
    pairs = zip(arguments, following, strict=True)
    return [word for a, b in pairs for word in ([a, "true"] if a == switch and b.startswith("--") else [a])]


def evaluate(arguments: list[str]) -> int:
    """How good a fine-tuned run is on labelled images: --run RUN2 --data D --out FOLDER [--part val]."""
    import foveate.run.evaluate as run

    return _on_files(arguments, run, evaluate, run.evaluate)


def compare(arguments: list[str]) -> int:
    """Does pre-training help? A fair grid of arms, labels and seeds: --config FILE --out DIR [--dry_run]."""
    from foveate.core import config as parsing
    from foveate.run import compare_settings

    flags, switches = parsing.read_flags(arguments, ("help", "dry_run"))
    if "help" in switches:
        print(compare_settings.help_page())
        return 0
    config = compare_settings.resolve(flags.pop("config", ""), flags)
    from foveate.run import compare as run

    if "dry_run" in switches:
        print(run.dry_run(config))
        return 0
    return run.compare(config)


def _on_files(arguments: list[str], run: Any, verb: Any, work: Callable[[Any], bool]) -> int:  # noqa: ANN401
    """The verbs that take a finished run to files."""
    from foveate.core import config as parsing

    flags, switches = parsing.read_flags(arguments, ("help", "print_config"))
    file = flags.pop("config", "")
    given = dict(parsing.flatten(parsing.read_yaml(Path(file)))) if file else {}
    if "help" in switches:
        what, how = _told(verb)
        print(f"foveate {verb.__name__} {how}\n\n{what}.\n\n{parsing.help_text(run.defaults())}")
        return 0
    config = run.resolve(given, flags)
    if "print_config" in switches:
        print(parsing.to_yaml(config), end="")
        return 0
    return 0 if work(config) else INCOMPLETE


def methods(arguments: list[str]) -> int:
    """List the methods with their citations."""
    from foveate.run import settings

    if arguments:
        raise FoveateError(f"`foveate methods` takes no options; it was given {' '.join(arguments)}.")
    print(settings.list_methods())
    return 0


def demo(arguments: list[str]) -> int:
    """The main job on virtual brains, offline, in minutes: --out FOLDER [--steps N] [--finetune_steps N]."""
    from foveate.core.config import read_flags
    from foveate.run.demo import run_demo

    flags, switches = read_flags(arguments, ("help",))
    if "help" in switches:
        print(demo.__doc__)
        return 0
    return 0 if run_demo(flags) else STOPPED


VERBS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "scan": scan,
    "split": split,
    "prepare": prepare,
    "methods": methods,
    "plan": plan,
    "pretrain": pretrain,
    "convert": convert,
    "finetune": finetune,
    "predict": predict,
    "evaluate": evaluate,
    "compare": compare,
}


def _told(verb: Callable[[list[str]], int]) -> tuple[str, str]:
    """What a verb does and how it is written, from its docstring."""
    what, _, how = (verb.__doc__ or "").strip().rstrip(".").rpartition(": ")
    return (what, how) if what else (how, "")


def overview() -> str:
    """What the verbs do, in the order in which they are wanted."""
    lines = []
    for name, verb in VERBS.items():
        what, how = _told(verb)
        lines += [f"  {name:<10}{what}", *([f"{'':<12}foveate {name} {how}"] if how else [])]
    more = "`foveate VERB --help` shows a verb's options; `foveate --version` the version."
    return "\n".join(["foveate: pre-training of medical image models without labels", "", *lines, "", more])


if __name__ == "__main__":
    sys.exit(main())
