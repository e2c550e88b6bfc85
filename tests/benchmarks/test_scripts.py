"""Every script of benchmarks/ can be imported, so it follows the package, and stands in the README."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(ROOT.rglob("*.py"))
FOLDERS = sorted({path.parent for path in SCRIPTS})


@pytest.mark.slow  # a process each; that they follow the package is what mypy looks at as well
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_the_scripts_of_a_folder_can_be_imported(folder):
    names = [path.stem for path in SCRIPTS if path.parent == folder]
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import {', '.join(names)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_the_readme_names_every_script_in_the_section_of_its_folder(path):
    subject, *inner = path.relative_to(ROOT).parts
    sections = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = [text for text in sections if text.startswith(f"`{subject}/`")]
    assert f"`{'/'.join(inner)}`" in section
