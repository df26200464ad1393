from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import (
    ArchitectureError,
    DivergedError,
    NonFiniteError,
    OperatorError,
    OptionError,
    ShapeError,
)
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Project, project
from napari_fidelity.operators import (
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    Operator,
    PoissonNoise,
    register_operator,
)

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene

OPERATORS = {
    "downsample": Downsample(scale=2),
    "blur": GaussianBlur(sigma=0.6),
    "both": Downsample(scale=2) @ GaussianBlur(sigma=0.6),
    "identity": Identity(),
}


@pytest.fixture
def x(scene: Scene) -> torch.Tensor:
    return torch.from_numpy(scene(2, 24, 26))[None]


@pytest.mark.parametrize("name", OPERATORS)
def test_formula(name: str, x: torch.Tensor) -> None:
    operator, y = OPERATORS[name], OPERATORS[name].A(x)
    start = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = project(start, y, operator, ridge=0)
    wanted = start + operator.A_dagger(y - operator.A(start), x.shape[2:])
    torch.testing.assert_close(found, wanted)
    assert (operator.A(found) - y).abs().max() < 2e-3 * (operator.A(start) - y).abs().max()
    torch.testing.assert_close(project(found, y, operator, ridge=0), found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_ridge_formula(ridge: float, x: torch.Tensor) -> None:
    operator, start = Downsample(scale=2), torch.full_like(x, 0.5)
    y = operator.A(x)
    found = project(start, y, operator, ridge=ridge)
    wanted = start + operator.A_dagger(y - operator.A(start), x.shape[2:], ridge=ridge)
    torch.testing.assert_close(found, wanted)


def test_without_known_noise_the_rounding_remains(x: torch.Tensor) -> None:
    operator, start = Downsample(scale=2), torch.full_like(x, 0.5)
    y = operator.A(x)
    residual = (operator.A(project(start, y, operator)) - y).square().mean().sqrt()
    assert 0 < residual < 0.4 / 255


def test_consistent_image_is_left_alone(x: torch.Tensor) -> None:
    operator = Downsample(scale=2)
    assert torch.equal(project(x, operator.A(x), operator), x)
    assert torch.equal(project(x, operator.A(x), operator, noise=GaussianNoise(sigma=0.01)), x)
    noisy = operator.A(x) + 0.05 * torch.randn(operator.A(x).shape, generator=torch.Generator().manual_seed(2))
    moved = project(x, noisy, operator, noise=GaussianNoise(sigma=0.05)) - x
    # A residual of the noise's own size asks for little or nothing.
    assert moved.square().mean().sqrt() < 0.05 / 5


def test_noisier_data_moves_less(x: torch.Tensor) -> None:
    operator, start = Downsample(scale=2), torch.full_like(x, 0.5)
    y = operator.A(x)
    moves = [
        float((project(start, y, operator, noise=GaussianNoise(sigma=sigma)) - start).norm())
        for sigma in (0.003, 0.03, 0.1)
    ]
    assert moves[0] > moves[1] > moves[2] > 0


@pytest.mark.parametrize("noise", [GaussianNoise(sigma=0.05), PoissonNoise(gain=0.003)])
def test_noise_aware_projection_beats_full_projection(noise: Any, x: torch.Tensor) -> None:
    operator = Downsample(scale=2)
    generator = torch.Generator().manual_seed(3)
    start = x + 0.05 * torch.randn(x.shape, generator=generator)
    y = noise.sample(operator.A(x), generator)

    def error(image: torch.Tensor) -> float:
        return float((image - x).square().mean())

    aware = error(project(start, y, operator, noise=noise))
    assert aware < error(project(start, y, operator, ridge=0))
    assert aware < error(start)


def test_unobserved_pixels_have_no_say(x: torch.Tensor) -> None:
    operator, start = Downsample(scale=2), torch.full_like(x, 0.5)
    y = operator.A(x)
    weights = torch.ones_like(y[:1, :1])
    weights[..., :6] = 0
    wrong = torch.where(weights == 0, torch.tensor(50.0), y)
    found = [project(start, data, operator, weights=weights, ridge=0) for data in (y, wrong)]
    assert torch.equal(*found)
    assert ((operator.A(found[0]) - y) * weights).abs().max() < 1e-3
    assert torch.equal(found[0][..., :4], start[..., :4])


def test_mask_operator(x: torch.Tensor) -> None:
    mask = torch.zeros(24, 26)
    mask[::2] = 1
    operator = Mask(mask=mask.numpy())
    found = project(torch.full_like(x, 0.5), operator.A(x), operator, ridge=0)
    torch.testing.assert_close(found[..., ::2, :], x[..., ::2, :])
    assert bool((found[..., 1::2, :] == 0.5).all())


class Foreign:
    """An operator that has A and A_adjoint alone, such as deepinv's."""

    def __init__(self, inner: Operator, shape: torch.Size) -> None:
        self.inner, self.shape = inner, shape

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner.A(x)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.inner.A_adjoint(y, self.shape)


@pytest.mark.parametrize("noise", [None, GaussianNoise(sigma=0.02)])
def test_foreign_operator(noise: GaussianNoise | None, x: torch.Tensor) -> None:
    own = Downsample(scale=2)
    y, start = own.A(x), torch.full_like(x, 0.4)
    found = project(start, y, Foreign(own, x.shape[2:]), noise=noise)
    torch.testing.assert_close(found, project(start, y, own, noise=noise), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("default")
def test_deepinv_operator(x: torch.Tensor) -> None:
    deepinv = pytest.importorskip("deepinv", reason="deepinv is an extra")
    mask = (torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(0)) > 0.4).float()
    mask = mask[:1].expand_as(mask).contiguous()
    theirs, ours = deepinv.physics.Inpainting(tuple(x.shape[1:]), mask=mask), Mask(mask=mask[0].numpy())
    start = torch.full_like(x, 0.4)
    found = project(start, theirs.A(x), theirs, ridge=0)
    torch.testing.assert_close(found, project(start, ours.A(x), ours, ridge=0), atol=1e-5, rtol=0)


# -- the method --------------------------------------------------------------------------------------------------


def test_method(network: MakeNetwork, scene: Scene) -> None:
    y, operator = torch.from_numpy(scene(1, 12, 14))[None], Downsample(scale=2)
    steps = Project(ridge=0).steps(y, operator, network())
    step = next(steps)
    assert (step.index, step.total, step.estimate().requires_grad) == (0, 1, False)
    result = drain(steps)
    assert result.stop_reason == "projected in closed form"
    assert torch.equal(result.image, step.estimate())
    torch.testing.assert_close(operator.A(result.image), y, atol=1e-4, rtol=0)
    assert result.history[0].scores["lr_psnr"] > 80
    with torch.no_grad():
        wanted = project(network()(y), y, operator, ridge=0)
    torch.testing.assert_close(result.image, wanted)


def test_any_function_may_be_the_network() -> None:
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    result = drain(Project(ridge=0).steps(y, Identity(), lambda image: image * 0))
    torch.testing.assert_close(result.image, y)


def test_network_in_training_mode_is_neither_used_nor_changed_as_such() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Dropout(0.9)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = (drain(Project().steps(y, Identity(), model)).image for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def broken(image: torch.Tensor) -> torch.Tensor:
    raise ValueError("only square images")


@pytest.mark.parametrize(
    ("y", "model", "weights", "error", "message"),
    [
        (torch.rand(1, 1, 8, 8), None, None, OptionError, "needs a restoration network"),
        (torch.rand(8, 8), lambda y: y, None, ShapeError, r"\(N, C, \*spatial\).*\(8, 8\)"),
        (torch.ones(1, 1, 8, 8, dtype=torch.int64), lambda y: y, None, ShapeError, "int64"),
        (torch.rand(1, 1, 0, 8), lambda y: y, None, ShapeError, "shape"),
        (torch.full((1, 1, 8, 8), torch.nan), lambda y: y, None, NonFiniteError, "64 of 64"),
        (torch.rand(1, 1, 8, 8), lambda y: y, torch.zeros(8, 8), ShapeError, "masked out"),
        (torch.rand(1, 1, 8, 8), lambda y: y, torch.ones(7, 8), ShapeError, "weights do not fit"),
        (torch.rand(1, 1, 8, 8), lambda y: y, -torch.ones(8, 8), OptionError, "1 or 0 .*-1"),
        (torch.rand(1, 1, 8, 8), lambda y: y * torch.nan, None, DivergedError, "64 bad pixels"),
        (torch.rand(1, 1, 8, 8), lambda y: y[..., ::2], None, ShapeError, "scale are the same"),
        (torch.rand(1, 1, 8, 8), broken, None, ArchitectureError, "cannot be applied.*only square"),
        (torch.rand(1, 1, 8, 8), lambda y: (y, y), None, ArchitectureError, r"found: tuple"),
        (torch.rand(1, 1, 8, 8), lambda y: y[0], None, ArchitectureError, r"found: shape \(1, 8, 8\)"),
    ],
)
def test_refused(y: Any, model: Any, weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        drain(Project().steps(y, Identity(), model, weights=weights))


class InPlace:
    """An operator that halves the very tensor it is given, at A, its adjoint or both."""

    def __init__(self, *methods: str) -> None:
        for name in ("A", "A_adjoint"):
            setattr(self, name, (lambda x: x.mul_(0.5)) if name in methods else lambda x: 0.5 * x)


@pytest.mark.usefixtures("nothing_registered")
def test_operators_that_work_in_place() -> None:
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = drain(Project().steps(y.clone(), InPlace(), lambda y: y)).image
    assert torch.equal(drain(Project().steps(y.clone(), InPlace("A_adjoint"), lambda y: y)).image, wanted)
    with pytest.raises(OperatorError, match=r"The A of InPlace changes the image.*A\(x\.clone\(\)\)"):
        drain(Project().steps(y, InPlace("A"), lambda y: y))
    registered = register_operator("in-place", InPlace("A", "A_adjoint"))
    assert torch.equal(drain(Project().steps(y, registered, lambda y: y)).image, wanted)


@pytest.mark.parametrize(
    ("error", "found"), [(KeyError("psf"), "psf"), (ZeroDivisionError(), "ZeroDivisionError")]
)
def test_whatever_foreign_code_throws_has_a_name(error: Exception, found: str) -> None:
    def throw(image: torch.Tensor) -> torch.Tensor:
        raise error

    y, operator = torch.rand(1, 1, 8, 8), InPlace()
    with pytest.raises(ArchitectureError, match=f"cannot be applied.*{found}"):
        drain(Project().steps(y, operator, throw))
    vars(operator)["A"] = throw
    with pytest.raises(OperatorError, match=f"InPlace cannot be applied.*{found}"):
        drain(Project().steps(y, operator, lambda y: y))


def test_foreign_code_does_not_end_the_program() -> None:
    y, operator = torch.rand(1, 1, 8, 8), InPlace()
    with pytest.raises(ArchitectureError, match="tries to end the program"):
        drain(Project().steps(y, operator, lambda image: sys.exit(0)))
    vars(operator)["A"] = lambda image: sys.exit(0)
    with pytest.raises(OperatorError, match="InPlace tries to end the program"):
        drain(Project().steps(y, operator, lambda y: y))
