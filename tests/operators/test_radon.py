"""Line integrals along parallel rays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import radon

from napari_fidelity.core import device
from napari_fidelity.core.errors import MemoryNeededError, OperatorError, OptionError
from napari_fidelity.operators import Compose, Downsample, Fourier, Identity, Mask, Radon, _rays, clear_caches
from napari_fidelity.operators._rays import _fold


def blobs(size: int, *, centred: bool = False) -> torch.Tensor:
    """Return a smooth image ``(1, 1, n, n)`` without any symmetry, in float64."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    rng = np.random.default_rng(0)
    image = np.zeros((size, size))
    for _ in range(1 if centred else 6):
        a, b = (0, 0) if centred else rng.uniform(-size / 4, size / 4, 2)
        width = size / 12
        image += rng.uniform(0.3, 1) * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * width**2))
    return torch.from_numpy(image)[None, None]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


ANGLES = np.array([0, 10, 44, 45, 46, 80, 90, 100, 134, 135, 136, 170, 180, 190, 271, 359, -20, 725.0])


def test_line_integrals_of_a_gaussian() -> None:
    """A Gaussian beside the middle has Gaussian projections, whose centre goes round as the angle does."""
    size, width, off = 48, 4.0, (5.0, -3.0)  # x, y from the middle
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.exp(-((x - off[0]) ** 2 + (y - off[1]) ** 2) / (2 * width**2))
    found = Radon(angles=ANGLES).A(torch.from_numpy(image)[None, None])[0, 0].numpy()
    theta = np.deg2rad(ANGLES)[:, None]
    ray = np.arange(size) - (size - 1) / 2
    centre = off[0] * np.cos(theta) - off[1] * np.sin(theta)
    expected = np.sqrt(2 * np.pi) * width * np.exp(-((ray - centre) ** 2) / (2 * width**2))
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())


def test_scikit_image_agrees() -> None:
    # an odd size: its centre is then the middle, and not half a pixel beside it
    x = blobs(65)
    axis = torch.arange(65) - 32
    x = x * (axis.square() + axis[:, None].square() < 31**2)
    operator = Radon(angles=30)
    expected = torch.from_numpy(radon(x[0, 0].numpy(), np.array(operator.degrees), circle=True).T.copy())
    assert relative(operator.A(x)[0, 0], expected) < 0.01


def test_deepinv_agrees() -> None:
    physics = pytest.importorskip("deepinv").physics
    x = blobs(42)  # whose diagonal is even too: they pad on both sides alike
    theirs = physics.Tomography(
        angles=torch.from_numpy(ANGLES), img_width=42, circle=False, normalize=False, dtype=torch.float64
    )
    expected = theirs.A(x).mT
    operator = Radon(angles=ANGLES, size=42, detectors=expected.shape[-1])
    assert relative(operator.A(x), expected) < 0.005
    # their rays have no width: what a pixel gives to all of them varies by two percent
    assert relative(operator.A_adjoint(expected), theirs.A_adjoint(expected.mT)) < 0.03


def test_sums_keep_the_mass() -> None:
    """Each projection holds the whole image, in units of a pixel, where detectors cover it."""
    x = blobs(32)
    operator = Radon(angles=ANGLES, size=32, detectors=46)
    sums = operator.A(x).sum(-1)
    torch.testing.assert_close(sums, x.sum().expand_as(sums), rtol=1e-12, atol=0)
    spread = operator.A_adjoint(torch.ones(1, 1, len(ANGLES), 46, dtype=torch.float64))
    torch.testing.assert_close(spread, torch.full_like(spread, len(ANGLES)), rtol=1e-12, atol=0)


def test_an_upright_ray_sums_a_column() -> None:
    x = torch.rand(2, 3, 7, 7, dtype=torch.float64)
    y = Radon(angles=np.array([0.0, 90, 180, 270])).A(x)
    columns, rows = x.sum(-2), x.sum(-1)
    expected = torch.stack([columns, rows.flip(-1), columns.flip(-1), rows], 2)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("angle", [0, 45, 90, 135, 180, 225, 270, 315, 360, -45, 1e-12, 89.99999999999999])
def test_folded_angles_lie_between_0_and_45(angle: float) -> None:
    assert 0 <= _fold(angle).degrees <= 45


@pytest.mark.parametrize(("angles", "matrices"), [(8, 3), (60, 16), (180, 46)])
def test_evenly_spread_angles_share_matrices(angles: int, matrices: int) -> None:
    """Four angles are one in an image turned round; 0°, 45° and their like are two."""
    made = _rays.rays(Radon(angles=angles).degrees, 8, 8, torch.float64, torch.device("cpu"))
    assert sum(group.angles for group in made.groups) == matrices


def test_reconstruction_from_many_angles() -> None:
    x = blobs(32)
    operator = Radon(angles=48)
    assert relative(operator.A_dagger(operator.A(x)), x) < 0.01


def test_reconstruction_in_half_precision_is_that_of_single() -> None:
    x = 100 * blobs(32).float()  # squares of its sums are beyond float16
    operator = Radon(angles=24)
    y = operator.A(x).half()
    expected = operator.A_dagger(y.float(), ridge=1.0)
    torch.testing.assert_close(operator.A_dagger(y, ridge=1.0), expected.half())


def test_one_pixel() -> None:
    x = torch.full((1, 1, 1, 1), 3.0)
    y = Radon(angles=2).A(x)
    assert y.flatten().tolist() == [3.0, 3.0]
    assert float(Radon(angles=2).A_dagger(y)) == pytest.approx(3.0)


def test_shapes() -> None:
    assert Radon(angles=5).measurement_shape((9, 9)) == (5, 9)
    assert Radon(angles=5).image_shape((5, 9)) == (9, 9)
    wide = Radon(angles=[0, 30], size=9, detectors=14)
    assert (wide.measurement_shape((9, 9)), wide.image_shape((2, 14))) == ((2, 14), (9, 9))
    assert Radon(angles=5, detectors=14).measurement_shape((9, 9)) == (5, 14)
    assert Radon().degrees == tuple(range(180))


@pytest.mark.parametrize(
    ("operator", "shape", "said"),
    [
        (Radon(angles=5), (8, 9), "as high as it is wide"),
        (Radon(angles=5), (4, 8, 8), "2-D"),
        (Radon(angles=5, size=7), (8, 8), "7 × 7"),
    ],
)
def test_impossible_images(operator: Radon, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        operator.measurement_shape(shape)


@pytest.mark.parametrize(
    ("operator", "shape"), [(Radon(angles=5), (6, 8)), (Radon(angles=5, size=8), (5, 9)), (Radon(angles=5), (5,))]
)
def test_impossible_measurements(operator: Radon, shape: tuple[int, ...]) -> None:
    with pytest.raises(OperatorError):
        operator.image_shape(shape)


@pytest.mark.parametrize(
    "values",
    [
        {"angles": 0},
        {"angles": 1.5},
        {"angles": []},
        {"angles": [[0, 1]]},
        {"angles": [0, float("nan")]},
        {"angles": "many"},
        {"size": 0},
        {"detectors": -1},
    ],
)
def test_impossible_options(values: dict[str, object]) -> None:
    with pytest.raises((OptionError, OperatorError)):
        Radon(**values)


def test_composition() -> None:
    missing = Mask(mask=np.array([[1.0], [0], [1]]) * np.ones((1, 8)))
    limited = Compose(operators=(Radon(angles=3), missing))
    assert not limited.shares_grid
    assert Compose(operators=(Identity(), Downsample(scale=2))).shares_grid
    assert limited.image_shape((3, 8)) == (8, 8)
    assert not limited.A(torch.ones(1, 1, 8, 8))[0, 0, 1].any()
    with pytest.raises(OperatorError, match=r"radon \+ fourier"):
        Fourier(mask=np.eye(3)) @ Radon(angles=3)


def test_too_large_is_refused_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_limit", 1 << 20)
    with pytest.raises(MemoryNeededError, match="GB"):
        Radon(angles=7).A(torch.zeros(1, 1, 512, 512))


def test_rays_are_let_go_of() -> None:
    Radon(angles=3).A(torch.ones(1, 1, 5, 5))
    assert _rays.rays.cache_info().currsize
    clear_caches()
    assert not _rays.rays.cache_info().currsize
