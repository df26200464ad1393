"""Networks on images with other channels or another range than they expect."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.adapters import call_at_level, for_gray, for_unit_range
from napari_fidelity.networks.drunet import DRUNet
from napari_fidelity.networks.edsr import EDSR


def network(n_channels: int = 3) -> EDSR:
    edsr = EDSR(n_channels=n_channels, n_feats=8, n_blocks=1, scale=2)
    return edsr.start_as_interpolation(torch.Generator().manual_seed(0)).eval()


def test_gray_through_rgb_is_the_mean_of_the_channels() -> None:
    y = torch.rand(2, 1, 6, 7)
    gray = for_gray(network())
    assert torch.equal(gray(y), gray.network(y.expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True))


def test_a_gray_network_stays_as_it_is() -> None:
    edsr = network(1)
    assert for_gray(edsr) is edsr


def test_a_network_for_other_channels_is_refused() -> None:
    edsr = network(1)
    edsr.n_channels = 4
    with pytest.raises(ArchitectureError, match="4 channels"):
        for_gray(edsr)


def test_a_network_on_another_range_works_on_the_unit_range() -> None:
    edsr = network()
    assert for_unit_range(edsr) is edsr
    edsr.info = replace(edsr.info, value_range=(-1.0, 1.0))
    y = torch.rand(1, 3, 6, 7)
    adapted = for_unit_range(edsr)
    assert torch.allclose(adapted(y), (edsr(2 * y - 1) + 1) / 2, atol=1e-6)
    assert adapted.n_channels == 3
    assert adapted.last_layer is edsr.tail
    assert for_gray(adapted).last_layer is edsr.tail


def denoiser() -> DRUNet:
    torch.manual_seed(0)
    return DRUNet(3, (4, 4, 4, 4), 1).eval()


@torch.no_grad()
def test_the_noise_level_passes_through() -> None:
    y, net = torch.rand(2, 1, 8, 9), denoiser()
    gray = for_gray(net)
    assert gray.takes_noise_level
    assert torch.equal(gray(y, 0.2), net(y.expand(-1, 3, -1, -1), 0.2).mean(dim=1, keepdim=True))
    assert not torch.equal(gray(y, 0.2), gray(y, 0.1))
    assert not for_gray(network()).takes_noise_level


@torch.no_grad()
def test_the_noise_level_is_put_on_the_range_of_the_network() -> None:
    y, net = torch.rand(2, 3, 8, 9), denoiser()
    net.info = replace(net.info, value_range=(-1.0, 1.0))
    adapted = for_unit_range(net)
    assert adapted.takes_noise_level
    torch.testing.assert_close(adapted(y, 0.2), (net(2 * y - 1, 0.4) + 1) / 2)


@torch.no_grad()
def test_who_is_told_the_noise_level() -> None:
    y, net, blind = torch.rand(1, 3, 8, 8), denoiser(), network()
    assert torch.equal(call_at_level(net, y, 0.3), net(y, 0.3))
    assert torch.equal(call_at_level(net, y, None), net(y))
    assert torch.equal(call_at_level(blind, y, 0.3), blind(y))
