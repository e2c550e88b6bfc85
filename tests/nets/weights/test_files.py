"""Hostile and broken files: nothing in them is run, nothing kills the process, refusals say a way out."""

import argparse
import json
import pickle
import random
import struct

import pytest
import torch
from safetensors.torch import save_file

from foveate.core.types import FoveateError
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.weights import card as cards, store as weights
from foveate.nets.weights.files import Forgotten, read_file, weights_inside

PLAIN = {"conv1.weight": torch.ones(2, 3)}


class Trap:
    """Writes a file when unpickled by ordinary means."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "inside a Namespace", "bare pickle"])
def test_a_malicious_pickle_runs_nothing(tmp_path, zipped, place):
    path, sprung = tmp_path / "evil.pth", tmp_path / "sprung"
    trap = Trap(sprung)
    if place == "bare pickle":
        path.write_bytes(pickle.dumps({"state_dict": {}, "x": trap}))
    else:
        held = argparse.Namespace(x=trap) if "Namespace" in place else trap
        torch.save({"state_dict": PLAIN, "x": held}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FoveateError, match=r"nothing in it was run.*torch\.save\(file\[") as error:
        read_file(path)
    assert not sprung.exists()
    assert ("io.open" in str(error.value)) == (place != "bare pickle")  # whose protocol is not read so far
    pickle.loads(pickle.dumps(trap)).close()
    assert sprung.exists()  # the trap works when it is sprung


def test_arguments_of_a_training_script_are_forgotten_not_rebuilt(tmp_path):
    import numpy as np

    options = argparse.Namespace(data="/home/somebody", lr=0.1)
    content = {"opt": options, "best": np.float64(0.5), "state_dict": PLAIN}
    torch.save(content, tmp_path / "a.pth")
    loaded, _ = read_file(tmp_path / "a.pth")
    assert isinstance(loaded["opt"], Forgotten)
    assert vars(loaded["opt"]) == {}
    tensors, key = weights_inside(loaded, tmp_path / "a.pth")
    assert key == "state_dict"
    assert torch.equal(tensors["conv1.weight"], PLAIN["conv1.weight"])


def test_the_largest_mapping_is_the_weights_and_equals_are_chosen_by_name(tmp_path):
    more = {"a": torch.ones(1), "b": torch.ones(1)}
    assert weights_inside({"optimizer": {"state": PLAIN}, "net": {"deep": more}}, tmp_path)[1] == "net.deep"
    assert weights_inside({"ema": PLAIN, "state_dict": PLAIN, "zz": PLAIN}, tmp_path)[1] == "state_dict"
    with pytest.raises(FoveateError, match="no mapping of names to tensors"):
        weights_inside({"epoch": 3}, tmp_path)


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path):
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "a.pth")
    content, _ = read_file(tmp_path / "a.pth")
    with pytest.raises(FoveateError, match=r"declares the shape .* holds fewer values"):
        weights_inside(content, tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors", "a.ckpt", "a"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04rubbish", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_files_that_are_something_else_are_refused_with_what_is_accepted(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FoveateError, match=r"safetensors|no mapping"):
        weights_inside(read_file(tmp_path / name)[0], tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
def test_100_damaged_pickles_are_read_or_refused_and_never_more(tmp_path, zipped):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": PLAIN, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    sound, said = path.read_bytes(), []
    for seed in range(100):
        rng, data = random.Random(seed), bytearray(sound)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            weights_inside(read_file(path)[0], path)
        except FoveateError as error:
            said.append(str(error))
    assert 20 < len(said) <= 100
    assert not [text for text in said if "\x1b" in text]


def test_a_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(tmp_path / "a.pt"))
    with pytest.raises(FoveateError, match="TorchScript"):
        read_file(tmp_path / "a.pt")


# ---------------------------------------------------------------- safetensors


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a small sound file of ours."""
    folder = tmp_path_factory.mktemp("sound")
    config = UNetConfig(name="unet2d", width=2, levels=2)
    net = build_pyramid(config, DecoderConfig(), 2)
    return weights.save({"encoder": net.encoder}, card_for(config), folder).read_bytes()


def card_for(config, **changes):
    from foveate.core.config import to_mapping

    return {
        "format": "foveate/1",
        "dimension": 2,
        "in_channels": config.in_channels,
        "encoder": to_mapping(config),
        "normalisation": "zscore",
        "intensity": {"window": "percentiles", "percentiles": [0.5, 99.5]},
        "spacing_mm": [1.0, 1.0],
        **changes,
    }


def rebuilt(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


HUGE = (2**63 - 1, 2**62, 10**30, 2**40, -1, -(2**40), 0, 1.5, "1", None, True)
DTYPES = ("F64", "I32", "F8_E4M3", "BOOL", "F4", "", "X" * 100, 3)
METADATA = ({"card": "[" * 5000}, {"card": "null"}, {"card": 3}, [], {"x": "y"})


def damaged_header(header, body, rng, kind):
    """One entry of the header, or its metadata, made wrong in one of eight ways."""
    name = rng.choice([n for n in header if n != "__metadata__"])
    entry, huge = header[name], rng.choice(HUGE)
    damage = {
        "shape": lambda: entry.update(shape=[huge for _ in entry["shape"]] or [huge]),
        "start": lambda: entry.update(data_offsets=[huge, entry["data_offsets"][1]]),
        "overlap": lambda: entry.update(data_offsets=[0, rng.randrange(len(body) * 2)]),
        "backwards": lambda: entry.update(data_offsets=entry["data_offsets"][::-1]),
        "dtype": lambda: entry.update(dtype=rng.choice(DTYPES)),
        "traversal": lambda: header.update({"../../../../tmp/" + name: header.pop(name)}),
        "metadata": lambda: header.update(__metadata__=rng.choice(METADATA)),
        "hole": lambda: header.pop(name),
    }
    damage[kind]()
    return rebuilt(header, body)


def mutated(sound, seed):
    """A damaged header, a wrong length, a cut file, absurd nesting, or rubbish anywhere in the file."""
    rng = random.Random(seed)
    size = struct.unpack("<Q", sound[:8])[0]
    header, body = json.loads(sound[8 : 8 + size]), sound[8 + size :]
    kinds = ("shape", "start", "overlap", "backwards", "dtype", "traversal", "metadata", "hole")
    if seed % 14 < len(kinds):
        return damaged_header(header, body, rng, kinds[seed % 14])
    place, data = rng.randrange(len(sound)), bytearray(sound)
    data[place : place + 40] = bytes(rng.randrange(256) for _ in data[place : place + 40])
    length = rng.choice([0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1])
    others = {
        8: sound[:place],
        9: struct.pack("<Q", length) + sound[8:],
        10: rebuilt(b'{"a":' * 500, body),
    }
    return others.get(seed % 14, bytes(data))


def test_200_mutated_headers_load_or_are_refused_and_never_more(tmp_path, sound):
    """Loading and a FoveateError are the only ways out; both happen, and nothing is written elsewhere."""
    path, loaded, said = tmp_path / "a.safetensors", 0, []
    for seed in range(210):
        path.write_bytes(mutated(sound, seed))
        try:
            weights.load_encoder(path)
            loaded += 1
        except FoveateError as error:
            said.append(str(error))
    assert 0 < loaded < 100
    assert loaded + len(said) == 210
    assert not [text for text in said if "\x1b" in text or len(text) > 2000]
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


WIDE = {"name": "unet2d", "in_channels": 1, "width": 99_999, "levels": 16, "norm": "batch"}
CARDS = {
    "a network that would fill the memory": ({"encoder": WIDE}, "describes layers of .* holds only"),
    "absurd width": ({"encoder": {**WIDE, "width": 10**12}}, "encoder.width is 1000000000000"),
    "negative": ({"encoder": {**WIDE, "levels": -3}}, "encoder.levels is -3"),
    "true": ({"encoder": {**WIDE, "width": True}}, "encoder.width is True"),
    "unknown argument": ({"encoder": {**WIDE, "path": "../../x"}}, "encoder.path is no argument of unet2d"),
    "unknown encoder": ({"encoder": {"name": "../evil"}}, r"encoder.name is '\.\./evil', accepted are"),
    "no encoder": ({"encoder": None}, "encoder.name is None"),
    "dimension": ({"dimension": 4}, "dimension is 4, accepted are"),
    "other dimension": ({"dimension": 3}, "does not exist in 3D"),
    "unknown norm": (
        {"encoder": {**WIDE, "norm": "batchx"}},
        r"encoder\.norm is 'batchx', accepted are batch, group",
    ),
    "unknown step": ({"normalisation": "zscores"}, "normalisation is 'zscores', accepted are none, zscore"),
    "unknown window": ({"intensity": {"window": "ranges", "intensity_range": [0, 1]}}, "intensity is"),
    "version": ({"format": "foveate/2"}, "card format 'foveate/2'"),
    "channels": ({"in_channels": 7}, "in_channels is 7"),
    "spacing": ({"spacing_mm": ["1", 2]}, "spacing_mm is"),
    "escape": ({"format": "\x1b[2J[red]"}, r"\\x1b\[2J\[red\]"),
    "intensity": ({"intensity": {"window": "range", "intensity_range": "x"}}, "intensity is"),
}


@pytest.mark.parametrize("damage", CARDS)
def test_damaged_cards_are_refused_with_the_field(tmp_path, damage):
    change, said = CARDS[damage]
    config = UNetConfig(name="unet2d", width=2, levels=2)
    net = build_pyramid(config, DecoderConfig(), 2)
    path = weights.save({"encoder": net.encoder}, card_for(config, **change), tmp_path)
    with pytest.raises(FoveateError, match=said) as error:
        weights.load_encoder(path)
    assert "\x1b" not in str(error.value)


def test_a_file_without_a_card_is_likened_to_a_family(tmp_path):
    save_file(
        {"layer1.0.conv1.weight": torch.zeros(1), "layer1.0.downsample.0.weight": torch.zeros(1)},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(FoveateError, match=r"no card.*torchvision.*foveate convert"):
        weights.read(tmp_path / "a.safetensors")


# ---------------------------------------------------------------- the card meets another input


def meet(**changes):
    card = card_for(UNetConfig(name="unet2d"), **changes.pop("card", {}))
    here = {
        "dimension": 2,
        "in_channels": 1,
        "normalisation": "zscore",
        "intensity": {"window": "percentiles", "percentiles": (0.5, 99.5), "intensity_range": (0.0, 1.0)},
        "spacing": [1.0, 1.1],
    }
    return weights.check_card(card, **{**here, **changes})


HU = {"window": "range", "intensity_range": [-1000.0, 1000.0]}


def test_an_equal_input_has_nothing_to_say_nor_one_whose_spacing_is_a_quarter_apart():
    assert meet() == meet(spacing=[1.25, 1.0]) == meet(spacing=[1.0, 0.8]) == []
    assert len(meet(spacing=[1.26, 1.0])) == len(meet(spacing=[1.0, 0.79])) == 1


def test_a_list_of_numbers_stands_for_a_default_of_several():
    found = {count: cards.alike([1] * count, (1, 2)) for count in (0, 1, 64, 65)}
    assert found == {0: False, 1: True, 64: True, 65: False}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"in_channels": 4},
            "image channels: 1 in the weights, 4 here; repeated and divided by their number",
        ),
        ({"normalisation": "none"}, "normalisation: zscore in the weights, none here"),
        ({"intensity": HU}, "intensity: percentiles 0.5 to 99.5 in the weights, range -1000 to 1000 here"),
        ({"spacing": [1.0, 3.0]}, "spacing in mm: [1.0, 1.0] in the weights, [1.0, 3.0] here"),
        (
            {"card": {"intensity": None}},
            "intensity: the weights do not say theirs; here percentiles 0.5 to 99.5",
        ),
        ({"card": {"normalisation": None}}, "normalisation: the weights do not say theirs; here zscore"),
    ],
)
def test_what_training_can_bridge_is_named(changes, said):
    assert meet(**changes) == [said]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dimension": 3}, "weights are 2D and the network is 3D.*--inflate"),
        ({"in_channels": 4, "card": {"in_channels": 3}}, "read 3 image channels and the network 4"),
        (
            {"card": {"intensity": HU}, "intensity": {"window": "range", "intensity_range": (0.0, 1.0)}},
            "from -1000 to 1000 and prepare.intensity_range is 0 to 1: not the same units",
        ),
        (
            {"card": {"intensity": HU}, "intensity": {"window": "range", "intensity_range": (2e3, 3e3)}},
            "not the same",
        ),
    ],
)
def test_what_would_be_meaningless_is_refused(changes, said):
    with pytest.raises(FoveateError, match=said):
        meet(**changes)
