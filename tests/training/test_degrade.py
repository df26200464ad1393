"""Training pairs: the measurement belongs to the image, whatever the operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.operators.resample import Downsample
from napari_fidelity.training import Degrade, TrainingSet
from napari_fidelity.training.synthetic import dead_leaves

DATA = TrainingSet(
    tuple(dead_leaves(np.random.default_rng(s), (64, 70)) for s in range(2)), np.array([0.25, 0.75])
)


class Same:
    def A(self, x: torch.Tensor, /) -> torch.Tensor:
        return x


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_measurement_of_the_patch(scale: int) -> None:
    operator = Downsample(scale=scale)
    options = Degrade(batch_size=3, patch_size=8, margin=6)
    y, x, sigma = options.batch(DATA, operator, scale, rng())
    assert y.shape == (3, 3, 8, 8)
    assert x.shape == (3, 3, 8 * scale, 8 * scale)
    assert x.dtype == y.dtype == torch.float32
    # away from the border, the patch alone gives the same measurement
    torch.testing.assert_close(operator.A(x)[..., 2:-2, 2:-2], y[..., 2:-2, 2:-2], atol=1e-5, rtol=0)
    assert 0 <= x.min() <= x.max() <= 1
    assert torch.equal(sigma, torch.zeros(3, 1, 1, 1))


def test_same_generator_same_batch() -> None:
    batches = [Degrade(patch_size=8).batch(DATA, Same(), 1, rng()) for _ in range(2)]
    assert torch.equal(batches[0][0], batches[1][0])


def test_noise_has_its_deviation() -> None:
    y, x, sigma = Degrade(patch_size=32, noise=0.1).batch(DATA, Same(), 1, rng())
    assert float((y - x).std()) == pytest.approx(0.1, rel=0.02)
    assert sigma.flatten().tolist() == pytest.approx([0.1] * 16)


def test_noise_levels_of_a_range_differ_from_patch_to_patch() -> None:
    y, x, sigma = Degrade(patch_size=32, noise=(0.02, 0.1)).batch(DATA, Same(), 1, rng())
    levels = (y - x).std(dim=(1, 2, 3))
    torch.testing.assert_close(sigma.flatten(), levels, rtol=0.05, atol=0)
    assert 0.018 < levels.min() < 0.04
    assert 0.08 < levels.max() < 0.102


def test_gray_patches_have_the_same_noise_in_all_channels() -> None:
    y, x, _ = Degrade(patch_size=16, batch_size=40, noise=0.1, gray=0.5).batch(DATA, Same(), 1, rng())
    alike = [(image == image[:1]).all() for image in y]
    assert 10 < sum(bool(each) for each in alike) < 30
    assert all(bool((image == image[:1]).all()) == bool(same) for image, same in zip(x, alike, strict=True))
    assert float((y - x).std()) == pytest.approx(0.1, rel=0.05)


def test_without_augmentation_patches_are_cut_out_as_they_are() -> None:
    _, x, _ = Degrade(patch_size=52, margin=6, batch_size=1, flip=False, recolour=False).batch(
        DATA, Same(), 1, rng()
    )
    corner = x[0].numpy()
    places = [image[:, 6:58, j + 6 : j + 58] for image in DATA.images for j in range(7)]
    assert any(np.array_equal(corner, place) for place in places)


def test_augmentation_keeps_range_and_content() -> None:
    plain, _, _ = Degrade(patch_size=52, batch_size=1, flip=False, recolour=False).batch(DATA, Same(), 1, rng())
    flipped = [Degrade(patch_size=52, batch_size=1, recolour=False).batch(DATA, Same(), 1, rng())[0] for _ in "ab"]
    assert torch.equal(*flipped)
    assert plain.shape == flipped[0].shape


def test_operator_of_another_scale_is_named() -> None:
    with pytest.raises(ShapeError, match="exactly 3"):
        Degrade(patch_size=4, margin=0).batch(DATA, Downsample(scale=2), 3, rng())


@pytest.mark.parametrize("bad", [{"patch_size": 3}, {"batch_size": 0}, {"noise": -1}, {"patchsize": 8}])
def test_options_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Degrade(**bad)
