from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.operators import AiryBlur, Blur, GaussianBlur, MotionBlur, UniformBlur, psf

MODES = {"reflect": "reflect", "circular": "wrap", "zero": "constant"}  # SciPy's names
RNG = np.random.default_rng(0)


def image(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random((1, 1, *shape)))


@pytest.mark.parametrize("border", MODES)
@pytest.mark.parametrize("size", [(3, 5), (5, 5), (11, 9)])  # direct, on the edge, and by FFT
@pytest.mark.parametrize("shape", [(13, 17), (12, 11)])
def test_agrees_with_scipy(border: str, size: tuple[int, int], shape: tuple[int, int]) -> None:
    kernel, x = RNG.random(size), image(*shape)
    expected = ndimage.convolve(x[0, 0].numpy(), kernel / kernel.sum(), mode=MODES[border])
    np.testing.assert_allclose(Blur(kernel=kernel, border=border).A(x)[0, 0], expected, atol=1e-12)


def test_valid_is_the_inside() -> None:
    kernel, x = RNG.random((5, 3)), image(11, 12)
    whole, inside = Blur(kernel=kernel).A(x), Blur(kernel=kernel, border="valid").A(x)
    torch.testing.assert_close(inside, whole[..., 2:-2, 1:-1])


@pytest.mark.parametrize("border", ["reflect", "circular", "zero", "valid"])
@pytest.mark.parametrize("size", [(3, 4), (4, 4, 3), (8, 9), (1, 6)])
def test_direct_and_fft_agree(border: str, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fidelity.operators import _convolve

    operator, x = Blur(kernel=RNG.random(size), border=border), image(*(k + 4 for k in size))
    results = []
    for cost in (0, math.inf):
        monkeypatch.setattr(_convolve, "FFT_COST", cost)
        y = operator.A(x)
        results.append((y, operator.A_adjoint(y), operator.A_dagger(y, ridge=0.1)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-7)


def test_centre_of_an_even_kernel() -> None:
    impulse = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    impulse[..., 2, 2] = 1
    kernel = np.array([[0, 0, 0], [1.0, 2, 3]])[:, :2]  # 2×2, centre at (1, 1)
    found = Blur(kernel=kernel, normalise=False).A(impulse)[0, 0]
    assert found[2, 1:3].tolist() == pytest.approx([1, 2])
    assert float(found.sum()) == pytest.approx(3)


@pytest.mark.parametrize("border", ["circular", "zero", "reflect"])
def test_outer_products_are_found(border: str) -> None:
    u, v, w = RNG.random(3), RNG.random(4), RNG.random(2)
    x = image(7, 8)
    operator = Blur(kernel=np.outer(u, v), border=border)
    assert operator.chains(2) is not None
    kernel = np.outer(u, v) / np.outer(u, v).sum()
    expected = ndimage.convolve(x[0, 0].numpy(), kernel, mode=MODES[border], origin=(0, 0))
    np.testing.assert_allclose(operator.A(x)[0, 0], expected, atol=1e-12)
    assert Blur(kernel=np.einsum("i,j,k", u, v, w).astype(np.float32)).chains(3) is not None
    assert Blur(kernel=RNG.random((3, 3))).chains(2) is None


def test_deepinv_circular() -> None:
    pytest.importorskip("deepinv", reason="the oracle is deepinv's Blur")
    from deepinv.physics import Blur as Oracle

    kernel, x = RNG.random((5, 5)), image(12, 14)
    oracle = Oracle(filter=torch.from_numpy(kernel / kernel.sum())[None, None], padding="circular")
    own = Blur(kernel=kernel, border="circular")
    y = own.A(x)
    torch.testing.assert_close(y, oracle.A(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(own.A_adjoint(y), oracle.A_adjoint(y), rtol=0, atol=1e-12)


def test_gaussian_agrees_with_scipy() -> None:
    x = image(21, 18)
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), (1.5, 0.75), mode="reflect", radius=(6, 3))
    np.testing.assert_allclose(GaussianBlur(sigma=(1.5, 0.75)).A(x)[0, 0], expected, atol=1e-12)


def test_strong_blur_does_not_blow_up() -> None:
    operator, x = GaussianBlur(sigma=5.0), image(40, 40).float()
    noisy = operator.A(x) + 1e-4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert float(operator.A_dagger(noisy).abs().max()) < 10


@pytest.mark.parametrize(
    "operator",
    [
        GaussianBlur(sigma=1.6),
        UniformBlur(size=3),
        MotionBlur(length=3),
        AiryBlur(),
        Blur(kernel=RNG.random((3, 3))),
    ],
    ids=lambda operator: operator.kind,
)
def test_mean_is_kept(operator: GaussianBlur) -> None:
    y = operator.A(torch.full((1, 2, 9, 9), 0.25))
    torch.testing.assert_close(y, torch.full_like(y, 0.25))


@pytest.mark.parametrize("operator", [GaussianBlur(sigma=1.6), AiryBlur()], ids=lambda operator: operator.kind)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5)])
@pytest.mark.parametrize("border", ["reflect", "circular", "zero"])
def test_kernels_cut_off_by_us_fold_on_tiny_images(
    operator: GaussianBlur, shape: tuple[int, int], border: str
) -> None:
    x = torch.ones(1, 1, *shape)
    y = operator.replace(border=border).A(x)
    assert y.shape == x.shape
    assert float(y.max()) <= 1 + 1e-5
    with pytest.raises(OperatorError, match="larger than the image"):
        operator.replace(border="valid").A(x)


@pytest.mark.parametrize(
    "operator", [Blur(kernel=RNG.random((4, 6))), UniformBlur(size=6), MotionBlur(length=9)], ids=lambda o: o.kind
)
def test_kernel_larger_than_the_image(operator: Blur) -> None:
    with pytest.raises(OperatorError, match="larger than the image"):
        operator.A(image(4, 5))
    with pytest.raises(OperatorError, match="larger than the image"):
        operator.A_adjoint(image(4, 5))


@pytest.mark.parametrize(
    ("kernel", "match"),
    [
        (np.zeros((0, 3)), "empty"),
        (np.zeros((3, 3)), "normalised"),
        (np.array([[1, -1], [1, -1]]), "normalised"),
        (-np.ones((3, 3)), "normalised"),
        (np.array([[1, np.nan]]), "NaN"),
        (np.array([[np.inf, 1]]), "NaN or infinite"),
        (np.array([[1e308, 1e308]]), "cannot be normalised"),
        (np.ones(3), "2-D or 3-D"),
        (np.ones((1, 1, 3, 3)), "2-D or 3-D"),
    ],
)
def test_impossible_kernels(kernel: np.ndarray, match: str) -> None:
    with pytest.raises(OperatorError, match=match):
        Blur(kernel=kernel)


def test_other_errors() -> None:
    with pytest.raises(OptionError):
        Blur(kernel=np.ones((3, 3), dtype=complex))
    with pytest.raises(OperatorError, match="2-D"):
        Blur(kernel=np.ones((3, 3))).A(image(5, 5, 5))
    with pytest.raises(OptionError, match="border"):
        GaussianBlur(border="mirror")
    with pytest.raises(OperatorError, match="units"):
        AiryBlur(pixel_size=1, numerical_aperture=0.1).A(image(8, 8))
    difference = Blur(kernel=np.array([[1.0, -1.0]]), normalise=False)
    assert float(difference.A(torch.ones(1, 1, 4, 4)).abs().max()) < 1e-6


def test_motion_kernel() -> None:
    np.testing.assert_allclose(psf.motion(5, 0), np.full((1, 5), 0.2))
    np.testing.assert_allclose(psf.motion(5, 90), np.full((5, 1), 0.2), atol=1e-12)
    slanted = psf.motion(9, 30)
    rows, columns = np.mgrid[: slanted.shape[0], : slanted.shape[1]]
    assert slanted[rows < slanted.shape[0] // 2][-1] >= 0
    # counter-clockwise from the horizontal: to the right is up
    covariance = (slanted * (rows - rows.mean()) * (columns - columns.mean())).sum()
    assert covariance < 0
    np.testing.assert_allclose(psf.motion(1, 17), [[1.0]])


def test_airy_kernel() -> None:
    kernel = psf.airy(520, 1.4, 20)
    centre = kernel.shape[0] // 2
    profile = kernel[centre, centre:] / kernel[centre, centre]
    first_dark = int(np.argmin(profile[: round(300 / 20)]))
    assert first_dark * 20 == pytest.approx(0.61 * 520 / 1.4, abs=20)  # Rayleigh
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])
    np.testing.assert_allclose(kernel.sum(), 1)


def test_gaussian_kernel() -> None:
    kernel = psf.gaussian(1.6, ndim=3)
    assert kernel.shape == (15, 15, 15)
    t = np.arange(15) - 7
    assert float((kernel.sum(axis=(0, 1)) * t**2).sum()) == pytest.approx(1.6**2, rel=2e-3)
