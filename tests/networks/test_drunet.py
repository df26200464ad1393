"""DRUNet: the published network, its weights by their names, the noise level, any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError, OptionError, ShapeError
from napari_fidelity.io import load_model
from napari_fidelity.networks import detect
from napari_fidelity.networks.drunet import DRUNet, noise_level

if TYPE_CHECKING:
    from pathlib import Path

SMALL = (3, 4, 5, 6)
PAPER = (64, 128, 256, 512)


def network(n_channels: int = 3, n_blocks: int = 2) -> DRUNet:
    torch.manual_seed(0)
    return DRUNet(n_channels, SMALL, n_blocks).eval()


def published(n_channels: int, feats: tuple[int, ...] = PAPER, blocks: int = 4) -> dict[str, torch.Size]:
    """Names and shapes in the files ``drunet_color.pth`` and ``drunet_gray.pth``."""
    shapes = {"m_head.weight": (feats[0], n_channels + 1, 3, 3), "m_tail.weight": (n_channels, feats[0], 3, 3)}
    stages = [(f"m_down{i + 1}", feats[i], 0) for i in range(3)] + [("m_body", feats[3], 0)]
    stages += [(f"m_up{i + 1}", feats[i], 1) for i in range(3)]
    for stage, width, first in stages:
        for block in range(first, first + blocks):
            for layer in (0, 2):
                shapes[f"{stage}.{block}.res.{layer}.weight"] = (width, width, 3, 3)
    for i in range(3):
        shapes[f"m_down{i + 1}.{blocks}.weight"] = (feats[i + 1], feats[i], 2, 2)
        shapes[f"m_up{i + 1}.0.weight"] = (feats[i + 1], feats[i], 2, 2)
    return {name: torch.Size(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(("n_channels", "count"), [(1, 32_638_656), (3, 32_640_960)])
def test_the_default_is_the_published_network(n_channels: int, count: int) -> None:
    with torch.device("meta"):
        net = DRUNet(n_channels)
    assert {name: weight.shape for name, weight in net.state_dict().items()} == published(n_channels)
    assert sum(weight.numel() for weight in net.parameters()) == count


@pytest.mark.parametrize("n_channels", [1, 3])
def test_published_names_say_what_the_network_is(n_channels: int) -> None:
    weights = {name: torch.empty(shape, device="meta") for name, shape in published(n_channels).items()}
    assert detect(weights)[0] is DRUNet
    assert DRUNet.infer_config(weights) == {"n_channels": n_channels, "n_feats": list(PAPER), "n_blocks": 4}


@pytest.mark.parametrize("n_channels", [1, 3])
def test_a_file_of_published_names_loads(n_channels: int, tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = published(n_channels, SMALL, 2)
    weights = {name: 0.1 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    torch.save(weights, tmp_path / "drunet.pth")
    net = load_model(tmp_path / "drunet.pth")
    assert isinstance(net, DRUNet)
    assert (net.n_channels, net.scale, net.takes_noise_level) == (n_channels, 1, True)
    x = torch.rand(1, n_channels, 16, 8, generator=rng)
    with torch.no_grad():
        torch.testing.assert_close(net(x, 0.1), by_hand(weights, x, 0.1))


def by_hand(w: dict[str, torch.Tensor], x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Figure 3 of the paper, written out for two blocks; sizes divisible by 8."""

    def blocks(z: torch.Tensor, stage: str, first: int) -> torch.Tensor:
        for i in (first, first + 1):
            inner = F.conv2d(z, w[f"{stage}.{i}.res.0.weight"], padding=1).relu()
            z = z + F.conv2d(inner, w[f"{stage}.{i}.res.2.weight"], padding=1)
        return z

    z = torch.cat([x, torch.full_like(x[:, :1], sigma)], dim=1)
    kept = [F.conv2d(z, w["m_head.weight"], padding=1)]
    for i in (1, 2, 3):
        kept.append(F.conv2d(blocks(kept[-1], f"m_down{i}", 0), w[f"m_down{i}.2.weight"], stride=2))
    z = blocks(kept[3], "m_body", 0)
    for i in (3, 2, 1):
        z = blocks(F.conv_transpose2d(z + kept[i], w[f"m_up{i}.0.weight"], stride=2), f"m_up{i}", 1)
    return F.conv2d(z + kept[0], w["m_tail.weight"], padding=1)


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (17, 9)])
@torch.no_grad()
def test_any_size_and_channel_count(n_channels: int, size: tuple[int, int]) -> None:
    output = network(n_channels)(torch.rand(2, n_channels, *size), 0.1)
    assert output.shape == (2, n_channels, *size)
    assert torch.isfinite(output).all()


@torch.no_grad()
def test_the_noise_level_counts_for_each_image_and_pixel() -> None:
    net, x = network(), torch.rand(2, 3, 16, 16)
    one, other = net(x[:1], 0.1), net(x[1:], 0.3)
    levels = torch.tensor([0.1, 0.3])[:, None, None, None]
    torch.testing.assert_close(net(x, levels), torch.cat([one, other]))
    torch.testing.assert_close(net(x, levels.expand(2, 1, 16, 16)), torch.cat([one, other]))
    assert (net(x[:1], 0.3) - one).abs().max() > 1e-4


@torch.no_grad()
def test_without_a_noise_level_it_is_estimated() -> None:
    net, x = network(), torch.rand(2, 3, 16, 16)
    assert torch.equal(net(x), net(x, noise_level(x)))


@torch.no_grad()
def test_more_contrast_with_as_much_more_noise_gives_the_same_image() -> None:
    net, x = network(), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(net(4 * x, 0.4), 4 * net(x, 0.1))


def test_noise_level_of_noise_beside_edges() -> None:
    x = torch.zeros(2, 3, 64, 64)
    x[..., 20:40] = 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.05, 0.2])[:, None, None, None]
    torch.testing.assert_close(noise_level(x + levels * noise), levels, rtol=0.05, atol=0)
    assert torch.equal(noise_level(torch.rand(2, 1, 1, 9)), torch.zeros(2, 1, 1, 1))


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_an_impossible_noise_level_is_named(sigma: float) -> None:
    with pytest.raises(OptionError, match="noise level"):
        network()(torch.rand(1, 3, 8, 8), sigma)


@pytest.mark.parametrize(
    "bad", [{"n_feats": (1, 2, 3)}, {"n_feats": 4}, {"n_feats": (0, 1, 1, 1)}, {"n_blocks": 0}, {"n_channels": 0}]
)
def test_impossible_settings_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ArchitectureError, match="DRUNet"):
        DRUNet(**bad)  # type: ignore[arg-type]


def test_wrong_input_is_named() -> None:
    with pytest.raises(ArchitectureError, match="3 channels"):
        network()(torch.rand(1, 1, 8, 8))
    with pytest.raises(ShapeError, match="N, C, H, W"):
        network()(torch.rand(3, 8, 8))


def test_weights_that_only_look_like_it_are_named() -> None:
    weights = {name: torch.empty(shape) for name, shape in published(3, SMALL, 1).items()}
    with pytest.raises(ArchitectureError, match="level is missing"):
        DRUNet.infer_config({name: w for name, w in weights.items() if not name.startswith("m_up2")})
    weights["m_head.weight"] = torch.empty(SMALL[0], 3, 3, 3)
    with pytest.raises(ArchitectureError, match="without a noise level"):
        DRUNet.infer_config(weights)
