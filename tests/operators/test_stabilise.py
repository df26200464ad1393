"""The scale on which photon noise is the same everywhere."""

from __future__ import annotations

import pytest
import torch

from napari_fidelity.operators import GaussianNoise, LaplaceNoise, Noise, PoissonGaussianNoise, PoissonNoise


@pytest.mark.parametrize(
    "noise",
    [PoissonNoise(gain=0.5, offset=3.0), PoissonGaussianNoise(gain=0.5, offset=3.0, sigma=1.0)],
    ids=lambda noise: noise.kind,
)
@pytest.mark.parametrize("photons", [8, 20, 200])
def test_variance_one_and_no_bias(noise: Noise, photons: int) -> None:
    clean = torch.full((200_000,), 3.0 + 0.5 * photons, dtype=torch.float64)
    stable = noise.stabilised()
    assert stable is not None
    t = stable(noise.sample(clean, torch.Generator().manual_seed(0)))
    assert float(t.var()) == pytest.approx(1, abs=0.06)
    assert float(stable.inverse(t.mean())) == pytest.approx(float(clean[0]), rel=0.01)


def test_no_light_and_values_below_the_offset() -> None:
    stable = PoissonNoise(gain=2.0, offset=10.0).stabilised()
    dark = stable(torch.tensor([10.0, 9.0, -100.0]))
    assert torch.isfinite(dark).all()
    assert stable.inverse(dark) == pytest.approx([10.0, 10.0, 10.0], abs=1e-4)


def test_even_noise_stays() -> None:
    assert GaussianNoise(sigma=1).stabilised() is None
    assert LaplaceNoise(scale=1).stabilised() is None
