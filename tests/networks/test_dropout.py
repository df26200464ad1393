"""Dropout by hooks: how much is dropped, where, and that nothing of it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.adapters import for_gray
from napari_fidelity.networks.blocks import ResidualBlock
from napari_fidelity.networks.dropout import dropout, dropped, places_of, residual_blocks
from napari_fidelity.networks.drunet import DRUNet
from napari_fidelity.networks.enhancenet import EnhanceNet

if TYPE_CHECKING:
    from conftest import MakeNetwork


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def names(network: nn.Module, found: list[nn.Module]) -> list[str]:
    return [name for name, module in network.named_modules() if any(module is one for one in found)]


def never() -> None:
    raise AssertionError("the network need not be run")


# -- how much ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.001, 0.3])
def test_share_mean_and_independence(p: float) -> None:
    generator = rng()
    kept = torch.stack([dropped(torch.ones(1, 4, 32, 32), (), p, generator) for _ in range(200)])
    assert float((kept == 0).float().mean()) == pytest.approx(p, rel=0.1)
    assert float(kept.mean()) == pytest.approx(1, rel=0.01)
    assert float(kept.max()) == pytest.approx(1 / (1 - p))
    # the number of dropped elements varies as that of independent ones does
    counts = (kept == 0).flatten(1).sum(dim=1).double()
    assert float(counts.var()) == pytest.approx(4 * 32 * 32 * p * (1 - p), rel=0.3)


@pytest.mark.parametrize(
    "features",
    [
        torch.ones(2, 3, 5, 7).contiguous(memory_format=torch.channels_last),
        torch.ones(2, 3, 4, 5, 7),
        torch.ones(2, 3, 5, 14)[..., ::2],
        torch.ones(1, 3, 1, 1).expand(2, 3, 5, 7),
        torch.ones(6, 4, dtype=torch.bfloat16),
    ],
    ids=["channels last", "volume", "every other column", "expanded", "bfloat16"],
)
def test_any_layout(features: torch.Tensor) -> None:
    result = dropped(features.clone(memory_format=torch.preserve_format), (), 0.5, rng())
    assert result.shape == features.shape and result.dtype == features.dtype
    assert set(result.unique().tolist()) == {0.0, 2.0}


def test_the_input_is_never_overwritten() -> None:
    x = torch.ones(1, 2, 8, 8)
    with dropout([block := nn.Identity()], 0.5, rng()), torch.no_grad():
        y = block(x)
    assert bool((x == 1).all()) and bool((y == 0).any())


def test_seed_decides(network: MakeNetwork) -> None:
    model, y = network(), torch.rand(1, 1, 12, 12, generator=rng())
    state = torch.get_rng_state()

    def run(seed: int) -> torch.Tensor:
        with dropout(residual_blocks(model), 0.05, rng(seed)), torch.no_grad():
            return model(y)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_hooks_are_gone_afterwards(network: MakeNetwork) -> None:
    model = network()
    before = model(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ArchitectureError), dropout(residual_blocks(model), 0.5, rng()):
        model(torch.zeros(1, 2, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model(torch.zeros(1, 1, 8, 8)), before)


def test_the_first_of_several_outputs_is_dropped() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return x + 1, "more"

    with dropout([two := Two()], 0.5, rng()), torch.no_grad():
        features, more = two(torch.zeros(1, 1, 8, 8))
    assert bool((features == 0).any()) and more == "more"


# -- where -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (EnhanceNet(n_feats=4, n_blocks=3), 3),
        (EnhanceNet(n_feats=4, n_blocks=1), 1),
        (DRUNet(n_feats=(2, 2, 2, 2), n_blocks=2), 14),
        (for_gray(EnhanceNet(n_feats=4, n_blocks=2)), 2),
    ],
    ids=["EnhanceNet", "single block", "DRUNet", "gray through RGB"],
)
def test_our_networks_know_their_blocks(network: nn.Module, count: int) -> None:
    assert len(places_of(network, "blocks", never)) == count


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([Tail(), Tail()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner[1](self.inner[0](x))


class Tail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Foreign(nn.Module):
    """Blocks in a list, of whose parts some repeat too; the last convolution to run is registered first."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(1, 1, 3, padding=1)
        self.first = nn.Conv2d(1, 1, 3, padding=1)
        self.body = nn.ModuleList(Block() for _ in range(blocks))
        self.up = nn.Sequential(*(Tail() for _ in range(2 if blocks else 0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.body:
            x = block(x)
        return self.last(self.up(x))


def test_blocks_of_a_foreign_network() -> None:
    network = Foreign(3)
    assert names(network, residual_blocks(network)) == ["body.0", "body.1", "body.2"]


def test_without_blocks_all_convolutions_but_the_one_that_runs_last() -> None:
    network = Foreign(0)
    y = torch.zeros(1, 1, 8, 8)
    assert names(network, places_of(network, "blocks", lambda: network(y))) == ["first"]
    network = Foreign(1)
    everywhere = places_of(network, "convolutions", lambda: network(y))
    assert names(network, everywhere) == [
        "first", "body.0.inner.0.conv", "body.0.inner.1.conv", "up.0.conv", "up.1.conv",
    ]  # fmt: skip
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("network", [nn.Conv2d(1, 1, 3), nn.Identity(), nn.Sequential(nn.ReLU(), nn.ReLU())])
def test_no_place_is_said(network: Any) -> None:
    with pytest.raises(ArchitectureError, match="no place for dropout"):
        places_of(network, "blocks", lambda: network(torch.zeros(1, 1, 8, 8)))


def test_residual_blocks_are_marked() -> None:
    assert ResidualBlock.is_residual_block
