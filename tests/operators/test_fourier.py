"""Spatial frequencies of an image, and the masks that sample them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.operators import Compose, Fourier, Identity, parse_operator, sampling_mask

RNG = np.random.default_rng(0)
COILS = RNG.standard_normal((3, 2, 7, 8))


def image(channels: int, *shape: int) -> torch.Tensor:
    return torch.randn((2, channels, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_frequency_zero_lies_in_the_middle() -> None:
    for shape in ((6, 7), (5, 8), (1, 1)):
        y = Fourier(mask=np.ones(shape), image="real").A(torch.ones(1, 1, *shape))
        expected = torch.zeros(1, 2, *shape)
        expected[0, 0, shape[0] // 2, shape[1] // 2] = np.sqrt(np.prod(shape))
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


def test_nothing_is_lost_where_all_is_sampled() -> None:
    x = image(4, 7, 8)
    operator = Fourier(mask=np.ones(8))
    y = operator.A(x)
    torch.testing.assert_close(y.norm(), x.norm())
    torch.testing.assert_close(operator.A_adjoint(y), x)
    torch.testing.assert_close(operator.A_dagger(y), x)


def test_frequencies_that_are_not_sampled_are_zero() -> None:
    lines = np.array([1.0, 0, 0, 1, 1, 0, 0, 1])
    y = Fourier(mask=lines).A(image(2, 7, 8))
    assert not y[..., lines == 0].any()
    assert y[..., lines == 1].all()


def test_deepinv_agrees_for_one_coil() -> None:
    physics = pytest.importorskip("deepinv").physics
    x, mask = image(2, 7, 8), (RNG.random((7, 8)) < 0.5).astype(float)
    theirs = physics.MRI(mask=torch.from_numpy(mask), img_size=(2, 7, 8))
    operator = Fourier(mask=mask)
    y = theirs.A(x)
    torch.testing.assert_close(operator.A(x), y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(operator.A_adjoint(y), theirs.A_adjoint(y), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(operator.A_dagger(y), theirs.A_dagger(y), rtol=1e-5, atol=1e-6)


def test_deepinv_agrees_for_several_coils() -> None:
    physics = pytest.importorskip("deepinv").physics
    x, mask = image(2, 7, 8), (RNG.random((7, 8)) < 0.5).astype(float)
    maps = torch.complex(*torch.from_numpy(COILS).unbind(1))
    theirs = physics.MultiCoilMRI(
        mask=torch.from_numpy(mask)[None, None], coil_maps=maps[None], img_size=(2, 7, 8)
    )
    operator = Fourier(mask=mask, coils=COILS)
    expected = theirs.A(x)  # (N, 2, coils, H, W)
    y = operator.A(x)
    torch.testing.assert_close(y, expected.movedim(2, 1).flatten(1, 2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(operator.A_adjoint(y), theirs.A_adjoint(expected), rtol=1e-5, atol=1e-6)


def test_several_coils_make_up_for_lines_that_are_not_sampled() -> None:
    """With three coils half of the lines are enough, with one they are not."""
    x, lines = image(2, 7, 8), np.arange(8) % 2
    for operator, enough in ((Fourier(mask=lines, coils=COILS), True), (Fourier(mask=lines), False)):
        found = operator.A_dagger(operator.A(x))
        assert torch.allclose(found, x, rtol=1e-5, atol=1e-5) is enough


@pytest.mark.parametrize("shape", [(6, 7), (5, 8), (1, 1), (1, 6)])
def test_a_real_image_needs_one_of_two_opposite_frequencies(shape: tuple[int, int]) -> None:
    rows, columns = (np.arange(n) - n // 2 for n in shape)
    half = (columns > 0) | ((columns == 0) & (rows[:, None] >= 0))
    # frequencies n / 2 of even axes are their own opposites
    half |= (columns == -shape[1] / 2) | ((rows == -shape[0] / 2)[:, None] & (columns >= 0))
    operator = Fourier(mask=half, image="real")
    x = image(1, *shape)
    torch.testing.assert_close(operator.A_dagger(operator.A(x)), x)
    assert half.mean() < 1 or shape == (1, 1)


def test_channels() -> None:
    for operator, of_image, of_measurement in (
        (Fourier(mask=[1, 0]), 2, 2),
        (Fourier(mask=[1, 0], image="real"), 1, 2),
        (Fourier(mask=np.ones(8), coils=COILS), 2, 6),
        (Compose(operators=(Identity(), Fourier(mask=np.ones(8), coils=COILS, image="real"))), 1, 6),
    ):
        for images in (1, 3):
            assert operator.measurement_channels(images * of_image) == images * of_measurement
            assert operator.image_channels(images * of_measurement) == images * of_image


def test_odd_channels_are_refused_by_name() -> None:
    with pytest.raises(OperatorError, match=r"groups of 2.*found: 3.*image=real"):
        Fourier(mask=np.ones(8)).A(image(3, 7, 8))
    with pytest.raises(OperatorError, match=r"groups of 2.*found: 1"):
        Fourier(mask=np.ones(8), image="real").A_adjoint(image(1, 7, 8))
    with pytest.raises(OperatorError, match=r"groups of 6.*found: 4"):
        Fourier(mask=np.ones(8), coils=COILS).A_dagger(image(4, 7, 8))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mask": 1.0},
        {"mask": []},
        {"mask": [0, 0]},
        {"mask": [2, 0]},
        {"mask": np.ones((1, 2, 3))},
        {"mask": np.ones(8), "coils": np.ones((3, 7, 8))},
        {"mask": np.ones(8), "coils": np.ones((3, 1, 7, 8))},
        {"mask": np.ones(8), "coils": np.zeros((3, 2, 7, 8))},
        {"mask": np.ones(7), "coils": COILS},
        {"mask": np.ones((8, 8)), "coils": COILS},
        {"mask": np.ones(8), "image": "magnitude"},
    ],
)
def test_impossible_options(values: dict[str, object]) -> None:
    with pytest.raises((OperatorError, OptionError)):
        Fourier(**values)


def test_impossible_shapes() -> None:
    for operator, shape in (
        (Fourier(mask=np.ones(8)), (7, 9)),
        (Fourier(mask=np.ones((7, 8))), (8, 8)),
        (Fourier(mask=np.ones(8), coils=COILS), (8, 8)),
        (Fourier(mask=np.ones(8)), (2, 7, 8)),
        (Fourier(mask=np.ones(8)), (8,)),
    ):
        with pytest.raises(OperatorError):
            operator.measurement_shape(shape)


def test_as_text() -> None:
    operator = parse_operator("fourier:mask=[1,0,1],image=real")
    assert operator == Fourier(mask=[1, 0, 1], image="real")
    assert not operator.shares_grid


@pytest.mark.parametrize("shape", [(64,), (65,), (32, 33), (1,)])
@pytest.mark.parametrize("acceleration", [1, 2.5, 4])
def test_sampling_mask(shape: tuple[int, ...], acceleration: float) -> None:
    mask = sampling_mask(shape, acceleration, 0.08, rng=3)
    assert mask.shape == shape
    assert set(np.unique(mask)) <= {0, 1}
    assert mask.sum() == max(1, round(mask.size / acceleration))
    if mask.size > 1:
        assert mask[tuple(n // 2 for n in shape)] == 1
    np.testing.assert_array_equal(mask, sampling_mask(shape, acceleration, 0.08, rng=3))


def test_the_middle_of_a_sampling_mask_is_whole() -> None:
    mask = sampling_mask((100,), 4, 0.1)
    assert mask[45:55].all()
    assert mask.sum() == 25
    assert not np.array_equal(mask, sampling_mask((100,), 4, 0.1, rng=1))


@pytest.mark.parametrize(
    "values",
    [
        ((8, 8, 8), 2, 0.1),
        ((0,), 2, 0.1),
        ((8,), 0.5, 0.1),
        ((8,), float("nan"), 0.1),
        ((8,), 4, 0.3),
        ((8,), 4, -1),
    ],
)
def test_impossible_sampling(values: tuple[tuple[int, ...], float, float]) -> None:
    with pytest.raises(OptionError):
        sampling_mask(*values)
