"""What a run does: gains, determinism, contract of the steps, stopping, and images and networks of every kind."""

from __future__ import annotations

import gc
import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import (
    ArchitectureError,
    DivergedError,
    MissingDependencyError,
    OperatorError,
    OptionError,
    ShapeError,
)
from napari_fidelity.core.step import drain
from napari_fidelity.methods import FineTune, Project
from napari_fidelity.operators import Compose, Downsample, GaussianBlur, GaussianNoise, Identity, Mask
from napari_fidelity.stopping import Budget, Discrepancy, HeldOut, LRLPIPSDrop, LRPSNRGain

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.networks.edsr import EDSR

A = Downsample(scale=2)
QUICK = FineTune(iterations=2, precision="float32")


def tune(method: FineTune, y: torch.Tensor, model: Any, **settings: Any) -> Result[torch.Tensor]:
    operator = settings.pop("operator", A)
    return drain(method.steps(y, operator, model, **settings))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


@pytest.fixture
def x(scene: Scene) -> torch.Tensor:
    return torch.from_numpy(scene(1, 48, 48))[None]


@pytest.fixture
def y(x: torch.Tensor) -> torch.Tensor:
    return A.A(x)


# -- what it is for ----------------------------------------------------------------------------------------------


def test_no_step_could_only_fit_the_noise(x: torch.Tensor, network: MakeNetwork) -> None:
    blur, sigma = GaussianBlur(sigma=1.0), 0.1
    y = blur.A(x) + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    model = network(scale=1)
    with torch.no_grad():
        model.tail.bias += 0.2  # which the closed form takes away
    told = {"operator": blur, "noise": GaussianNoise(sigma=sigma)}
    method = FineTune(iterations=7, precision="float32", learning_rate=0.003)
    steady, moving = (tune(m, y, model, **told) for m in (method, method.replace(adaptive=False)))
    assert steady.history[0].loss < sigma**2  # what is left of the residual is noise
    assert steady.history[-1].loss == pytest.approx(steady.history[0].loss, rel=0.05)
    assert moving.history[-1].loss < 0.95 * steady.history[-1].loss
    assert psnr(steady.image, x) > psnr(moving.image, x)


@torch.no_grad()
def darkened(network: EDSR) -> EDSR:
    network.tail.weight.mul_(0.8)
    network.tail.bias.mul_(0.8)
    return network


@torch.no_grad()
def shifted(network: EDSR) -> EDSR:
    network.tail.bias.add_(torch.linspace(-0.1, 0.15, network.n_channels))
    return network


@torch.no_grad()
def perturbed(network: EDSR) -> EDSR:
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("damage", [darkened, shifted, perturbed])
@pytest.mark.parametrize("method", [FineTune(), FineTune(project=False), FineTune(last_layer="descend")])
def test_a_slightly_wrong_network_comes_back(
    damage: Any, method: FineTune, network: MakeNetwork, scene: Scene
) -> None:
    x = torch.from_numpy(scene(3, 48, 48))[None]
    y, model = A.A(x), damage(network(3))
    with torch.no_grad():
        before = model(y)
    result = tune(method, y, model)
    gain = 1.25 if method.project or method.last_layer == "solve" else 0.5
    assert psnr(result.image, x) > psnr(before, x) + gain
    assert psnr(A.A(result.image), y) > psnr(A.A(before), y) + 5


def test_published_settings_descend(x: torch.Tensor, y: torch.Tensor, network: MakeNetwork) -> None:
    method = FineTune.lucas2020(iterations=30)
    result = tune(method, y, darkened(network()), stop=Budget(iterations=30))
    losses = [record.loss for record in result.history]
    assert losses[-1] < losses[0] / 2
    assert method.default_stop() == LRPSNRGain(delta=0.04)
    assert (method.optimizer, method.learning_rate, method.momentum) == ("sgd", 0.01, 0.9)
    assert FineTune.lucas2020().iterations == 4000


# -- determinism and tidiness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        FineTune(iterations=3),
        FineTune(iterations=2, parameters="low_rank", last_layer="descend"),
        FineTune.lucas2020(iterations=2),
    ],
    ids=["default", "low rank", "lucas2020"],
)
def test_same_seed_same_bits(method: FineTune, y: torch.Tensor, network: MakeNetwork) -> None:
    model, stop = network(), HeldOut(fraction=0.2)
    torch.manual_seed(1)
    first = tune(method, y, model, rng=7, stop=stop)
    torch.manual_seed(2)
    second = tune(method, y, model, rng=torch.Generator().manual_seed(7), stop=stop)
    assert torch.equal(first.image, second.image)
    assert [r.loss for r in first.history] == [r.loss for r in second.history]
    other = tune(method, y, model, rng=8, stop=stop)
    assert not torch.equal(first.image, other.image)


def test_nothing_of_the_callers_is_changed(y: torch.Tensor, network: MakeNetwork) -> None:
    model = network().train()
    model.head.weight.requires_grad_(False)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    y_before, random = y.clone(), torch.get_rng_state()
    tune(QUICK, y, model)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(y, y_before)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_gradients_are_on_between_steps(y: torch.Tensor, network: MakeNetwork) -> None:
    with torch.no_grad():
        steps = QUICK.steps(y, A, network())
        next(steps)
        assert not torch.is_grad_enabled()
        next(steps)
        steps.close()
    steps = QUICK.steps(y, A, network())
    next(steps)
    assert torch.is_grad_enabled()


# -- the contract of the steps -----------------------------------------------------------------------------------


def test_steps_and_history(y: torch.Tensor, network: MakeNetwork) -> None:
    seen: list[Step] = []
    result = drain(QUICK.steps(y, A, network()), seen.append)
    assert [(step.index, step.total) for step in seen] == [(0, 3), (1, 3), (2, 3)]
    assert [record.index for record in result.history] == [0, 1, 2]
    assert all({"lr_psnr", "change"} & step.scores.keys() for step in seen)
    assert seen[0].seconds <= seen[1].seconds <= seen[2].seconds <= result.seconds
    estimate = seen[-1].estimate()
    assert (estimate.shape, estimate.dtype, estimate.requires_grad) == ((1, 1, 48, 48), torch.float32, False)
    assert torch.equal(estimate, result.image)
    assert result.stop_reason == "all 2 gradient steps are done"


def test_estimate_is_worked_out_when_asked_for(
    y: torch.Tensor, network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_fidelity.methods import _finetuning

    steps = QUICK.steps(y, A, network())
    next(steps)
    calls = []
    project = _finetuning.project
    monkeypatch.setattr(_finetuning, "project", lambda *a, **k: calls.append(1) or project(*a, **k))
    step = next(steps)
    assert calls == []
    step.estimate()
    assert calls == [1]


def test_estimates_stay_what_they_were(y: torch.Tensor, network: MakeNetwork) -> None:
    steps = FineTune(iterations=4).steps(y, A, network())
    first = next(steps)
    before = first.estimate().clone()
    for _ in steps:
        pass
    assert torch.equal(first.estimate(), before)


def test_sent_reason_ends_with_the_best(y: torch.Tensor, network: MakeNetwork) -> None:
    steps = FineTune(iterations=50).steps(y, A, network())
    next(steps)
    step = next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send("because I say so")
    result = end.value.value
    assert result.stop_reason == "because I say so"
    assert len(result.history) == 2
    assert torch.equal(result.image, step.estimate())


def test_best_alone_is_the_one_with_the_lowest_loss(y: torch.Tensor, network: MakeNetwork) -> None:
    # A step far too long: the first image is the best one.
    method = FineTune.lucas2020(iterations=3, learning_rate=1, optimizer="adam")
    images = []
    result = drain(method.steps(y, A, network(), stop=Budget(iterations=9)), lambda s: images.append(s.estimate()))
    losses = [record.loss for record in result.history]
    assert losses.index(min(losses)) == 0 < len(losses) - 1
    assert torch.equal(result.image, images[0])


@pytest.mark.parametrize("most", [0, 1, 3, 8])
def test_snapshots_are_bounded_and_spread(most: int, y: torch.Tensor, network: MakeNetwork) -> None:
    images = {}

    def keep(step: Step) -> None:
        images[step.index] = step.estimate()

    method = FineTune(iterations=12, snapshots=most, views=1)
    result = drain(method.steps(y, A, network(), stop=Budget(iterations=99)), keep)
    assert len(result.snapshots) <= most
    assert bool(result.snapshots) == bool(most)
    assert all(torch.equal(image, images[index]) for index, image in result.snapshots.items())
    indices = sorted(result.snapshots)
    assert len({b - a for a, b in itertools.pairwise(indices)}) <= 1


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_memory_does_not_grow(y: torch.Tensor, network: MakeNetwork) -> None:
    counts = {}

    def look(step: Step) -> None:
        step.estimate()
        if step.index in (30, 60):
            counts[step.index] = live_tensors()

    method = FineTune(iterations=61, snapshots=2, learning_rate=1e-5)
    drain(method.steps(y, A, network(), stop=Budget(iterations=99)), look)
    # snapshots come and go
    assert counts[60] <= counts[30] + 2


def test_closed_run_lets_everything_go(y: torch.Tensor, network: MakeNetwork) -> None:
    model = network()
    tune(QUICK, y, model)
    before = live_tensors()
    steps = FineTune(iterations=9).steps(y, A, model)
    for _ in range(3):
        next(steps).estimate()
    assert live_tensors() > before
    steps.close()
    del steps
    assert live_tensors() <= before


# -- stopping ----------------------------------------------------------------------------------------------------


def test_default_stops_by_itself(y: torch.Tensor, network: MakeNetwork) -> None:
    result = tune(FineTune(iterations=5000, learning_rate=1e-6), y, network())
    assert len(result.history) < 100
    assert "settled" in result.stop_reason


def test_averages_look_at_all_views_first(y: torch.Tensor, network: MakeNetwork) -> None:
    stop = LRPSNRGain(delta=1000)
    assert len(tune(FineTune(), y, network(), stop=stop).history) == 8
    assert len(tune(FineTune(average=False), y, network(), stop=stop).history) == 2
    assert len(tune(FineTune(), y, network(), stop=Budget(iterations=3)).history) == 4
    assert len(tune(FineTune(), y, network(), stop=Budget(iterations=0)).history) == 1


def test_held_out_pixels(y: torch.Tensor, network: MakeNetwork) -> None:
    stop = HeldOut(fraction=0.2, patience=3)
    method = FineTune.lucas2020(iterations=40, optimizer="adam", learning_rate=0.02)
    images = []
    steps = method.steps(y, A, darkened(network()), stop=stop)
    result = drain(steps, lambda step: images.append(step.estimate()))
    scores = [record.scores["held_out"] for record in result.history]
    best = scores.index(min(scores))
    assert 0 < best < len(scores) - 1
    assert torch.equal(result.image, images[best])
    assert f"best at iteration {best}" in result.stop_reason


def test_discrepancy(x: torch.Tensor, network: MakeNetwork) -> None:
    noise = GaussianNoise(sigma=0.03)
    y = noise.sample(A.A(x), torch.Generator().manual_seed(0))
    result = tune(FineTune(average=False), y, darkened(network()), noise=noise, stop=Discrepancy(tau=1.2))
    assert "as small as the noise" in result.stop_reason
    assert result.history[-1].scores["discrepancy"] <= 1.2


def test_lpips_without_backbone(y: torch.Tensor, network: MakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity import metrics

    def missing(*args: Any, **settings: Any) -> float:
        raise MissingDependencyError("LPIPS needs its backbone")

    monkeypatch.setattr(metrics, "lpips", missing)
    with pytest.raises(MissingDependencyError, match="backbone"):
        tune(QUICK, y, network(), stop=LRLPIPSDrop())
    monkeypatch.setattr(metrics, "lpips", lambda a, b: 0.5)
    result = tune(QUICK.replace(average=False), y, network(), stop=LRLPIPSDrop())
    assert "LPIPS on the measurement fell by 0" in result.stop_reason
    assert result.history[0].scores["lr_lpips"] == 0.5


# -- numbers that leave the road ---------------------------------------------------------------------------------


class Odd(nn.Module):
    """A ×2 network that does something odd to what it was about to return."""

    def __init__(self, network: nn.Module, twist: Any) -> None:
        super().__init__()
        self.network, self.twist = network, twist

    def forward(self, y: torch.Tensor) -> Any:
        return self.twist(self.network(y))


def test_first_output_not_finite(y: torch.Tensor, network: MakeNetwork) -> None:
    with pytest.raises(DivergedError, match=r"not finite.*2304 bad pixels"):
        tune(QUICK, y, Odd(network(), lambda x: x * torch.nan))


def test_first_step_not_finite(y: torch.Tensor, network: MakeNetwork) -> None:
    with pytest.raises(DivergedError, match="very first step"):
        tune(QUICK.replace(last_layer="descend"), y, Odd(network(), lambda x: x * 1e30))


@pytest.mark.parametrize("last_layer", ["solve", "descend"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("average", [True, False])
def test_huge_steps_end_with_a_reason_and_an_image(
    last_layer: Any, optimizer: Any, average: bool, y: torch.Tensor, network: MakeNetwork
) -> None:
    method = FineTune(
        iterations=25, learning_rate=1, optimizer=optimizer, last_layer=last_layer, average=average,
        schedule="constant", momentum=0.99,
    )  # fmt: skip
    result = tune(method, y, Odd(network(), lambda x: x + 0.5 * x**3), stop=Budget(iterations=99))
    assert bool(torch.isfinite(result.image).all())
    assert result.stop_reason
    assert result.history


def test_divergence_returns_the_image_before(y: torch.Tensor, network: MakeNetwork) -> None:
    calls = []

    def twist(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x if len(calls) < 5 else x * torch.nan

    images = []
    method = FineTune(iterations=9, last_layer="descend", pairs=0)
    result = drain(method.steps(y, A, Odd(network(), twist)), lambda step: images.append(step.estimate()))
    assert "diverged" in result.stop_reason
    assert torch.equal(result.image, images[-1])


def test_a_tiny_ridge_is_raised_where_rounding_asks_for_it(network: MakeNetwork) -> None:
    y = torch.full((1, 1, 12, 12), 0.5)
    result = tune(FineTune(iterations=1, ridge=1e-300), y, network())
    assert bool(torch.isfinite(result.image).all())


# -- images of every kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (5, 1), (1, 7), (17, 16), (9, 31)])
@pytest.mark.parametrize("last_layer", ["solve", "descend"])
def test_any_size(size: tuple[int, int], last_layer: Any, network: MakeNetwork) -> None:
    y = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    for mask in ("none", "edges"):
        result = tune(QUICK.replace(last_layer=last_layer, mask=mask), y, network())
        assert result.image.shape[2:] == (2 * size[0], 2 * size[1])
        assert bool(torch.isfinite(result.image).all())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_image_stays_constant(value: float, network: MakeNetwork) -> None:
    result = tune(FineTune(), torch.full((1, 1, 16, 16), value), network())
    torch.testing.assert_close(result.image, torch.full((1, 1, 32, 32), value), atol=0.05, rtol=0)


def test_a_composition_of_one_is_that_one(y: torch.Tensor, network: MakeNetwork) -> None:
    single = tune(QUICK, y, network()).image
    for parts in ([A], [Identity(), A]):
        assert torch.equal(tune(QUICK, y, network(), operator=Compose(operators=parts)).image, single)


def test_batch_and_other_float_types(network: MakeNetwork, scene: Scene) -> None:
    y = torch.from_numpy(scene(3, 1, 12, 12))
    expected = tune(QUICK, y, network()).image
    assert expected.shape == (3, 1, 24, 24)
    torch.testing.assert_close(tune(QUICK, y.double(), network()).image, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("hole", [False, True])
def test_noise_is_not_fitted_where_there_is_no_coarser_copy(
    hole: bool, scene: Scene, network: MakeNetwork
) -> None:
    """A hole in the measurement leaves no coarser copy, and must not change the outcome by much."""
    x, noise = torch.from_numpy(scene(1, 48, 48))[None], GaussianNoise(sigma=0.03)
    operator = A @ GaussianBlur(sigma=1.6)
    y = noise.sample(operator.A(x), torch.Generator().manual_seed(0))
    weights = torch.ones_like(y)
    weights[..., 3, 3] = 0
    method = FineTune(iterations=0, pairs=None if hole else 0)
    model = network(n_feats=24, n_blocks=2)
    tuned = tune(method, y, model, operator=operator, noise=noise, weights=weights if hole else None).image
    with torch.no_grad():
        assert psnr(tuned, x) > psnr(model(y), x) - 0.5


def test_unobserved_pixels_have_no_say_in_the_fit(x: torch.Tensor, y: torch.Tensor, network: MakeNetwork) -> None:
    weights = torch.ones(24, 24)
    weights[8:12, 8:12] = 0
    wrong = torch.where(weights == 0, y.mean(), y)
    method = FineTune(pairs=0)
    masked, plain = (tune(method, wrong, network(), weights=w).image for w in (weights, None))
    hole = (..., slice(16, 24), slice(16, 24))
    assert psnr(masked[hole], x[hole]) > psnr(plain[hole], x[hole])
    outside = weights.expand_as(y) > 0
    assert ((A.A(masked) - y).abs()[outside]).max() < 0.05


# -- networks of every kind --------------------------------------------------------------------------------------


def shuffling(n: int = 8) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, 4, 3, padding=1), nn.PixelShuffle(2)
    return nn.Sequential(*layers)


def test_network_that_ends_in_a_pixel_shuffle_moves_by_steps(
    y: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "napari_fidelity"):
        result = tune(FineTune(iterations=20, learning_rate=0.01, average=False), y, shuffling())
    assert "no layer of Sequential can be solved" in caplog.text
    assert result.history[-1].loss < result.history[0].loss / 2


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "last",
    [
        nn.Conv2d(4, 1, 1),
        nn.Conv2d(4, 1, 5, padding=2, padding_mode="reflect"),
        nn.Conv2d(4, 1, (3, 4), padding="same", bias=False),
        nn.Conv2d(4, 1, 3, padding=2, dilation=2),
    ],
    ids=["1x1", "reflect", "same, even", "dilated"],
)
def test_last_convolutions_of_every_kind(last: nn.Conv2d, x: torch.Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), last)
    result = tune(FineTune(iterations=0, project=False), x, model, operator=Identity())
    with torch.no_grad():
        assert psnr(result.image, x) > psnr(model(x), x)


@pytest.mark.parametrize("between", [(), (GaussianBlur(sigma=0.7),)], ids=["alone", "with a blur"])
def test_several_downsamplings_are_one(between: tuple[Any, ...], x: torch.Tensor, network: MakeNetwork) -> None:
    operator = Compose(operators=(A, *between, A))
    y = operator.A(x)
    result = tune(QUICK, y, network(scale=4), operator=operator)
    assert result.image.shape == x.shape
    assert float((operator.A(result.image) - y).square().mean()) < 1e-5


def no_forward(y: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("size mismatch inside")


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (None, ArchitectureError, "needs a restoration network.*found: none"),
        (lambda y: y, ArchitectureError, "found: function"),
        (nn.Upsample(scale_factor=2), ArchitectureError, "Upsample has no parameters"),
        (nn.Conv2d(1, 1, 3, padding=1), ShapeError, "another shape.*scale are the same"),
        (nn.Conv2d(3, 1, 1), ArchitectureError, "Conv2d cannot be applied to an image of shape"),
        (Odd(shuffling(), no_forward), ArchitectureError, "Odd cannot be applied.*size mismatch inside"),
        (Odd(shuffling(), lambda x: (x, x)), ArchitectureError, "found: tuple"),
        (Odd(shuffling(), lambda x: x.detach()), ArchitectureError, "does not depend on the chosen parameters"),
    ],
)
def test_networks_that_cannot_be_used(model: Any, error: Any, message: str, y: torch.Tensor) -> None:
    with pytest.raises(error, match=message):
        tune(QUICK, y, model)


@pytest.mark.parametrize("method", [FineTune(), Project()], ids=lambda method: method.kind)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_network_that_cannot_be_copied(method: Any, y: torch.Tensor) -> None:
    network = nn.Sequential(nn.Upsample(scale_factor=2), torch.nn.utils.weight_norm(nn.Conv2d(1, 1, 3, padding=1)))
    network(y)
    with pytest.raises(ArchitectureError, match="cannot be copied"):
        drain(method.steps(y, A, network))


class PerChannel:
    """A foreign operator made for images of as many channels as its mask has."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask * x

    A_adjoint = A


def test_foreign_operator_for_a_fixed_number_of_channels(scene: Scene, network: MakeNetwork) -> None:
    x = torch.from_numpy(scene(3, 24, 20))[None]
    mask = (torch.rand(1, 1, 24, 20, generator=torch.Generator().manual_seed(0)) > 0.3).float()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    theirs = tune(QUICK, mask * x, model, operator=PerChannel(mask.expand(1, 3, -1, -1)))
    ours = tune(QUICK, mask * x, model, operator=Mask(mask=mask[0, 0].numpy()))
    torch.testing.assert_close(theirs.image, ours.image, atol=1e-3, rtol=0)


def test_foreign_operator_that_tells_channels_apart(scene: Scene) -> None:
    x = torch.from_numpy(scene(3, 24, 20))[None]
    operator = PerChannel(torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0)))
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    y = operator.A(x)
    result = tune(QUICK, y, model, operator=operator)
    by_steps = tune(QUICK.replace(last_layer="descend"), y, model, operator=operator)
    assert torch.equal(result.image, by_steps.image)


def test_wrong_scale_and_wrong_operator(y: torch.Tensor, network: MakeNetwork) -> None:
    with pytest.raises(ShapeError, match=r"another shape.*--scale"):
        tune(QUICK, y, network(scale=4))

    class Theirs:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x @ torch.ones(5, 5)

    with pytest.raises(OperatorError, match="Theirs cannot be applied"):
        tune(QUICK, y, network(), operator=Theirs())
    with pytest.raises(ShapeError, match="2-D images"):
        tune(QUICK, y[None], network())
    with pytest.raises(OptionError, match="too small to hold pixels out"):
        tune(QUICK, y[..., :1, :1], network(), stop=HeldOut())


def test_bfloat16_agrees(y: torch.Tensor, network: MakeNetwork) -> None:
    exact, short = (tune(FineTune(precision=p), y, network()).image for p in ("float32", "bfloat16"))
    # bfloat16 has 8 bits: the images agree to two gray levels of 255 and half a level on average.
    assert (exact - short).abs().max() < 2 / 255
    assert (exact - short).abs().mean() < 0.5 / 255
    assert short.dtype == torch.float32


@pytest.mark.parametrize("reads", ["measurement", "as_trained"])
def test_a_blur_the_network_never_saw(reads: Any, x: torch.Tensor, network: MakeNetwork) -> None:
    operator = A @ GaussianBlur(sigma=1.2)
    y, model = operator.A(x), network()
    result = tune(FineTune(reads=reads), y, model, operator=operator)
    with torch.no_grad():
        assert psnr(result.image, x) > psnr(model(y), x) + 2


def test_a_learning_rate_far_too_large_does_not_spoil_the_average(y: torch.Tensor, network: MakeNetwork) -> None:
    first = tune(FineTune(iterations=0), y, network())
    result = tune(FineTune(learning_rate=1.0, adaptive=False, schedule="constant"), y, network())
    assert "diverged" in result.stop_reason
    assert len(result.history) < 12
    error, error_first = ((A.A(r.image) - y).square().mean() for r in (result, first))
    assert error <= 10 * error_first + 1e-4
