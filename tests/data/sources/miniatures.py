"""Every dataset layout in miniature: the exact names on disk, and files that may not be opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHEXPERT_COLUMNS = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices"
)
NIH_COLUMNS = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
LUNA_COLUMNS = "seriesuid,coordX,coordY,coordZ,"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a source must say of a miniature."""

    images: Sequence[str]  # sorted
    patients: Sequence[str]  # one for each image
    dimension: int = 3
    splits: Sequence[str] = ()  # one for each image; empty: no split is said
    maps: dict[str, str] = field(default_factory=dict)  # image -> its label map
    labels: Sequence[str] = ()  # the names of the values that every image has
    classes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    channels: int = 0  # of every image, 0 where it is one file
    keys: dict[str, Any] = field(default_factory=dict)  # of the Config


def touch(root: Path, *relatives: str) -> None:
    """Files that are not what their suffix says, each beside a hidden one as other systems leave them."""
    for relative in relatives:
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened")
        path.with_name(f"._{path.name}").write_bytes(b"hidden")


def table(path: Path, *lines: str) -> None:
    """A text file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def folder(root: Path) -> Expected:
    touch(root, "b/2.nii.gz", "a/1.nii.gz", "a/labels/1.nii.gz")
    return Expected(images=["a/1.nii.gz", "b/2.nii.gz"], patients=["", ""])


def csv(root: Path) -> Expected:
    touch(root, "images/b.png", "images/a.png", "c.png", "masks/a.png")
    rows = (
        "image,label,patient,split,age",
        "b.png,,p2,valid,61",
        "a.png,a.png,p1,train,",
        "c.png,,p1,train,40.5",
    )
    table(root / "labels.csv", *rows)
    return Expected(
        images=["c.png", "images/a.png", "images/b.png"],
        patients=["p1", "p1", "p2"],
        splits=["train", "train", "val"],
        dimension=2,
        maps={"images/a.png": "masks/a.png"},
        labels=["age"],
    )


def nnunet(root: Path) -> Expected:
    touch(root, *(f"imagesTr/{case}_000{c}.nii.gz" for case in ("la_2", "la_10") for c in (1, 0)))
    touch(root, "labelsTr/la_2.nii.gz", "labelsTr/la_10.nii.gz")
    touch(root, "imagesTs/la_3_0000.nii.gz", "imagesTs/la_3_0001.nii.gz")
    about = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return Expected(
        images=["imagesTr/la_10_0000.nii.gz", "imagesTr/la_2_0000.nii.gz", "imagesTs/la_3_0000.nii.gz"],
        patients=["la_10", "la_2", "la_3"],
        splits=["", "", "test"],
        maps={f"imagesTr/la_{i}_0000.nii.gz": f"labelsTr/la_{i}.nii.gz" for i in (2, 10)},
        classes={"whole": (1, 2), "core": (2,)},
        ignored=(3,),
        channels=2,
    )


def msd(root: Path) -> Expected:
    touch(root, *(f"{part}/liver_{i}.nii.gz" for part in ("imagesTr", "labelsTr") for i in (10, 2)))
    touch(root, "imagesTs/liver_3.nii.gz")
    pairs = [
        {"image": f"./imagesTr/liver_{i}.nii.gz", "label": f"./labelsTr/liver_{i}.nii.gz"} for i in (10, 2)
    ]
    about = {
        "name": "Liver",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "numTraining": 2,
        "training": pairs,
        "test": ["./imagesTs/liver_3.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return Expected(
        images=["imagesTr/liver_10.nii.gz", "imagesTr/liver_2.nii.gz", "imagesTs/liver_3.nii.gz"],
        patients=[f"{root.name}/liver_{i}" for i in (10, 2, 3)],
        splits=["", "", "test"],
        maps={f"imagesTr/liver_{i}.nii.gz": f"labelsTr/liver_{i}.nii.gz" for i in (10, 2)},
        classes={"liver": (1,), "cancer": (2,)},
    )


def monai_datalist(root: Path) -> Expected:
    touch(
        root, *(f"imagesTr/{name}" for name in ("b_t1.nii.gz", "b_t2.nii.gz", "a_t1.nii.gz", "a_t2.nii.gz"))
    )
    touch(root, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")

    def entry(name: str, fold: int) -> dict[str, Any]:
        images = [f"imagesTr/{name}_t1.nii.gz", f"imagesTr/{name}_t2.nii.gz"]
        return {"image": images, "label": f"labelsTr/{name}.nii.gz", "fold": fold, "patient": f"p{name}"}

    lists = {"labels": {"0": "background", "1": "spleen"}, "training": [entry("b", 0), entry("a", 1)]}
    (root / "dataset.json").write_text(json.dumps(lists))
    return Expected(
        images=["imagesTr/a_t1.nii.gz", "imagesTr/b_t1.nii.gz"],
        patients=["pa", "pb"],
        splits=["val", "train"],
        maps={f"imagesTr/{name}_t1.nii.gz": f"labelsTr/{name}.nii.gz" for name in "ab"},
        classes={"spleen": (1,)},
        channels=2,
        keys={"fold": 1},
    )


def bids(root: Path) -> Expected:
    touch(root, "sub-02/anat/sub-02_T1w.nii.gz", "sub-01/ses-b/anat/sub-01_ses-b_run-1_T1w.nii.gz")
    touch(
        root,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz",
    )
    touch(root, "sub-01/ses-a/anat/sub-01_ses-a_T1w.json", "sub-02/anat/sub-02_T2w.nii.gz")
    dseg = "derivatives/manual/sub-02/anat/sub-02_desc-manual_dseg.nii.gz"
    touch(root, dseg, "derivatives/manual/sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    table(root / "participants.tsv", "participant_id\tage\tsex", "sub-01\tn/a\tF", "sub-02\t44\tM")
    names = ("sub-01/ses-a/anat/sub-01_ses-a", "sub-01/ses-b/anat/sub-01_ses-b_run-1", "sub-02/anat/sub-02")
    return Expected(
        images=[f"{name}_T1w.nii.gz" for name in names],
        patients=["sub-01", "sub-01", "sub-02"],
        maps={"sub-02/anat/sub-02_T1w.nii.gz": dseg},
        labels=["age", "sex"],
        keys={"suffixes": ("T1w",), "derivative": "manual"},
    )


def nnssl(root: Path) -> Expected:
    touch(root, "x/sub-02_T1w.nii.gz", "x/sub-01_T1w.nii.gz", "x/sub-01_mask.nii.gz", "x/sub-01_dwi.nii.gz")

    def image(name: str, modality: str, mask: str | None = None) -> dict[str, Any]:
        masks = {"anatomy_mask": mask, "anonymization_mask": None}
        return {
            "name": name,
            "modality": modality,
            "image_path": name,
            "associated_masks": masks,
            "image_info": {},
        }

    def subject(*images: dict[str, Any]) -> dict[str, Any]:
        return {
            "subject_info": None,
            "sessions": {"ses-DEFAULT": {"session_info": None, "images": list(images)}},
        }

    masked = image("x/sub-01_T1w.nii.gz", "T1w", "x/sub-01_mask.nii.gz")
    subjects = {
        "sub-02": subject(image("x/sub-02_T1w.nii.gz", "T1w")),
        "sub-01": subject(masked, image("x/sub-01_dwi.nii.gz", "DWI")),
    }
    datasets = {"ds1": {"dataset_index": "ds1", "dataset_info": None, "subjects": subjects}}
    collection = {"collection_index": 1, "collection_name": "Dataset001", "datasets": datasets}
    (root / "pretrain_data.json").write_text(json.dumps(collection))
    return Expected(
        images=["x/sub-01_T1w.nii.gz", "x/sub-02_T1w.nii.gz"],
        patients=["ds1/sub-01", "ds1/sub-02"],
        maps={"x/sub-01_T1w.nii.gz": "x/sub-01_mask.nii.gz"},
        keys={"modalities": ("T1w",)},
    )


def brats18(root: Path) -> Expected:
    top = "MICCAI_BraTS_2018_Data_Training"
    cases = [f"{top}/HGG/Brats18_2013_10_1", f"{top}/HGG/Brats18_CBICA_AAB_1", f"{top}/LGG/Brats18_2013_0_1"]
    for path in reversed(cases):
        parts = ("t1", "t1ce", "t2", "flair", "seg")
        touch(root, *(f"{path}/{path.rpartition('/')[2]}_{part}.nii.gz" for part in parts))
    stems = [f"{path}/{path.rpartition('/')[2]}" for path in cases]
    return Expected(
        images=[f"{stem}_t1.nii.gz" for stem in stems],
        patients=["Brats18_2013_10", "Brats18_CBICA_AAB", "Brats18_2013_0"],
        maps={f"{stem}_t1.nii.gz": f"{stem}_seg.nii.gz" for stem in stems},
        labels=["grade"],
        classes={"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)},
        channels=4,
    )


def lits(root: Path) -> Expected:
    for i, batch in ((0, 1), (30, 2), (4, 1)):
        touch(root, f"Training Batch {batch}/volume-{i}.nii", f"Training Batch {batch}/segmentation-{i}.nii")
    touch(root, "test/test-volume-0.nii")
    images = [
        "Training Batch 1/volume-0.nii",
        "Training Batch 1/volume-4.nii",
        "Training Batch 2/volume-30.nii",
    ]
    return Expected(
        images=[*images, "test/test-volume-0.nii"],
        patients=["0", "4", "30", "test-0"],
        splits=["", "", "", "test"],
        maps={image: image.replace("volume", "segmentation") for image in images},
        classes={"liver": (1, 2), "tumour": (2,)},
    )


def btcv(root: Path) -> Expected:
    touch(
        root, *(f"RawData/Training/{kind}/{kind}00{i}.nii.gz" for i in (21, 10) for kind in ("img", "label"))
    )
    touch(root, "RawData/Testing/img/img0061.nii.gz")
    images = ["RawData/Training/img/img0010.nii.gz", "RawData/Training/img/img0021.nii.gz"]
    return Expected(
        images=["RawData/Testing/img/img0061.nii.gz", *images],
        patients=["0061", "0010", "0021"],
        splits=["test", "", ""],
        maps={image: image.replace("img", "label") for image in images},
        classes={"spleen": (1,), "liver": (6,), "left adrenal gland": (13,)},
    )


def kits(root: Path) -> Expected:
    touch(root, *(f"data/case_0000{i}/{kind}.nii.gz" for i in (1, 0) for kind in ("imaging", "segmentation")))
    touch(root, "data/case_00210/imaging.nii.gz")
    images = [f"data/case_00{i}/imaging.nii.gz" for i in ("000", "001", "210")]
    return Expected(
        images=images,
        patients=["case_00000", "case_00001", "case_00210"],
        splits=["", "", "test"],
        maps={image: image.replace("imaging", "segmentation") for image in images[:2]},
        classes={"kidney": (1, 2), "tumour": (2,)},
    )


def luna16(root: Path) -> Expected:
    uids = {"1.3.6.10": 9, "1.3.6.2": 0, "1.3.6.3": 5}
    for uid, subset in uids.items():
        touch(root, f"subset{subset}/{uid}.mhd", f"subset{subset}/{uid}.raw")
    touch(root, "subset0/1.3.6.4.mhd")
    table(root / "annotations.csv", f"{LUNA_COLUMNS}diameter_mm", "1.3.6.2,-100.5,67.25,-231.75,6.5")
    table(root / "candidates_V2.csv", f"{LUNA_COLUMNS}class", "1.3.6.2,1,2,3,0", "1.3.6.10,4,5,6,1")
    return Expected(
        images=["subset0/1.3.6.2.mhd", "subset5/1.3.6.3.mhd", "subset9/1.3.6.10.mhd"],
        patients=["1.3.6.2", "1.3.6.3", "1.3.6.10"],
        splits=["train", "val", "test"],
        labels=["boxes", "candidates", "nodules"],
        keys={"val_subsets": (5, 6), "candidates": "v2"},
    )


def chestxray14(root: Path) -> Expected:
    names = ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000013_005.png"]
    findings = ["Cardiomegaly", "Cardiomegaly|Emphysema", "No Finding", "Pleural_Thickening|Hernia"]
    for name, part in zip(names, ("002", "001", "001", "002"), strict=True):
        touch(root, f"images_{part}/images/{name}")
    rows = [
        f"{name},{found},0,{int(name[:8])},058Y,M,PA,2682,2749,0.143,0.143,"
        for name, found in zip(names, findings, strict=True)
    ]
    table(root / "Data_Entry_2017.csv", NIH_COLUMNS, *reversed(rows))
    table(root / "train_val_list.txt", names[2], names[3])
    table(root / "test_list.txt", names[0], names[1])
    return Expected(
        images=[f"images_001/images/{i}" for i in names[1:3]]
        + [f"images_002/images/{names[i]}" for i in (0, 3)],
        patients=["1", "2", "1", "13"],
        splits=["test", "train", "test", "train"],
        dimension=2,
        labels=["Atelectasis", "Cardiomegaly", "Hernia"],
    )


def chexpert(root: Path) -> Expected:
    top = "CheXpert-v1.0-small"
    views = ("patient00002/study1/view1_frontal", "patient00001/study1/view1_frontal")
    lateral = "patient00001/study1/view2_lateral"
    touch(root, *(f"{top}/train/{view}.jpg" for view in (*views, lateral)))
    touch(root, f"{top}/valid/patient64541/study1/view1_frontal.jpg")
    values = "1.0,,,,,-1.0,,0.0,-1.0,,1.0,,-1.0,"
    rows = [f"{top}/train/{view}.jpg,Female,68,Frontal,AP,{values}" for view in views]
    rows.append(f"{top}/train/{lateral}.jpg,Female,68,Lateral,,{values}")
    table(root / top / "train.csv", CHEXPERT_COLUMNS, *rows)
    row = f"{top}/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,{values}"
    table(root / top / "valid.csv", CHEXPERT_COLUMNS, row)
    return Expected(
        images=[f"{top}/train/{view}.jpg" for view in reversed(views)]
        + [f"{top}/valid/patient64541/study1/view1_frontal.jpg"],
        patients=["patient00001", "patient00002", "patient64541"],
        splits=["train", "train", "val"],
        dimension=2,
        labels=["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"],
    )


MINIATURES: dict[str, Callable[[Path], Expected]] = {
    maker.__name__: maker
    for maker in (
        *(folder, csv, nnunet, msd, monai_datalist, bids, nnssl),
        *(brats18, lits, btcv, kits, luna16, chestxray14, chexpert),
    )
}
