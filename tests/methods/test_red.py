"""Regularisation by denoising."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import (
    ArchitectureError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from napari_fidelity.core.step import Result, drain
from napari_fidelity.denoisers import NLM, TV, NetworkDenoiser
from napari_fidelity.methods import RED
from napari_fidelity.methods._anderson import Anderson
from napari_fidelity.operators import (
    Blur,
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    LaplaceNoise,
    Mask,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    Radon,
    random_mask,
    sampling_mask,
)
from napari_fidelity.stopping import Budget, Discrepancy, HeldOut

KERNEL = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
SOLVERS = ("fixed_point", "steepest_descent", "admm")


class Smooth(nn.Module):
    """A linear, symmetric denoiser: circular smoothing, so that what RED converges to is known."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[float] = []

    scale = 1
    takes_noise_level = True

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.calls.append(float(sigma))
        kernel = KERNEL.to(x).expand(x.shape[1], 1, 3, 3)
        return nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), mode="circular"), kernel, groups=x.shape[1])


def picture(size: int = 32, channels: int = 1) -> torch.Tensor:
    """Return an image with an edge, a ramp and a disc."""
    i, j = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    x = 0.3 + 0.3 * (i > 0.5) + 0.2 * j + 0.2 * ((i - 0.3) ** 2 + (j - 0.6) ** 2 < 0.03)
    return torch.stack([x * (0.8 + 0.2 * c) for c in range(channels)])[None]


def noisy(x: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def db(x: torch.Tensor, truth: torch.Tensor) -> float:
    return -10 * float(torch.log10((x - truth).square().mean()))


def run(method: RED, *args: Any, **kwargs: Any) -> Result[torch.Tensor]:
    return drain(method.steps(*args, **kwargs))


def to_the_end(**changes: Any) -> RED:
    """Return RED at a fixed level that is only stopped by its number of iterations."""
    return RED(
        **{
            "denoiser": NetworkDenoiser(precision="float32"),
            "iterations": 600,
            "sigma_start": 0.0,
            "sigma_f": 0.1,
            "strength": 0.5,
            "output": "image",
            **changes,
        }
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_ends_at_the_minimum(solver: str) -> None:
    """With a linear symmetric denoiser the objective is quadratic, and its minimum a linear system's solution."""
    size, sigma = 8, 0.05
    operator = GaussianBlur(sigma=0.7, border="circular")
    y = noisy(operator.A(picture(size)), sigma)
    basis = torch.eye(size * size, dtype=torch.float64).reshape(-1, 1, size, size)
    a = operator.A(basis).flatten(1).T
    w = Smooth()(basis, 0.1).flatten(1).T
    weight = 0.5 / 0.1**2
    matrix = a.T @ a / sigma**2 + weight * (torch.eye(size * size) - w)
    exact = torch.linalg.solve(matrix, a.T @ y.double().flatten() / sigma**2).reshape(y.shape)
    result = run(
        to_the_end(solver=solver, iterations=3000 if solver == "steepest_descent" else 600),
        y,
        operator,
        Smooth(),
        noise=GaussianNoise(sigma=sigma),
        stop=Budget(iterations=10_000),
    )
    assert (result.image - exact).abs().max() < 2e-4


def test_anderson_needs_fewer_iterations() -> None:
    operator = GaussianBlur(sigma=1.0, border="circular")
    y = noisy(operator.A(picture(8)), 0.01)
    method = to_the_end(strength=0.5)

    def ended(iterations: int, acceleration: str) -> torch.Tensor:
        changed = method.replace(iterations=iterations, acceleration=acceleration)
        known: dict[str, Any] = {"noise": GaussianNoise(sigma=0.05), "stop": Budget(iterations=10_000)}
        return run(changed, y, operator, Smooth(), **known).image

    exact = ended(1000, "none")
    errors = {kind: float((ended(10, kind) - exact).norm()) for kind in ("none", "anderson")}
    assert errors["anderson"] < errors["none"] / 5


def test_anderson_solves_a_linear_problem() -> None:
    matrix = torch.diag(torch.tensor([0.9, 0.5, -0.4, 0.2])).double()
    x, accelerate = torch.zeros(4, dtype=torch.float64), Anderson(depth=4)
    for _ in range(8):
        x = accelerate(x, matrix @ x + 1)
    assert torch.allclose(x, 1 / (1 - matrix.diagonal()), atol=1e-6)


def test_level_falls_and_the_denoiser_is_told() -> None:
    network = Smooth()
    method = RED(denoiser=NetworkDenoiser(), iterations=5, sigma_start=0.16, sigma_f=0.01)
    y = GaussianBlur(sigma=1.0).A(picture())
    run(method, y, GaussianBlur(sigma=1.0), network)
    assert network.calls == pytest.approx([0.16, 0.08, 0.04, 0.02, 0.01], rel=1e-5)


def test_a_noisy_image_is_denoised_in_every_view() -> None:
    """Where the measurement is the image itself, nothing is to be gained by iterating."""
    network, y = Smooth(), noisy(picture(), 0.1)  # which has nothing to learn
    result = run(RED(), y, Identity(), network, noise=GaussianNoise(sigma=0.1))
    assert network.calls == pytest.approx([0.1] * 8)
    # this denoiser does not care which way up the image is
    assert torch.allclose(result.image, NetworkDenoiser().denoise(y, 0.1, Smooth()), atol=2e-3)
    assert "denoised" in result.stop_reason


def test_unknown_noise_of_a_plain_image_is_read_off_it() -> None:
    network = Smooth()
    run(RED(), noisy(picture(64), 0.1), Identity(), network)
    assert network.calls[0] == pytest.approx(0.1, rel=0.15)


def test_last_round_of_views_is_averaged() -> None:
    operator = GaussianBlur(sigma=1.0)
    y = noisy(operator.A(picture()), 0.02)
    method = RED(denoiser=TV(), iterations=10, views=8)
    images = [step.estimate() for step in method.steps(y, operator)]
    averaged = [step.estimate() for step in method.replace(views=1).steps(y, operator)]
    assert torch.equal(images[0], averaged[0])  # the first view is the image as it is
    raw = [images[2]]
    raw += [(count + 1) * images[count + 2] - count * images[count + 1] for count in range(1, 8)]
    assert torch.allclose(images[-1], torch.stack(raw).mean(dim=0), atol=1e-5)
    assert not torch.equal(images[-1], raw[-1])


@pytest.mark.parametrize(
    ("operator", "gain"),
    [
        (GaussianBlur(sigma=1.5), 1.0),
        (Downsample(scale=2), 1.0),
        (Blur(kernel=np.ones((3, 5)) / 15), 1.0),
        (Mask(mask=random_mask((48, 48), 0.5, 0)), 1.0),
        (Radon(angles=24), 2.0),
        (Fourier(mask=sampling_mask((48, 48), acceleration=3, rng=0), image="real"), 0.5),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_better_than_the_classical_solution(operator: Any, gain: float) -> None:
    from napari_fidelity.methods._start import starting_image

    x = picture(48)
    clean = operator.A(x)
    sigma = 0.01 * float(clean.max())
    y, noise = noisy(clean, sigma), GaussianNoise(sigma=sigma)
    classical = starting_image("classical", y, operator, noise=noise)
    result = run(RED(denoiser=TV()), y, operator, noise=noise)
    assert db(result.image, x) > db(classical, x) + gain


@pytest.mark.parametrize(
    "noise",
    [
        PoissonNoise(gain=0.02),
        PoissonGaussianNoise(gain=0.01, sigma=0.02),
        LaplaceNoise(scale=0.05),
        GaussianNoise(sigma=0.1),
    ],
    ids=lambda noise: noise.kind,
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_noise_models(noise: Noise, solver: str) -> None:
    x = picture(40)
    operator = GaussianBlur(sigma=1.0)
    y = noise.sample(operator.A(x), torch.Generator().manual_seed(0))
    iterations = {"steepest_descent": 60, "admm": 15}.get(solver, 12)
    result = run(RED(denoiser=TV(), solver=solver, iterations=iterations), y, operator, noise=noise)
    assert db(result.image, x) > db(y, x) + 6


def test_laplace_is_robust_against_outliers() -> None:
    x = picture(40)
    y = x.clone()
    hit = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    y[hit] = 1.0
    operator = GaussianBlur(sigma=0.4)
    method = RED(denoiser=TV(), iterations=12, sigma_f=0.05)
    robust = run(method, y, operator, noise=LaplaceNoise(scale=0.05)).image
    plain = run(method, y, operator, noise=GaussianNoise(sigma=0.05)).image
    assert db(robust, x) > db(plain, x) + 0.7


@pytest.mark.parametrize("factor", [0.0, 1 / 3, 3.0])
def test_wrong_noise_level_gives_something_sane(factor: float) -> None:
    x, operator, sigma = picture(40), GaussianBlur(sigma=1.5), 0.02
    y = noisy(operator.A(x), sigma)
    known = GaussianNoise(sigma=factor * sigma)
    right = db(run(RED(denoiser=TV()), y, operator, noise=GaussianNoise(sigma=sigma)).image, x)
    wrong = db(run(RED(denoiser=TV()), y, operator, noise=known).image, x)
    assert wrong > right - 8


def test_hidden_pixels_have_no_say() -> None:
    x = picture(40)
    weights = torch.from_numpy(random_mask((40, 40), 0.6, 0))[None, None]
    y = noisy(x, 0.02)
    other = torch.where(weights > 0, y, 0.9)
    results = [
        run(RED(denoiser=TV(), start=np.full((40, 40), 0.5)), z, Identity(), noise=GaussianNoise(sigma=0.02),
            weights=weights).image
        for z in (y, other)
    ]  # fmt: skip
    assert torch.allclose(*results, atol=1e-6)
    assert db(results[0], x) > 22


def test_start_from_an_image() -> None:
    x = picture(32, 3)
    y = GaussianBlur(sigma=1.5).A(x)
    method = RED(denoiser=TV(), iterations=1, sigma_start=0, sigma_f=0.01)
    start = x[0].numpy()
    result = run(method.replace(start=start), y, GaussianBlur(sigma=1.5))
    assert db(result.image, x) > db(run(method, y, GaussianBlur(sigma=1.5)).image, x) + 3
    run(method.replace(start=start[0]), y, GaussianBlur(sigma=1.5))  # one for all channels
    with pytest.raises(ShapeError, match="start"):
        run(method.replace(start=start[:, :-1]), y, GaussianBlur(sigma=1.5))


def test_volumes_and_channels() -> None:
    rng = torch.Generator().manual_seed(0)
    volume = picture(24, 2)[:, :, None].expand(-1, -1, 6, -1, -1)
    y = volume + 0.1 * torch.randn(volume.shape, generator=rng)
    operator = GaussianBlur(sigma=(0.5, 1.0, 1.0))
    result = run(RED(denoiser=TV(), iterations=4), operator.A(y), operator, noise=GaussianNoise(sigma=0.05))
    assert result.image.shape == volume.shape
    assert db(result.image, volume) > db(y, volume) + 5


def test_foreign_operator() -> None:
    class Foreign:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
            return 2 * y

    x = picture()
    result = run(RED(denoiser=TV(), iterations=6), 2 * noisy(x, 0.05), Foreign(), noise=GaussianNoise(sigma=0.1))
    assert db(result.image, x) > 28


def test_ending() -> None:
    y, operator, noise = noisy(GaussianBlur(sigma=1.5).A(picture()), 0.02), GaussianBlur(sigma=1.5), None
    method = RED(denoiser=TV(), iterations=10, snapshots=4)
    whole = run(method, y, operator, noise=noise)
    assert whole.history[-1].index == 9
    assert set(whole.snapshots) <= set(range(10))
    steps = method.steps(y, operator, noise=noise)
    for _ in range(4):
        step = next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send("enough")
    assert end.value.value.stop_reason == "enough"
    assert torch.equal(end.value.value.image, step.estimate())
    chosen = run(method.replace(iteration=3), y, operator, noise=noise)
    assert torch.equal(chosen.image, step.estimate())
    with pytest.raises(OptionError, match="iteration 48"):
        method.replace(iteration=48)  # there can be that many where a network is adapted
    closed = method.steps(y, operator, noise=noise)
    next(closed)
    closed.close()


def test_stopping_rules() -> None:
    operator = GaussianBlur(sigma=1.5)
    y = noisy(operator.A(picture()), 0.05)
    noise = GaussianNoise(sigma=0.05)
    method = RED(denoiser=TV(), iterations=50)
    assert "noise" in run(method, y, operator, noise=noise, stop=Discrepancy(tau=1.1)).stop_reason
    method = method.replace(sigma_f=0.001, iterations=30)
    held = run(method, y, operator, noise=noise, stop=HeldOut(patience=3))
    scores = [record.scores["held_out"] for record in held.history]
    assert len(scores) < 30
    assert min(scores) == scores[-4]


def test_refusals() -> None:
    y = picture()
    with pytest.raises(NonFiniteError):
        run(RED(denoiser=TV()), torch.where(y > 0.5, torch.nan, y), Identity())
    with pytest.raises(ShapeError, match="masked out"):
        run(RED(denoiser=TV()), y, Identity(), weights=torch.zeros_like(y))
    with pytest.raises(ArchitectureError, match="network"):
        run(RED(), y, Identity())
    with pytest.raises(ArchitectureError, match="shape"):
        run(RED(), y, Identity(), lambda x, sigma=0: x[..., ::2])


def test_published_settings() -> None:
    method = RED.romano2017(denoiser=NLM())
    assert (method.solver, method.iterations, method.start) == ("fixed_point", 200, "measurement")
    assert method.sigma_f == pytest.approx(3.25 / 255)
    # λ σ² of the uniform deblurring experiment, in gray levels: 0.02 · 2
    assert method.strength / (255 * method.sigma_f) ** 2 * 2 == pytest.approx(0.04)


@pytest.mark.parametrize(
    "noise", [PoissonNoise(gain=0.05), PoissonGaussianNoise(gain=0.05, sigma=0.02, offset=0.1)]
)
def test_photon_noise_is_made_even_first(noise: Noise) -> None:
    x = 0.1 + 2 * picture(64) ** 4
    y = noise.sample(x, torch.Generator().manual_seed(0))
    even = run(RED(denoiser=TV()), y, Identity(), noise=noise).image
    level = float(noise.variance(x).mean().sqrt())
    uneven = run(RED(denoiser=TV()), y, Identity(), noise=GaussianNoise(sigma=level)).image
    assert db(even, x) > db(uneven, x)
    assert float((even - x).mean()) == pytest.approx(0, abs=0.01)


class Learning(nn.Module):
    """A denoiser of one layer: at first it changes nothing."""

    scale = 1
    n_channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect", bias=False)
        nn.init.dirac_(self.layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)
        return output


LEARNT = [GaussianNoise(sigma=0.1), PoissonNoise(gain=0.03)]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("noise", LEARNT, ids=lambda noise: noise.kind)
def test_network_is_adapted_to_a_noisy_image(channels: int, noise: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.methods import _adaptation

    monkeypatch.setattr(_adaptation, "_RATE", 0.1)
    x, network = picture(64, channels), Learning()
    y = noise.sample(x, torch.Generator().manual_seed(0))
    before = network.layer.weight.clone()
    result = run(RED(adapt=60, snapshots=3), y, Identity(), network, noise=noise)
    assert torch.equal(network.layer.weight, before)  # a private copy learns
    assert db(result.image, x) > db(y, x) + 2
    assert len(result.history) == 68
    assert "60 steps" in result.stop_reason
    again = run(RED(adapt=60), y, Identity(), network, noise=noise)
    assert torch.equal(result.image, again.image)
    kept = run(RED(adapt=60, iteration=30), y, Identity(), network, noise=noise)
    assert kept.history[-1].index == 30
    assert db(run(RED(adapt=0), y, Identity(), network, noise=noise).image, x) < db(y, x) + 1


def test_adaptation_looks_at_parts_of_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.methods import _adaptation

    monkeypatch.setattr(_adaptation, "SIDE", 16)
    seen = []

    class Watching(Learning):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape[2:]))
            return super().forward(x)

    run(RED(adapt=5, views=1), noisy(picture(40), 0.1), Identity(), Watching(), noise=GaussianNoise(sigma=0.1))
    assert seen == [(40, 40)] + [(16, 16)] * 5 + [(40, 40)]


@pytest.mark.parametrize("shape", [(1, 1, 7, 9), (2, 3, 16, 5), (1, 2, 3, 8, 8), (1, 1, 1, 6)])
def test_missing_pixels_are_filled_from_around(shape: tuple[int, ...]) -> None:
    from napari_fidelity.methods._start import filled

    ramp = torch.linspace(0, 1, shape[-1]).expand(shape).contiguous()
    seen = (torch.rand((shape[0], 1, *shape[2:]), generator=torch.Generator().manual_seed(0)) < 0.5).float()
    result = filled(torch.where(seen > 0, ramp, torch.tensor(9.0)), seen)
    assert torch.equal(result * seen, ramp * seen)
    assert float((result - ramp).abs().mean()) < 0.2
    one = torch.zeros_like(ramp)
    one[..., 0] = 1
    assert torch.allclose(filled(one * 0.3, one), torch.full_like(ramp, 0.3))


def test_half_of_the_pixels_missing() -> None:
    x = picture(48)
    operator = Mask(mask=random_mask((48, 48), 0.5, 0))
    result = run(RED(denoiser=TV()), operator.A(x), operator)
    assert db(result.image, x) > 26


def test_acceleration_goes_with_a_fixed_level() -> None:
    others: list[dict[str, Any]] = [
        {},
        {"sigma_start": 0},
        {"sigma_start": 0, "output": "image", "solver": "admm"},
    ]
    for other in others:
        with pytest.raises(OptionError, match="acceleration"):
            RED(acceleration="anderson", **other)


def test_few_iterations_are_not_worse_in_views() -> None:
    x, operator = picture(48), GaussianBlur(sigma=1.5)
    y = noisy(operator.A(x), 0.02)
    one, eight = (
        db(
            run(RED(denoiser=TV(), iterations=4, views=views), y, operator, noise=GaussianNoise(sigma=0.02)).image,
            x,
        )
        for views in (1, 8)
    )
    assert eight > one - 0.3


def test_held_out_pixels_leave_the_noise_estimate() -> None:
    operator = GaussianBlur(sigma=1.5)
    y = noisy(operator.A(picture(48)), 0.02)
    levels = []
    for rule in (Budget(iterations=3), HeldOut()):
        network = Smooth()
        run(RED(iterations=3), y, operator, network, stop=rule)
        levels.append(network.calls[-1])
    assert levels[0] == pytest.approx(0.02, rel=0.3)
    assert levels[0] == levels[1]


def test_rules_wait_until_the_network_is_adapted() -> None:
    y = noisy(picture(32), 0.1)
    for rule in (Discrepancy(tau=5.0), HeldOut(patience=1)):
        result = run(RED(adapt=5), y, Identity(), Learning(), noise=GaussianNoise(sigma=0.1), stop=rule)
        assert result.history[-1].index >= 5


def test_a_recipe_of_a_plain_image_gives_the_same_image() -> None:
    """All settings are given in a recipe; those at their defaults must not count as asked for."""
    y, noise = noisy(picture(32), 0.1), GaussianNoise(sigma=0.1)
    method = RED(adapt=3)
    written = RED.parse(method.to_plain())
    results = [run(each, y, Identity(), Learning(), noise=noise) for each in (method, written)]
    assert torch.equal(results[0].image, results[1].image)
    assert len(results[1].history) == 3 + 8
    asked = run(method.replace(iterations=5), y, Identity(), Learning(), noise=noise)
    assert len(asked.history) == 5
