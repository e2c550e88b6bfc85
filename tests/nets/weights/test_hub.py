"""Names on the hub, without it; `make test-export` reads a cache of the hub with its own library."""

import sys
from types import ModuleType

import pytest
from tests.nets.weights.untrained import write_run

from foveate import load_encoder
from foveate.cli import main
from foveate.core.types import FoveateError
from foveate.nets.weights import hub


def test_what_is_missing_or_misspelled_is_said(monkeypatch, capsys):
    monkeypatch.setattr(hub, "NEEDED", "a_hub_that_is_not_there")
    with pytest.raises(FoveateError, match=r"pip install 'foveate\[hub\]'"):
        load_encoder("hf:owner/name")
    with pytest.raises(FoveateError, match="accepted are hf:owner/name and"):
        load_encoder("hf:../../etc/passwd")
    assert main(["export", "hf:owner/name", "--format", "monai", "--out", "x.pth"]) == 2
    assert "a_hub_that_is_not_there" in capsys.readouterr().err


def test_one_file_of_a_repository_is_asked_for(tmp_path, monkeypatch):
    write_run(tmp_path / "run", 2, "resnet10", width=4)
    assert (
        main(["export", str(tmp_path / "run"), "--format", "huggingface", "--out", str(tmp_path / "hub")])
        == 0
    )
    asked = []

    def hf_hub_download(repository, file, revision=None):
        asked.append((repository, file, revision))
        if repository != "owner/name":
            raise errors.LocalEntryNotFoundError
        return str(tmp_path / "hub" / file)

    library, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (OSError,), {})
    errors.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})
    library.hf_hub_download, library.errors = hf_hub_download, errors
    monkeypatch.setattr(hub, "NEEDED", "json")
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    assert load_encoder("hf:owner/name@v1").card["dimension"] == 2
    assert asked == [("owner/name", "model.safetensors", "v1")]
    with pytest.raises(FoveateError, match="not in the cache of this machine"):
        load_encoder("hf:owner/other")
