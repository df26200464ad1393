"""Every option does what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.methods import FineTune
from napari_fidelity.methods._finetuning import Run
from napari_fidelity.methods._network import learning_rate, optimizer_for
from napari_fidelity.methods.data_term import DataTerm, edge_mask, total_variation
from napari_fidelity.methods.views import VIEWS, from_view, to_view
from napari_fidelity.operators import (
    Downsample,
    GaussianNoise,
    LaplaceNoise,
    PoissonGaussianNoise,
    PoissonNoise,
)
from napari_fidelity.stopping import Budget, HeldOut, LRPSNRGain

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result, Step

A = Downsample(scale=2)


class Normed(nn.Module):
    """A ×2 network with normalisation, biases and a convolution as its last layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleDict(
            {
                "c1": nn.Conv2d(1, 6, 3, padding=1),
                "norm": nn.GroupNorm(2, 6),
                "c2": nn.Conv2d(6, 6, 3, padding=1),
                "c3": nn.Conv2d(6, 6, 3, padding=1),
                "c4": nn.Conv2d(6, 1, 3, padding=1),
            }
        )

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        up = nn.functional.interpolate(y, scale_factor=2.0, mode="bilinear")
        features = up
        for name in ("c1", "norm", "c2", "c3"):
            features = torch.relu(self.layers[name](features))
        return up + 0.1 * self.layers["c4"](features)


@pytest.fixture
def y(scene: Scene) -> torch.Tensor:
    return A.A(torch.from_numpy(scene(1, 32, 32))[None])


def tune(method: FineTune, y: torch.Tensor, model: nn.Module, **settings: Any) -> Result[torch.Tensor]:
    on_step = settings.pop("on_step", None)
    return drain(method.steps(y, A, model, **{"stop": Budget(iterations=10**6), **settings}), on_step)


def moved(method: FineTune, y: torch.Tensor, model: nn.Module) -> set[str]:
    """Return the names of the parameters that a run moves."""
    run = Run(method, y, A, model, noise=None, stop=Budget(iterations=99), weights=None, rng=0)
    for _ in run.steps():
        pass
    after = run.network.state_dict()
    low_rank = {name.split(".parametrizations")[0] + ".weight" for name in after if "parametrizations" in name}
    same = {name for name, value in model.state_dict().items() if torch.equal(value, after.get(name, value))}
    return (set(model.state_dict()) - same) | low_rank


WEIGHTS = {f"layers.{name}.weight" for name in ("c1", "c2", "c3", "c4", "norm")}
BIASES = {f"layers.{name}.bias" for name in ("c1", "c2", "c3", "c4", "norm")}
LAST = {"layers.c4.weight", "layers.c4.bias"}
MOVED = {
    "all": WEIGHTS | BIASES,
    "last": LAST,
    "first": {"layers.c1.weight", "layers.c1.bias"},
    "norm_bias": BIASES | {"layers.norm.weight"},
    "low_rank": WEIGHTS - {"layers.norm.weight"},
}


@pytest.mark.parametrize("parameters", MOVED)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_subsets_move_what_they_say(parameters: Any, optimizer: Any, y: torch.Tensor) -> None:
    method = FineTune(
        parameters=parameters, iterations=3, last_layer="descend", optimizer=optimizer, precision="float32",
        learning_rate=0.05,
    )  # fmt: skip
    assert moved(method, y, Normed()) == MOVED[parameters]


@pytest.mark.parametrize("parameters", MOVED)
def test_a_solved_layer_takes_no_gradient_steps(parameters: Any, y: torch.Tensor) -> None:
    method = FineTune(parameters=parameters, iterations=2, last_layer="solve", precision="float32")
    found = moved(method, y, Normed()) - ({"layers.c4.weight"} if parameters == "low_rank" else set())
    assert found == MOVED[parameters] - LAST


def test_last_layer_alone_takes_no_gradient(y: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise AssertionError("a gradient was taken")

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    result = tune(FineTune(parameters="last"), y, Normed())
    assert (len(result.history), result.stop_reason) == (8, "the last layer is solved")
    with pytest.raises(AssertionError, match="a gradient was taken"):
        tune(FineTune(parameters="all"), y, Normed())


@pytest.mark.parametrize("last_layer", ["solve", "descend"])
@pytest.mark.parametrize("parameters", ["first", "norm_bias", "low_rank"])
def test_subsets_see_through_weight_normalisation(parameters: Any, last_layer: Any, y: torch.Tensor) -> None:
    plain, normed = Normed(), Normed()
    torch.nn.utils.parametrizations.weight_norm(normed.layers["c1"])
    method = FineTune(parameters=parameters, last_layer=last_layer, iterations=1)
    runs = [
        Run(method, y, A, m, noise=None, stop=Budget(iterations=9), weights=None, rng=0) for m in (plain, normed)
    ]
    counts = [len(run._parameters()) for run in runs]
    # the first layers have one parameter more where the weight is a direction and a length
    assert counts[1] == counts[0] + (parameters == "first") > 0


def test_low_rank_is_low_rank(y: torch.Tensor) -> None:
    model = Normed()
    method = FineTune(parameters="low_rank", rank=2, iterations=3, last_layer="descend", learning_rate=0.01)
    run = Run(method, y, A, model, noise=None, stop=Budget(iterations=99), weights=None, rng=0)
    for _ in run.steps():
        pass
    change = (run.network.layers["c2"].weight - model.layers["c2"].weight).detach().reshape(6, -1)
    assert int(torch.linalg.matrix_rank(change, atol=1e-6)) == 2


def test_no_steps_at_all(y: torch.Tensor) -> None:
    model = Normed()
    result = tune(FineTune(iterations=0, last_layer="descend", views=1, project=False), y, model)
    with torch.no_grad():
        torch.testing.assert_close(result.image, model(y), atol=0.01, rtol=0)
    assert (len(result.history), result.stop_reason) == (1, "no gradient steps were asked for")


def test_schedules() -> None:
    method = FineTune(iterations=9, learning_rate=0.1)
    rates = [learning_rate(method, index) for index in range(9)]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.01)
    assert {learning_rate(method.replace(schedule="constant"), index) for index in range(9)} == {0.1}


def test_optimizers() -> None:
    parameters = [nn.Parameter(torch.zeros(3))]
    sgd = optimizer_for(FineTune(optimizer="sgd", learning_rate=0.3, momentum=0.7), parameters)
    adam = optimizer_for(FineTune(optimizer="adam", learning_rate=0.3, momentum=0.7), parameters)
    assert (type(sgd), sgd.defaults["lr"], sgd.defaults["momentum"]) == (torch.optim.SGD, 0.3, 0.7)
    assert (type(adam), adam.defaults["lr"], adam.defaults["betas"][0]) == (torch.optim.Adam, 0.3, 0.7)


def test_views_are_eight_and_come_back() -> None:
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert sorted(VIEWS) == list(range(8))
    assert len({str(to_view(image, view).tolist()) for view in VIEWS}) == 8
    assert all(torch.equal(from_view(to_view(image, view), view), image) for view in VIEWS)


# -- a chosen iteration ------------------------------------------------------------------------------------------


CHOSEN = {
    "average": FineTune(iterations=5, precision="float32"),
    "bfloat16": FineTune(iterations=3, precision="bfloat16"),
    "one image": FineTune(iterations=5, average=False),
    "published": FineTune.lucas2020(iterations=5, learning_rate=1, optimizer="adam"),
    "closed form alone": FineTune(parameters="last"),
    "low rank": FineTune(iterations=3, parameters="low_rank", last_layer="descend", project=False),
}


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("stop", [None, HeldOut(fraction=0.2, patience=1)], ids=["no rule", "held out"])
def test_chosen_iteration_is_that_of_the_whole_run(name: str, stop: HeldOut | None, y: torch.Tensor) -> None:
    method, model = CHOSEN[name].replace(snapshots=64), Normed()
    whole = tune(method, y, model, rng=4, stop=Budget(iterations=99) | (stop or Budget(iterations=99)))
    assert len(whole.snapshots) == len(whole.history)
    for index, image in whole.snapshots.items():
        seen = []
        result = tune(
            method.replace(iteration=index, snapshots=0), y, model, rng=4, stop=stop, on_step=seen.append
        )
        assert torch.equal(result.image, image)
        assert torch.equal(seen[-1].estimate(), image)
        assert [r.loss for r in result.history] == [r.loss for r in whole.history[: index + 1]]
        assert {step.total for step in seen} == {index + 1}
        assert result.stop_reason == f"the image of iteration {index} was asked for"


def test_no_rule_cuts_a_chosen_iteration_short(y: torch.Tensor) -> None:
    method = FineTune(iterations=9, iteration=4, average=False)
    result = tune(method, y, Normed(), stop=Budget(iterations=1) | LRPSNRGain(delta=1000))
    assert len(result.history) == 5


def test_chosen_iteration_and_a_sent_reason(y: torch.Tensor) -> None:
    method = CHOSEN["published"].replace(iteration=5)
    images = []

    def look(step: Step[torch.Tensor]) -> str | None:
        images.append(step.estimate())
        return "enough" if step.index == 2 else None

    result = tune(method, y, Normed(), on_step=look)
    assert (len(images), result.stop_reason) == (3, "enough")
    # the steps are far too long: the first image is the best, the last one was on the way to what was asked for
    losses = [record.loss for record in result.history]
    assert losses.index(min(losses)) == 0
    assert torch.equal(result.image, images[2])


def test_chosen_iteration_that_does_not_come(y: torch.Tensor) -> None:
    result = tune(FineTune(parameters="last", iteration=9), y, Normed())
    assert (len(result.history), result.stop_reason) == (8, "the last layer is solved")
    with pytest.raises(OptionError, match="iteration 12 lies beyond the 11 iterations"):
        FineTune(iteration=12)
    with pytest.raises(OptionError, match="'iteration' = -1"):
        FineTune(iteration=-1)


# -- masks -------------------------------------------------------------------------------------------------------


def test_edge_mask_spares_edges() -> None:
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1
    mask = edge_mask(image)
    assert mask.shape == (1, 1, 16, 16)
    assert bool((mask[..., 7:9] < 0.01).all())
    assert bool((mask[..., :6] == 1).all())
    assert torch.equal(edge_mask(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))


def test_masked_part_has_no_say(y: torch.Tensor) -> None:
    wrong = y.clone()
    wrong[..., :8, :] = 1 - y[..., 8:, :]
    mask = torch.ones(1, 1, 32, 32)
    mask[..., :20, :] = 0  # two pixels of the measurement further, as far as bicubic enlargement reaches
    x = A.A_adjoint(y)
    right, spoilt = (DataTerm(data, A, mask=mask) for data in (y, wrong))
    assert float(right(x)) == pytest.approx(float(spoilt(x)), rel=1e-5)
    torch.testing.assert_close(right.linear_target(), spoilt.linear_target())
    assert float(DataTerm(y, A)(x)) != pytest.approx(float(DataTerm(wrong, A)(x)), rel=1e-2)


def test_edges_give_another_result_than_none(y: torch.Tensor, network: MakeNetwork) -> None:
    method = FineTune(iterations=1, project=False)
    edges = tune(method.replace(mask="edges"), y, network()).image
    assert not torch.equal(edges, tune(method, y, network()).image)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((16, 16)), ShapeError, r"mask does not have.*\(16, 16\) beside \(32, 32\)"),
        (np.ones((1, 32, 32)), ShapeError, "mask does not have"),
        (np.ones(32), ShapeError, "mask does not have"),
        (-np.ones((32, 32)), OptionError, "from 0 upward"),
        (np.zeros((32, 32)), OptionError, "not all 0"),
    ],
)
def test_masks_that_cannot_be(mask: Any, error: Any, message: str, y: torch.Tensor, network: MakeNetwork) -> None:
    with pytest.raises(error, match=message):
        tune(FineTune(mask=mask), y, network())


def test_mask_that_is_not_finite() -> None:
    with pytest.raises(OptionError, match="NaN or infinite"):
        FineTune(mask=np.full((4, 4), np.nan))
    with pytest.raises(OptionError, match="mask"):
        FineTune(mask="egdes")


# -- regularisers ------------------------------------------------------------------------------------------------


def test_total_variation_of_a_ramp() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert float(total_variation(ramp)) == pytest.approx(7 / 8, abs=1e-3)
    assert float(total_variation(torch.ones(1, 1, 8, 8))) < 1e-3


def test_tv_smooths(y: torch.Tensor) -> None:
    noisy = y + 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    base = FineTune(iterations=20, learning_rate=3e-3, last_layer="descend", project=False)
    results = [float(total_variation(tune(base.replace(tv=tv), noisy, Normed()).image)) for tv in (0, 0.1, 1)]
    assert results[0] > results[1] > results[2]


def test_proximity_holds_back(y: torch.Tensor) -> None:
    model = Normed()
    distances = []
    for proximity in (0.0, 0.1, 10.0):
        method = FineTune(iterations=20, learning_rate=3e-3, last_layer="descend", proximity=proximity)
        run = Run(method, y, A, model, noise=None, stop=Budget(iterations=99), weights=None, rng=0)
        for _ in run.steps():
            pass
        pairs = zip(run.network.parameters(), model.parameters(), strict=True)
        distances.append(sum(float((a - b).detach().square().sum()) for a, b in pairs))
    assert distances[0] > distances[1] > distances[2]


# -- noise -------------------------------------------------------------------------------------------------------

NOISES = [
    GaussianNoise(sigma=0.03),
    PoissonNoise(gain=0.002),
    PoissonGaussianNoise(gain=0.001, sigma=0.02),
    LaplaceNoise(scale=0.02),
]


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.kind)
@pytest.mark.parametrize("last_layer", ["solve", "descend"])
def test_every_noise_model(noise: Any, last_layer: Any, scene: Scene, network: MakeNetwork) -> None:
    x = torch.from_numpy(scene(1, 32, 32))[None]
    y = noise.sample(A.A(x), torch.Generator().manual_seed(1))
    method = FineTune(iterations=8, last_layer=last_layer)
    dark = network()
    with torch.no_grad():
        dark.tail.bias.sub_(0.1)
        before = float((dark(y) - x).square().mean())
    result = tune(method, y, dark, noise=noise)
    assert float((result.image - x).square().mean()) < before
    assert result.history[-1].scores["discrepancy"] < result.history[0].scores["discrepancy"] * 1.5
    assert all(np.isfinite(record.loss) for record in result.history)


def test_data_term_is_a_squared_error_whatever_the_noise(y: torch.Tensor) -> None:
    x = A.A_adjoint(y)
    plain = float(DataTerm(y, A)(x))
    assert float(DataTerm(y, A, GaussianNoise(sigma=0.2))(x)) == pytest.approx(plain, rel=1e-4)
    assert float(DataTerm(y, A, GaussianNoise(sigma=0))(x)) == pytest.approx(plain, rel=1e-4)


def test_laplace_forgives_outliers(scene: Scene, network: MakeNetwork) -> None:
    x = torch.from_numpy(scene(1, 32, 32))[None]
    y = A.A(x)
    y[..., 4::8, 4::8] = 3
    method = FineTune(iterations=60, parameters="last", last_layer="descend", learning_rate=0.005, project=False)
    errors = [
        float((tune(method, y, network(), noise=noise).image - x).abs().median())
        for noise in (LaplaceNoise(scale=0.02), GaussianNoise(sigma=0.03))
    ]
    assert errors[0] < errors[1]
