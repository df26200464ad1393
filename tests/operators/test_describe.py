"""Operators and noise models as text: what is written is what is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_fidelity.core.errors import OptionError
from napari_fidelity.operators import (
    NOISES,
    OPERATORS,
    AiryBlur,
    Blur,
    Compose,
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    LaplaceNoise,
    Mask,
    MotionBlur,
    PoissonGaussianNoise,
    PoissonNoise,
    Radon,
    Registered,
    UniformBlur,
    describe,
    parse_noise,
    parse_operator,
    register_operator,
)

borders = st.sampled_from(["reflect", "circular", "zero", "valid"])
shapes = array_shapes(min_dims=2, max_dims=3, max_side=4)


def per_axis(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, st.lists(values, min_size=2, max_size=3).map(tuple))


def numbers(low: float | None = None, high: float | None = None, **more: Any) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **more)


positive = numbers(0, exclude_min=True)
SINGLE: dict[type, st.SearchStrategy[Any]] = {
    Identity: st.just(Identity()),
    Downsample: st.builds(Downsample, scale=per_axis(numbers(1, 64))),
    GaussianBlur: st.builds(GaussianBlur, sigma=per_axis(numbers(0, 200)), border=borders),
    UniformBlur: st.builds(UniformBlur, size=per_axis(st.integers(1, 1001)), border=borders),
    MotionBlur: st.builds(MotionBlur, length=numbers(1, 500), angle=numbers(-360, 360), border=borders),
    AiryBlur: st.builds(
        AiryBlur,
        wavelength=numbers(100, 3000),
        numerical_aperture=numbers(0.02, 1.7),
        pixel_size=numbers(1, 20000),
    ),
    Blur: st.one_of(
        st.builds(Blur, kernel=arrays(dtype, shapes, elements=numbers(0.125, 2, width=8 * dtype().itemsize)))
        for dtype in (np.float32, np.float64)
    )
    | st.builds(Blur, kernel=arrays(np.float64, shapes, elements=numbers()), normalise=st.just(False))
    | st.just(Blur(kernel=np.array([[1e308, 1e308]]), normalise=False)),
    Mask: st.builds(Mask, mask=arrays(np.float64, shapes, elements=numbers(1e-9, 1))),
    Radon: st.builds(
        Radon,
        angles=st.integers(1, 1000) | arrays(np.float64, st.integers(1, 9), elements=numbers(-360, 360)),
        size=st.none() | st.integers(1, 1000),
        detectors=st.none() | st.integers(1, 1000),
    ),
    Registered: st.builds(
        lambda name: register_operator(name, Identity()), st.from_regex("[a-z][A-Z0-9_-]{3,9}", fullmatch=True)
    ),
    Fourier: st.builds(
        Fourier,
        mask=arrays(np.float64, array_shapes(max_dims=2, max_side=4), elements=numbers(1e-9, 1)),
        image=st.sampled_from(["complex", "real"]),
    )
    | st.builds(
        Fourier,
        mask=arrays(np.float64, (2, 3), elements=numbers(1e-9, 1)),
        coils=arrays(np.float64, (2, 2, 2, 3), elements=numbers(0.125, 9)),
    ),
}
ELSEWHERE = (Radon, Fourier)  # at most one of these in a composition
TOGETHER = [operators for cls, operators in SINGLE.items() if cls not in ELSEWHERE]
MODELS = {
    **SINGLE,
    Compose: st.builds(
        Compose,
        operators=st.lists(st.one_of(TOGETHER), min_size=1, max_size=3).flatmap(
            lambda some: st.one_of(SINGLE.values()).map(lambda last: [*some, last])
        ),
    ),
}
NOISE = {
    GaussianNoise: st.builds(GaussianNoise, sigma=numbers(0)),
    PoissonNoise: st.builds(PoissonNoise, gain=positive, offset=numbers()),
    PoissonGaussianNoise: st.builds(PoissonGaussianNoise, gain=positive, offset=numbers(), sigma=numbers(0)),
    LaplaceNoise: st.builds(LaplaceNoise, scale=positive),
}
law = settings(max_examples=40, deadline=None, derandomize=True)


def test_every_declared_class_is_here() -> None:
    assert set(MODELS) == set(OPERATORS)
    assert set(NOISE) == set(NOISES)


@pytest.mark.parametrize("cls", MODELS)
def test_operators_come_back(cls: type) -> None:
    @law
    @given(MODELS[cls])
    def check(operator: Any) -> None:
        again = parse_operator(describe(operator))
        assert again == operator
        assert type(again) is cls
        assert parse_operator(f"  {describe(operator)} ") == operator
        for name in type(operator).model_fields:
            assert np.all(getattr(again, name) == getattr(operator, name))

    check()


@pytest.mark.parametrize("cls", NOISE)
def test_noise_comes_back(cls: type) -> None:
    @law
    @given(NOISE[cls])
    def check(noise: Any) -> None:
        assert parse_noise(describe(noise)) == noise

    check()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Identity(), "identity"),
        (Downsample(), "downsample:scale=4"),
        (Downsample(scale=(1, 2.5)), "downsample:scale=[1,2.5]"),
        (GaussianBlur(sigma=1.6), "gaussian_blur:sigma=1.6"),
        (GaussianBlur(sigma=1e-7, border="valid"), "gaussian_blur:sigma=1e-07,border=valid"),
        (MotionBlur(), "motion_blur:length=9,angle=0"),
        (Blur(kernel=[[1, 2], [0.5, 4]], normalise=False), "blur:kernel=[[1,2],[0.5,4]],normalise=false"),
        (Downsample(scale=2) @ GaussianBlur(), "gaussian_blur:sigma=1 + downsample:scale=2"),
        (Compose(operators=[Identity()]), "identity"),
        (GaussianNoise(sigma=1e16), "gaussian:sigma=1e+16"),
        (PoissonGaussianNoise(offset=-100), "poisson_gaussian:gain=1,offset=-100,sigma=1"),
    ],
)
def test_words(model: Any, text: str) -> None:
    assert describe(model) == text


def test_large_arrays_are_not_written_out() -> None:
    with pytest.raises(OptionError, match=r"'kernel' is too large.*11 × 11 numbers.*recipe file"):
        describe(Downsample(scale=2) @ Blur(kernel=np.ones((11, 11))))
    assert parse_operator(describe(Mask(mask=np.ones((10, 10))))) == Mask(mask=np.ones((10, 10)))
