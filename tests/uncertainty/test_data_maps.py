"""Maps that follow from result, measurement and image formation model: null space, residual, error map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.core.step import Result, drain
from napari_fidelity.methods import RED, Apply, FineTune, Project
from napari_fidelity.methods.calls import dagger
from napari_fidelity.operators import (
    Blur,
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
from napari_fidelity.uncertainty.bootstrap import Bootstrap
from napari_fidelity.uncertainty.error_map import ErrorMap
from napari_fidelity.uncertainty.null_space import NullSpace
from napari_fidelity.uncertainty.residual import Residual

if TYPE_CHECKING:
    from napari_fidelity.uncertainty.base import UncertaintyMap

OPERATORS = {
    "identity": Identity(),
    "downsample": Downsample(scale=2),
    "blurred": Downsample(scale=2) @ GaussianBlur(sigma=1.0),
    "valid": Blur(kernel=np.full((3, 3), 1 / 9), border="valid"),
    "mask": Mask(mask=random_mask((24, 24), 0.6, 0)),
    "tomography": Radon(angles=12),
    "fourier": Fourier(mask=sampling_mask((24, 24), 2), image="real"),
}
MAPS = (NullSpace, Residual, ErrorMap)


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))[None, None]


def run(method: UncertaintyMap, *args: Any, **kwargs: Any) -> Result[torch.Tensor]:
    return drain(method.steps(*args, **kwargs))


def judging(kind: type[UncertaintyMap], x: torch.Tensor, **options: Any) -> UncertaintyMap:
    return kind(image=x[0].numpy(), **options)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", MAPS)
def test_every_operator(kind: type[UncertaintyMap], name: str, scene: Any) -> None:
    operator, x = OPERATORS[name], tensor(scene(24, 24))
    y = operator.A(x)
    result = run(judging(kind, x), y, operator, noise=GaussianNoise(sigma=0.01))
    assert set(result.maps) == set(kind.outputs)
    assert result.image is result.maps[next(iter(kind.outputs))]
    for output, image in result.maps.items():
        assert image.shape == (x if kind.outputs[output].grid == "image" else y).shape
        assert torch.isfinite(image).all()
        assert kind.outputs[output].signed or float(image.min()) >= 0


@pytest.mark.parametrize("name", OPERATORS)
def test_null_space_is_what_the_data_do_not_see(name: str, scene: Any) -> None:
    """The map is a projection: nothing of it is left in the measurement, and all of A†y is seen."""
    operator, x = OPERATORS[name], tensor(scene(24, 24))
    y = operator.A(x)
    seen = dagger(operator, y, x.shape[2:])
    invented = x + 0.1 * (x.flip(-1) - dagger(operator, operator.A(x.flip(-1)), x.shape[2:]))
    assert torch.allclose(operator.A(invented), y, atol=2e-3 * float(y.abs().max()))
    nothing = run(judging(NullSpace, seen - seen.mean()), y, operator).history[-1].scores["unseen_share"]
    share = run(judging(NullSpace, invented), y, operator).history[-1].scores["unseen_share"]
    if name != "mask":  # the mean of an image is not seen where pixels are missing
        assert 0 <= nothing < 0.02
    assert (share > 0.001) == (name != "identity")


def test_null_space_counts_pixels_that_were_not_observed(scene: Any) -> None:
    x = tensor(scene(16, 16))
    weights = torch.ones_like(x)
    weights[..., 4:8, 4:8] = 0
    result = run(judging(NullSpace, x), x, Identity(), weights=weights)
    around = (x - x.mean()).abs()
    assert torch.allclose(result.image, around * (1 - weights), atol=1e-6)
    mask = Mask(mask=weights[0, 0].numpy())
    assert torch.allclose(run(judging(NullSpace, x), x * weights, mask).image, result.image, atol=1e-5)


def test_null_space_with_noise_counts_what_it_drowns(scene: Any) -> None:
    x = tensor(scene(32, 32))
    operator = GaussianBlur(sigma=1.5)
    y = operator.A(x) + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    exact = run(judging(NullSpace, x), y, operator).history[-1].scores["unseen_share"]
    drowned = run(judging(NullSpace, x, ridge=None), y, operator, noise=GaussianNoise(sigma=0.05))
    assert drowned.history[-1].scores["unseen_share"] > exact + 0.01
    # an image that explains its data no worse than the noise allows is not unverifiable for that
    clean = run(judging(NullSpace, x, ridge=None), operator.A(x), operator, noise=GaussianNoise(sigma=0.05))
    assert exact < clean.history[-1].scores["unseen_share"] < 0.9


def test_null_space_does_not_depend_on_the_offset(scene: Any) -> None:
    x, operator = tensor(scene(16, 16)), Downsample(scale=2)
    y = operator.A(x)
    a, b = (run(judging(NullSpace, x + offset), y, operator).image for offset in (0.0, 5.0))
    assert torch.allclose(a, b, atol=1e-4)


def test_residual_is_signed_and_on_the_measurement(scene: Any) -> None:
    x, operator = tensor(scene(32, 32)), Downsample(scale=2)
    y = operator.A(x) + 0.25
    result = run(judging(Residual, x), y, operator)
    assert result.image.shape == y.shape
    assert torch.allclose(result.image, torch.full_like(y, 0.25), atol=1e-5)


def test_residual_says_whether_it_is_noise(scene: Any) -> None:
    x, operator, noise = tensor(scene(48, 48)), Downsample(scale=2), GaussianNoise(sigma=0.02)
    y = noise.sample(operator.A(x), torch.Generator().manual_seed(1))
    white = run(judging(Residual, x), y, operator, noise=noise).history[-1].scores
    structure = run(judging(Residual, x * 0.8), y, operator, noise=noise)
    left = structure.history[-1].scores
    assert white["whiteness_p"] > 0.01 and 0.8 < white["discrepancy"] < 1.2
    assert left["whiteness_p"] < 1e-6 and left["discrepancy"] > 2 and left["correlation"] > 0.3
    assert "not white" in structure.stop_reason


def test_unobserved_pixels_say_nothing(scene: Any) -> None:
    x = tensor(scene(32, 32))
    noise = GaussianNoise(sigma=0.02)
    y = noise.sample(x, torch.Generator().manual_seed(1))
    weights = torch.ones_like(y)
    weights[..., 8:20, 8:20] = 0
    wrong = torch.where(weights > 0, y, y + 5)
    for kind in (Residual, ErrorMap):
        a, b = (run(judging(kind, x), data, Identity(), noise=noise, weights=weights) for data in (y, wrong))
        assert a.history[-1].scores == b.history[-1].scores
        assert all(torch.equal(a.maps[name], b.maps[name]) for name in a.maps)
        assert float(a.image.abs().max()) < 0.1


def test_error_map_finds_what_the_data_contradict(scene: Any) -> None:
    x, operator, noise = tensor(scene(48, 48)), Downsample(scale=2), PoissonNoise(gain=0.002)
    y = noise.sample(operator.A(x), torch.Generator().manual_seed(0))
    spot = x.clone()
    spot[..., 20:24, 30:34] += 0.4
    result = run(judging(ErrorMap, spot), y, operator, noise=noise)
    for name, factor in (("error", 1), ("noise_ratio", 2)):
        i, j = divmod(int(result.maps[name].flatten().argmax()), 48 // factor)
        assert abs(i * factor - 22) <= 3 and abs(j * factor - 32) <= 3
    assert float(result.maps["noise_ratio"].max()) > 5
    assert (
        float((run(judging(ErrorMap, x), y, operator, noise=noise).maps["noise_ratio"] > 3).float().mean()) < 0.02
    )


def test_error_map_fits_gain_and_offset(scene: Any) -> None:
    x, operator = tensor(scene(32, 32)), Downsample(scale=2)
    y = operator.A(x)
    scores = run(judging(ErrorMap, 0.5 * x + 3), y, operator).history[-1].scores
    assert scores["rse"] < 1e-5 and scores["rsp"] == pytest.approx(1)
    assert set(run(judging(ErrorMap, x), y, operator).maps) == {"error"}  # the noise is not known


def test_error_map_lies_where_the_image_lies() -> None:
    """With the border ``valid`` the image reaches further than its measurement on every side."""
    operator = Blur(kernel=np.full((5, 5), 1 / 25), border="valid")
    x = torch.full((1, 1, 24, 24), 0.5)
    y = operator.A(x).clone()
    y[..., 10, 4] += 1  # the middle of the kernel lies at (12, 6)
    error = run(judging(ErrorMap, x), y, operator).image
    assert divmod(int(error.flatten().argmax()), 24) == (12, 6)
    y = Downsample(scale=4).A(x).clone()
    y[..., 2, 4] += 1
    error = run(judging(ErrorMap, x), y, Downsample(scale=4)).image
    i, j = torch.nonzero(error[0, 0] > 0.9 * error.max()).float().mean(0)
    assert (float(i), float(j)) == pytest.approx((9.5, 17.5), abs=0.6)


@pytest.mark.parametrize("kind", MAPS)
def test_volumes(kind: type[UncertaintyMap], scene: Any) -> None:
    x = torch.from_numpy(scene(8, 12, 12))[None, None]
    operator = Downsample(scale=2)
    result = run(judging(kind, x, of=RED()), operator.A(x), operator)
    assert result.image.ndim == 5


class Pooled:
    """An operator of another library: means of 2 × 2 pixels."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 2)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y.repeat_interleave(2, -2).repeat_interleave(2, -1) / 4


@pytest.mark.parametrize("kind", [*MAPS, Bootstrap])
def test_operators_of_other_libraries(kind: type[UncertaintyMap], scene: Any) -> None:
    x, operator = tensor(scene(16, 16)), Pooled()
    few = {"samples": 2, "of": Project()} if kind is Bootstrap else {}
    result = run(judging(kind, x, **few), operator.A(x), operator, operator.A_adjoint)
    assert all(torch.isfinite(image).all() for image in result.maps.values())
    if kind is NullSpace:
        assert torch.allclose(result.image, (x - 4 * operator.A_adjoint(operator.A(x))).abs(), atol=1e-5)


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3)])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_tiny_and_constant_images(kind: type[UncertaintyMap], shape: tuple[int, int], value: float) -> None:
    x = torch.full((1, 3, *shape), value)
    result = run(judging(kind, x), x, Identity(), noise=GaussianNoise(sigma=0.1))
    assert all(torch.isfinite(image).all() for image in result.maps.values())
    assert all(math.isfinite(score) for score in result.history[-1].scores.values())


@pytest.mark.parametrize("kind", MAPS)
def test_the_judged_method_makes_the_image(kind: type[UncertaintyMap], scene: Any, network: Any) -> None:
    y, operator = tensor(scene(16, 16)), Downsample(scale=2)
    made = drain(Project().steps(y, operator, network()))
    own = run(kind(of=Project()), y, operator, network())
    given = run(judging(kind, made.image), y, operator)
    assert all(torch.allclose(own.maps[name], given.maps[name], atol=1e-6) for name in own.maps)
    assert len(own.history) == 1
    with pytest.raises(OptionError, match="restoration network"):
        run(kind(of=Apply()), y, operator)


def test_a_reason_ends_the_judged_method_too(scene: Any, network: Any) -> None:
    y, operator = tensor(scene(16, 16)), Downsample(scale=2)
    steps = Residual(of=FineTune()).steps(y, operator, network())
    first = next(steps)
    assert first.index == -1 and float(first.estimate().abs().max()) == 0
    count = 0
    with pytest.raises(StopIteration) as end:
        reply: str | None = "enough"
        while True:
            steps.send(reply)
            count, reply = count + 1, None
    assert end.value.value.stop_reason == "enough"
    assert count == 1  # the map of the image so far


def test_an_image_of_another_measurement_is_refused(scene: Any) -> None:
    y = tensor(scene(16, 16))
    with pytest.raises(ShapeError, match="image to judge"):
        run(judging(Residual, y), y, Downsample(scale=2))
    with pytest.raises(ShapeError, match="image to judge"):
        run(Residual(image=np.zeros((4, 16, 16))), y, Identity())


def test_images_of_a_batch() -> None:
    """Channels that run through a gray network are a batch."""
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    result = run(Residual(image=x.numpy()), x + 0.5, Identity())
    assert torch.allclose(result.image, torch.full_like(x, 0.5))


@pytest.mark.parametrize("kind", MAPS)
def test_a_recipe_holds_it(kind: type[UncertaintyMap]) -> None:
    made = kind(of=RED(iterations=7), image=np.eye(3))
    assert kind.parse(made.to_plain()) == made
