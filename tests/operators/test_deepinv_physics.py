"""Our operators as physics of deepinv: the same numbers, the same laws, the same noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import MissingDependencyError
from napari_fidelity.operators import (
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Identity,
    LaplaceNoise,
    Mask,
    PoissonGaussianNoise,
    PoissonNoise,
)

if TYPE_CHECKING:
    from napari_fidelity.operators import Noise, Operator

deepinv = pytest.importorskip("deepinv", reason="deepinv is an extra")

SEEN = (np.random.default_rng(0).random((16, 20)) > 0.5).astype(np.float32)
OPERATORS = [
    Identity(),
    Mask(mask=SEEN),
    GaussianBlur(sigma=1.2),
    Downsample(scale=2),
    Downsample(scale=2) @ GaussianBlur(sigma=0.8),
]


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.kind)
def test_physics_has_the_operator_s_numbers(operator: Operator) -> None:
    x = image(2, 3, 16, 20)
    y = operator.A(x)
    physics = operator.to_deepinv(y)
    assert isinstance(physics, deepinv.physics.LinearPhysics)
    assert physics.img_size == (3, 16, 20)
    assert torch.equal(physics.A(x), y)
    assert torch.equal(physics.A_adjoint(y), operator.A_adjoint(y))
    assert torch.equal(physics.A_dagger(y), operator.A_dagger(y))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.kind)
@pytest.mark.parametrize("gamma", [0.7, torch.tensor([3.0, 40.0])], ids=["one", "each"])
def test_prox_is_the_minimum(operator: Operator, gamma: Any) -> None:
    """The gradient of γ/2 ‖A x − y‖² + ½ ‖x − z‖² vanishes there."""
    z, x = image(2, 1, 16, 20), image(2, 1, 16, 20).flip(-1)
    y = operator.A(x)
    physics = operator.to_deepinv(y)
    found = physics.prox_l2(z, y, gamma)
    weight = torch.as_tensor(gamma, dtype=y.dtype).reshape(-1, 1, 1, 1)
    gradient = weight * operator.A_adjoint(operator.A(found) - y) + found - z
    assert float(gradient.abs().max()) < 1e-6


def test_prox_without_an_image_begins_at_zero() -> None:
    y = image(1, 1, 8, 10)
    physics = Downsample(scale=2).to_deepinv(y)
    zero = torch.zeros(1, 1, 16, 20, dtype=y.dtype)
    assert torch.equal(physics.prox_l2(None, y, 2.0), physics.prox_l2(zero, y, 2.0))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.kind)
def test_prox_is_differentiable_in_all_it_takes(operator: Operator) -> None:
    z = image(1, 1, 16, 20).requires_grad_()
    y = operator.A(image(1, 1, 16, 20).flip(-1)).requires_grad_()
    gamma = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    physics = operator.to_deepinv(y)
    assert torch.autograd.gradcheck(physics.prox_l2, (z, y, gamma), atol=1e-5, fast_mode=True)


@pytest.mark.parametrize(
    ("noise", "gain", "sigma"),
    [
        (None, None, 0.0),
        (GaussianNoise(sigma=0.1), None, 0.1),
        (LaplaceNoise(scale=0.1), None, 0.1 * math.sqrt(2)),
        (PoissonNoise(gain=0.02), 0.02, 0.0),
        (PoissonGaussianNoise(gain=0.02, sigma=0.1, offset=-0.2), 0.02, math.sqrt(0.01 + 0.004)),
        (PoissonNoise(gain=0.02, offset=0.2), 0.02, 0.0),
    ],
    ids=str,
)
def test_noise_keeps_its_variance(noise: Noise | None, gain: float | None, sigma: float) -> None:
    model = Identity().to_deepinv(image(1, 1, 4, 4), noise).noise_model
    assert float(model.sigma) == pytest.approx(sigma, abs=1e-7)
    assert getattr(model, "gain", None) == (None if gain is None else pytest.approx(gain))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "deepinv", None)
    with pytest.raises(MissingDependencyError, match=r"napari-fidelity\[deepinv\]"):
        GaussianNoise(sigma=0.1).to_deepinv()
