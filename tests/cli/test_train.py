"""``train``: every architecture from the command line."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch

from napari_fidelity import training
from napari_fidelity.cli import main
from napari_fidelity.cli._console import Display
from napari_fidelity.io import load_model
from napari_fidelity.networks import ARCHITECTURES

if TYPE_CHECKING:
    from conftest import Scene

SMALL = {
    "DRUNet": "DRUNet:n_feats=[2,2,2,2],n_blocks=1",
    "DnCNN": "DnCNN:n_feats=4,n_layers=3",
    "RDN": "RDN:n_feats=4,n_blocks=1,n_layers=2,growth=2",
    "RRDN": "RRDN:n_feats=4,n_blocks=1,growth=2",
}


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> list[str]:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("clean.tif", (scene(72, 72) * 255).astype(np.uint8))
    data = training.training_set(n_channels=1, n_synthetic=0, folder=tmp_path)
    monkeypatch.setattr(training, "training_set", lambda *a, **k: data)
    monkeypatch.setattr(training, "validation_images", lambda n: (scene(1, 16, 16),))
    words = ["train", "new.safetensors", "--n-channels", "1", "--device", "cpu", "--json", "--n-steps", "1"]
    return [*words, "--degrade.batch-size", "2", "--degrade.patch-size", "8", "--degrade.margin", "2"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_trained(name: str, words: list[str]) -> None:
    scale = 1 if name in ("DRUNet", "DnCNN") else 2
    sizes = [] if name in SMALL else ["--n-feats", "4", "--n-blocks", "1"]
    words += ["--architecture", SMALL.get(name, name), *sizes]
    words += ["--operator", f"downsample:scale={scale}", *(["--scale", "2"] if scale == 2 else [])]
    assert main(words) == 0
    network = load_model("new.safetensors")
    assert (network.architecture, network.scale, network.n_channels) == (name, scale, 1)
    assert network.frames == (5 if name == "VSR" else 1)


def test_a_model_goes_on_at_another_scale(words: list[str]) -> None:
    small = ["--architecture", "VSR:frames=3", "--n-feats", "4", "--n-blocks", "1"]
    assert main([*words, *small, "--operator", "downsample:scale=4"]) == 0
    more = ["--start", "new.safetensors", "--scale", "3", "--operator", "downsample:scale=3", "--overwrite"]
    assert main([*words, *more]) == 0
    network = load_model("new.safetensors")
    assert (network.scale, network.frames) == (3, 3)


OWN = """
import torch
import napari_fidelity as nf

@nf.register_architecture
class Mean(nf.networks.RestorationNetwork):
    architecture, frames, scale = "Mean", 3, 1

    def __init__(self, n_channels=1):
        super().__init__()
        self.n_channels = n_channels
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        self.check_input(x)
        before, after = x[[min(1, len(x) - 1), *range(len(x) - 1)]], x[[*range(1, len(x)), max(0, len(x) - 2)]]
        return self.gain * (before + x + after) / 3

    def config(self):
        return {"n_channels": self.n_channels}

    @classmethod
    def detect(cls, state_dict):
        return state_dict.keys() == {"gain"}

    @classmethod
    def infer_config(cls, state_dict):
        return {}
"""


@pytest.mark.usefixtures("nothing_registered")
def test_a_video_network_of_ones_own_is_trained(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own.py").write_text(OWN, encoding="utf-8")
    own = ["--import", "own.py", "--architecture", "Mean", "--operator", "gaussian_blur:sigma=1"]
    assert main([*words, *own]) == 0
    network = load_model("new.safetensors")
    assert (network.architecture, network.frames) == ("Mean", 3)
    assert network.gain.item() != 1


def test_the_scale_left_out_is_that_of_the_operator(words: list[str]) -> None:
    small = ["--architecture", "VSR:frames=3", "--n-feats", "4", "--n-blocks", "1", "--overwrite"]
    for scale, more in ((2, []), (3, ["--start", "new.safetensors"])):
        assert main([*words, *small, "--operator", f"downsample:scale={scale}", *more]) == 0
        assert load_model("new.safetensors").scale == scale


def test_ctrl_c_keeps_what_was_trained_at_the_next_step(words: list[str], monkeypatch: Any, capsys: Any) -> None:
    shown = Display.__call__

    def press(self: Display, step: Any) -> Any:
        if step.index == 1:
            signal.raise_signal(signal.SIGINT)
        return shown(self, step)

    monkeypatch.setattr(Display, "__call__", press)
    words[words.index("--n-steps") + 1] = "60"
    small = ["--architecture", "VSR:frames=3", "--n-feats", "4", "--n-blocks", "1"]
    assert main([*words, *small, "--checkpoint", "t.pt"]) == 130
    assert json.loads(capsys.readouterr().out)["interrupted"]
    assert load_model("new.safetensors").frames == 3
    assert torch.load("t.pt", weights_only=True)["state"]["index"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--architecture", "ESDR"], "Did you mean 'EDSR'"),
        (["--architecture", "RDN:groth=3"], "groth"),
        (["--architecture", "RDN:growth"], "name=value"),
        (["--architecture", "DnCNN", "--scale", "2"], "no DnCNN for ×2"),
        (["--architecture", "RRDN", "--scale", "5"], "no upsampler for ×5"),
    ],
)
def test_what_cannot_be_built_is_said(more: list[str], message: str, words: list[str], capsys: Any) -> None:
    assert main([*words, *more]) != 0
    captured = capsys.readouterr()
    assert message in " ".join((captured.out + captured.err).split())
