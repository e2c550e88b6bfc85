"""Damaged checkpoints: none is loaded, none ends in a traceback, and the last good one is gone on from."""

import random
import shutil

import pytest
import torch
from lightning_fabric import Fabric
from tests.conftest import stop_at
from torch import nn

from foveate.cli import main
from foveate.commands.pretrain import run
from foveate.core.types import FoveateError, LostPeerError
from foveate.train import checkpoint, seal

DAMAGES = 40
SEAL = 80  # bytes that follow the archive: a short word, and 64 digits of a hash


def state_of(step):
    """A network whose weights are the step."""
    net = nn.Linear(16, 8)
    for weight in net.parameters():
        weight.data.fill_(step)
    return {"model": net, "step": step, "best": step / 10}


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture
def folder(fabric, tmp_path):
    """Checkpoints of two steps, and the best of them."""
    for step in (1, 2):
        checkpoint.save(fabric, tmp_path, state_of(step), keep=3)
    checkpoint.save_best(fabric, tmp_path, state_of(2))
    return tmp_path


def flipped(content, place, bit=0):
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def damages(content, seed):
    """The content with one bit flipped, or cut, at drawn places; and nothing of it."""
    draw = random.Random(seed)
    yield b""
    for _ in range(DAMAGES):
        yield flipped(content, draw.randrange(len(content)), draw.randrange(8))
    for _ in range(DAMAGES // 4):
        yield content[: draw.randrange(len(content) - 1)]
    yield from (flipped(content, -place) for place in range(1, SEAL + 1, 7))


def resumed(fabric, folder):
    """What a run goes on from, and what it says."""
    state, said = state_of(0), []
    checkpoint.load_newest(fabric, folder, state, said.append)
    assert {int(weight) for weight in state["model"].state_dict()["bias"]} == {state["step"]}
    return state, said


def test_a_good_checkpoint_is_loaded_without_a_word(fabric, folder):
    state, said = resumed(fabric, folder)
    assert (state["step"], state["best"], said) == (2, 0.2, [])


def test_a_run_that_never_had_a_best_one_misses_none(fabric, tmp_path):
    checkpoint.save(fabric, tmp_path, state_of(1) | {"best": -float("inf")}, keep=3)
    state, said = resumed(fabric, tmp_path)
    assert (state["step"], state["best"], said) == (1, -float("inf"), [])


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_anywhere_or_a_cut_is_noticed_and_the_one_before_is_used(fabric, folder, seed):
    newest = checkpoint.path_of(folder, 2)
    for content in damages(newest.read_bytes(), seed):
        newest.write_bytes(content)
        state, said = resumed(fabric, folder)
        assert state["step"] == 1
        assert any(f"{newest.name} is incomplete or damaged; it is skipped" in line for line in said), said
        assert not newest.exists()  # else it would count among those that are kept


class Trap:
    """Writes a file when it is unpickled by ordinary means."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_checkpoint_that_would_run_something_is_damaged_and_runs_nothing(fabric, folder, tmp_path):
    sprung = tmp_path / "sprung"
    for path in (checkpoint.path_of(folder, 2), folder / checkpoint.BEST):
        torch.save({"model": {}, "step": 2, "best": 1.0, "x": Trap(sprung)}, path)
        seal.seal(path)  # whoever made it made its checksum, too
    with pytest.raises(FoveateError, match=r"best\.ckpt is damaged"):
        checkpoint.read_best(folder)
    state, said = resumed(fabric, folder)
    assert (state["step"], state["best"]) == (1, -float("inf"))
    assert "step-000000002.ckpt is incomplete or damaged" in " ".join(said)
    assert not sprung.exists()
    assert "step-000000001.ckpt" in checkpoint.newest_finite(folder)


def test_a_damaged_best_is_lost_with_a_word_and_never_exported(fabric, folder):
    best = folder / checkpoint.BEST
    assert checkpoint.read_best(folder)["step"] == 2
    for content in damages(best.read_bytes(), 0):
        best.write_bytes(content)
        with pytest.raises(FoveateError, match=r"best\.ckpt is damaged .*remove it, and the same command"):
            checkpoint.read_best(folder)
        state, said = resumed(fabric, folder)
        assert (state["step"], state["best"]) == (2, -float("inf"))
        assert "best.ckpt is missing or damaged" in " ".join(said)
    best.unlink()
    assert checkpoint.read_best(folder) is None


def test_what_an_older_version_wrote_is_loaded_with_a_word_unless_it_is_damaged(fabric, folder):
    newest = checkpoint.path_of(folder, 2)
    fabric.save(newest, state_of(2))  # as it was written then
    content = newest.read_bytes()
    state, said = resumed(fabric, folder)
    assert state["step"] == 2
    assert "step-000000002.ckpt carries no checksum" in " ".join(said)
    inside = content.index(torch.full((16,), 2.0).numpy().tobytes())
    for place in range(inside, inside + 64, 5):
        newest.write_bytes(flipped(content, place))
        assert resumed(fabric, folder)[0]["step"] == 1
    for cut in (1, 21, 22, 300):
        newest.write_bytes(content[:-cut])
        assert resumed(fabric, folder)[0]["step"] == 1


def test_without_a_good_one_the_run_says_what_to_do_and_changes_nothing(fabric, folder):
    for path in folder.glob(checkpoint.PATTERN):
        path.write_bytes(flipped(path.read_bytes(), 1500))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FoveateError, match=r"None of the 2 checkpoints .*backup.*from step 0"):
        resumed(fabric, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_damaged_one_does_not_stay_in_the_place_of_a_good_one(fabric, folder):
    newest = checkpoint.path_of(folder, 2)
    moved = checkpoint.path_of(folder, 9)
    newest.rename(moved)
    moved.write_bytes(flipped(moved.read_bytes(), 1500))
    resumed(fabric, folder)
    checkpoint.save(fabric, folder, state_of(3), keep=1)
    assert resumed(fabric, folder)[0]["step"] == 3


def test_nothing_of_a_damaged_file_is_deserialised(fabric, folder, monkeypatch):
    newest = checkpoint.path_of(folder, 2)
    newest.write_bytes(flipped(newest.read_bytes(), 700))
    opened, load = [], torch.load

    def noted(file, *rest, **keys):
        opened.append(str(getattr(file, "name", file)))
        return load(file, *rest, **keys)

    monkeypatch.setattr(checkpoint.torch, "load", noted)
    assert resumed(fabric, folder)[0]["step"] == 1
    assert opened
    assert not any(newest.name in name for name in opened)


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_takes_what_the_first_one_found(fabric, folder, monkeypatch, rank):
    """The first looks and tells; the others do not look, and may see files that it did not take."""
    newest, told, said = checkpoint.path_of(folder, 2), [], []
    if rank == 0:
        newest.write_bytes(flipped(newest.read_bytes(), 700))

    class Two(checkpoint.Peers):
        def from_first(self, value):
            told.append(value)
            return value if rank == 0 else heard

    heard = checkpoint.Found(name=checkpoint.path_of(folder, 1).name)
    monkeypatch.setattr(checkpoint, "Peers", Two)
    monkeypatch.setattr(Fabric, "is_global_zero", rank == 0)
    state = state_of(0)
    assert checkpoint.load_newest(fabric, folder, state, said.append)
    assert (state["step"], len(told)) == (1, 1)
    assert told[0] == (heard if rank == 0 else checkpoint.Found())
    if rank == 0:
        for path in folder.glob(checkpoint.PATTERN):
            path.write_bytes(b"")
    heard = checkpoint.Found(problem="None")
    with pytest.raises(
        LostPeerError if rank else FoveateError, match="Process 0" if rank else "None of the 1"
    ):
        checkpoint.load_newest(fabric, folder, state_of(0), said.append)


def test_the_checksum_is_of_all_that_is_before_it(tmp_path):
    content = random.Random(0).randbytes(3 * seal.PIECE + 5)
    (tmp_path / "x").write_bytes(content)
    seal.seal(tmp_path / "x")
    assert (tmp_path / "x").read_bytes()[:-SEAL] == content
    assert seal.check(tmp_path / "x")
    (tmp_path / "x").write_bytes(flipped((tmp_path / "x").read_bytes(), 3 * seal.PIECE + 4))
    with pytest.raises(seal.DamagedError, match="checksum"):
        seal.check(tmp_path / "x")


def test_a_run_with_a_damaged_checkpoint_ends_as_one_that_went_on_from_the_one_before(tiny, capsys):
    config = tiny(2, "run", steps=3, save_every=1)
    stop_at(config, 2)
    out = run.Path(config.out)
    other = out.parent / "other"
    shutil.copytree(out, other)
    newest = checkpoint.path_of(out / "checkpoints", 2)
    newest.write_bytes(flipped(newest.read_bytes(), newest.stat().st_size // 2))
    checkpoint.path_of(other / "checkpoints", 2).unlink()
    assert run.pretrain(config)
    assert "step-000000002.ckpt is incomplete or damaged" in capsys.readouterr().err
    assert run.pretrain(tiny(2, "other", steps=3, save_every=1))
    weights = "exported/weights.safetensors"
    assert (out / weights).read_bytes() == (other / weights).read_bytes()


def test_the_command_ends_in_a_paragraph_where_no_checkpoint_is_good(tiny, capsys):
    config = tiny(2, "run", steps=2, save_every=1)
    assert run.pretrain(config)
    for path in (run.Path(config.out) / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    assert main(["pretrain", "--config", f"{config.out}/run.yaml", "--steps", "3"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "None of the 2 checkpoints" in shown
    assert "Traceback" not in shown
