"""The command line: a table of commands, and once for all of them help, configuration and exit codes.

Exit codes: 0 done, 1 some files failed and the others are done, 2 an error the user can fix, 130 stopped by a
signal with a checkpoint saved, 75 the same by SIGUSR1, so that a cluster's script puts the job into the queue
again.
"""

from __future__ import annotations

import gc
import io
import os
import select
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

from foveate.core import config as parsing
from foveate.core.files import refusals_explained
from foveate.core.registry import Registry, nearest
from foveate.core.types import Ending, FoveateError, LinesError, LostPeerError, spelled
from foveate.runtime.command import Command, layers
from foveate.runtime.listing import refuse_unknown

SWITCHES = ("help", "help_all", "print_config", "dry_run")
IN = "foveate.commands."

# In the order in which a new user needs them.
OWN = (
    Command(
        name="demo",
        summary="Pre-train and fine-tune on virtual brains, offline, in minutes",
        usage="--out FOLDER [--steps N] [--finetune_steps N]",
        spec=f"{IN}demo.config:SPEC",
        run=f"{IN}demo.run:run_demo",
    ),
    Command(
        name="scan",
        summary="List what a folder holds, what is excluded and why",
        usage="SRC --out INV [--until stat|headers|full]",
        spec=f"{IN}scan.config:SPEC",
        run=f"{IN}scan.run:run_scan",
        positional="data",
    ),
    Command(
        name="split",
        summary="Write patient-grouped splits and nested label fractions",
        usage="DATA --out DIR [--fractions 0.01,0.1] [--seed N]",
        spec=f"{IN}split.config:SPEC",
        run=f"{IN}split.run:run_split",
        positional="data",
    ),
    Command(
        name="prepare",
        summary="Decode a folder into a cache once",
        usage="--data FOLDER --out CACHE [--prepare.profile ct|mr|...]",
        spec=f"{IN}prepare.config:SPEC",
        run=f"{IN}prepare.run:run_prepare",
        yes=("verify",),
    ),
    Command(
        name="doctor",
        summary="Show what a run finds on this machine, and what is likely to go wrong",
        usage="[--folder FOLDER]",
        spec=f"{IN}doctor.config:SPEC",
        run=f"{IN}doctor.run:run_doctor",
    ),
    Command(
        name="methods",
        summary="List the methods with their citations",
        usage="",
        spec=f"{IN}methods.config:SPEC",
        run=f"{IN}methods.run:run_methods",
    ),
    Command(
        name="plan",
        summary="Estimate the cost of a run from ten steps on this machine",
        usage="--data FOLDER [the options of pretrain]",
        spec=f"{IN}plan.config:SPEC",
        run=f"{IN}plan.run:run_plan",
    ),
    Command(
        name="pretrain",
        summary="Pre-train on a folder of images",
        usage="--data FOLDER --out RUN [--method pcrlv2] [--size small]",
        spec=f"{IN}pretrain.config:SPEC",
        run=f"{IN}pretrain.run:start",
        dry_run=f"{IN}pretrain.run:dry_run",
    ),
    Command(
        name="convert",
        summary="Convert weights of other projects",
        usage="FILE --out NEW.safetensors [--in_channels N] [--inflate mean]",
        spec=f"{IN}convert.config:SPEC",
        run=f"{IN}convert.run:run_convert",
        positional="file",
    ),
    Command(
        name="finetune",
        summary="Fine-tune on labelled images",
        usage="--data FOLDER --task NAME --init RUN|FILE|none --out RUN2 [--size small]",
        spec=f"{IN}finetune.config:SPEC",
        run=f"{IN}finetune.run:start",
        dry_run=f"{IN}finetune.run:dry_run",
    ),
    Command(
        name="predict",
        summary="Predict masks or classes with a fine-tuned run",
        usage="--run RUN2 [--run RUN3 ...] --data FILES --out FOLDER",
        spec=f"{IN}predict.config:SPEC",
        run=f"{IN}predict.run:run_predict",
        yes=("force", "uncertainty_map", "skip_background"),
        repeated=("run",),
    ),
    Command(
        name="evaluate",
        summary="Score a fine-tuned run on labelled images",
        usage="--run RUN2 --data D --out FOLDER [--part val]",
        spec=f"{IN}evaluate.config:SPEC",
        run=f"{IN}evaluate.run:run_evaluate",
    ),
    Command(
        name="export",
        summary="Write the weights of a run for other libraries",
        usage="RUN --format FORMAT --out PATH",
        spec=f"{IN}export.config:SPEC",
        run=f"{IN}export.run:run_export",
        positional="run",
        yes=("force",),
    ),
    Command(
        name="embed",
        summary="Write features of images, and find neighbours, duplicates, outliers",
        usage="--run RUN --data FOLDER --out DIR [--labels | --grid_mm MM] [--query IMAGE] [--suggest 20]",
        spec=f"{IN}embed.config:SPEC",
        run=f"{IN}embed.run:run_embed",
        yes=("labels", "tiles"),
    ),
    Command(
        name="report",
        summary="Show what commands wrote on one page, a file to open offline",
        usage="RUN [RUN ...] --out report.html [--with_images false]",
        spec=f"{IN}report.config:SPEC",
        run=f"{IN}report.run:run_report",
        positional="run",
        repeated=("run",),
    ),
    Command(
        name="watch",
        summary="Show the same page while a run is in progress, on this machine only",
        usage="RUN [--port N] [--with_images false]",
        spec=f"{IN}watch.config:SPEC",
        run=f"{IN}watch.run:run_watch",
        positional="run",
    ),
    Command(
        name="compare",
        summary="Compare pre-training methods and random weights, over labels and seeds",
        usage="--config FILE --out DIR [--only ARM,ARM] [--budget_minutes M]",
        spec=f"{IN}compare.config:SPEC",
        run=f"{IN}compare.run:compare",
        dry_run=f"{IN}compare.run:dry_run",
    ),
)
BY_NAME = {command.name: command for command in OWN}
ONLY_LINUX = "foveate runs on Linux (macOS is untested). On Windows install and start it inside WSL."
CLOSED_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
PLUGGED: Registry[Command] = Registry("command", "foveate.commands", {})  # of other packages


def main(arguments: list[str] | None = None) -> int:
    """Run a command; nothing is said where whoever reads the output has seen enough, as `head` does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than names have
    try:
        code = answer(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not reader_is_gone():  # another pipe
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the very end
        return CLOSED_PIPE
    return code


def reader_is_gone() -> bool:
    """Whether nobody reads what is printed any more."""
    if sys.platform == "win32":  # which reports it as another error
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def answer(arguments: list[str] | None) -> int:
    """Run a command; an error that the user can fix is one paragraph on stderr."""
    if arguments is None:  # as a program of its own
        arguments = sys.argv[1:]
        if {"--help", "--help_all", "-h"} & set(arguments):
            gc.disable()  # it ends with the page: a collection goes through all of torch and frees nothing
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    try:
        if name in ("--help", "-h", "help"):
            print(overview())
            return 0
        if name == "--completion":
            from foveate.completion import script

            print(script(rest[0] if rest else "", [*BY_NAME, *PLUGGED], SWITCHES), end="")
            return 0
        if name == "--version":
            print(f"foveate {version('foveate')}")
            return 0
        with refusals_explained(name):
            return execute(found(name), rest).value
    except FoveateError as error:
        if not isinstance(error, LostPeerError) or is_first():
            lines = "\n" if isinstance(error, LinesError) else ""
            print(f"foveate: {spelled(str(error), keep=lines)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("foveate: interrupted", file=sys.stderr)
        return Ending.STOPPED.value


def found(name: str) -> Command:
    """The command of a name, our own or of another package."""
    if name in BY_NAME:
        return BY_NAME[name]
    names = [*BY_NAME, *PLUGGED]
    if name not in names:
        raise FoveateError(
            f"There is no command {name!r}{nearest(name, names)}. Accepted: {', '.join(sorted(names))}."
        )
    return plugged(name)


def plugged(name: str) -> Command:
    """The command of another package."""
    command: object = PLUGGED[name]
    if not isinstance(command, Command):
        raise FoveateError(
            f"{name}: its entry point is a {type(command).__name__}; accepted: a Command of "
            "foveate.runtime.command."
        )
    return command


def execute(command: Command, arguments: list[str]) -> Ending:
    """Read the configuration, then show help, print the YAML, say what would happen, or run."""
    if sys.platform == "win32":  # locks, signals and limits of memory are those of POSIX
        raise FoveateError(ONLY_LINUX)
    flags, switches = command.read_words(arguments, SWITCHES)
    refuse_unknown(command.name, flags)
    spec = command.load_spec()
    yaml_keys, rest = layers(flags, recipes=spec.recipes_of)
    given = {**dict(parsing.flatten(yaml_keys)), **flags}
    if switches & {"help", "help_all"}:
        print(command.help_page(given, every="help_all" in switches))
        return Ending.FINISHED
    if spec.read:  # nothing can be read without them
        spec.require(given, command.positional)
    config = spec.resolve(yaml_keys, rest, Path(flags.get("config", "")).parent)
    if "print_config" in switches:
        print(parsing.to_yaml(config), end="")
        return Ending.FINISHED
    spec.require(given, command.positional)
    if "dry_run" in switches:
        print(spelled(command.start_dry_run(config), keep="\n"))
        return Ending.FINISHED
    with refusals_explained(str(parsing.field_values(config).get("out") or command.name)):
        return command.start(config)


def is_first() -> bool:
    """Whether this is process 0 of those that torchrun or SLURM started: one says that another is gone."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def overview() -> str:
    """What the commands do; those of other packages last, by name."""
    lines = []
    for command in OWN:
        lines += [f"  {command.name:<10}{command.summary}"]
        lines += [f"{'':<12}foveate {command.name} {command.usage}"] if command.usage else []
    for name in sorted(point.name for point in entry_points(group=PLUGGED.group)):
        try:
            command = plugged(name)
            lines += [f"  {name:<10}{command.summary}"]
            lines += [f"{'':<12}foveate {name} {command.usage}"] if command.usage else []
        except FoveateError:  # a broken package must not stop the rest
            lines += [f"  {name:<10}cannot be loaded; `foveate {name}` says why"]
    more = (
        "`foveate COMMAND --help` shows examples and the most used options, `--help_all` every option.\n"
        "`source <(foveate --completion bash)` lets bash complete words (or zsh); `foveate --version`."
    )
    return "\n".join(["foveate: pre-training of medical image models without labels", "", *lines, "", more])


if __name__ == "__main__":
    sys.exit(main())
