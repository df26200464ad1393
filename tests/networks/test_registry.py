"""Every architecture of the list: built, detected again from its weights, compared."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from napari_fidelity import networks
from napari_fidelity.core.errors import ArchitectureError, ShapeError
from napari_fidelity.io import load_model, save_model
from napari_fidelity.networks.base import RestorationNetwork

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "DnCNN": {"n_feats": 4, "n_layers": 5},
    "RDN": {"n_feats": 4, "n_blocks": 2, "n_layers": 3, "growth": 2},
    "RRDN": {"n_feats": 4, "n_blocks": 2, "growth": 2},
}
CASES = [
    pytest.param(name, {**SMALL.get(name, {"n_feats": 4, "n_blocks": 2}), **config}, id=f"{name}-{index}")
    for name, configs in {
        "DRUNet": [{"n_feats": [4, 5, 6, 7]}, {"n_feats": [4, 4, 4, 4], "n_channels": 1}],
        "DnCNN": [{}, {"n_channels": 3, "n_layers": 4}, {"n_layers": 8, "batch_norm": False}],
        "EDSR": [{"scale": 1}, {"scale": 3}, {"n_channels": 1}, {"n_channels": 5, "scale": 2}],
        "EnhanceNet": [{}, {"factors": [2, 1]}, {"factors": [3, 1], "n_channels": 1}, {"n_channels": 2}],
        "RDN": [{}, {"scale": 1, "n_layers": 1}, {"scale": 3, "n_channels": 1}, {"n_channels": 2, "growth": 6}],
        "RRDN": [{}, {"factors": []}, {"factors": [3, 1], "n_channels": 1}, {"growth": 5, "factors": [2, 2, 2]}],
        "SRResNet": [{}, {"scale": 1, "n_blocks": 0}, {"scale": 3, "n_channels": 1}, {"scale": 8}],
        "VSR": [{}, {"frames": 3, "n_channels": 1}, {"frames": 1, "n_channels": 2}],
    }.items()
    for index, config in enumerate(configs)
]


def test_every_architecture_has_a_case() -> None:
    assert {case.values[0] for case in CASES} == set(networks.ARCHITECTURES)


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
def test_the_list_names_the_class(name: str) -> None:
    cls = networks.architecture(name)
    assert issubclass(cls, RestorationNetwork)
    assert cls.architecture == cls.__name__ == name
    assert getattr(networks, name) is cls
    assert name in dir(networks)


def made(name: str, config: dict[str, object]) -> RestorationNetwork:
    """A network whose every weight, and statistic of a normalisation, differs from what it starts with."""
    torch.manual_seed(0)
    network = networks.build(name, config).eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(0.2 * torch.rand_like(value) - 0.1)
    return network


@pytest.mark.parametrize(("name", "config"), CASES)
def test_built_detected_again_and_compared(name: str, config: dict[str, object], tmp_path: Path) -> None:
    network = made(name, config)
    assert save_model(network, tmp_path / "net.safetensors").n_parameters == network.info.n_parameters
    torch.save(network.state_dict(), tmp_path / "net.pth")
    save_file(network.state_dict(), tmp_path / "bare.safetensors")
    x = torch.rand(2, network.n_channels, 3, 5)
    for file in ("net.safetensors", "net.pth", "bare.safetensors"):
        again = load_model(tmp_path / file)
        assert type(again) is type(network)
        assert again.config() == network.config()
        assert (again.scale, again.frames, again.training) == (network.scale, network.frames, False)
        assert torch.equal(again(x), network(x))
        assert again.info.n_parameters == network.info.n_parameters


@pytest.mark.parametrize(("name", "config"), CASES)
def test_no_architecture_claims_the_weights_of_another(name: str, config: dict[str, object]) -> None:
    weights = networks.build(name, config).state_dict()
    claimed = [other for other in networks.ARCHITECTURES if networks.architecture(other).detect(weights)]
    assert claimed == [name]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_settings_survive_json(name: str, config: dict[str, object]) -> None:
    network = networks.build(name, config)
    again = networks.build(name, json.loads(json.dumps(network.config())))
    assert again.config() == network.config()
    assert again.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(("name", "config"), CASES)
def test_the_contract(name: str, config: dict[str, object]) -> None:
    network = made(name, config)
    n, s = network.n_channels, network.scale
    for height, width in [(1, 1), (7, 5)]:
        output = network(torch.rand(2, n, height, width))
        assert output.shape == (2, n, s * height, s * width)
        assert torch.isfinite(output).all()
    assert network.info.n_parameters == sum(p.numel() for p in network.parameters())
    with pytest.raises(ArchitectureError, match="channel"):
        network(torch.rand(1, n + 1, 4, 4))
    with pytest.raises(ShapeError, match="N, C, H, W"):
        network(torch.rand(n, 4, 4))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_gradients_reach_every_parameter(name: str, config: dict[str, object]) -> None:
    network = made(name, config)
    network(torch.rand(3, network.n_channels, 16, 16)).square().sum().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not silent


@pytest.mark.parametrize(("name", "config"), CASES)
def test_the_output_is_affine_in_the_last_layer(name: str, config: dict[str, object]) -> None:
    network = made(name, config)
    layer, y = network.last_layer, torch.rand(3, network.n_channels, 6, 5)
    assert isinstance(layer, torch.nn.Conv2d)

    @torch.no_grad()
    def at(factor: float) -> torch.Tensor:
        for own, first in zip(layer.parameters(), start, strict=True):
            own.copy_(factor * first)
        return network(y)

    start = [p.detach().clone() for p in layer.parameters()]
    zero, one, two = at(0), at(1), at(2)
    assert (one - zero).abs().max() > 1e-2
    torch.testing.assert_close(two - one, one - zero, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_the_start_of_a_training_is_near_interpolation(name: str, config: dict[str, object]) -> None:
    wide = config if name == "DRUNet" else {**config, "n_feats": 16}
    network, again = (
        networks.build(name, wide).start_as_interpolation(torch.Generator().manual_seed(0)).eval() for _ in "ab"
    )
    flat = torch.full((1, network.n_channels, 14, 14), 0.6)
    middle = network(flat)[..., 6 * network.scale : -6 * network.scale, 6 * network.scale : -6 * network.scale]
    assert torch.equal(network(flat), again(flat))
    if name != "DRUNet":  # has nothing that leads past its layers
        assert (middle - 0.6).abs().mean() < 0.3


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(ArchitectureError, match="Did you mean 'EnhanceNet'"):
        networks.build("enhancenet", {})
    with pytest.raises(ArchitectureError, match="Known: DRUNet, DnCNN, EDSR"):
        networks.build("zzz", {})
    with pytest.raises(ArchitectureError, match="n_features"):
        networks.build("EDSR", {"n_features": 3})
    with pytest.raises(ArchitectureError, match="scale"):
        networks.build("EDSR", {"scale": [2]})
    with pytest.raises(AttributeError):
        _ = networks.Nothing


def test_unknown_weights_are_described() -> None:
    with pytest.raises(ArchitectureError, match=r"2 tensors: a \(3,\), b \(4, 5\)"):
        networks.detect({"a": torch.zeros(3), "b": torch.zeros(4, 5)})
    with pytest.raises(ArchitectureError, match="no tensors"):
        networks.detect({})


@pytest.mark.parametrize(("name", "config"), CASES)
def test_misshapen_weights_are_described(name: str, config: dict[str, object]) -> None:
    weights = networks.build(name, config).state_dict()
    first = next(iter(weights))
    for shape in [(), (3,), (0, 0, 3, 3)]:
        with pytest.raises(ArchitectureError):
            cls, inferred = networks.detect(weights | {first: torch.zeros(shape)})
            cls(**inferred)


def test_importing_the_package_does_not_load_torch() -> None:
    code = (
        "import sys, napari_fidelity.networks, napari_fidelity.io\n"
        "from napari_fidelity.io import list_models\nlist_models()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
