"""Every script of benchmarks/ can be imported, so it follows the package, and stands in the README."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(ROOT.rglob("*.py"))
FOLDERS = sorted({path.parent for path in SCRIPTS})


IMPORTS = """
import importlib, sys

for folder, *names in {folders!r}:
    sys.path.insert(0, folder)
    try:
        for name in names:
            importlib.import_module(name)
    except Exception as error:
        sys.exit(f"{{name}} in {{folder}}: {{error!r}}")
    sys.path.remove(folder)
    for name, module in list(sys.modules.items()):  # another folder may have a script of the same name
        if str(getattr(module, "__file__", None)).startswith({root!r}):
            del sys.modules[name]
"""


def test_the_scripts_can_be_imported():
    folders = [[str(f), *(path.stem for path in SCRIPTS if path.parent == f)] for f in FOLDERS]
    code = IMPORTS.format(folders=folders, root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_the_readme_names_every_script_in_the_section_of_its_folder(path):
    subject, *inner = path.relative_to(ROOT).parts
    sections = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = [text for text in sections if text.startswith(f"`{subject}/`")]
    assert f"`{'/'.join(inner)}`" in section
