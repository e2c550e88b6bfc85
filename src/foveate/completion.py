"""Completion for bash and zsh: a script that knows commands, their keys and the names that can be chosen.

`source <(foveate --completion bash)` in ~/.bashrc. The script starts no Python at every key press.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import get_args

from foveate.core.config import CHOICES
from foveate.core.types import FoveateError, Size
from foveate.data.catalogue import SOURCES
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.runtime.listing import listing
from foveate.runtime.registries import METHODS, TASKS

SHELLS = ("bash", "zsh")
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
SCRIPT = """_foveate() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    words={commands}
  else
    case $before in
{values}
    esac
    if [ -z "$words" ] && [[ $word == -* ]]; then
      case ${{COMP_WORDS[1]}} in
{keys}
      esac
      words="$words {switches}"
    fi
  fi
  if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$word")); fi
}}
complete -o default -F _foveate foveate
"""


def script(shell: str, commands: Iterable[str], switches: Iterable[str]) -> str:
    """What a shell reads to complete the words of a command line."""
    if shell not in SHELLS:
        raise FoveateError(f"--completion {shell}: accepted are {' and '.join(SHELLS)}.")
    names: Mapping[str, Iterable[str]] = {
        "--method": METHODS,
        "--task": TASKS,
        "--encoder": ENCODERS,
        "--source": SOURCES,
        "--size": get_args(Size),
        "--accelerator": ("auto", "cpu", "cuda"),
    }
    made = SCRIPT.format(
        commands=shlex.quote(" ".join(commands)),
        switches=" ".join(f"--{each}" for each in switches),
        values=branches(names, 6),
        keys=branches({name: map(spelled_key, keys) for name, keys in listing()["keys"].items()}, 8),
    )
    return made if shell == "bash" else ZSH + made


def branches(table: Mapping[str, Iterable[str]], indent: int) -> str:
    """A branch for every word, in which `words` are those that may follow."""
    return "\n".join(
        f"{' ' * indent}{each}) words={shlex.quote(' '.join(words))} ;;" for each, words in table.items()
    )


def spelled_key(key: str) -> str:
    """A key as it is written on the command line.

    >>> spelled_key("method.name"), spelled_key("source.name"), spelled_key("method.base.name")
    ('--method', '--source', '--method.base')
    """
    group, _, last = key.rpartition(".")
    return f"--{group}" if last == "name" and group in CHOICES else f"--{key}"
