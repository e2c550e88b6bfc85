"""How the code is built, counted from its syntax tree.

    python benchmarks/code/structure.py [FOLDER ...]

FOLDER is a checkout, by default this one; with two the table has a column for each, such as before and after.
The functions are what the budget test asks; `places` says where a number comes from.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "foveate"
LOOKS = {"getattr", "hasattr", "vars"}  # calls that ask an object what it is
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """A file and its syntax."""

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of it."""
        return list(ast.walk(self.tree))

    def at(self, line: int) -> str:
        """A place in words."""
        return f"{self.name}:{line}"


def modules(root: Path) -> list[Module]:
    """Every module of the package in a checkout."""
    return [Module(path, module_name(path, root)) for path in sorted((root / "src" / PACKAGE).rglob("*.py"))]


def module_name(path: Path, root: Path) -> str:
    """The dotted name; a package's `__init__` has the package's."""
    parts = path.relative_to(root / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loose_annotations(module: Module) -> list[str]:
    """`Any` and `object` in annotations of arguments, results and variables."""
    found = [a for node in module.nodes for a in annotations(node)]
    names = [n for annotation in found for n in ast.walk(annotation) if isinstance(n, ast.Name)]
    return [f"{module.at(n.lineno)} {n.id}" for n in names if n.id in ("Any", "object")]


def annotations(node: ast.AST) -> Iterator[ast.expr]:
    """The annotations that belong to a node itself."""
    if isinstance(node, FUNCTIONS) and node.returns:
        yield node.returns
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
        yield node.annotation


def calls(module: Module, *names: str) -> list[str]:
    """Calls of functions by their bare name."""
    found = [node for node in module.nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [f"{module.at(n.lineno)} {ast.unparse(n)}" for n in found if ast.unparse(n.func) in names]


def casts(module: Module) -> list[str]:
    """Calls of `typing.cast`."""
    return calls(module, "cast")


def looks(module: Module) -> list[str]:
    """`getattr`, `hasattr`, `vars` and `__dict__`."""
    inner = [n for n in module.nodes if isinstance(n, ast.Attribute) and n.attr == "__dict__"]
    return [*calls(module, *LOOKS), *(f"{module.at(n.lineno)} {ast.unparse(n)}" for n in inner)]


def comments(module: Module, start: str) -> list[str]:
    """Comments that begin with some words."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    found = [t for t in tokens if t.type == tokenize.COMMENT and t.string.lstrip("# ").startswith(start)]
    return [f"{module.at(t.start[0])} {t.string}" for t in found]


def type_ignores(module: Module) -> list[str]:
    """Lines that the type checker must not look at."""
    return comments(module, "type: ignore")


def untyped(module: Module) -> list[str]:
    """Lines where the linter allows `Any`."""
    return [place for place in comments(module, "noqa") if "ANN401" in place]


def other_noqa(module: Module) -> list[str]:
    """Lines where the linter allows anything else."""
    return [place for place in comments(module, "noqa") if "ANN401" not in place]


def inner_imports(module: Module) -> list[str]:
    """Imports of our own modules inside functions."""
    functions = [node for node in module.nodes if isinstance(node, FUNCTIONS)]
    found = {n for function in functions for n in ast.walk(function) if own(n)}
    return [f"{module.at(n.lineno)} {ast.unparse(n)}" for n in sorted(found, key=lambda n: n.lineno)]


def backward_calls(module: Module) -> list[str]:
    """Places that ask for gradients: the training step; the shipped contract tests are no step."""
    if module.name.startswith(f"{PACKAGE}.testing"):
        return []
    called = [node.func for node in module.nodes if isinstance(node, ast.Call)]
    found = [each for each in called if isinstance(each, ast.Attribute) and each.attr == "backward"]
    return [f"{module.at(each.lineno)} {ast.unparse(each)}" for each in found]


def own(node: ast.AST) -> bool:
    """Whether a node imports from this package."""
    if isinstance(node, ast.ImportFrom):
        return str(node.module).split(".")[0] == PACKAGE
    return isinstance(node, ast.Import) and any(a.name.split(".")[0] == PACKAGE for a in node.names)


def imported(module: Module) -> set[str]:
    """Names of modules that a module may import: at its top, in functions, or for types only."""
    names: set[str] = set()
    for node in module.nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names - {module.name}


Graph = Mapping[str, set[str]]


def import_graph(every: list[Module]) -> Graph:
    """Module -> our modules that it imports, counting every import."""
    known = {module.name for module in every}
    return {module.name: imported(module) & known for module in every}


def reachable(graph: Graph, start: str) -> set[str]:
    """Everything that a module leads to."""
    found: set[str] = set()
    queue = [start]
    while queue:
        new = graph[queue.pop()] - found
        found |= new
        queue += new
    return found


def cycles(graph: Graph) -> list[list[str]]:
    """Groups of modules of which each leads to every other."""
    behind = {name: reachable(graph, name) for name in graph}
    groups = {frozenset(o for o in behind[n] if n in behind[o]) for n in graph if n in behind[n]}
    return sorted(sorted(group) for group in groups)


def longest_chain(graph: Graph) -> list[str]:
    """The longest way down; the modules of a cycle stand in it one after the other."""
    group = {name: [name] for name in graph} | {name: each for each in cycles(graph) for name in each}
    chains: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        members = group[name]
        if members[0] not in chains:
            below = {other for member in members for other in graph[member]} - set(members)
            chains[members[0]] = [*members, *max((chain(b) for b in sorted(below)), key=len, default=[])]
        return chains[members[0]]

    return max((chain(name) for name in sorted(graph)), key=len)


def repeated_members(every: list[Module]) -> list[str]:
    """Methods and properties of the classes in `methods/` that another one has too, but for docstrings."""
    found: dict[str, list[str]] = {}
    for module in every:
        if not module.name.startswith(f"{PACKAGE}.methods."):
            continue
        for owner in [node for node in module.nodes if isinstance(node, ast.ClassDef)]:
            for member in [node for node in owner.body if isinstance(node, FUNCTIONS)]:
                place = f"{module.at(member.lineno)} {owner.name}.{member.name}"
                found.setdefault(normalised(member), []).append(place)
    return [place for places in found.values() if len(places) > 1 for place in places]


def normalised(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """A function without its docstring, spacing and comments."""
    bare = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(bare, FUNCTIONS)
    if ast.get_docstring(bare) is not None:
        bare.body = bare.body[1:] or [ast.Pass()]
    return ast.dump(bare)


def fullest_folder(every: list[Module]) -> tuple[str, int]:
    """The folder with the most `.py` files, and their number."""
    counts = Counter(module.path.parent for module in every)
    folder, count = max(counts.items(), key=lambda item: item[1])
    return folder.name, count


PLACES: dict[str, Callable[[Module], list[str]]] = {
    "Any or object in annotations": loose_annotations,
    "cast": casts,
    "type: ignore": type_ignores,
    "noqa: ANN401": untyped,
    "other noqa": other_noqa,
    "getattr, hasattr, vars, __dict__": looks,
    "imports of our own in functions": inner_imports,
    "training steps (calls of backward)": backward_calls,
}


def places(root: Path, what: str) -> list[str]:
    """Where something is: a key of `PLACES`."""
    return [place for module in modules(root) for place in PLACES[what](module)]


def table(root: Path) -> dict[str, str]:
    """Every count of a checkout."""
    every = modules(root)
    graph = import_graph(every)
    rows = {what: str(sum(len(found(m)) for m in every)) for what, found in PLACES.items()}
    folder, count = fullest_folder(every)
    rows["import depth, every import"] = str(len(longest_chain(graph)))
    rows["import cycles"] = str(len(cycles(graph)))
    rows["most .py files in a folder"] = f"{count} ({folder})"
    rows["repeated members of methods"] = str(len(repeated_members(every)))
    return rows | {"modules": str(len(every)), "lines": str(sum(m.text.count("\n") for m in every))}


def main() -> None:
    """One table."""
    roots = [Path(argument) for argument in sys.argv[1:]] or [Path(__file__).parents[2]]
    columns = [table(root) for root in roots]
    for what in columns[0]:
        print(f"{what:<38}" + "".join(f"{column[what]:>16}" for column in columns))


if __name__ == "__main__":
    main()
