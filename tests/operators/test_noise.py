from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fidelity.core.errors import OptionError
from napari_fidelity.operators import (
    NOISES,
    GaussianNoise,
    LaplaceNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    parse_noise,
)  # fmt: skip

MODELS = [
    GaussianNoise(sigma=3.0),
    LaplaceNoise(scale=2.0),
    PoissonNoise(gain=2.5, offset=100.0),
    PoissonGaussianNoise(gain=1.7, offset=90.0, sigma=4.0),
]
every_model = pytest.mark.parametrize("noise", MODELS, ids=lambda noise: noise.kind)


def test_every_model_is_tested() -> None:
    assert {type(noise) for noise in MODELS} == set(NOISES)


@every_model
def test_samples_have_the_mean_and_variance(noise: Noise) -> None:
    clean = torch.full((200_000,), 130.0, dtype=torch.float64)
    y = noise.sample(clean, torch.Generator().manual_seed(0))
    variance = float(noise.variance(clean)[0])
    assert float(y.mean()) == pytest.approx(130.0, abs=5 * (variance / 2e5) ** 0.5)
    assert float(y.var()) == pytest.approx(variance, rel=0.03)
    assert float(noise.discrepancy(clean, y)) == pytest.approx(1, rel=0.03)
    assert torch.equal(y, noise.sample(clean, torch.Generator().manual_seed(0)))


@every_model
@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_gradients(noise: Noise, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prediction = 60 * torch.randn(30, dtype=torch.float64, generator=generator) + 120
    y = 60 * torch.randn(30, dtype=torch.float64, generator=generator) + 120
    torch.autograd.gradcheck(lambda p: noise.nll(p, y), prediction.requires_grad_(), eps=1e-6, atol=1e-4)


@every_model
def test_finite_everywhere_and_convex(noise: Noise) -> None:
    prediction = torch.linspace(-1e3, 1e3, 4001, dtype=torch.float64, requires_grad=True)
    for y in (-50.0, 0.0, 100.0, 101.0, 500.0):
        values = noise.nll(prediction, torch.full_like(prediction, y))
        (gradient,) = torch.autograd.grad(values.sum(), prediction)
        assert torch.isfinite(values).all()
        assert torch.isfinite(gradient).all()
        assert (gradient.diff() >= -1e-9).all()
    assert torch.isfinite(noise.nll(torch.zeros(3), torch.zeros(3))).all()


@every_model
def test_least_at_the_data(noise: Noise) -> None:
    y = torch.tensor([110.0, 150.0, 300.0], dtype=torch.float64)
    prediction = y.clone().requires_grad_()
    values = noise.nll(prediction, y)
    torch.testing.assert_close(values, torch.zeros_like(values))
    (gradient,) = torch.autograd.grad(values.sum(), prediction)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@every_model
def test_rescaled_model_sees_the_same_thing(noise: Noise) -> None:
    offset, gain = 20.0, 400.0
    scaled = noise.rescale(offset, gain)
    prediction = torch.tensor([80.0, 105.0, 140.0, 300.0], dtype=torch.float64)
    y = torch.tensor([120.0, 110.0, 101.0, 290.0], dtype=torch.float64)
    p, t = (prediction - offset) / gain, (y - offset) / gain
    torch.testing.assert_close(scaled.nll(p, t), noise.nll(prediction, y))
    torch.testing.assert_close(scaled.variance(p) * gain**2, noise.variance(prediction))
    torch.testing.assert_close(scaled.discrepancy(p, t), noise.discrepancy(prediction, y))


def test_poisson_is_exact_for_whole_counts() -> None:
    expected = torch.tensor([0.5, 3.0, 20.0], dtype=torch.float64)
    counts = torch.arange(6.0, dtype=torch.float64)[:, None]
    noise = PoissonNoise()
    shift = noise.nll(expected, counts) + torch.distributions.Poisson(expected).log_prob(counts)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))  # depends on the data alone


def test_unknown_level() -> None:
    noise, p, y = GaussianNoise(), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])
    assert noise.nll(p, y).tolist() == [1.0, 4.0]
    assert torch.equal(noise.sample(p), p)
    with pytest.raises(OptionError, match="noise level"):
        noise.discrepancy(p, y)


def test_weights_leave_pixels_out() -> None:
    noise, p, y = GaussianNoise(sigma=1.0), torch.zeros(2, 4), torch.tensor([1.0, 1, 9, 9]).expand(2, 4)
    assert float(noise.discrepancy(p, y, torch.tensor([1.0, 1, 0, 0]))) == 1


def test_texts() -> None:
    assert parse_noise("gaussian:sigma=2") == GaussianNoise(sigma=2)
    assert parse_noise({"kind": "poisson", "gain": 3}) == PoissonNoise(gain=3)
    for noise in MODELS:
        assert parse_noise(noise.to_plain()) == noise
    with pytest.raises(OptionError, match="There are: gaussian"):
        parse_noise("gauss")
    with pytest.raises(OptionError, match="Options of poisson: gain, offset"):
        parse_noise("poisson:gain=0")
