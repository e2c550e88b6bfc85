"""Who a patient is must not be in anything produced: planted identifiers are searched in every byte."""

import gzip
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image
from pydicom._dicom_dict import DicomDictionary
from tests.conftest import blobs, tiny_keys
from tests.data.readers.dicom import miniatures as dicoms

from foveate.cli import main
from foveate.commands.evaluate import run as evaluate
from foveate.commands.evaluate.config import SPEC as EVALUATE
from foveate.commands.finetune import config as finetune_settings, run as finetune
from foveate.commands.predict import run as predict
from foveate.commands.predict.config import SPEC as PREDICT
from foveate.commands.prepare import run as prepare
from foveate.commands.prepare.config import SPEC as PREPARE
from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError
from foveate.runtime import folder
from foveate.runtime.command import OWN_PATHS, layers

MARK = "Zqxwvy"  # in every planted text
TEXTS = {"PN": "{}^Jane", "LO": "{}", "SH": "{}", "LT": "{}", "ST": "{}", "UT": "{}", "UC": "{}", "UR": "{}"}
CODES = {"AE": "{}", "CS": "{}"}
BIRTH, TIME, ROOT_UID = "19310407", "131313.771177", "1.2.826.0.1.771177"
NUMBERS = {"DA": BIRTH, "TM": TIME, "DT": f"{BIRTH}131313.771177"}
NEEDED = {  # without these a file is no image of its kind
    *("SOPClassUID", "ImageType", "Modality", "PhotometricInterpretation", "BurnedInAnnotation"),
    *("SpecificCharacterSet", "TransferSyntaxUID", "MediaStorageSOPClassUID"),
}
NEEDLES = (MARK, BIRTH, TIME, ROOT_UID)


def planted():
    """A value for every text element of one value, in the groups that images use."""
    values = {}
    for tag, (kind, amount, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if group not in {0x8, 0x10, 0x18, 0x20, 0x28, 0x32, 0x38, 0x40} or amount != "1" or retired:
            continue
        if keyword in NEEDED or not keyword:
            continue
        text = f"{MARK}{tag:08x}"
        if kind in TEXTS:
            values[keyword] = TEXTS[kind].format(text)
        elif kind in CODES:
            values[keyword] = CODES[kind].format(text.upper())
        elif kind in NUMBERS:
            values[keyword] = NUMBERS[kind]
        elif kind == "UI":
            values[keyword] = f"{ROOT_UID}.{tag}"
    return values


@pytest.fixture
def hospital(tmp_path):
    """A series, single files of many kinds, NIfTI and PNG, full of identity, also in their names."""
    root = tmp_path / f"{MARK}_Jane_{BIRTH}"
    tags = planted()
    own = {"SOPInstanceUID": lambda k: f"{ROOT_UID}.5.{k}"}
    names = [f"{MARK}.slice{k}" for k in range(20)]
    stored = np.moveaxis(blobs((24, 26, 20), 3), -1, 0).astype(np.int16)
    dicoms.write_series(root / f"{MARK}_study", stored, names, **tags | own)
    for name, more in {
        "capture": {"Modality": "US"},
        "report": {"Modality": "SR"},
        "unknown": {"Modality": f"{MARK}MODAL".upper(), "ImageType": [f"{MARK}TYPE".upper(), "PRIMARY"]},
        "said": {"Modality": "DX", "BurnedInAnnotation": f"{MARK}YES".upper(), "SOPClassUID": dicoms.DX},
    }.items():
        dicoms.write(root / f"{MARK}.{name}", dicoms.noise(1)[0], **tags | more)
    (root / f"{MARK}.dcm").write_bytes((root / f"{MARK}.said").read_bytes()[:900])
    for i in range(3):
        image = nib.Nifti1Image(blobs((24, 26, 20), i).astype(np.int16), np.diag([1, 1, 1.5, 1]))
        for field in ("descrip", "intent_name", "aux_file", "db_name"):
            image.header[field] = f"{MARK}{field}"[:10].encode()
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{MARK}ext".encode()))
        nib.save(image, root / f"{MARK}_{i}.nii.gz")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Patient", f"{MARK} Jane", zip=True)
    picture.save(root / f"{MARK}_photo.png", pnginfo=text)
    (root / f"{MARK}.{MARK}suffix").write_text(MARK)
    return root


def contents(path):
    """Everything that a file says: its bytes, unpacked, and its texts."""
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) + name.encode() for name in archive.namelist())
    if raw[:4] == b"\x89PNG":
        with Image.open(path) as image:
            image.load()
            yield repr({**image.info, **getattr(image, "text", {})}).encode()


def leaks(folder, needles=NEEDLES):
    """Files with an identifier in their content or name."""
    wanted = [needle.lower().encode() for needle in needles]
    found = []
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        texts = [str(path.relative_to(folder)).encode(), *contents(path)]
        found += [(path.name, w) for w in wanted if any(w in text.lower() for text in texts)]
    return found


def split_private(folder):
    """Files of the owner, which the rest of the test must do without."""
    files = [p for p in Path(folder).rglob("*") if p.is_file() and p.parent.name == "private"]
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path
    return files


def test_the_search_finds_what_is_planted(hospital, tmp_path):
    """Every kind of file that the search must see into."""
    assert len(planted()) > 600
    assert {name for name, _ in leaks(hospital)} == {
        path.name for path in hospital.rglob("*") if path.is_file()
    }
    content = {path.suffix for path in hospital.rglob("*") if any(MARK.encode() in c for c in _inside(path))}
    assert {".gz", ".png", ".dcm"} <= content
    import torch

    torch.save({"name": MARK}, tmp_path / "a.ckpt")
    assert leaks(tmp_path, (MARK,))


def _inside(path):
    return contents(path) if path.is_file() else ()


def test_no_identity_reaches_anything_produced(hospital, tmp_path, capsys):
    project = tmp_path / "project"
    assert main(["scan", str(hospital), "--out", str(project / "inv"), "--num_workers", "0"]) == 0
    assert "30 files" in capsys.readouterr().out
    flags = {"data": str(hospital), "out": str(project / "cache"), "dimension": "3"}
    assert len(prepare.prepare(PREPARE.resolve({}, flags))) == 4
    keys = tiny_keys(3, hospital, project / "run", steps=2, preview_every=1, save_every=1, health_every=1)
    assert run.pretrain(settings.SPEC.from_keys(keys))
    assert list((project / "run" / "previews").glob("*.png"))
    assert (project / "run" / "exported" / "card.json").exists()
    weights = str(project / "run")
    assert main(["export", weights, "--format", "huggingface", "--out", str(project / "hub")]) == 0
    assert main(["export", weights, "--format", "torch-export", "--out", str(project / "net.pt2")]) == 0
    flags = ["--run", weights, "--data", str(hospital), "--out", str(project / "features")]
    assert main(["embed", *flags, "--suggest", "2"]) < 2  # 1 where something could not be read
    private = split_private(project)
    expected = {"scan.sqlite", "rejects.csv", "paths.yaml", "images.txt", "names.csv"}
    assert {path.name for path in private} == expected
    for path in private:
        data = path.read_bytes().lower()
        assert BIRTH.encode() not in data.replace(hospital.name.lower().encode(), b"")
        assert not any(text.encode() in data for text in ("^jane", TIME, ROOT_UID, f"{MARK}00".lower()))
        path.unlink()
    assert leaks(project) == []


def named_after_a_patient(root):
    """A project, and the keys of a fine-tuning on images and lists: in folders that are named after one."""
    data, lists, project = root / f"{MARK}_data", root / f"{MARK}_lists", root / f"{MARK}_project"
    for i in range(4):
        for place, array in (("images", blobs((24, 26, 20), i)), ("labels", blobs((24, 26, 20), i) > 500)):
            (data / place).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), data / place / f"{MARK}{i}.nii.gz")
    lists.mkdir()
    for part, numbers in {"train": (0, 1), "val": (2,), "test": (3,)}.items():
        names = [f"images/{MARK}{i}.nii.gz\n" for i in numbers]
        (lists / f"{part}.txt").write_text("".join(names))
    tuned = tiny_keys(3, data, project / "tuned", steps=2, num_workers=0)
    tuned = {k: v for k, v in tuned.items() if k not in ("method", "decoder", "holdout")}
    crops = {"grid": [16, 16, 16], "source_sizes": [[16, 16, 16]]}
    tuned |= {"task": {"name": "segmentation", "crops": crops}}
    tuned |= {"init": str(project / "run"), "validate_every": 1}
    return project, tuned | {"split": {"source": str(lists), "save_as": str(lists / "mine.json")}}


def test_no_folder_that_is_named_after_a_patient_reaches_a_run(tmp_path):
    project, tuned = named_after_a_patient(tmp_path)
    lists = tuned["split"]["source"]
    keys = tiny_keys(3, tuned["data"], project / "run", steps=1, split=lists, num_workers=0)
    assert run.pretrain(settings.SPEC.from_keys(keys))
    again = keys | {"out": str(project / "again"), "init": str(project / "run")}
    assert run.pretrain(settings.SPEC.from_keys(again))
    assert finetune.finetune(finetune_settings.SPEC.from_keys(tuned))
    flags = {"run": str(project / "tuned"), "data": tuned["data"]}
    assert predict.predict(PREDICT.resolve({}, flags | {"out": str(tmp_path / "predicted")}))
    for part in ("val", "test"):
        told = flags | {"out": str(project / part), "part": part, "draws": "20"}
        assert evaluate.evaluate(EVALUATE.resolve({}, told))
    merged, rest = layers({"config": str(project / "tuned" / "run.yaml"), "steps": "3"})
    assert finetune.finetune(finetune_settings.SPEC.resolve(merged, rest))  # goes on, from its own folder
    assert (project / "tuned" / "checkpoints" / "step-000000003.ckpt").exists()
    for path in split_private(project):
        path.unlink()
    assert leaks(project) == []


def test_a_run_goes_on_from_its_own_yaml_and_from_one_that_was_given_away(cohorts, tmp_path):
    config = settings.SPEC.from_keys(tiny_keys(2, cohorts[2], tmp_path / "run", steps=1))
    assert run.pretrain(config)
    saved = tmp_path / "run" / "run.yaml"
    assert str(cohorts[2]) not in saved.read_text()
    assert yaml.safe_load(saved.read_text())["data"] == ""
    merged, flags = layers({"config": str(saved), "steps": "2"})
    assert settings.SPEC.resolve(merged, flags) == settings.SPEC.from_keys(
        tiny_keys(2, cohorts[2], tmp_path / "run", steps=2)
    )
    (tmp_path / "given.yaml").write_text(saved.read_text())
    told = {"config": str(tmp_path / "given.yaml"), "data": str(cohorts[2]), "out": str(tmp_path / "run")}
    merged, flags = layers(told)
    again = settings.SPEC.resolve(merged, flags)
    assert again == config
    assert run.pretrain(again)


def test_paths_of_a_run_must_be_the_same_to_go_on_where_they_are_known(cohorts, tmp_path):
    config = settings.SPEC.from_keys(tiny_keys(2, cohorts[2], tmp_path / "run", steps=1))
    folder.prepare_out(config, tmp_path / "run", "hash")
    other = replace(config, init=str(tmp_path / "elsewhere"))
    with pytest.raises(FoveateError, match=r"init:  -> .*elsewhere"):
        folder.check_resumable(other, tmp_path / "run")
    folder.write_keys(other, tmp_path / "run")
    with pytest.raises(FoveateError, match=r"init: .*elsewhere -> "):
        folder.check_resumable(config, tmp_path / "run")
    folder.check_resumable(other, tmp_path / "run")
    (tmp_path / "run" / OWN_PATHS).unlink()  # as it was passed on
    folder.check_resumable(other, tmp_path / "run")


def test_a_run_that_was_moved_goes_on_where_it_is(cohorts, tmp_path):
    assert run.pretrain(settings.SPEC.from_keys(tiny_keys(2, cohorts[2], tmp_path / "run", steps=1)))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    config = settings.SPEC.resolve(*layers({"config": str(moved / "run.yaml"), "steps": "2"}))
    assert (config.out, config.data) == (str(moved), str(cohorts[2]))
    assert run.pretrain(config)
    assert (moved / "checkpoints" / "step-000000002.ckpt").exists()
    assert not (tmp_path / "run").exists()
