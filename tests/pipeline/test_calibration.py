"""Calibration from images and stacks: each slice counts, as each is given intervals of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity import Image
from napari_fidelity.core.errors import OptionError
from napari_fidelity.methods import Apply
from napari_fidelity.operators import Downsample, GaussianNoise
from napari_fidelity.pipeline import Recipe
from napari_fidelity.pipeline.calibration import calibrate_images
from napari_fidelity.uncertainty import Ensemble

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene
    from napari_fidelity.uncertainty import Calibration

A = Downsample(scale=2)


def found(pairs: list[tuple[Image, Image]], network: Any, **settings: Any) -> Calibration:
    recipe = Recipe(operator=A, method=Apply(), scaling="none", noise=GaussianNoise(sigma=0.01), **settings)
    return calibrate_images(pairs, Ensemble(members=3), recipe, network, device="cpu")


@pytest.fixture
def stack(scene: Scene) -> tuple[Image, Image]:
    """Three slices of very different contrast, whose maps have floors of their own."""
    x = scene(3, 16, 20) * np.array([1, 0.1, 0.01], np.float32)[:, None, None]
    y = A.A(torch.from_numpy(x)[:, None])[:, 0].numpy()
    return Image(y, "ZYX"), Image(x, "ZYX")


def test_a_stack_is_its_slices(stack: tuple[Image, Image], network: MakeNetwork) -> None:
    y, x = stack
    single = [(Image(y.data[z], "YX"), Image(x.data[z], "YX")) for z in range(3)]
    together, one_by_one = found([stack], network()), found(single, network())
    assert together.count == 3
    np.testing.assert_allclose(together.factors, one_by_one.factors, rtol=1e-4)
    for name, numbers in one_by_one.statistics.items():
        assert together.statistics[name] == pytest.approx(numbers, rel=1e-4)


def test_channels_that_are_restored_together_are_one_image(network: MakeNetwork, stack: Any) -> None:
    y, x = (Image(image.data, "CYX") for image in stack)
    assert found([(y, x)], network()).count == 1
    assert found([(y, x)], network(), channels="each").count == 3


def test_slices_whose_truth_is_not_known_are_left_out(stack: tuple[Image, Image], network: MakeNetwork) -> None:
    y, x = stack
    data = x.data.copy()
    data[1] = np.nan
    assert found([(y, x.replace(data=data))], network()).count == 2
    with pytest.raises(OptionError, match="whose truth is known"):
        found([(y, x.replace(data=np.full_like(data, np.nan)))], network())
