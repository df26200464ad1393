"""The command ``models`` over files and folders, and ``--trust``."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from napari_fidelity.cli import main
from napari_fidelity.cli.models import _in_words
from napari_fidelity.networks import ModelInfo

if TYPE_CHECKING:
    from pathlib import Path

TRUSTING = ("correct", "project", "reconstruct", "uncertainty", "calibrate", "frc", "run", "models")


@pytest.fixture
def zoo(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder of good and bad models, and a measurement."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "good.safetensors").write_bytes(model_file.read_bytes())
    (folder / "broken.pth").write_bytes(b"PK\x03\x04 not much")
    (folder / "readme.txt").write_text("no model")
    torch.save({"conv.weight": torch.zeros(3, 3)}, folder / "unknown.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 3, padding=1)), folder / "program.ts")
    tifffile.imwrite(tmp_path / "in.tif", np.random.default_rng(0).random((12, 14), dtype=np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return folder


def test_a_folder_is_listed_past_bad_files(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "zoo", "--json"]) == 0
    listed = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(listed) == [f"zoo/{n}" for n in ("broken.pth", "good.safetensors", "program.ts", "unknown.pt")]
    assert listed["zoo/broken.pth"]["error"] == "ModelFileError"
    assert listed["zoo/good.safetensors"]["architecture"] == "EDSR"
    assert listed["zoo/program.ts"]["error"] == "UntrustedModelError"
    assert listed["zoo/unknown.pt"]["error"] == "ArchitectureError"
    assert main(["models", "zoo", "--trust", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[2]["format"] == "torchscript"


def test_a_folder_in_words(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "zoo", "edsr-s-x2"]) == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown for word in ("broken.pth", "EDSR", "×2", "damaged", "TorchScript program", "edsr-s-x2")
    )
    assert "readme" not in shown
    (zoo / "empty").mkdir()
    assert main(["models", "zoo/empty"]) == 0
    assert "No model files" in capsys.readouterr().out


def test_the_folder_of_an_unpacked_package_is_one_model(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bioimageio.core")
    (zoo / "package").mkdir()
    (zoo / "package" / "rdf.yaml").write_text("type: dataset")
    assert main(["models", "zoo/package"]) == 1
    assert "'rdf.yaml' describes no bioimage.io model" in capsys.readouterr().err


def test_what_there_is_to_know_in_words(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = ModelInfo(
        "a", "A", 4, 3, 5, frames=5, size_multiple=8, smallest=16, untrainable="it runs without gradients"
    )
    assert _in_words(info) == [
        "restores each frame of a video from 5",
        "pads images to multiples of 8 pixels",
        "pads images to 16 pixels at least",
        "cannot be fine-tuned: it runs without gradients",
    ]
    assert main(["models", "zoo/program.ts", "--trust"]) == 0
    shown = capsys.readouterr().out
    assert "TorchScript program" in shown
    assert "size multiple" not in shown


def test_programs_run_only_with_trust(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["project", "in.tif", "out.tif", "--model", "zoo/program.ts", "--device", "cpu"]
    assert main([*command, "--recipe", "r.json"]) == 1
    assert "nothing of it was run" in capsys.readouterr().err
    assert main([*command, "--recipe", "r.json", "--trust"]) == 0
    assert "trust" not in (zoo.parent / "r.json").read_text()
    assert main(["run", "r.json", "in.tif", "again.tif"]) == 1
    assert main(["run", "r.json", "in.tif", "again.tif", "--trust"]) == 0
    assert main(["uncertainty", "in.tif", "map.tif", "--map", "null_space", "--model", "zoo/program.ts"]) == 1
    with_trust = ["--method", "apply", "--trust", "--operator", "gaussian_blur:sigma=1"]
    words = ["uncertainty", "in.tif", "map.tif", "--map", "null_space", "--model", "zoo/program.ts", *with_trust]
    assert main(words) == 0


@pytest.mark.parametrize("command", TRUSTING)
def test_every_command_that_takes_a_model_has_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--trust" in capsys.readouterr().out


def test_training_goes_on_from_our_own_networks_alone(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_compact(), zoo / "compact.pth")
    assert main(["train", "new.safetensors", "--start", "zoo/compact.pth"]) == 1
    assert "Training goes on from networks of the registered architectures" in capsys.readouterr().err
    assert main(["train", "new.safetensors", "--start", "zoo/program.ts"]) == 1


def _compact() -> dict[str, torch.Tensor]:
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact import Compact

    state: dict[str, torch.Tensor] = Compact(num_feat=8, num_conv=2, upscale=2).state_dict()
    return state
