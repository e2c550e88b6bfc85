"""The package as others get it: a light import, a wheel that works."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "monai", "lightning_fabric", "jsonargparse", "nibabel", "rich", "scipy", "nilearn")


def python(code, **environment):
    command = [sys.executable, "-c", code]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd="/").stdout


def test_importing_foveate_imports_nothing_heavy():
    loaded = python("import foveate, sys; print(*(m.split('.')[0] for m in sys.modules))").split()
    assert not set(HEAVY) & set(loaded)


def test_pretraining_needs_no_optional_package():
    """Imports with the packages of the extras made unimportable, as on a machine without them."""
    absent = ("scipy", "nilearn", "sklearn", "pandas", "matplotlib", "torchvision")
    block = f"import sys; sys.modules.update(dict.fromkeys({absent}))"
    code = f"{block}; import foveate.commands.pretrain.run, foveate.cli"
    python(code)


def test_the_wheel_is_complete_and_runs_from_elsewhere(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("foveate-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(p.relative_to(ROOT / "src"))
        for p in (ROOT / "src").rglob("*")
        if p.suffix in (".py", ".yaml", ".js", ".css")
    }
    assert sources <= inside
    target = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    code = "import foveate, foveate.cli; print(foveate.__file__); foveate.cli.main(['methods'])"
    printed = python(code, PYTHONPATH=str(target))
    assert printed.splitlines()[0].startswith(str(target))
    assert "pcrlv2" in printed
