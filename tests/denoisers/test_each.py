"""What is particular to one denoiser, checked against another computation of it."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from napari_fidelity.core.errors import ArchitectureError, DeviceError, MissingDependencyError
from napari_fidelity.denoisers import BM3D, NLM, TV, NetworkDenoiser, Wavelet
from napari_fidelity.denoisers.colour import from_opponent, opponent
from napari_fidelity.networks.drunet import DRUNet
from napari_fidelity.networks.edsr import EDSR
from napari_fidelity.networks.vsr import VSR

SIGMA = 0.1


def image(*shape: int) -> torch.Tensor:
    """Stripes with noise."""
    stripes = 0.5 + 0.3 * torch.sin(torch.arange(shape[-1]) / 2).expand(shape)
    return stripes + SIGMA * torch.randn(shape, generator=torch.Generator().manual_seed(0))


# non-local means


@pytest.mark.parametrize("shape", [(1, 3, 20, 31), (2, 1, 5, 7), (1, 2, 6, 8, 9)])
@pytest.mark.parametrize("options", [{}, {"patch_size": 3, "patch_distance": 2, "h": 1.0}, {"patch_size": 7}])
def test_nlm_by_torch_is_that_of_scikit_image(shape: tuple[int, ...], options: dict[str, float]) -> None:
    x = image(*shape)
    given = {"patch_distance": 4, **options}
    ours, theirs = (NLM(backend=backend, **given).denoise(x, SIGMA) for backend in ("torch", "skimage"))
    # scikit-image's exponential is good to some percent
    assert float((ours - theirs).square().mean().sqrt()) < 1e-3
    assert float((theirs - x).square().mean().sqrt()) > 0.03


def test_nlm_tells_scikit_image_what_was_asked_for() -> None:
    x = image(1, 3, 20, 24)
    expected = denoise_nl_means(
        x[0].permute(1, 2, 0).double().numpy(), 7, 3, 0.8 * SIGMA, True, SIGMA, channel_axis=-1
    )
    found = NLM(patch_size=7, patch_distance=3, h=0.8).denoise(x, SIGMA)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "skimage"])
def test_nlm_of_each_channel_is_that_of_a_gray_image(backend: str) -> None:
    x = image(2, 3, 12, 14)
    each = NLM(patch_distance=3, joint=False, backend=backend)
    channels = [each.denoise(x[:, c : c + 1], SIGMA) for c in range(3)]
    torch.testing.assert_close(each.denoise(x, SIGMA), torch.cat(channels, dim=1))
    assert (each.replace(joint=True).denoise(x, SIGMA) - torch.cat(channels, dim=1)).abs().max() > 0.01


# total variation


def test_tv_of_one_channel_is_that_of_scikit_image() -> None:
    x = image(1, 1, 16, 20)
    expected = denoise_tv_chambolle(x[0, 0].double().numpy(), 0.8 * SIGMA, eps=1e-12, max_num_iter=20_000)
    error = TV(weight=0.8).denoise(x, SIGMA)[0, 0].numpy() - expected
    assert np.sqrt(np.mean(error**2)) < 0.05 * SIGMA


def test_tv_of_equal_channels_is_that_of_one() -> None:
    x = image(1, 1, 16, 20)
    torch.testing.assert_close(TV().denoise(x.expand(1, 4, 16, 20), SIGMA)[:, 2:3], TV().denoise(x, SIGMA))


def test_tv_sees_an_edge_of_another_channel() -> None:
    x = image(1, 2, 24, 24)
    x[:, 1, :, 12:] += 3
    noise_free = x.clone()
    noise_free[:, 0, :, 12:] += 0.15  # too faint an edge to be kept by itself
    step = [
        float(d[..., 13:].mean() - d[..., :11].mean())
        for d in (TV(weight=3).denoise(noise_free, SIGMA)[:, :1], TV(weight=3).denoise(noise_free[:, :1], SIGMA))
    ]
    assert step[0] > step[1] + 0.005


def test_much_tv_leaves_the_mean() -> None:
    x = image(1, 1, 8, 9, 10)
    torch.testing.assert_close(TV(weight=1000).denoise(x, SIGMA), x.mean().expand_as(x), atol=0.005, rtol=0)


# wavelets


def test_one_level_of_wavelets_by_hand() -> None:
    x = image(1, 1, 6, 8)[0, 0]
    a, b, c, d = x[::2, ::2], x[::2, 1::2], x[1::2, ::2], x[1::2, 1::2]
    bands = [(a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
    for k in (1, 2, 3):
        excess = max(float(bands[k].square().mean()) - SIGMA**2, SIGMA**2 * 2**-23)
        threshold = SIGMA**2 / math.sqrt(excess)
        bands[k] = bands[k].sign() * (bands[k].abs() - threshold).clamp_min(0)
    low, columns, rows, diagonal = bands
    expected = torch.empty_like(x)
    expected[::2, ::2], expected[::2, 1::2] = low + columns + rows + diagonal, low - columns + rows - diagonal
    expected[1::2, ::2], expected[1::2, 1::2] = low + columns - rows - diagonal, low - columns - rows + diagonal
    found = Wavelet(levels=1, shifts=1).denoise(x[None, None], SIGMA)
    torch.testing.assert_close(found[0, 0], expected / 2)


def test_wavelets_of_a_shifted_image() -> None:
    # as many shifts as there are positions of the blocks: none of them is particular
    x = image(1, 1, 1, 32)
    wide = torch.cat([x.flip(-1), x, x.flip(-1)], dim=-1)
    one, other = (Wavelet(levels=3, shifts=8).denoise(wide[..., i : i + 64], SIGMA) for i in (8, 9))
    torch.testing.assert_close(one[..., 17:-16], other[..., 16:-17], atol=0.01, rtol=0)


def test_opponent_colours_keep_the_level_of_noise() -> None:
    x = image(2, 3, 4, 5, 6)
    colours = opponent(x)
    torch.testing.assert_close(from_opponent(colours), x)
    torch.testing.assert_close(colours.square().sum(1), x.square().sum(1))
    assert opponent(x[:, :1].expand(-1, 3, -1, -1, -1))[:, 1:].abs().max() < 1e-6
    assert opponent(x[:, :2]).shape[1] == 2


# BM3D


def test_bm3d_that_is_missing_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(MissingDependencyError, match="non-commercial") as caught:
        BM3D().denoise(image(1, 1, 16, 16), SIGMA)
    assert "pip install" in caught.value.do
    assert "non-commercial" in BM3D.title


def test_bm3d_of_a_gray_image_in_colours() -> None:
    pytest.importorskip("bm3d", reason="its licence keeps it out of what is installed along")
    x = image(1, 1, 16, 17).expand(1, 3, 16, 17)
    output = BM3D().denoise(x, SIGMA)
    torch.testing.assert_close(output[:, :2], output[:, 1:], atol=1e-4, rtol=0)


# networks


def drunet(n_channels: int = 3) -> DRUNet:
    torch.manual_seed(0)
    return DRUNet(n_channels, (4, 4, 4, 4), 1).eval()


EXACT = NetworkDenoiser(precision="float32")


@torch.no_grad()
def test_a_network_is_told_the_noise_level_and_a_blind_one_is_not() -> None:
    x, net = image(2, 3, 8, 9), drunet()
    blind = EDSR(3, 4, 1, 1).eval()
    torch.testing.assert_close(EXACT.denoise(x, 0.2, net), net(x, 0.2))
    torch.testing.assert_close(EXACT.denoise(x, 0.2, blind), blind(x))


@torch.no_grad()
def test_other_channels_go_through_the_network_one_by_one() -> None:
    x, net, gray = image(2, 2, 8, 9), drunet(), drunet(1)
    expected = torch.stack([net(x[:, c : c + 1].expand(-1, 3, -1, -1), SIGMA).mean(1) for c in range(2)], dim=1)
    torch.testing.assert_close(EXACT.denoise(x, SIGMA, net), expected)
    each = torch.cat([gray(x[:, c : c + 1], SIGMA) for c in range(2)], dim=1)
    torch.testing.assert_close(EXACT.denoise(x, SIGMA, gray), each)


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_volumes_go_through_the_network_slice_by_slice(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fidelity.denoisers.network.AT_ONCE", 200)  # two slices
    x, net = image(2, channels, 5, 8, 9), drunet(channels)
    slices = [net(x[:, :, z], SIGMA) for z in range(5)]
    torch.testing.assert_close(EXACT.denoise(x, SIGMA, net), torch.stack(slices, dim=2))


@torch.no_grad()
def test_a_network_on_another_range_is_told_the_level_on_that() -> None:
    x, net = image(1, 3, 8, 9), drunet()
    net.info = replace(net.info, value_range=(-1.0, 1.0))
    torch.testing.assert_close(EXACT.denoise(x, 0.2, net), (net(2 * x - 1, 0.4) + 1) / 2)


def test_a_network_in_bfloat16_gives_float32() -> None:
    x, net = image(1, 3, 8, 9), drunet()
    rough, exact = (NetworkDenoiser(precision=p).denoise(x, SIGMA, net) for p in ("bfloat16", "float32"))
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().max()) < 0.05


class Told(torch.nn.Module):
    def forward(self, y: torch.Tensor, physics: object) -> torch.Tensor:
        return y


def test_networks_that_do_not_fit_are_named() -> None:
    x = image(1, 3, 8, 9)
    with pytest.raises(ArchitectureError, match="×2"):
        EXACT.denoise(x, SIGMA, EDSR(3, 4, 1, 2))
    with pytest.raises(ArchitectureError, match="4 channels"):
        EXACT.denoise(x, SIGMA, drunet(4))
    with pytest.raises(ArchitectureError, match="of that shape"):
        EXACT.denoise(x, SIGMA, lambda z: z[..., 1:])
    with pytest.raises(ArchitectureError, match="the frames around an image"):
        EXACT.denoise(x, SIGMA, VSR(3, 4, 1, scale=1))
    with pytest.raises(ArchitectureError, match="the image formation model"):
        EXACT.denoise(x, SIGMA, Told())
    with pytest.raises(ArchitectureError, match="of that shape"):
        EXACT.denoise(x, SIGMA, lambda z: None)
    with pytest.raises(ArchitectureError, match="cannot be applied"):
        EXACT.denoise(x, SIGMA, torch.nn.Conv2d(5, 5, 3))
    with pytest.raises(DeviceError, match="meta"):
        EXACT.denoise(x, SIGMA, drunet().to("meta"))
