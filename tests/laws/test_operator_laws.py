"""Every law over every operator. A new operator adds a row to CASES."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fidelity import operators as ops
from napari_fidelity.core.errors import ImageError, OperatorError, ShapeError
from napari_fidelity.core.registry import OWN_OPERATORS

if TYPE_CHECKING:
    from collections.abc import Callable

BORDERS = ("reflect", "circular", "zero", "valid")
KERNEL_2D = np.random.default_rng(0).random((3, 4)) + 0.1
KERNEL_3D = np.random.default_rng(1).random((2, 3, 3)) + 0.1
LARGE_KERNEL = np.random.default_rng(2).random((9, 8))  # convolved by FFT
ANGLES = np.array([0.0, 17, 45, 90, 131.5, 180, 197, 270, -17, 17])  # some twice, some from the other side


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[tuple[int, ...]], ops.Operator]
    dims: tuple[int, ...] = (2, 3)
    smallest: int = 1
    # how far A A† y may miss y = A x, relative to x: 1e-3 where singular values are cut off or iterated for
    range_error: float = 1e-10
    square: bool = False
    image_unit: int = 1  # channels that make one image


def coils(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((3, 2, *shape))


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return ops.random_mask(shape, 0.6, 5) * np.random.default_rng(6).uniform(0.1, 1, shape)


def fourier(image: str, maps: bool = False, lines: bool = False) -> Callable[[tuple[int, ...]], ops.Operator]:
    def make(shape: tuple[int, ...]) -> ops.Operator:
        mask = weights(shape[1:] if lines else shape)
        return ops.Fourier(mask=mask, image=image, coils=coils(shape) if maps else None)

    return make


class Smoothed:
    """An operator that is none of ours: its own adjoint."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return (x.roll(1, -1) + 2 * x + x.roll(-1, -1)) / 4

    A_adjoint = A


def registered(name: str, operator: object) -> Callable[[tuple[int, ...]], ops.Operator]:
    def make(shape: tuple[int, ...]) -> ops.Operator:
        if OWN_OPERATORS.get(name) is None:
            ops.register_operator(name, operator)
        return ops.Registered(name=name)

    return make


CASES = [
    Case("identity", lambda s: ops.Identity()),
    *(Case(f"downsample {scale}", lambda s, k=scale: ops.Downsample(scale=k)) for scale in (1, 1.3, 2, 2.5, 3, 4)),
    Case("downsample in plane", lambda s: ops.Downsample(scale=(1, 2, 3)), dims=(3,)),
    Case("gaussian blur per axis", lambda s: ops.GaussianBlur(sigma=(0.7, 0)), dims=(2,), range_error=1e-3),
    *(
        Case(f"gaussian blur {b}", lambda s, b=b: ops.GaussianBlur(sigma=0.6, border=b), (2, 3), 7, 1e-3)
        for b in BORDERS
    ),
    *(
        Case(f"uniform blur {b}", lambda s, b=b: ops.UniformBlur(size=4, border=b), smallest=4, range_error=2e-3)
        for b in BORDERS
    ),
    *(
        Case(f"blur {b}", lambda s, b=b: ops.Blur(kernel=KERNEL_2D, border=b), (2,), 4, 2e-3)
        for b in BORDERS
    ),
    *(
        Case(f"blur 3-D {b}", lambda s, b=b: ops.Blur(kernel=KERNEL_3D, border=b), (3,), 3, 2e-3)
        for b in BORDERS
    ),
    *(
        Case(f"blur by FFT {b}", lambda s, b=b: ops.Blur(kernel=LARGE_KERNEL, border=b), (2,), 9, 2e-3)
        for b in BORDERS
    ),
    Case("blur, outer product", lambda s: ops.Blur(kernel=np.outer([1, 2, 1], [1, 3])), (2,), 3, 2e-3),
    Case("motion blur", lambda s: ops.MotionBlur(length=4, angle=30), (2, 3), 5, 2e-3),
    Case("airy blur", lambda s: ops.AiryBlur(pixel_size=250), (2, 3), 1, 2e-3),
    Case("mask", lambda s: ops.Mask(mask=ops.random_mask(s, 0.5, 0))),
    Case("weights", lambda s: ops.Mask(mask=np.random.default_rng(3).uniform(0.1, 1, s))),
    Case("blur, downsample", lambda s: ops.Downsample(scale=2) @ ops.GaussianBlur(sigma=0.8), range_error=2e-3),
    Case(
        "valid blur, downsample", lambda s: ops.Downsample(scale=1.5) @ ops.UniformBlur(size=3, border="valid"),
        smallest=3, range_error=2e-3,
    ),
    Case("mask, blur, downsample", lambda s: ops.Compose(operators=(
        ops.Mask(mask=ops.random_mask(s, 0.7, 1)), ops.MotionBlur(length=3, angle=45), ops.Downsample(scale=2)
    )), (2,), 5, 2e-3),
    Case("downsample, mask", lambda s: ops.Compose(operators=(
        ops.Downsample(scale=2), ops.Mask(mask=ops.random_mask(tuple(-(-n // 2) for n in s), 0.7, 1))
    )), range_error=1e-6),
    Case("radon", lambda s: ops.Radon(angles=8), (2,), 1, 2e-3, square=True),
    Case("radon, odd number of angles", lambda s: ops.Radon(angles=7), (2,), 1, 2e-3, square=True),
    Case(
        "radon, listed angles", lambda s: ops.Radon(angles=ANGLES, size=s[0], detectors=s[0] + 3), (2,), 1, 2e-3,
        square=True,
    ),
    Case("blur, radon, bin", lambda s: ops.Compose(operators=(
        ops.GaussianBlur(sigma=0.6), ops.Radon(angles=6), ops.Downsample(scale=(1, 2))
    )), (2,), 2, 2e-3, square=True),
    Case(
        "registered", registered("laws-own", ops.Downsample(scale=1.5) @ ops.UniformBlur(size=3)), smallest=3,
        range_error=2e-3,
    ),
    Case("registered, foreign", registered("laws-foreign", Smoothed()), smallest=2, range_error=2e-3),
    Case("registered, in a sum", lambda s: ops.Compose(operators=(
        registered("laws-foreign", Smoothed())(s), ops.Downsample(scale=2)
    )), smallest=2, range_error=2e-3),
    Case("fourier", fourier("complex"), (2,), image_unit=2),
    Case("fourier, lines", fourier("complex", lines=True), (2,), image_unit=2),
    Case("fourier, real image", fourier("real"), (2,)),
    Case("fourier, real image, lines", fourier("real", lines=True), (2,)),
    Case("fourier, coils", fourier("complex", maps=True, lines=True), (2,), range_error=2e-3, image_unit=2),
    Case("fourier, coils, real image", fourier("real", maps=True), (2,), range_error=2e-3),
    Case("blur, fourier, mask", lambda s: ops.Compose(operators=(
        ops.GaussianBlur(sigma=0.5), fourier("real")(s), ops.Mask(mask=ops.random_mask(s, 0.9, 7))
    )), (2,), 3, 2e-3),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
law = settings(max_examples=6, deadline=None, derandomize=True)


@dataclass
class Drawn:
    operator: ops.Operator
    x: torch.Tensor
    shape: tuple[int, ...]
    unit: int
    generator: torch.Generator

    def like(self, t: torch.Tensor) -> torch.Tensor:
        return torch.randn(t.shape, dtype=t.dtype, generator=self.generator)


def draw(case: Case, data: st.DataObject, channels: int | None = None) -> Drawn:
    """Draw an operator and images; ``channels`` is how many there are, in units of what the operator takes."""
    ndim = data.draw(st.sampled_from(case.dims))
    largest = case.smallest + (10 if ndim == 2 else 3)
    shape = tuple(data.draw(st.integers(case.smallest, largest)) for _ in range(ndim))
    shape = shape[:1] * ndim if case.square else shape
    batch = data.draw(st.integers(1, 3))
    channels = case.image_unit * (channels or data.draw(st.integers(1, 5)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    x = torch.randn((batch, channels, *shape), dtype=torch.float64, generator=generator)
    return Drawn(case.make(shape), x, shape, case.image_unit, generator)


def dense(d: Drawn) -> torch.Tensor:
    pixels = d.unit * int(np.prod(d.shape))
    return d.operator.A(torch.eye(pixels, dtype=torch.float64).reshape(pixels, d.unit, *d.shape)).flatten(1).T


@every_case
@law
@given(st.data())
def test_linear(case: Case, data: st.DataObject) -> None:
    d = draw(case, data)
    other = d.like(d.x)
    combined = d.operator.A(2.5 * d.x - other)
    torch.testing.assert_close(combined, 2.5 * d.operator.A(d.x) - d.operator.A(other), rtol=1e-10, atol=1e-10)


@every_case
@law
@given(st.data())
def test_adjoint_and_gradient(case: Case, data: st.DataObject) -> None:
    d = draw(case, data)
    x = d.x.requires_grad_()
    y = d.operator.A(x)
    z = d.like(y)
    adjoint = d.operator.A_adjoint(z, d.shape)
    assert adjoint.shape == x.shape
    scale = float(x.detach().norm() * z.norm())
    assert abs(float((y * z).sum().detach() - (x * adjoint).sum().detach())) <= 1e-10 * scale
    (gradient,) = torch.autograd.grad(y, x, z)
    torch.testing.assert_close(gradient, adjoint, rtol=1e-10, atol=1e-12)


@every_case
@law
@given(st.data())
def test_gradient_of_the_adjoint_is_the_operator(case: Case, data: st.DataObject) -> None:
    d = draw(case, data)
    y = d.operator.A(d.x)
    z = d.like(y).requires_grad_()
    (gradient,) = torch.autograd.grad(d.operator.A_adjoint(z, d.shape), z, d.x)
    torch.testing.assert_close(gradient, y, rtol=1e-10, atol=1e-12)


@every_case
@law
@given(st.data())
def test_pseudo_inverse_explains_what_can_be_measured(case: Case, data: st.DataObject) -> None:
    d = draw(case, data)
    y = d.operator.A(d.x)
    x = d.operator.A_dagger(y, d.shape)
    assert x.shape == d.x.shape
    assert float((d.operator.A(x) - y).norm()) <= case.range_error * float(d.x.norm())
    assert float(x.norm()) <= (1 + 1e-6) * float(d.x.norm())  # least norm


@every_case
@law
@given(st.data())
def test_ridge_inverse_equals_the_dense_solve(case: Case, data: st.DataObject) -> None:
    d = draw(case, data, channels=1)
    y = d.like(d.operator.A(d.x))
    ridge = data.draw(st.sampled_from([0.01, 0.3]))
    matrix = dense(d)
    gram = matrix @ matrix.T + ridge * torch.eye(len(matrix), dtype=torch.float64)
    expected = (matrix.T @ torch.linalg.solve(gram, y.flatten(1).T)).T.reshape(d.x.shape)
    found = d.operator.A_dagger(y, d.shape, ridge=ridge)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@every_case
@law
@given(st.data())
def test_pseudo_inverse_is_differentiable(case: Case, data: st.DataObject) -> None:
    d = draw(case, data, channels=1)
    y = d.operator.A(d.x).requires_grad_()
    z = d.like(d.x)
    (gradient,) = torch.autograd.grad(d.operator.A_dagger(y, d.shape, ridge=0.1), y, z)
    matrix = dense(d)
    gram = matrix @ matrix.T + 0.1 * torch.eye(len(matrix), dtype=torch.float64)
    expected = torch.linalg.solve(gram, matrix @ z.flatten(1).T).T.reshape(y.shape)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)


@every_case
@law
@given(st.data())
def test_shapes_belong_together(case: Case, data: st.DataObject) -> None:
    d = draw(case, data)
    y = d.operator.A(d.x)
    measured = tuple(y.shape[2:])
    assert y.shape[:2] == (len(d.x), d.operator.measurement_channels(d.x.shape[1]))
    assert d.operator.image_channels(y.shape[1]) == d.x.shape[1]
    assert measured == d.operator.measurement_shape(d.shape)
    assert d.operator.measurement_shape(d.operator.image_shape(measured)) == measured
    assert d.operator.A_adjoint(y).shape[2:] == d.operator.image_shape(measured)


@every_case
@law
@given(st.data())
def test_images_and_channels_are_independent(case: Case, data: st.DataObject) -> None:
    d = draw(case, data)
    y = d.operator.A(d.x)
    alone = d.operator.A(d.x[-1:, -d.unit :])
    torch.testing.assert_close(y[-1:, -alone.shape[1] :], alone, rtol=1e-12, atol=1e-13)
    restored = d.operator.A_dagger(y, d.shape, ridge=0.1)[-1:, -d.unit :]
    torch.testing.assert_close(restored, d.operator.A_dagger(alone, d.shape, ridge=0.1), rtol=1e-7, atol=1e-7)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_is_kept(case: Case, dtype: torch.dtype) -> None:
    shape = (case.smallest + 4,) * case.dims[0]
    operator = case.make(shape)
    x = torch.rand((1, 2, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = operator.A(x.to(dtype))
    assert y.dtype == dtype
    assert operator.A_adjoint(y, shape).dtype == dtype
    assert operator.A_dagger(y, shape, ridge=0.1).dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    torch.testing.assert_close(y.double(), operator.A(x), rtol=tolerance, atol=tolerance)


@every_case
def test_autocast_changes_nothing(case: Case) -> None:
    shape = (case.smallest + 5,) * case.dims[-1]
    operator = case.make(shape)
    x = torch.randn((1, 2, *shape), generator=torch.Generator().manual_seed(0))

    def measured_and_back() -> tuple[torch.Tensor, ...]:
        leaf = x.clone().requires_grad_()
        y = operator.A(leaf)
        (gradient,) = torch.autograd.grad(y.square().sum(), leaf)
        return y, gradient, operator.A_adjoint(y, shape), operator.A_dagger(y, shape, ridge=0.1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measured_and_back()
    for a, b in zip(found, measured_and_back(), strict=True):
        assert torch.equal(a, b)


@every_case
def test_threads_agree(case: Case) -> None:
    shape = (case.smallest + 5,) * case.dims[-1]
    operator = case.make(shape)
    images = [
        torch.randn((1, case.image_unit, *shape), generator=torch.Generator().manual_seed(i)) for i in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(operator.A, images))
    for image, y in zip(images, found, strict=True):
        assert torch.equal(y, operator.A(image))


@every_case
def test_plain_values_round_trip(case: Case) -> None:
    operator = case.make((case.smallest + 4,) * case.dims[0])
    again = ops.parse_operator(operator.to_plain())
    assert again == operator
    assert hash(again) == hash(operator)


@every_case
def test_wrong_tensors_are_named(case: Case) -> None:
    shape = (case.smallest + 4,) * case.dims[0]
    operator = case.make(shape)
    x = torch.rand(1, case.image_unit, *shape)
    wrong = [x.to(torch.complex64), (255 * x).to(torch.uint8), x[0], x[0, 0], x[None, None], x[:0]]
    for tensor in wrong:
        with pytest.raises((ImageError, OperatorError)):
            operator.A(tensor)
        with pytest.raises((ImageError, OperatorError)):
            operator.A_adjoint(tensor)
    y = operator.A(x)
    with pytest.raises((ShapeError, OperatorError)):
        operator.A_adjoint(y, tuple(3 * n + 20 for n in shape))


def test_every_operator_has_a_case() -> None:
    seen = {type(case.make((case.smallest + 4,) * case.dims[0])) for case in CASES}
    assert seen == set(ops.OPERATORS)


def centroid(image: torch.Tensor) -> list[float]:
    """Return the centre of mass of ``(1, 1, *spatial)`` in pixels."""
    total = image.sum()
    axes = range(image.ndim - 2)
    marginals = [image.sum([0, 1, *(2 + other for other in axes if other != axis)]) for axis in axes]
    return [float(torch.arange(len(m), dtype=m.dtype) @ m / total) for m in marginals]


# missing pixels move the centre of mass of what is seen; line integrals and frequencies are seen nowhere
HOLES = ("mask", "weights", "radon", "fourier")
every_case_without_holes = pytest.mark.parametrize(
    "case", [c for c in CASES if not any(word in c.name for word in HOLES)], ids=lambda c: c.name
)


@every_case_without_holes
def test_a_point_stays_in_its_place(case: Case) -> None:
    for ndim in case.dims:
        shape = (61, 66) if ndim == 2 else (36, 42, 40)
        place = [0.47 * n for n in shape]
        axes = [torch.arange(n, dtype=torch.float64) - p for n, p in zip(shape, place, strict=True)]
        x = torch.exp(-sum(a.square() for a in torch.meshgrid(*axes, indexing="ij")) / (2 * 3.0**2))[None, None]
        operator = case.make(shape)
        grid = operator.grid(ndim)
        found = centroid(operator.A(x))
        wanted = [(p + 0.5) / s + t - 0.5 for p, s, t in zip(centroid(x), grid.scale, grid.shift, strict=True)]
        assert found == pytest.approx(wanted, abs=2e-3)
