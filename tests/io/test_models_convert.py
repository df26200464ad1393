"""Published weights under other names and in other formats."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.cubic import cubic
from napari_fidelity.core.errors import ArchitectureError, ModelFileError, OutputError
from napari_fidelity.io import convert_enhancenet, convert_model, load_model
from napari_fidelity.networks.edsr import EDSR, RGB_MEAN
from napari_fidelity.networks.enhancenet import EnhanceNet

DATA = Path(__file__).parents[3] / "shared" / "data"


def tensorflow_arrays(net: EnhanceNet) -> dict[str, np.ndarray[Any, Any]]:
    """Name the layers of a small network as the published file does."""
    arrays = {}
    for i, module in enumerate(m for m in net.modules() if isinstance(m, torch.nn.Conv2d)):
        layer = f"generator/Conv_{i}" if i else "generator/Conv"
        arrays[f"{layer}/weights"] = module.weight.detach().numpy().transpose(2, 3, 1, 0)
        arrays[f"{layer}/biases"] = module.bias.detach().numpy()
    return arrays


@pytest.fixture
def small() -> EnhanceNet:
    torch.manual_seed(0)
    return EnhanceNet(n_feats=4, n_blocks=2)


def test_enhancenet_from_tensorflow(small: EnhanceNet, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **tensorflow_arrays(small))
    info = convert_model(tmp_path / "w.npz", tmp_path / "mine.safetensors", seen="today")
    loaded = load_model(tmp_path / "mine.safetensors")
    x = torch.rand(1, 3, 3, 5)
    assert torch.equal(loaded(x), small(x))
    assert loaded.info == info
    assert (info.id, info.licence, info.card) == ("mine", "CC BY-NC-ND 4.0", {"seen": "today"})
    assert "1612.07919" in info.source


def test_what_the_user_says_goes_into_the_card(small: EnhanceNet, tmp_path: Path) -> None:
    torch.save(small.state_dict(), tmp_path / "w.pth")
    info = convert_model(tmp_path / "w.pth", tmp_path / "w.safetensors", licence="MIT", source="a friend")
    assert (info.licence, info.source, info.scale) == ("MIT", "a friend", 4)
    with pytest.raises(OutputError, match="exists"):
        convert_model(tmp_path / "w.pth", tmp_path / "w.safetensors")


@pytest.mark.parametrize("change", ["missing", "extra", "names", "shape", "type", "layers"])
def test_other_arrays_are_refused(change: str, small: EnhanceNet, tmp_path: Path) -> None:
    arrays = tensorflow_arrays(small)
    if change == "missing":
        del arrays["generator/Conv_3/biases"]
    elif change == "extra":
        arrays["other"] = np.zeros(3)
    elif change == "names":
        arrays = {name.replace("generator", "g"): array for name, array in arrays.items()}
    elif change == "shape":
        arrays["generator/Conv_2/weights"] = np.zeros((3, 3, 4, 5), np.float32)
    elif change == "type":
        arrays["generator/Conv/biases"] = np.array(["a"] * 4)
    else:
        arrays = {n: a for n, a in arrays.items() if n.split("/")[1] in ("Conv", "Conv_1", "Conv_2")}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises((ModelFileError, ArchitectureError)):
        convert_enhancenet(tmp_path / "w.npz")


class Malicious:
    """Unpickled by the ordinary unpickler, this creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_damaged_and_hostile_archives(small: EnhanceNet, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **tensorflow_arrays(small))
    content = path.read_bytes()
    np.savez(tmp_path / "evil.npz", a=np.array([Malicious(tmp_path / "executed")], dtype=object))
    evil = (tmp_path / "evil.npz").read_bytes()
    for broken in (
        b"",
        b"text",
        content[: len(content) // 2],
        pickle.dumps(Malicious(tmp_path / "executed")),
        evil,
    ):
        path.write_bytes(broken)
        with pytest.raises(ModelFileError, match="damaged"):
            convert_enhancenet(path)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(ModelFileError, match="does not exist"):
        convert_enhancenet(tmp_path / "none.npz")


class Published(torch.nn.Module):
    """EDSR as EDSR-PyTorch writes it, with its names and its range of 0 to 255."""

    def __init__(self, n_feats: int, scale: int, peak: float) -> None:
        super().__init__()

        def conv(n_in: int, n_out: int) -> torch.nn.Conv2d:
            return torch.nn.Conv2d(n_in, n_out, 3, padding=1)

        def shift(sign: int) -> torch.nn.Conv2d:
            layer = torch.nn.Conv2d(3, 3, 1)
            layer.weight.data = torch.eye(3)[:, :, None, None]
            layer.bias.data = sign * peak * torch.tensor(RGB_MEAN)
            return layer

        def block() -> torch.nn.Module:
            module = torch.nn.Module()
            module.body = torch.nn.Sequential(conv(n_feats, n_feats), torch.nn.ReLU(), conv(n_feats, n_feats))
            return module

        factors = [3] if scale == 3 else [2] * (scale // 2)
        pairs = ((conv(n_feats, n_feats * f * f), torch.nn.PixelShuffle(f)) for f in factors)
        self.sub_mean, self.add_mean = shift(-1), shift(1)
        self.head = torch.nn.Sequential(conv(3, n_feats))
        self.body = torch.nn.Sequential(block(), block(), conv(n_feats, n_feats))
        self.tail = torch.nn.Sequential(
            torch.nn.Sequential(*(layer for pair in pairs for layer in pair)), conv(n_feats, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.sub_mean(x))
        h = x
        for block in list(self.body)[:-1]:
            h = h + block.body(h)
        return self.add_mean(self.tail(self.body[-1](h) + x))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("peak", [255.0, 1.0])
def test_published_edsr_does_the_same(scale: int, peak: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = Published(6, scale, peak)
    torch.save(theirs.state_dict(), tmp_path / "edsr.pt")
    ours = load_model(tmp_path / "edsr.pt")
    assert isinstance(ours, EDSR)
    assert (ours.scale, ours.n_channels, ours.mean, ours.res_scale) == (scale, 3, RGB_MEAN, 1.0)
    x = torch.rand(1, 3, 4, 5)
    assert torch.allclose(ours(x), theirs(peak * x) / peak, atol=1e-5)


def test_the_large_published_edsr_scales_its_residuals(tmp_path: Path) -> None:
    torch.save(Published(256, 2, 255.0).state_dict(), tmp_path / "edsr.pt")
    ours = load_model(tmp_path / "edsr.pt")
    assert isinstance(ours, EDSR)
    assert (ours.n_feats, ours.res_scale) == (256, 0.1)


def test_published_edsr_with_parts_missing(tmp_path: Path) -> None:
    weights = Published(6, 2, 255.0).state_dict()
    del weights["body.1.body.2.bias"]
    torch.save(weights, tmp_path / "edsr.pt")
    with pytest.raises(ArchitectureError, match=r"blocks\.1\.conv2\.bias"):
        load_model(tmp_path / "edsr.pt")


def shrink(image: np.ndarray[Any, Any], scale: int) -> np.ndarray[Any, Any]:
    """Halve like MATLAB's antialiased bicubic imresize on uint8, which rounds after each of its two passes."""
    for axis in (0, 1):
        n = image.shape[axis]
        centres = (np.arange(n // scale) + 0.5) * scale - 0.5
        taps = np.floor(centres - 2 * scale).astype(int)[:, None] + np.arange(4 * scale + 2)
        weights = cubic((centres[:, None] - taps) / scale)
        weights /= weights.sum(1, keepdims=True)
        mirrored = np.mod(taps, 2 * n)
        mirrored = np.where(mirrored >= n, 2 * n - 1 - mirrored, mirrored)
        rows = np.moveaxis(image, axis, 0)[mirrored]
        image = np.moveaxis(np.einsum("it,it...->i...", weights, rows), 0, axis)
        image = np.clip(np.floor(image + 0.5), 0, 255)
    return image


def luma(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return Y of BT.601 from RGB in 0 to 255."""
    y: np.ndarray[Any, Any] = 16 + image @ np.array([65.481, 128.553, 24.966]) / 255
    return y


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "enhancenet").is_dir(), reason="the published weights and Set5 are not there")
@pytest.mark.parametrize(("scale", "expected"), [(4, 28.85), (2, 30.35), (3, 30.21)])
def test_published_weights_on_set5(scale: int, expected: float) -> None:
    """Mean PSNR on Y of the rounded output, border of ``scale`` cropped; ×2 and ×3 by surgery."""
    from skimage.io import imread

    network = convert_enhancenet(DATA / "enhancenet" / "enhancenet_pat_x4_tf.npz").to_scale(scale)
    assert network.info.n_parameters == 852_867
    scores = []
    for name in ("baby", "bird", "butterfly", "head", "woman"):
        truth = imread(DATA / "set5" / f"{name}.png")[..., :3].astype(float)
        truth = truth[: truth.shape[0] // scale * scale, : truth.shape[1] // scale * scale]
        low = torch.from_numpy(shrink(truth, scale) / 255).float().permute(2, 0, 1)[None]
        with torch.no_grad():
            output = network(low)[0].permute(1, 2, 0).double().numpy()
        error = luma(np.clip(np.round(output * 255), 0, 255)) - luma(truth)
        scores.append(10 * np.log10(255**2 / np.mean(error[scale:-scale, scale:-scale] ** 2)))
    assert np.mean(scores) == pytest.approx(expected, abs=0.03)
