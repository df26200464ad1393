"""Maps of dropout: what they hold, before and after fine-tuning, and how a run of them behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError, DivergedError, OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.methods import DIP, Apply, FineTune, Project
from napari_fidelity.networks import dropout as places
from napari_fidelity.operators import Compose, Downsample, GaussianBlur
from napari_fidelity.stopping import Budget
from napari_fidelity.uncertainty._moments import Moments
from napari_fidelity.uncertainty.dropout import Dropout

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result

A = Downsample(scale=2)
TUNE = FineTune(iterations=2, precision="float32")


def run(options: Dropout, y: torch.Tensor, model: Any, **settings: Any) -> Result[torch.Tensor]:
    return drain(options.steps(y, settings.pop("operator", A), model, **settings))


def quick(**options: Any) -> Dropout:
    return Dropout(**{"of": Apply(), "passes": 4, "p": 0.02, "precision": "float32"} | options)


@pytest.fixture
def y(scene: Scene) -> torch.Tensor:
    return A.A(torch.from_numpy(scene(1, 48, 40))[None])


@pytest.fixture
def model(network: MakeNetwork) -> nn.Module:
    return network(n_blocks=3)


def test_running_moments_are_those_of_the_whole_stack() -> None:
    images = 1000 + torch.randn(60, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    moments = Moments.of(images[:1])
    first = moments.mean
    for image in images[1:]:
        moments = moments.add(image[None])
    assert moments.count == 60
    torch.testing.assert_close(moments.mean[0], images.mean(dim=0))
    torch.testing.assert_close(moments.std()[0], images.double().std(dim=0).float(), rtol=1e-3, atol=1e-3)
    assert torch.equal(first, images[:1])  # what was handed out stays


def test_what_it_returns(y: torch.Tensor, model: nn.Module) -> None:
    steps = quick().steps(y, A, model)
    shown = []
    try:
        while True:
            shown.append(next(steps))
    except StopIteration as end:
        result = end.value
    # the judged method's own step, then one per pass
    assert [step.index for step in shown] == [-1, 0, 1, 2, 3]
    assert {step.total for step in shown} == {4}
    assert not shown[0].estimate().any() and not shown[1].estimate().any()
    torch.testing.assert_close(shown[-1].estimate(), result.image)
    assert list(result.maps) == ["std", "mean"]
    assert result.maps["std"] is result.image and result.image.shape == (1, 1, 48, 40)
    assert result.image.dtype == torch.float32 and bool((result.image >= 0).all()) and bool(result.image.any())
    assert [record.index for record in result.history] == [0, 1, 2, 3]
    assert result.history[-1].scores["mean_std"] == pytest.approx(float(result.image.mean()), rel=1e-5)
    assert result.stop_reason == "all 4 passes are done"
    with torch.no_grad():
        assert float((result.maps["mean"] - model(y)).abs().mean()) < 3 * float(result.image.mean())


def test_more_dropout_spreads_more(y: torch.Tensor, model: nn.Module) -> None:
    spread = [float(run(quick(p=p, passes=8), y, model).image.mean()) for p in (0.001, 0.01, 0.1)]
    assert spread[0] < spread[1] < spread[2]


def test_same_seed_same_bits_and_nothing_of_the_callers_changes(y: torch.Tensor, model: nn.Module) -> None:
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    model.train()
    first, second = run(quick(), y, model, rng=3), run(quick(), y, model, rng=torch.Generator().manual_seed(3))
    assert torch.equal(first.image, second.image)
    assert not torch.equal(first.image, run(quick(), y, model, rng=4).image)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_batch_normalisation_keeps_its_statistics(y: torch.Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3, padding=1))
    result = run(quick(), y, network.train(), operator=GaussianBlur(sigma=1))
    assert bool(result.image.any())
    assert int(network[1].num_batches_tracked) == 0


def test_the_tuned_network_and_before(y: torch.Tensor, model: nn.Module) -> None:
    with torch.no_grad():
        model.tail.weight.mul_(0.8)
    result = run(quick(of=TUNE, before=True), y, model)
    assert list(result.maps) == ["std", "std_before", "mean"]
    assert not torch.equal(result.maps["std"], result.maps["std_before"])
    # that of before is the map of the network alone
    scores = result.history[-1].scores
    assert scores["mean_std_before"] == pytest.approx(float(result.maps["std_before"].mean()), rel=1e-5)
    tuned = drain(TUNE.steps(y, A, model)).network
    with torch.no_grad():
        away = [float((result.maps["mean"] - f(y)).abs().mean()) for f in (tuned, model)]
    assert away[0] < away[1] / 2


def test_a_given_image_changes_nothing(y: torch.Tensor, model: nn.Module) -> None:
    image = torch.zeros(48, 40).numpy()
    for of in (Apply(), TUNE):
        assert torch.equal(run(quick(of=of), y, model).image, run(quick(of=of, image=image), y, model).image)
    with pytest.raises(ShapeError):
        run(quick(image=image[:-2]), y, model)


def test_projected_passes_agree_on_what_the_data_fix(y: torch.Tensor, model: nn.Module) -> None:
    plain, projected = (run(quick(project=on, p=0.1), y, model).image for on in (False, True))
    assert float(projected.mean()) < 0.95 * float(plain.mean())
    assert torch.equal(run(quick(of=Project(), p=0.1), y, model).image, plain)


def test_colours_and_views_of_a_non_square_image(network: MakeNetwork, scene: Scene) -> None:
    y = A.A(torch.from_numpy(scene(3, 40, 32))[None])
    result = run(quick(of=FineTune(iterations=1, precision="float32")), y, network(3))
    assert result.image.shape == (1, 3, 40, 32)


# -- stopping ----------------------------------------------------------------------------------------------------


def test_stop_keeps_the_map_so_far(y: torch.Tensor, model: nn.Module) -> None:
    result = drain(quick(passes=100).steps(y, A, model), lambda step: "enough" if step.index == 2 else None)
    assert result.stop_reason == "enough"
    assert len(result.history) == 3
    assert torch.equal(result.image, run(quick(passes=3), y, model).image)


def test_stop_before_the_first_pass_leaves_an_empty_map(y: torch.Tensor, model: nn.Module) -> None:
    result = drain(quick(of=TUNE).steps(y, A, model), lambda step: "enough")
    assert "enough" in result.stop_reason and "empty" in result.stop_reason
    assert bool(result.image.isnan().all()) and result.image.shape == (1, 1, 48, 40)
    assert [record.index for record in result.history] == [0]


def test_closing_takes_the_hooks_off(y: torch.Tensor, model: nn.Module) -> None:
    steps = quick(of=TUNE).steps(y, A, model)
    next(steps)
    steps.close()
    assert not any(module._forward_hooks for module in model.modules())


def test_the_stopping_rule_is_the_fine_tunings(y: torch.Tensor, model: nn.Module) -> None:
    result = run(quick(of=FineTune(precision="float32")), y, model, stop=Budget(iterations=0))
    assert len(result.history) == 4


# -- what cannot be done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (quick(of=DIP()), "restoration network, which DIP has not"),
        (quick(before=True), "no map of before"),
    ],
)
def test_named_errors(options: Dropout, words: str, y: torch.Tensor, model: nn.Module) -> None:
    with pytest.raises(OptionError, match=words):
        run(options, y, model)


def test_no_network(y: torch.Tensor) -> None:
    with pytest.raises(OptionError, match="found: none"):
        run(quick(), y, None)
    with pytest.raises(ArchitectureError, match="no place for dropout"):
        run(quick(), y, nn.Conv2d(1, 1, 3, padding=1), operator=GaussianBlur(sigma=1))
    with pytest.raises(ShapeError):
        run(quick(), y, nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)))


def test_a_fine_tuning_that_diverged(y: torch.Tensor, model: nn.Module) -> None:
    wild = FineTune(iterations=4, learning_rate=1.0, adaptive=False, schedule="constant")
    assert drain(wild.steps(y, A, model)).network is None
    with pytest.raises(DivergedError, match="no tuned network"):
        run(quick(of=wild), y, model)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 5)])
def test_tiny_and_constant_images(shape: tuple[int, int], model: nn.Module) -> None:
    result = run(quick(), torch.full((1, 1, *shape), 0.5), model)
    assert result.image.shape == (1, 1, 2 * shape[0], 2 * shape[1]) and bool(result.image.isfinite().all())


# -- the network that fine-tuning returns ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "operator"),
    [
        (FineTune(iterations=3, iteration=3), A),
        (FineTune(iterations=3, iteration=3, last_layer="descend", parameters="low_rank"), A),
        (FineTune(iterations=2, iteration=2), Compose(operators=(GaussianBlur(sigma=1), A))),
    ],
    ids=["solved, turned view", "low rank", "behind a blur"],
)
def test_the_tuned_network_makes_the_last_iterations_image(
    method: FineTune, operator: Any, scene: Scene, model: nn.Module
) -> None:
    y = operator.A(torch.from_numpy(scene(1, 48, 40))[None])
    result = drain(method.replace(average=False, project=False).steps(y, operator, model))
    with torch.no_grad():
        assert torch.equal(result.network(y), result.image)
        other = result.network(y.flip(-1))
    assert other.shape == result.image.shape and not torch.equal(other, result.image)
    assert not result.network.training
    assert not any(p.requires_grad or p.grad is not None for p in result.network.parameters())


class Hungry(nn.Module):
    """A network for whose inputs above some size there is no memory; copies share the limit."""

    most: ClassVar[list[int]] = []

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if max(y.shape[2:]) > self.most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        output: torch.Tensor = self.inner(y)
        return output


@pytest.mark.parametrize("of", [Apply(), TUNE], ids=lambda method: method.kind)
@pytest.mark.parametrize("when", ["at once", "in a pass"])
def test_where_memory_runs_out_it_goes_on_in_tiles(
    when: str, of: Any, model: nn.Module, scene: Scene, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def begins(*given: Any) -> Any:
        Hungry.most[:] = [66]
        return dropout(*given)

    dropout = places.dropout
    Hungry.most[:] = [66 if when == "at once" else 10_000]
    monkeypatch.setattr(places, "dropout", begins)
    result = run(quick(of=of, p=0.3), torch.from_numpy(scene(1, 75, 61)[None]), Hungry(model).eval())
    assert "memory ran out" in caplog.text
    assert "looks at the whole image at once" not in caplog.text  # the margin is that of the network alone
    assert result.image.shape == (1, 1, 150, 122)
    assert float(result.image.mean()) > 0
