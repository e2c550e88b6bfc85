"""Other libraries read what `write.py` left, in a process without foveate: judge.py FOLDER.

Prints the largest difference of each export, in units of the largest value, and fails above the limit, or
where an export holds a path of this machine.
"""

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from launch import import_torchvision

LIMITS = {
    "torchvision": 1e-5,
    "monai": 1e-5,
    "monai-bundle": 0,  # voxels that differ
    "nnunet": 1e-5,
    "onnx": 1e-4,
    "torch-export": 1e-5,
}


def of_torchvision(path, name):
    """Maps of torchvision's network at its five strides, for images (x, y)."""
    net = getattr(import_torchvision().models, name)().eval()
    missing, unexpected = net.load_state_dict(load_file(path), strict=False)
    assert sorted(missing) == ["fc.bias", "fc.weight"], missing
    assert not unexpected, unexpected
    maps = []
    for layer in (net.relu, net.layer1, net.layer2, net.layer3, net.layer4):
        layer.register_forward_hook(lambda _m, _i, output: maps.append(output))

    def run(x):
        rows = x.transpose(2, 3)
        rows = rows if rows.shape[1] == 3 else rows.repeat(1, 3, 1, 1)
        maps.clear()
        net(rows.contiguous())
        return [m.transpose(2, 3) for m in maps]

    return run


def of_onnx(path, _name):
    """Outputs of onnxruntime; the metadata says what is read."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["foveate.described"])
    assert said["normalisation"].startswith("inside the graph")
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {"images": x.numpy()})]


def of_torch_export(path, _name):
    """Outputs of the program."""
    program = torch.export.load(str(path)).module()

    def run(x):
        found = program(x)
        return [found] if isinstance(found, torch.Tensor) else list(found)

    return run


def of_monai(path, _name):
    """Maps of MONAI's network, built as the file says."""
    from monai.networks import nets

    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["export"])
    net = getattr(nets, said["network"])(**said["arguments"]).eval()
    part = getattr(net, said["part"]) if said["part"] else net
    part.load_state_dict(load_file(path), strict=True)
    if said["part"]:
        return part
    maps = []
    net.maxpool.register_forward_pre_hook(lambda _m, inputs: maps.append(inputs[0]))
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        layer.register_forward_hook(lambda _m, _i, output: maps.append(output))

    def run(x):
        maps.clear()
        net(x)
        return list(maps)

    return run


def of_nnunet(path, _name):
    """Maps of the encoder of nnU-Net's network, whose weights nnU-Net's own function has read."""
    import pydoc

    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    said = json.loads((path / "architecture.json").read_text())
    kwargs = dict(said["arch_kwargs"])
    for key in said["_kw_requires_import"]:
        kwargs[key] = pydoc.locate(kwargs[key]) if kwargs[key] else None
    adapted = torch.load(path / "adapt.pth", weights_only=True)
    channels = adapted["nnssl_adaptation_plan"]["pretrain_num_input_channels"]
    net = pydoc.locate(said["network_class_name"])(
        channels, num_classes=3, deep_supervision=True, **kwargs
    ).eval()
    load_pretrained_weights(net, str(path / "full.pth"))
    theirs = {n: t for n, t in net.state_dict().items() if n.startswith("encoder.")}
    assert theirs.keys() == adapted["network_weights"].keys()
    assert all(torch.equal(t, adapted["network_weights"][n]) for n, t in theirs.items())

    def run(x):
        volumes = x.permute(0, 1, 4, 3, 2).contiguous()  # (z, y, x)
        return [m.permute(0, 1, 4, 3, 2) for m in net.encoder(volumes)]

    return run


JUDGES = {
    "torchvision": of_torchvision,
    "monai": of_monai,
    "nnunet": of_nnunet,
    "onnx": of_onnx,
    "torch-export": of_torch_export,
}


def different_voxels(folder, case):
    """Voxels of masks that `monai.bundle run` writes otherwise than `foveate predict` did."""
    import nibabel as nib
    import numpy as np
    from PIL import Image

    bundle, out = (folder / case["file"]).resolve(), (folder / f"{case['file']}.theirs").resolve()
    flags = ["--config_file", "configs/inference.json", "--output_dir", str(out)]
    images = (folder / case["images"]).resolve()
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *flags]
    with Path(f"{out}.log").open("w") as log:
        done = subprocess.run(
            [*command, "--dataset_dir", str(images)], cwd=bundle, stdout=log, stderr=log, check=False
        )
    assert done.returncode == 0, f"see {log.name}"
    wrong, names = 0, sorted(path.name for path in images.iterdir())
    assert names == sorted(path.name for path in out.iterdir())
    for name in names:
        mine, theirs = (
            np.asarray(Image.open(path)) if path.suffix == ".png" else np.asarray(nib.load(path).dataobj)
            for path in (folder / case["expected"] / name, out / name)
        )
        assert mine.shape == theirs.shape
        assert len(np.unique(mine)) > 1
        wrong += int((mine != theirs).sum())
    return wrong


def told(folder, case):
    """Words of this machine that an export holds: paths, the folder of its run, where code lies."""
    path = folder / case["file"]
    words = [str(folder.resolve()), str(Path.home()), "site-packages", "foveate/src", "/runs/"]
    found = set()
    for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
        parts = [file.read_bytes()]
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        found |= {word for word in words if any(word.encode() in part for part in parts)}
    return found


@torch.no_grad()
def difference(folder, case):
    """The largest difference to what foveate computed."""
    if case["format"] == "monai-bundle":
        return different_voxels(folder, case)
    held = load_file(folder / f"{case['file']}.expected")
    run, worst = JUDGES[case["format"]](folder / case["file"], case["name"]), 0.0
    for number in range(case["inputs"]):
        wanted = [held[f"{number}.{i}"] for i in range(len(held)) if f"{number}.{i}" in held]
        found = run(held[f"{number}.x"])
        assert [f.shape for f in found] == [w.shape for w in wanted]
        for mine, other in zip(found, wanted, strict=True):
            worst = max(worst, float((mine - other).abs().max() / other.abs().max()))
    return worst


def main(folder):
    """All cases; 1 where one differs."""
    assert find_spec("foveate") is None, "foveate can be imported here: the judge must do without"
    failed = 0
    for case in json.loads((folder / "cases.json").read_text()):
        assert not told(folder, case), (case["file"], told(folder, case))
        found, limit = difference(folder, case), LIMITS[case["format"]]
        print(f"{case['format']:<14}{case['name']:<16}{found:.1e}  (at most {limit:g})")
        failed += not found <= limit
    print(f"{failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
