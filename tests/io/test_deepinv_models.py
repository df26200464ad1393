"""Reconstruction networks of deepinv from files of weights."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError, MissingDependencyError, ModelFileError
from napari_fidelity.io import load_model
from napari_fidelity.io._deepinv import is_ram, ram_from_weights
from napari_fidelity.networks.adapters import WithOperator, for_operator, takes_operator
from napari_fidelity.networks.reconstruction import ReconstructionNetwork
from napari_fidelity.operators import Downsample

if TYPE_CHECKING:
    from pathlib import Path

deepinv = pytest.importorskip("deepinv", reason="deepinv is an extra")

Weights = dict[str, torch.Tensor]


class SmallRAM(nn.Module):
    """The layers of RAM that it is known by, under the same names; the real one has 36 million weights."""

    def __init__(self, in_channels: tuple[int, ...], pretrained: bool, device: str) -> None:
        super().__init__()
        assert not pretrained  # or it would be downloaded
        self.fact_realign = nn.Parameter(torch.ones(1))
        self.m_head, self.m_tail, self.m_body = nn.Module(), nn.Module(), nn.Module()
        for number, channels in enumerate(in_channels):
            setattr(self.m_head, f"conv{number}", nn.Conv2d(channels + 2, 4, 3, padding=1, bias=False))
            setattr(self.m_tail, f"conv{number}", nn.Conv2d(4, channels, 3, padding=1, bias=False))
        block, encoding = nn.Module(), nn.Module()
        encoding.head0 = nn.Module()
        encoding.head0.convin = nn.Conv2d(1, 4, 3, padding=1)
        block.PhysicsBlock = nn.Module()
        block.PhysicsBlock.encoding_conv = encoding
        self.m_body.enc = nn.ModuleList([block])

    def forward(self, y: torch.Tensor, physics: Any) -> torch.Tensor:
        return physics.A_dagger(y) * self.fact_realign


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    monkeypatch.setattr(deepinv.models, "RAM", SmallRAM)
    torch.manual_seed(0)
    return SmallRAM((1, 2, 3), pretrained=False, device="cpu").state_dict()


@pytest.mark.parametrize("name", ["ram.pth.tar", "ram.pth"])
def test_a_file_of_weights_is_recognised(name: str, weights: Weights, tmp_path: Path) -> None:
    # the published file begins without a weight that later versions have
    few = {key: value for key, value in weights.items() if key != "fact_realign"}
    torch.save(few if name == "ram.pth" else weights, tmp_path / name)
    network: Any = load_model(tmp_path / name)
    assert isinstance(network, ReconstructionNetwork)
    assert takes_operator(network)
    assert not network.training
    assert network.in_channels == (1, 2, 3)
    assert all(torch.equal(network.module.state_dict()[key], value) for key, value in weights.items())
    info = network.info
    assert (info.architecture, info.format, info.scale) == ("RAM", "deepinv", 1)
    assert info.n_parameters == sum(value.numel() for value in weights.values())
    assert len(info.sha256) == 64
    bound = for_operator(network, Downsample(scale=2))
    assert isinstance(bound, WithOperator)
    assert bound(torch.rand(1, 1, 5, 6)).shape == (1, 1, 10, 12)
    assert network.to_scale(4) is not network


def test_other_weights_are_not_taken_for_it(weights: Weights) -> None:
    assert is_ram(weights)
    assert not is_ram({"m_head.weight": torch.zeros(1), "m_tail.weight": torch.zeros(1)})  # DRUNet


def test_weights_that_do_not_fit(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArchitectureError, match=r"'new\.weight' for one"):
        ram_from_weights({**weights, "new.weight": torch.zeros(1)})
    name = "m_tail.conv1.weight"
    with pytest.raises(ArchitectureError, match="size mismatch"):
        ram_from_weights({**weights, name: weights[name][:1]})
    with pytest.raises(ModelFileError, match=r"m_tail\.conv1"):
        ram_from_weights({**weights, name: weights[name] * float("nan")})
    monkeypatch.setitem(sys.modules, "deepinv", None)
    with pytest.raises(MissingDependencyError):
        ram_from_weights(weights)


@pytest.mark.slow
def test_the_real_network(tmp_path: Path) -> None:
    """With random weights, as there is no internet to get trained ones from."""
    torch.manual_seed(0)
    real = deepinv.models.RAM(pretrained=False, device="cpu").eval()
    torch.save(real.state_dict(), tmp_path / "ram.pth.tar")
    network: Any = load_model(tmp_path / "ram.pth.tar")
    y, operator = torch.rand(1, 1, 32, 32), Downsample(scale=2)
    with torch.no_grad():
        assert torch.equal(for_operator(network, operator)(y), for_operator(real, operator)(y))
