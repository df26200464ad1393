"""Networks that are told the operator, bound to ours and to deepinv's."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError, OperatorError
from napari_fidelity.networks.adapters import WithOperator, for_operator, is_bound, takes_operator
from napari_fidelity.networks.edsr import EDSR
from napari_fidelity.operators import Downsample, GaussianNoise, Identity, Mask, PoissonGaussianNoise

deepinv = pytest.importorskip("deepinv", reason="deepinv is an extra")

SEEN = (np.random.default_rng(0).random((64, 64)) > 0.5).astype(np.float32)


class Told(nn.Module):
    """``A† y`` plus the noise level it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, y: torch.Tensor, physics: Any) -> torch.Tensor:
        return physics.A_dagger(y) + self.bias + physics.noise_model.sigma


@pytest.fixture(scope="module")
def ram() -> nn.Module:
    torch.manual_seed(0)
    return deepinv.models.RAM(pretrained=False, device="cpu").eval()


def scene(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_who_takes_the_operator() -> None:
    backbone = deepinv.models.DnCNN(1, 1, depth=2, nf=4, pretrained=None)
    assert takes_operator(Told())
    assert takes_operator(deepinv.models.ArtifactRemoval(backbone))
    assert not takes_operator(backbone)
    assert not takes_operator(EDSR(n_channels=1, n_feats=8, n_blocks=1, scale=2))
    assert not takes_operator(lambda y: y)
    told = nn.Conv2d(1, 1, 1)
    told.takes_operator = True
    assert takes_operator(told)


def test_a_network_that_takes_none_stays_as_it_is() -> None:
    edsr = EDSR(n_channels=1, n_feats=8, n_blocks=1, scale=2)
    assert for_operator(edsr, object()) is edsr


@pytest.mark.parametrize("kind", ["mask", "downsample"])
def test_ram_does_the_same_with_the_library_s_own_physics(kind: str, ram: nn.Module) -> None:
    physics = deepinv.physics
    noise = physics.GaussianNoise(0.05)
    ours, theirs = {
        "mask": (
            Mask(mask=SEEN),
            physics.Inpainting((1, 64, 64), mask=torch.from_numpy(SEEN)[None], noise_model=noise),
        ),
        "downsample": (Downsample(scale=2), physics.DownsamplingMatlab(factor=2, noise_model=noise)),
    }[kind]
    y = ours.A(scene(1, 1, 64, 64))
    with torch.no_grad():
        found = for_operator(ram, ours, GaussianNoise(sigma=0.05))(y)
        wanted = ram(y, theirs)
        blind = for_operator(ram, ours)(y)
    assert found.shape == (1, 1, 64, 64)
    # closed forms of ours against iterations of theirs
    assert float((found - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())
    assert float((blind - wanted).abs().max()) > 1e-2 * float(wanted.abs().max())


@pytest.mark.parametrize("mode", ["adjoint", "pinv"])
def test_artifact_removal(mode: str) -> None:
    torch.manual_seed(0)
    backbone = deepinv.models.DnCNN(1, 1, depth=2, nf=4, pretrained=None)
    network = deepinv.models.ArtifactRemoval(backbone, mode=mode).eval()
    y = scene(2, 1, 8, 9)
    operator = Downsample(scale=3)
    entered = operator.A_adjoint(y) if mode == "adjoint" else operator.A_dagger(y)
    assert torch.equal(for_operator(network, operator)(y), backbone(entered))


def test_any_size_of_measurement_is_one_of_the_same_operator() -> None:
    bound = for_operator(Told(), Downsample(scale=2))
    assert [tuple(bound(scene(1, 1, n, 6)).shape[2:]) for n in (4, 7)] == [(8, 12), (14, 12)]


def test_the_noise_is_told() -> None:
    y = scene(1, 1, 6, 6)
    bound = for_operator(Told(), Identity(), GaussianNoise(sigma=0.25))
    assert torch.allclose(bound(y), y + 0.25)
    assert torch.allclose(bound.with_noise(PoissonGaussianNoise(gain=0.1, sigma=0.5))(y), y + 0.5)
    assert torch.equal(bound.with_noise(None)(y), y)


def test_a_physics_is_handed_through_as_a_copy() -> None:
    y = scene(1, 1, 6, 6)
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.125))
    assert torch.allclose(for_operator(Told(), physics)(y), y + 0.125)
    assert torch.allclose(for_operator(Told(), physics, GaussianNoise(sigma=0.5))(y), y + 0.5)
    assert float(physics.noise_model.sigma) == 0.125


def test_an_operator_s_parts_are_not_the_network_s() -> None:
    """A physics is a module: fine-tuning must not find its filter among the weights."""
    blur = deepinv.physics.Blur(filter=torch.full((1, 1, 3, 3), 1 / 9), padding="circular")
    bound = for_operator(Told(), blur)
    assert [name for name, _ in bound.named_parameters()] == ["network.bias"]
    assert not list(bound.buffers())


def test_other_operators_are_refused() -> None:
    class Bare:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x

        A_adjoint = A

    with pytest.raises(OperatorError, match=r"does not understand this one \(found: Bare\)"):
        for_operator(Told(), Bare())


def test_another_range_is_refused() -> None:
    network = Told()
    network.info = replace(EDSR(n_channels=1, n_feats=8, n_blocks=1, scale=2).info, value_range=(0.0, 255.0))
    with pytest.raises(ArchitectureError, match="another range"):
        for_operator(network, Identity())


def test_channels_that_the_network_has_no_part_for_run_one_by_one() -> None:
    network = Told()
    network.in_channels = (1, 2, 3)
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    bound = for_operator(network, Downsample(scale=2))
    for channels in (1, 2, 3, 5):
        y = scene(2, channels, 4, 5)
        assert torch.allclose(bound(y), Downsample(scale=2).A_dagger(y), atol=1e-5)
    assert [shape[:2] for shape in seen] == [(2, 1), (4, 1), (2, 3), (10, 1)]


def test_no_last_layer_unless_it_is_named() -> None:
    network = Told()
    network.conv = nn.Conv2d(1, 1, 3)
    bound = for_operator(network, Identity())
    assert bound.last_layer is None
    network.last_layer = network.conv
    assert bound.last_layer is network.conv


def test_a_bound_network_is_found_inside_others_and_can_be_copied() -> None:
    bound = for_operator(Told().eval(), Mask(mask=SEEN))
    around = nn.Module()
    around.network = bound
    assert is_bound(around)
    assert not is_bound(Told())
    assert not bound.training
    copied = copy.deepcopy(bound)
    assert isinstance(copied, WithOperator)
    y = scene(1, 1, 64, 64) * torch.from_numpy(SEEN)
    assert torch.equal(copied(y), bound(y))
