"""The size and shape of the code, measured on its syntax."""

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
EVERYTHING = SOURCES + [p for d in ("tests", "benchmarks") for p in sorted((ROOT / d).rglob("*.py"))]
BANNED_NAMES = {"utils", "helpers", "misc", "base", "common"}
LOADERS = {"torch.load", "fabric.load", "np.load"}
BANNED_IMPORTS = {"torchvision", "timm", "lightly", "segmentation_models_pytorch", "nnunetv2"}


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function):
    return function.end_lineno - function.lineno + 1


def module_name(path):
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: str(p.relative_to(ROOT)))
def test_static_files_fit_on_a_few_screens(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    most = 199 if path.parent.name == "methods" and "src" in path.parts else 350
    assert lines <= most, (
        f"{path.relative_to(ROOT)} has more than {most} lines: split it by what its parts do"
    )
    assert path.stem not in BANNED_NAMES, "name it after what is in it"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_static_functions_are_short_and_annotated(path):
    for function in functions(path):
        where = f"{function.name}, line {function.lineno}"
        assert length(function) <= 50, f"{where}: longer than 50 lines"
        assert function.returns is not None or function.name == "__init__", f"{where}: no return type"


def test_static_the_median_function_is_a_thought():
    assert statistics.median(length(f) for path in SOURCES for f in functions(path)) <= 10


def test_static_the_core_does_without_torchvision_and_its_dependants():
    for path in SOURCES:
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & BANNED_IMPORTS, f"{path}: the core does without these (CONTRIBUTING, rule 7)"


def test_static_only_the_table_asks_for_the_dimension():
    for path in SOURCES:
        if path.name == "dims.py":
            continue
        text = path.read_text(encoding="utf-8")
        for phrase in ("ndim == 3", "ndim == 2", "dimension == 3", "dimension == 2"):
            assert phrase not in text, f"{path.name}: {phrase}; what differs goes into core/dims.py"


def test_static_loading_is_safe():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.load",
                "fabric.load",
                "np.load",
            ):
                text = ast.unparse(node)
                assert "weights_only=True" in text or "allow_pickle=False" in text, (
                    f"{path.name}: {text} may run code"
                )
