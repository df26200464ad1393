"""Every architecture under every method that runs a network, and under the dropout map, on a tiny image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_fidelity import networks
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.networks.adapters import for_gray
from napari_fidelity.networks.dropout import dropout, places_of
from napari_fidelity.operators import Downsample

if TYPE_CHECKING:
    from napari_fidelity.methods import Method

SMALL = {
    "DRUNet": {"n_feats": [2, 2, 2, 2], "n_blocks": 1},
    "DnCNN": {"n_feats": 4, "n_layers": 4, "n_channels": 3},
    "RDN": {"n_feats": 4, "n_blocks": 2, "n_layers": 2, "growth": 2, "scale": 2},
    "RRDN": {"n_feats": 4, "n_blocks": 2, "growth": 2, "factors": [2]},
    "EnhanceNet": {"n_feats": 4, "n_blocks": 2, "factors": [2, 1]},
}
BLOCKS = {"DRUNet": 7, "DnCNN": 3}  # DnCNN has no blocks: behind every convolution but the last


def made(name: str) -> networks.RestorationNetwork:
    network = networks.build(name, SMALL.get(name, {"n_feats": 4, "n_blocks": 2, "scale": 2}))
    return network.start_as_interpolation(torch.Generator().manual_seed(0)).eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "method",
    [Apply(), Project(), FineTune(iterations=2), FineTune.lucas2020(iterations=2)],
    ids=["apply", "project", "finetune", "lucas2020"],
)
@pytest.mark.parametrize("name", networks.ARCHITECTURES)
def test_runs_and_leaves_the_network_alone(name: str, method: Method, channels: int) -> None:
    network = made(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    model = for_gray(network) if channels == 1 else network
    y = torch.rand(1, channels, 9, 7, generator=torch.Generator().manual_seed(1))
    operator = Downsample(scale=network.scale)
    result = drain(method.steps(y, operator, model))
    assert result.image.shape == (1, channels, 9 * network.scale, 7 * network.scale)
    assert torch.isfinite(result.image).all()
    if not isinstance(method, Apply) and getattr(method, "project", True):
        torch.testing.assert_close(operator.A(result.image), y, atol=1e-3, rtol=0)
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert method.memory(y.shape, model, y.device) > 0


def test_fine_tuning_a_clip_keeps_its_frames_apart() -> None:
    y = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    result = drain(FineTune(iterations=1).steps(y, Downsample(scale=2), made("VSR")))
    assert result.image.shape == (3, 3, 12, 10)
    torch.testing.assert_close(Downsample(scale=2).A(result.image), y, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
@torch.no_grad()
def test_dropout_falls_between_the_blocks(name: str) -> None:
    network, y = made(name), torch.rand(1, 3, 9, 7)
    places = places_of(network, "blocks", lambda: network(y))
    assert len(places) == BLOCKS.get(name, 2)
    plain = network(y)
    with dropout(places, 0.2, torch.Generator().manual_seed(0)):
        assert not torch.equal(network(y), plain)
    assert torch.equal(network(y), plain)
