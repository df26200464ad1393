"""Architectures that spandrel knows, from files of weights; and that ours stay ours."""

from __future__ import annotations

import importlib
import random
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import napari_fidelity as nf
from napari_fidelity import networks
from napari_fidelity.core.errors import ArchitectureError, ModelFileError, OptionError
from napari_fidelity.io import convert_model, load_model, save_model
from napari_fidelity.networks.foreign import ForeignNetwork

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("spandrel")

SWINIR = {"img_size": 16, "embed_dim": 12, "depths": [1], "num_heads": [2], "window_size": 8, "upscale": 2}
SMALL: dict[str, dict[str, Any]] = {
    "Compact": {"num_feat": 8, "num_conv": 3, "upscale": 2},
    "SwinIR": {**SWINIR, "upsampler": "pixelshuffle"},
    "ESRGAN": {"num_filters": 8, "num_blocks": 1, "scale": 2},
    "DnCNN": {"in_nc": 1, "out_nc": 1, "nc": 8, "nb": 8},
    "DRUNet": {"in_nc": 4, "out_nc": 3, "nc": [4, 4, 4, 4], "nb": 2},
}
OURS: dict[str, dict[str, Any]] = {
    "DRUNet": {"n_feats": [4, 4, 4, 4], "n_blocks": 2},
    "EDSR": {"n_feats": 4, "n_blocks": 2, "scale": 4},
    "EnhanceNet": {"n_feats": 4, "n_blocks": 2},
}


def build(name: str, **changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"spandrel.architectures.{name}")
        return getattr(module, name)(**{**SMALL.get(name, {}), **changes}).eval()


def saved(folder: Path, module: torch.nn.Module, suffix: str = ".pth", **other: Any) -> Path:
    path, weights = folder / f"net{suffix}", module.state_dict()
    if suffix == ".safetensors":
        save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, path)
    else:
        torch.save({**weights, **other}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("name", "told", "closed_form"),
    [("Compact", ("RealESRGAN Compact", 2, 3, 1, 1), False), ("SwinIR", ("SwinIR", 2, 3, 1, 16), True)],
)
def test_loads_runs_learns_and_projects(
    name: str, told: tuple[Any, ...], closed_form: bool, suffix: str, tmp_path: Path
) -> None:
    module = build(name)
    network = load_model(saved(tmp_path, module, suffix))
    info = network.info
    assert (info.architecture, info.scale, info.n_channels, info.size_multiple, info.smallest) == told
    assert (info.format, info.untrainable, info.id, len(info.sha256)) == ("spandrel", "", "net", 64)
    assert (network.last_layer is not None) == closed_form
    assert not network.training
    y = torch.rand(1, 3, 24, 16)
    with torch.no_grad():
        assert torch.equal(network(y), module(y))  # neither clipped nor padded
        assert network(torch.rand(2, 3, 33, 29)).shape == (2, 3, 66, 58)
    operator = nf.operators.Downsample(scale=2)
    y = operator.A(torch.rand(1, 3, 66, 58))
    losses = [step.loss for step in nf.FineTune(iterations=2, average=False).steps(y, operator, network)]
    assert losses[-1] < losses[0]
    (applied,), (projected,) = (
        list(method.steps(y, operator, network)) for method in (nf.Apply(), nf.Project(ridge=0))
    )
    assert projected.loss < applied.loss / 100


def test_gray_through_rgb_and_rgb_through_gray(tmp_path: Path) -> None:
    for name, channels in (("Compact", 3), ("ESRGAN", 1)):
        small = build(name, **({"in_nc": 1, "out_nc": 1} if channels == 1 else {}))
        path = saved(tmp_path, small)
        for shape in ((9, 11), (9, 11, 3)):
            y = np.random.default_rng(0).random(shape, dtype=np.float32)
            axes = "YXS"[: len(shape)]
            result = nf.restore(
                nf.Image(y, axes), operator=nf.operators.Downsample(scale=2), method=nf.Project(), model=path
            )
            assert result.image.shape == (18, 22, *shape[2:])
            assert np.isfinite(result.image.data).all()


def test_a_network_of_four_channels_is_refused_on_rgb(tmp_path: Path) -> None:
    path = saved(tmp_path, build("ESRGAN", in_nc=4, out_nc=4))
    assert load_model(path).info.n_channels == 4
    with pytest.raises(ArchitectureError, match="4 channels"):
        nf.restore(np.zeros((8, 8, 3), np.float32), operator=nf.operators.Downsample(scale=2), model=path)


@pytest.mark.parametrize("name", OURS)
def test_ours_stay_ours(name: str, tmp_path: Path) -> None:
    own = networks.build(name, OURS[name])
    assert type(load_model(saved(tmp_path, own))) is type(own)


@pytest.mark.parametrize(
    ("name", "changes", "wanted"),
    [
        ("DRUNet", {}, "DRUNet"),  # the published names are those of ours, which takes the noise level
        ("DRUNet", {"downsample_mode": "maxpool"}, "spandrel"),
        ("DnCNN", {}, "DnCNN"),
        ("ESRGAN", {}, "spandrel"),
        ("Compact", {}, "spandrel"),
    ],
)
def test_where_foreign_weights_go(name: str, changes: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    network = load_model(saved(tmp_path, build(name, **changes)))
    assert (network.info.format if isinstance(network, ForeignNetwork) else type(network).__name__) == wanted
    if name in ("DRUNet", "DnCNN"):
        assert network.scale == 1


def test_noise_maps_are_the_noise_level(tmp_path: Path) -> None:
    module = build("DnCNN", in_nc=2, mode="FDnCNN", act_mode="R")
    network = load_model(saved(tmp_path, module))
    assert network.takes_noise_level
    y = torch.rand(1, 1, 9, 8)
    assert torch.equal(network(y, 0.1), module(torch.cat([y, torch.full_like(y, 0.1)], 1)))
    assert torch.isfinite(network(y)).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"model.model.1.bn_l.running_mean": torch.zeros(3)}, "LaMa fills holes, and takes a mask"),
        (
            {f"conv_body_first.{name}": torch.zeros(3) for name in ("weight", "bias")},
            "belong to none of the known architectures.*spandrel does not know them either",
        ),
    ],
)
def test_networks_that_do_not_restore(weights: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "n.pth")
    with pytest.raises(ArchitectureError, match=message):
        load_model(tmp_path / "n.pth")


def test_networks_that_change_the_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="1 in, 3 out"):
        load_model(saved(tmp_path, build("ESRGAN", in_nc=1, out_nc=3)))


def test_missing_and_damaged_weights(tmp_path: Path) -> None:
    weights = build("Compact").state_dict()
    torch.save({k: v for k, v in weights.items() if k != "body.2.bias"}, tmp_path / "n.pth")
    with pytest.raises(ArchitectureError, match=r"look like RealESRGAN Compact, but do not fit.*body\.2\.bias"):
        load_model(tmp_path / "n.pth")
    weights["body.2.bias"][1] = float("nan")
    torch.save(weights, tmp_path / "n.pth")
    with pytest.raises(ModelFileError, match=r"'body\.2\.bias' is damaged .*1 of 8"):
        load_model(tmp_path / "n.pth")


@pytest.mark.parametrize("wrap", [("params_ema",), ("params-ema",), ("generator", "state_dict"), ("net", "model")])
def test_wrapped_weights(wrap: tuple[str, ...], tmp_path: Path) -> None:
    content: Any = {f"module.{name}": tensor for name, tensor in build("Compact").state_dict().items()}
    for key in reversed(wrap):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "n.pth")
    assert load_model(tmp_path / "n.pth").info.architecture == "RealESRGAN Compact"


def test_loading_disturbs_no_random_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path, build("SwinIR"))
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    load_model(path)
    after = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    assert after == (torch.rand(1), np.random.rand(), random.random())


def test_without_spandrel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, build("Compact"))
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ArchitectureError, match=r"none of the known.*Known: DRUNet.*napari-fidelity\[models\]"):
        load_model(path)


def test_they_are_not_written_as_ours(tmp_path: Path) -> None:
    path = saved(tmp_path, build("Compact"))
    for write in (
        lambda target: save_model(load_model(path), target),
        lambda target: convert_model(path, target),
    ):
        with pytest.raises(ArchitectureError, match="Only networks of the registered architectures"):
            write(tmp_path / "out.safetensors")
    with pytest.raises(OptionError):
        save_model(load_model(path), tmp_path / "out.pth")
    assert not (tmp_path / "out.safetensors").exists()
