from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fidelity.core.errors import ImageError, OperatorError, OptionError, ShapeError
from napari_fidelity.operators import Downsample, GaussianBlur, resize

SET5 = Path(__file__).parents[3] / "shared" / "data" / "set5"


def image(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def test_matlab_numbers() -> None:
    # imresize((1:8), 0.5): linear inside, bent at the border by the reflected samples
    ramp = torch.arange(1.0, 9.0, dtype=torch.float64).reshape(1, 1, 1, 8)
    found = Downsample(scale=(1, 2)).A(ramp).flatten()
    weights = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
    weights = np.concatenate([weights, weights[::-1]])
    padded = np.pad(np.arange(1.0, 9.0), 4, mode="symmetric")
    expected = [weights @ padded[i : i + 8] for i in range(1, 9, 2)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_agrees_with_deepinv(scale: int) -> None:
    pytest.importorskip("deepinv", reason="the oracle is deepinv's DownsamplingMatlab")
    from deepinv.physics import DownsamplingMatlab

    x = image(2, 3, 12 * scale, 17 * scale)
    oracle, own = DownsamplingMatlab(factor=scale), Downsample(scale=scale)
    y = oracle.A(x)
    torch.testing.assert_close(own.A(x), y, rtol=0, atol=1e-12)
    torch.testing.assert_close(own.A_adjoint(y), oracle.A_adjoint(y), rtol=0, atol=1e-12)
    single = Downsample(scale=scale).A(x.float())
    assert float((single - oracle.A(x.float())).abs().max()) <= 1e-6


@given(m=st.integers(1, 300), scale=st.floats(1, 16))
@settings(max_examples=200, deadline=None)
def test_image_shape_always_gives_the_measurement_back(m: int, scale: float) -> None:
    operator = Downsample(scale=scale)
    (n,) = operator.image_shape((m, m))[:1]
    assert operator.measurement_shape((n, n)) == (m, m)
    assert m * scale - 1 < n <= m * scale + 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 7), (2, 2, 1)])
def test_tiny_images(shape: tuple[int, ...]) -> None:
    y = Downsample(scale=4).A(torch.full((1, 1, *shape), 0.3))
    assert y.shape[2:] == tuple(math.ceil(n / 4) for n in shape)
    torch.testing.assert_close(y, torch.full_like(y, 0.3))


@pytest.mark.parametrize("scale", [1.3, 3])
def test_bands_equal_the_dense_matrix(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.operators import _matrix

    x = image(2, 1, 401, 30).requires_grad_()
    operator = Downsample(scale=scale) @ GaussianBlur(sigma=1.5)
    assert len(_matrix.axis_matrix(operator.chains(2)[0], 401, x.dtype, x.device).blocks) > 1
    y = operator.A(x)
    (gradient,) = torch.autograd.grad(y, x, y.detach())
    back = operator.A_adjoint(y.detach(), (401, 30))
    torch.testing.assert_close(gradient, back, rtol=0, atol=1e-14)
    _matrix.axis_matrix.cache_clear()
    monkeypatch.setattr(_matrix, "_blocking", lambda device: (10**9, 10**9))
    torch.testing.assert_close(operator.A(x), y, rtol=0, atol=1e-13)
    torch.testing.assert_close(operator.A_adjoint(y.detach(), (401, 30)), back, rtol=0, atol=1e-13)
    _matrix.axis_matrix.cache_clear()


def test_second_derivatives_through_bands() -> None:
    operator = Downsample(scale=4)
    x = image(1, 1, 400, 4).requires_grad_()
    (first,) = torch.autograd.grad(operator.A(x).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    y = operator.A(x.detach())
    ones = operator.A(torch.ones_like(y.new_ones(1, 1, 400, 4)))
    torch.testing.assert_close(second, operator.A_adjoint(6 * y * ones, (400, 4)))


def test_a_cache_filled_under_inference_mode_serves_training() -> None:
    operator = Downsample(scale=1.7)
    x = image(1, 1, 23, 29)
    with torch.inference_mode():
        operator.A_dagger(operator.A(x), (23, 29))
    operator.A(x.requires_grad_()).sum().backward()
    assert x.grad is not None


def test_large_axes_fall_back_to_conjugate_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.operators import separable

    operator, y = Downsample(scale=2), image(1, 1, 12, 9)
    closed = operator.A_dagger(y, ridge=0.1), operator.A_dagger(y)
    monkeypatch.setattr(separable, "CLOSED_FORM_LIMIT", 5)
    torch.testing.assert_close((operator.A_dagger(y, ridge=0.1), operator.A_dagger(y)), closed, rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [0, -2, 0.5, float("nan"), 1e9, (2,), (2, 0), "x"])
def test_impossible_scales(scale: object) -> None:
    with pytest.raises(OptionError, match="scale"):
        Downsample(scale=scale)


def test_scale_per_axis_needs_that_many_axes() -> None:
    with pytest.raises(OperatorError, match="3 values"):
        Downsample(scale=(1, 2, 2)).A(image(1, 1, 8, 8))


def test_negative_ridge() -> None:
    with pytest.raises(OptionError, match="ridge"):
        Downsample(scale=2).A_dagger(image(1, 1, 4, 4), ridge=-1)


def test_resize_up_and_down() -> None:
    x = image(1, 2, 9, 14)
    assert resize(x, (20, 5)).shape == (1, 2, 20, 5)
    assert torch.equal(resize(x, (9, 14)), x)
    torch.testing.assert_close(resize(x, (3, 7)), Downsample(scale=(3, 2)).A(x))
    ramp = torch.arange(10.0).reshape(1, 1, 10, 1).expand(1, 1, 10, 3)
    up = resize(ramp, (20, 3))[0, 0, :, 0]
    torch.testing.assert_close(up[4:16], (torch.arange(20.0)[4:16] + 0.5) / 2 - 0.5)


def test_resize_up_agrees_with_deepinv() -> None:
    pytest.importorskip("deepinv", reason="the oracle is deepinv's imresize_matlab")
    from deepinv.physics.functional import imresize_matlab

    x = image(1, 1, 8, 11)
    torch.testing.assert_close(resize(x, (24, 33)), imresize_matlab(x.clone(), scale=3), rtol=0, atol=1e-12)


def test_resize_errors() -> None:
    with pytest.raises(ShapeError):
        resize(image(1, 1, 8, 8), (0, 4))
    with pytest.raises(ShapeError):
        resize(image(1, 1, 8, 8), (4, 4, 4))
    with pytest.raises(ImageError):
        resize(image(8, 8), (4, 4))


@pytest.mark.slow
@pytest.mark.skipif(not SET5.is_dir(), reason="the Set5 images are not there")
@pytest.mark.parametrize(("scale", "expected"), [(2, 33.68), (3, 30.41), (4, 28.43)])
def test_set5_bicubic(scale: int, expected: float) -> None:
    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "resample.py"))
    assert benchmark["set5_bicubic"](SET5, scale) == pytest.approx(expected, abs=0.03)
