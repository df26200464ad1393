"""``train``: every architecture from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_fidelity import training
from napari_fidelity.cli import main
from napari_fidelity.io import load_model
from napari_fidelity.networks import ARCHITECTURES

if TYPE_CHECKING:
    from pathlib import Path

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
