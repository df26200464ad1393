"""Where the pixels of an image lie among those of its measurement."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.operators import (
    AiryBlur,
    Blur,
    Compose,
    Downsample,
    GaussianBlur,
    Grid,
    Identity,
    Mask,
    MotionBlur,
    Operator,
    UniformBlur,
)
from napari_fidelity.operators._axes import Resize

ODD = np.outer([1, 2, 1], [1, 2, 3, 2, 1])
LOPSIDED = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]])
DERIVATIVE = np.array([[0, 0, 0], [1, 0, -1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("operator", "scale", "shift"),
    [
        (Identity(), (1, 1), (0, 0)),
        (Mask(mask=np.eye(3)), (1, 1), (0, 0)),
        (Downsample(scale=4), (4, 4), (0, 0)),
        (Downsample(scale=(1, 2.5)), (1, 2.5), (0, 0)),
        (GaussianBlur(sigma=1.6), (1, 1), (0, 0)),
        (GaussianBlur(sigma=(0, 2), border="valid"), (1, 1), (0, -8)),
        (UniformBlur(size=5, border="zero"), (1, 1), (0, 0)),
        (UniformBlur(size=4), (1, 1), (-0.5, -0.5)),
        (UniformBlur(size=(4, 1), border="valid"), (1, 1), (-1.5, 0)),
        (MotionBlur(length=7, angle=30), (1, 1), (0, 0)),
        (MotionBlur(length=7, angle=0, border="valid"), (1, 1), (0, -3)),
        (AiryBlur(pixel_size=200), (1, 1), (0, 0)),
        (Blur(kernel=ODD, border="valid"), (1, 1), (-1, -2)),
        (Blur(kernel=np.ones((2, 6))), (1, 1), (-0.5, -0.5)),
        (Blur(kernel=LOPSIDED), (1, 1), (0, 1)),
        (Blur(kernel=LOPSIDED, border="valid"), (1, 1), (-1, 0)),
        (Blur(kernel=DERIVATIVE, normalise=False), (1, 1), (0, 0)),
        (Blur(kernel=DERIVATIVE, normalise=False, border="valid"), (1, 1), (-1, -1)),
        (Downsample(scale=2) @ UniformBlur(size=4), (2, 2), (-0.25, -0.25)),
        (Downsample(scale=2.5) @ GaussianBlur(sigma=1, border="valid"), (2.5, 2.5), (-1.6, -1.6)),
        (UniformBlur(size=2) @ Downsample(scale=2), (2, 2), (-0.5, -0.5)),
        (
            Compose(operators=[Downsample(scale=2), MotionBlur(length=3, angle=45), Downsample(scale=3)]),
            (6, 6),
            (0, 0),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Operator) else "",
)
def test_grid(operator: Operator, scale: tuple[float, ...], shift: tuple[float, ...]) -> None:
    assert operator.grid(2) == Grid(pytest.approx(scale), pytest.approx(shift))
    assert not any(str(value) == "-0.0" for value in operator.grid(2).shift)


def test_volumes() -> None:
    assert Downsample(scale=(1, 2, 2)).grid(3) == Grid((1, 2, 2), (0, 0, 0))
    assert UniformBlur(size=2, border="valid").grid(3).shift == (-0.5, -0.5, -0.5)
    assert MotionBlur(length=3, angle=90, border="valid").grid(3).shift == (0, -1, 0)


def test_grids_one_after_the_other() -> None:
    first, second = Grid((2.0,), (-1.0,)), Grid((4.0,), (0.5,))
    assert first.then(second) == Grid((8.0,), (0.25,))


def test_what_has_none() -> None:
    with pytest.raises(OperatorError, match="scale of a resize"):
        Resize(3).grid()
    with pytest.raises(OperatorError, match="has 2 values"):
        Downsample(scale=(1, 2)).grid(3)
