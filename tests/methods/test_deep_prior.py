"""The deep image prior and DeepRED."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError, NonFiniteError, OptionError, ShapeError
from napari_fidelity.core.step import Result, drain
from napari_fidelity.denoisers import BM3D, NLM, TV, NetworkDenoiser
from napari_fidelity.methods import DIP, DeepRED
from napari_fidelity.methods._prior_run import Window
from napari_fidelity.methods._splitting import Splitting
from napari_fidelity.methods.data_term import split
from napari_fidelity.networks.untrained import DeepDecoder, Skip
from napari_fidelity.operators import (
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    PoissonNoise,
    Radon,
    random_mask,
    sampling_mask,
)
from napari_fidelity.stopping import Budget, HeldOut, WindowedVariance

SMALL = Skip(width=8, scales=2, skip=2)
NOISE = GaussianNoise(sigma=0.1)


def picture(size: int = 24, channels: int = 1) -> torch.Tensor:
    """Return an image with an edge, a ramp and a disc."""
    i, j = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    x = 0.3 + 0.3 * (i > 0.5) + 0.2 * j + 0.2 * ((i - 0.3) ** 2 + (j - 0.6) ** 2 < 0.03)
    return torch.stack([x * (0.8 + 0.2 * c) for c in range(channels)])[None]


def noisy(x: torch.Tensor, sigma: float = 0.1, seed: int = 0) -> torch.Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def db(x: torch.Tensor, truth: torch.Tensor) -> float:
    return -10 * float(torch.log10((x - truth).square().mean()))


def dip(**changes: Any) -> DIP:
    return DIP(**{"network": SMALL, "iterations": 30, "precision": "float32", "hold_out": 0.0, **changes})


def deepred(**changes: Any) -> DeepRED:
    known = {
        "network": SMALL, "iterations": 30, "precision": "float32", "hold_out": 0.0, "denoiser": TV(),
        "start": "classical",
    }  # fmt: skip
    return DeepRED(**{**known, **changes})


BOTH = pytest.mark.parametrize("make", [dip, deepred], ids=["dip", "deepred"])


def run(method: Any, *args: Any, **kwargs: Any) -> Result[torch.Tensor]:
    return drain(method.steps(*args, **kwargs))


@BOTH
def test_learns_the_image_before_the_noise(make: Any) -> None:
    x = picture(32)
    y = noisy(x)
    result = run(make(iterations=250, average=0.9, network=Skip(width=16, scales=3)), y, Identity(), noise=NOISE)
    assert db(result.image, x) > db(y, x) + 3
    assert result.history[-1].loss < result.history[0].loss / 4


@pytest.mark.parametrize(
    ("operator", "channels"),
    [
        (Downsample(scale=2), 3),
        (GaussianBlur(sigma=1.0), 2),
        (Mask(mask=random_mask((24, 24), 0.5, 0)), 1),
        (Radon(angles=12), 1),
        (Fourier(mask=sampling_mask((24, 24), acceleration=2, rng=0), image="real"), 1),
        (Fourier(mask=sampling_mask((24, 24), acceleration=2, rng=0), image="complex"), 2),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
@BOTH
def test_every_operator(make: Any, operator: Any, channels: int) -> None:
    x = picture(24, channels)
    y = operator.A(x)
    result = run(make(iterations=60, average=0.8), y, operator)
    assert result.image.shape == x.shape
    data = [record.loss for record in result.history]
    assert np.mean(data[-5:]) < 0.5 * np.mean(data[:5])


@BOTH
def test_same_seed_same_bits(make: Any) -> None:
    y = noisy(picture())
    first, again, other = (run(make(), y, Identity(), noise=NOISE, rng=seed).image for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_runs_go_in_step_and_are_averaged() -> None:
    y = noisy(picture())
    alone = [run(dip(average=0.0), y, Identity(), noise=NOISE, rng=seed) for seed in (5, 5 + 1_000_003)]
    both = run(dip(average=0.0, runs=2), y, Identity(), noise=NOISE, rng=5)
    assert torch.allclose(both.image, (alone[0].image + alone[1].image) / 2, atol=1e-6)
    assert len(both.history) == 30


def test_average_over_iterations() -> None:
    y = noisy(picture())
    raw = [step.estimate() for step in dip(average=0.0).steps(y, Identity(), noise=NOISE)]
    expected = raw[0]
    for image in raw[1:]:
        expected = 0.9 * expected + 0.1 * image
    assert torch.allclose(run(dip(average=0.9), y, Identity(), noise=NOISE).image, expected, atol=1e-6)


def test_scores_are_those_of_the_average() -> None:
    operator = GaussianBlur(sigma=1.0)
    y = noisy(operator.A(picture()))
    for step in dip(average=0.8).steps(y, operator, noise=NOISE):
        last = step
    residual = operator.A(last.estimate()) - y
    assert last.scores["lr_psnr"] == pytest.approx(-10 * math.log10(float(residual.square().mean())), abs=1e-3)
    assert last.scores["discrepancy"] == pytest.approx(float(residual.square().mean()) / 0.01, rel=1e-3)


@BOTH
def test_ending(make: Any) -> None:
    y = noisy(picture())
    method = make(snapshots=4)
    whole = run(method, y, Identity(), noise=NOISE, stop=Budget(iterations=1000))
    assert whole.history[-1].index == 29
    assert 2 <= len(whole.snapshots) <= 4
    steps = method.steps(y, Identity(), noise=NOISE)
    for _ in range(8):
        step = next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send("enough")
    assert end.value.value.stop_reason == "enough"
    assert torch.equal(end.value.value.image, step.estimate())
    chosen = run(method.replace(iteration=7), y, Identity(), noise=NOISE)
    assert torch.equal(chosen.image, step.estimate())
    with pytest.raises(OptionError, match="iteration 30"):
        method.replace(iteration=30)


@pytest.mark.parametrize(
    "rule", [HeldOut(patience=25), WindowedVariance(window=10, patience=25)], ids=["held", "var"]
)
def test_returned_is_the_best_of_the_rule(rule: Any) -> None:
    y = noisy(picture(), 0.3)
    score = rule.best
    images = {}
    steps = dip(iterations=400, learning_rate=0.05, average=0.5).steps(y, Identity(), stop=rule)
    try:
        while True:
            step = next(steps)
            images[step.index] = (step.scores.get(score, math.inf), step.estimate())
    except StopIteration as end:
        result = end.value
    assert len(images) < 400
    best = min(images, key=lambda index: images[index][0])
    assert best == max(images) - 25
    assert torch.equal(result.image, images[best][1])


def test_default_holds_pixels_out_and_never_overfits() -> None:
    """The image returned stays near the best one, however long the run goes on."""
    x = picture()
    y = noisy(x, 0.2)
    method = dip(hold_out=0.1, network=Skip(width=16, scales=3), average=0.9, learning_rate=0.03)
    rule = method.default_stop()
    assert isinstance(rule, HeldOut)
    assert rule.fraction == 0.1
    curve: list[float] = []
    steps = method.replace(iterations=900).steps(y, Identity(), stop=rule.replace(patience=10_000))
    returned = drain(steps, lambda step: curve.append(db(step.estimate(), x))).image
    assert curve[-1] < max(curve) - 1
    assert db(returned, x) > max(curve) - 0.5


def test_photons_are_held_out() -> None:
    noise = PoissonNoise(gain=0.02, offset=0.05)
    y = noise.sample(picture() + 0.05, torch.Generator().manual_seed(0))
    part = split(y, noise, None, HeldOut(of="counts", fraction=0.25), torch.Generator().manual_seed(0))
    assert part.target is not None
    photons = (y - 0.05) / 0.02
    fitted, held = ((image - 0.05) / 0.02 for image in (part.y, part.target))
    assert torch.allclose(0.75 * fitted + 0.25 * held, photons.round(), atol=1e-3)
    assert float(held.sum() / photons.sum()) == pytest.approx(1, abs=0.03)
    assert isinstance(part.noise, PoissonNoise)
    assert part.noise.gain == pytest.approx(0.02 / 0.75)
    assert "held_out" in run(dip(), y, Identity(), noise=noise, stop=HeldOut(of="counts")).history[0].scores
    with pytest.raises(OptionError, match="photon noise"):
        run(dip(), y, Identity(), noise=NOISE, stop=HeldOut(of="counts"))


def test_held_out_pixels_are_not_looked_at() -> None:
    y = picture()
    part = split(y, None, None, HeldOut(fraction=0.3), torch.Generator().manual_seed(0))
    assert part.held_out is not None
    assert part.weights is not None
    marked = split(torch.where(part.held_out > 0, 9.0, y), None, None, HeldOut(fraction=0.3),
                   torch.Generator().manual_seed(0))  # fmt: skip
    assert torch.equal(part.y, marked.y)
    assert not bool(((part.held_out > 0) & (part.weights > 0)).any())


def test_window_of_outputs() -> None:
    window, rng = Window(5), torch.Generator().manual_seed(0)
    images = [torch.rand(1, 1, 8, 8, generator=rng) for _ in range(9)]
    scores = [window.take(image) for image in images]
    assert [bool(score) for score in scores] == [False] * 4 + [True] * 5
    expected = float(torch.stack(images[-5:]).var(dim=0, unbiased=False).mean())
    assert scores[-1]["variance"] == pytest.approx(expected, rel=1e-4)


def test_window_is_small_on_large_images() -> None:
    window = Window(3)
    window.take(torch.rand(1, 3, 400, 400))
    assert window._kept[0].numel() <= 2**16


@BOTH
def test_start_from_an_image(make: Any) -> None:
    x = picture(24, 2)
    y = GaussianBlur(sigma=1.5).A(x)
    for start in ("measurement", "classical", x[0].numpy(), x[0, 0].numpy()):
        assert run(make(start=start), y, GaussianBlur(sigma=1.5)).image.shape == x.shape
    with pytest.raises(ShapeError, match="start"):
        run(make(start=np.zeros((3, 3))), y, GaussianBlur(sigma=1.5))


@BOTH
def test_volumes(make: Any) -> None:
    volume = picture(16)[:, :, None].expand(-1, -1, 6, -1, -1).contiguous()
    network = Skip(width=4, scales=2, skip=2)
    result = run(make(network=network, iterations=8), noisy(volume), Identity(), noise=NOISE)
    assert result.image.shape == volume.shape


def test_other_network_and_no_sigmoid() -> None:
    y = 3 * noisy(picture())
    method = dip(network=DeepDecoder(width=12, scales=3), sigmoid=False, iterations=200, learning_rate=0.02)
    assert float(run(method, y, Identity()).image.max()) > 1.2


def test_likelihood_of_photon_noise() -> None:
    x, noise = picture(), PoissonNoise(gain=0.05)
    y = noise.sample(x, torch.Generator().manual_seed(0))
    result = run(dip(iterations=150, average=0.9), y, Identity(), noise=noise)
    assert db(result.image, x) > db(y, x) + 3


@BOTH
def test_hidden_pixels_have_no_say(make: Any) -> None:
    weights = torch.from_numpy(random_mask((24, 24), 0.6, 0))[None, None]
    y = noisy(picture())
    known: dict[str, Any] = {"noise": NOISE, "weights": weights}
    start = np.full((24, 24), 0.5)
    results = [
        run(make(start=start), torch.where(weights > 0, y, fill), Identity(), **known).image for fill in (0.1, 0.9)
    ]
    assert torch.equal(*results)


@BOTH
def test_refusals(make: Any) -> None:
    y = picture()
    with pytest.raises(NonFiniteError):
        run(make(), torch.where(y > 0.5, torch.nan, y), Identity())
    with pytest.raises(ShapeError, match="masked out"):
        run(make(), y, Identity(), weights=torch.zeros_like(y))


@pytest.mark.parametrize("sigma", [0.0, 0.1 / 3, 0.3])
@BOTH
def test_wrong_noise_level(make: Any, sigma: float) -> None:
    x = picture(32)
    y = noisy(x)
    method = make(iterations=150, average=0.9)
    assert db(run(method, y, Identity(), noise=GaussianNoise(sigma=sigma)).image, x) > db(y, x)


# -- DeepRED ------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A denoiser that counts its calls and can fail at one of them."""

    scale = 1
    takes_noise_level = True

    def __init__(self, fails_at: int = 10**9) -> None:
        super().__init__()
        self.levels: list[float] = []
        self.threads: set[int] = set()
        self.fails_at = fails_at

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.levels.append(float(sigma))
        self.threads.add(threading.get_ident())
        if len(self.levels) == self.fails_at:
            raise ValueError("injected")
        return nn.functional.avg_pool2d(x, 3, 1, 1)


def test_denoiser_works_beside_the_network() -> None:
    network, y = Counting(), noisy(picture())
    before = threading.active_count()
    method = deepred(denoiser=NetworkDenoiser(), every=10, sigma_f=0.04, start="classical")
    run(method, y, Identity(), network, noise=NOISE)
    assert network.levels == pytest.approx([0.04] * 3)  # at first, and after the first and the tenth iteration
    assert threading.get_ident() not in network.threads
    assert threading.active_count() == before


def test_starts_from_what_red_makes() -> None:
    network, y = Counting(), noisy(picture())
    method = deepred(denoiser=NetworkDenoiser(), iterations=3, sigma_f=0.04, start="red")
    steps = method.steps(y, Identity(), network, noise=NOISE)
    assert {next(steps).index for _ in range(4)} == {-1}  # RED's own steps come before the first iteration
    assert network.levels[0] == pytest.approx(NOISE.sigma)  # the whole noise is still in it
    stopped = steps.send
    with pytest.raises(StopIteration) as end:
        for _ in range(100):
            stopped("enough")
    assert end.value.value.stop_reason == "enough"
    result = run(method, y, Identity(), network, noise=NOISE)
    assert [record.index for record in result.history] == [0, 1, 2]
    assert network.levels[-1] == pytest.approx(0.04)


def test_error_in_the_denoiser_is_said() -> None:
    with pytest.raises(ArchitectureError, match="injected"):
        run(deepred(denoiser=NetworkDenoiser()), noisy(picture()), Identity(), Counting(fails_at=2), noise=NOISE)
    before = threading.active_count()
    steps = deepred().steps(noisy(picture()), Identity(), noise=NOISE)
    next(steps)
    steps.close()
    assert threading.active_count() == before


def test_one_round_of_admm() -> None:
    """The updates of algorithm 1, done by hand."""
    x0, output = picture(), 0.9 * picture()
    for update in ("fixed_point", "gradient"):
        method = deepred(denoiser=NetworkDenoiser(), beta=0.3, mu=0.7, update=update, sigma_f=0.1)
        with Splitting.thread() as pool:
            splitting = Splitting(method, x0, Counting(), 0.1, 1.0, pool)
            assert float(splitting.penalty(output)) == pytest.approx(
                0.7 * float((output - x0).square().mean()), rel=1e-5
            )
            splitting.update(0, output, 0.0)
        denoised = nn.functional.avg_pool2d(x0, 3, 1, 1)
        gradient = 0.3 * (x0 - denoised) + 0.7 * (x0 - output)
        expected = 0.3 * denoised + 0.7 * output if update == "fixed_point" else x0 - gradient
        assert torch.allclose(splitting.x, expected, atol=1e-6)
        assert torch.allclose(splitting.u, output - expected, atol=1e-6)


def test_penalties_grow_with_the_fit() -> None:
    method = deepred(growth=0.03, tau=1.0, beta=0.5, mu=0.5)
    with Splitting.thread() as pool:
        splitting = Splitting(method, picture(), None, 0.1, 1.0, pool)
        for fit in (-0.5, 0.5, 0.5):  # dB by which the residual is smaller than the noise
            splitting.update(1, picture(), fit)
    assert (splitting.beta, splitting.mu) == pytest.approx((0.56, 0.56))


def test_penalties_grow_until_the_fit_is_reached() -> None:
    y = noisy(picture())
    free = run(deepred(iterations=200, learning_rate=0.02), y, Identity(), noise=NOISE)
    held = run(deepred(iterations=200, learning_rate=0.02, growth=0.3, tau=1.2), y, Identity(), noise=NOISE)
    assert held.history[-1].scores["discrepancy"] > free.history[-1].scores["discrepancy"]


@pytest.mark.parametrize(
    ("task", "sigma", "rate", "beta", "mu", "noise", "iterations", "output"),
    [
        ("denoise", 3, 0.008, 0.5, 0.5, 0.033, 6000, "average"),
        ("super_resolution", 5, 0.001, 0.05, 0.06, 0.02, 2000, "image"),
        ("deblur", 3, 0.004, 0.02, 0.04, 0.01, 30000, "image"),
    ],
)
def test_published_settings(
    task: Any, sigma: float, rate: float, beta: float, mu: float, noise: float, iterations: int, output: str
) -> None:
    method = DeepRED.mataev2019(task)
    assert method.sigma_f == pytest.approx(sigma / 255)
    assert (method.learning_rate, method.beta, method.mu) == (rate, beta, mu)
    assert (method.input_noise, method.iterations, method.output) == (noise, iterations, output)
    assert (method.every, method.update) == (10, "fixed_point")
    assert method.average == (0.99 if output == "average" else 0.0)
    assert method.network == Skip(width=128, scales=5, skip=4)
    assert isinstance(method.denoiser, BM3D if task == "super_resolution" else NLM)
    assert method.decay == (0.9 if task == "deblur" else 1.0)
    assert method.clip
    assert method.sigmoid
    # a fit of 20 dB at σ = 25/255, which is 0.17 dB less than the noise
    assert task != "denoise" or (25 / 255) ** 2 * method.tau == pytest.approx(0.01)
