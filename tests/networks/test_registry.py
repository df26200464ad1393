"""Every architecture of the list: built, detected again from its weights, compared."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from napari_fidelity import networks
from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import RestorationNetwork

CASES = [
    pytest.param(name, {"n_feats": 4, "n_blocks": 2, **config}, id=f"{name}-{index}")
    for name, configs in {
        "DRUNet": [{"n_feats": [4, 5, 6, 7]}, {"n_feats": [4, 4, 4, 4], "n_channels": 1}],
        "EDSR": [{"scale": 1}, {"scale": 3}, {"n_channels": 1}, {"n_channels": 5, "scale": 2}],
        "EnhanceNet": [{}, {"factors": [2, 1]}, {"factors": [3, 1], "n_channels": 1}, {"n_channels": 2}],
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


@pytest.mark.parametrize(("name", "config"), CASES)
def test_built_detected_again_and_compared(name: str, config: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = networks.build(name, config)
    cls, inferred = networks.detect(network.state_dict())
    assert cls is type(network)
    again = cls(**inferred)
    again.load_weights(network.state_dict())
    x = torch.rand(2, network.n_channels, 3, 5)
    assert torch.equal(again(x), network(x))
    assert again.scale == network.scale


@pytest.mark.parametrize(("name", "config"), CASES)
def test_settings_survive_json(name: str, config: dict[str, object]) -> None:
    network = networks.build(name, config)
    again = networks.build(name, json.loads(json.dumps(network.config())))
    assert again.config() == network.config()
    assert again.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(("name", "config"), CASES)
def test_the_contract(name: str, config: dict[str, object]) -> None:
    network = networks.build(name, config)
    n = network.n_channels
    assert network(torch.rand(1, n, 1, 1)).shape == (1, n, network.scale, network.scale)
    assert isinstance(network.last_layer, torch.nn.Conv2d)
    assert network.info.n_parameters == sum(p.numel() for p in network.parameters())
    with pytest.raises(ArchitectureError, match="channel"):
        network(torch.rand(1, n + 1, 4, 4))


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(ArchitectureError, match="Did you mean 'EnhanceNet'"):
        networks.build("enhancenet", {})
    with pytest.raises(ArchitectureError, match="Known: DRUNet, EDSR"):
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
    for shape in [(), (0, 0, 3, 3)]:
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
