"""Models of slices as models of volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_fidelity.operators import (
    AiryBlur,
    Blur,
    Downsample,
    GaussianBlur,
    Identity,
    Mask,
    MotionBlur,
    UniformBlur,
)
from napari_fidelity.widgets._volume import in_volume

OPERATORS = [
    Identity(),
    GaussianBlur(sigma=1.5),
    GaussianBlur(sigma=(1.5, 0.5)),
    UniformBlur(size=3),
    MotionBlur(),
    AiryBlur(),
    Blur(kernel=np.array([[0, 1, 2], [1, 3, 1.0]])),
    Downsample(scale=2),
    Mask(mask=np.eye(12, 14)),
    Downsample(scale=(2, 1)) @ GaussianBlur(sigma=1),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.kind)
def test_every_slice_is_formed_as_before(operator: Any) -> None:
    volume = torch.rand(1, 2, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    found = in_volume(operator, 3).A(volume)
    for z in range(3):
        torch.testing.assert_close(found[:, :, z], operator.A(volume[:, :, z]))


def test_what_says_something_of_the_depth_stays() -> None:
    for operator in (GaussianBlur(sigma=(3, 1, 1)), Downsample(scale=(2, 1, 1)), Mask(mask=np.eye(4)[None])):
        assert in_volume(operator, 3) is operator or in_volume(operator, 3) == operator
