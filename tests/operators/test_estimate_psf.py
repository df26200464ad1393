"""The blur found from an image: families on edges and spots, free kernels, what is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import ImageError, NonFiniteError, OptionError
from napari_fidelity.operators import AiryBlur, Blur, Compose, Downsample, GaussianBlur, estimate_psf
from napari_fidelity.operators.estimation import correlation
from napari_fidelity.operators.psf import defocus, fwhm, gaussian, gaussian_of
from napari_fidelity.training.synthetic import dead_leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators.base import Operator

N = 160
RAMP = np.linspace(0, 1, 64)[None].repeat(64, 0)


def turned(major: float, minor: float, degrees: float) -> NDArray[np.float64]:
    """Covariance of a Gaussian, the angle counter-clockwise from the last axis."""
    angle = math.radians(degrees)
    along = np.array([-math.sin(angle), math.cos(angle)])
    across = np.array([along[1], -along[0]])
    return np.asarray(major**2 * np.outer(along, along) + minor**2 * np.outer(across, across))


def seen(scene: NDArray[Any], blur: Operator, scale: float = 1, noise: float = 1 / 255) -> NDArray[np.float64]:
    x = torch.from_numpy(np.asarray(scene, np.float64))[None, None]
    y = Downsample(scale=scale).A(blur.A(x)) if scale > 1 else blur.A(x)
    image = y[0, 0].numpy()
    return np.asarray(image + noise * np.random.default_rng(0).standard_normal(image.shape))


@pytest.fixture(scope="module")
def discs() -> NDArray[np.float64]:
    """Antialiased discs of many sizes and brightnesses: sharp edges in all directions."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:N, :N]
    scene = np.full((N, N), 0.2)
    for _ in range(24):
        radius, centre = rng.uniform(8, 24), rng.uniform(0, N, 2)
        inside = np.clip(radius + 0.5 - np.hypot(y - centre[0], x - centre[1]), 0, 1)
        scene += inside * (rng.uniform(0, 1) - scene)
    return scene


@pytest.fixture(scope="module")
def beads() -> NDArray[np.float64]:
    scene = np.zeros((N, N))
    places = np.stack(np.meshgrid(np.arange(15, N - 10, 26), np.arange(15, N - 10, 26)), -1).reshape(-1, 2)
    places = places + np.random.default_rng(1).integers(-3, 4, places.shape)
    scene[places[:, 0], places[:, 1]] = np.random.default_rng(2).uniform(0.5, 1, len(places))
    return scene


# -- kernels ----------------------------------------------------------------------------------------------------


def test_a_gaussian_of_any_orientation_has_its_moments() -> None:
    covariance = turned(2.0, 1.2, 30)
    kernel = gaussian_of(covariance)
    y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
    y, x = y - kernel.shape[0] // 2, x - kernel.shape[1] // 2
    moments = [[(kernel * y * y).sum(), (kernel * y * x).sum()], [(kernel * y * x).sum(), (kernel * x * x).sum()]]
    assert kernel.sum() == pytest.approx(1) and np.allclose(moments, covariance, atol=0.01)
    assert np.allclose(gaussian_of(np.eye(2) * 2.25), gaussian(1.5))


@pytest.mark.parametrize("radius", [0.3, 0.5, 1.0, 2.7, 8.0])
def test_a_disc_has_its_width_and_is_round(radius: float) -> None:
    kernel = defocus(radius)
    y = np.arange(kernel.shape[0])[:, None] - kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1) and np.allclose(kernel, kernel.T) and kernel.shape[0] % 2 == 1
    if radius >= 2:
        assert (kernel * y * y).sum() == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.05)  # a pixel's own width
        assert fwhm(kernel)[0] == pytest.approx(2 * radius, rel=0.05)


def test_correlation_does_not_depend_on_the_frames() -> None:
    assert correlation(gaussian(1.0), gaussian(1.0, truncate=6)) == pytest.approx(1, abs=1e-4)
    assert correlation(np.ones((1, 1)), np.ones((1, 1))) == 1
    assert correlation(gaussian(1.0), gaussian(3.0)) < 0.7


# -- edges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("major", "minor", "angle", "scale"),
    [(1.8, 1.0, 40, 1), (2.5, 1.5, 110, 2), (2.0, 0.8, 0, 1), (4.5, 3.0, 70, 1)],
)
def test_an_anisotropic_gaussian_is_found(
    discs: NDArray[Any], major: float, minor: float, angle: float, scale: int
) -> None:
    true = gaussian_of(turned(major, minor, angle))
    found = estimate_psf(seen(discs, Blur(kernel=true), scale), scale=scale, source="edges")
    assert correlation(found.kernel, true) > 0.97
    assert found.parameters["sigma_major"] == pytest.approx(major, rel=0.15 if major < 4 else 0.2)
    assert found.parameters["sigma_minor"] == pytest.approx(minor, rel=0.2)
    turn = (found.parameters["angle"] - angle + 90) % 180 - 90
    assert abs(turn) < 8
    assert found.score > 0.95 and found.source == "edges"


def test_the_operator_is_the_whole_model(discs: NDArray[Any]) -> None:
    found = estimate_psf(seen(discs, GaussianBlur(sigma=1.5), 2), scale=2)
    assert isinstance(found.blur, GaussianBlur)
    assert found.operator == Compose(operators=(found.blur, Downsample(scale=2)))
    assert estimate_psf(seen(discs, GaussianBlur(sigma=1.5))).operator.kind == "gaussian_blur"
    turned_one = estimate_psf(seen(discs, Blur(kernel=gaussian_of(turned(3, 1, 45)))))
    assert turned_one.operator.kind == "blur" and turned_one.kernel.shape[0] % 2 == 1


@pytest.mark.parametrize("change", [lambda y: 4000 * y + 300, lambda y: (255 * y).clip(0, 255).astype(np.uint8)])
def test_intensity_units_do_not_matter(discs: NDArray[Any], change: Any) -> None:
    y = seen(0.1 + 0.8 * discs, GaussianBlur(sigma=1.5))
    a, b = estimate_psf(y), estimate_psf(change(y))
    assert b.parameters["sigma_major"] == pytest.approx(a.parameters["sigma_major"], rel=0.03)


def test_channels_are_averaged(discs: NDArray[Any]) -> None:
    y = seen(discs, GaussianBlur(sigma=1.5))
    assert correlation(estimate_psf(np.stack([y, 0.5 * y, y], -1)).kernel, estimate_psf(y).kernel) > 0.999


def test_saturated_places_do_not_look_sharp(discs: NDArray[Any]) -> None:
    y = seen(discs, GaussianBlur(sigma=2.0))
    clipped = np.minimum(y, 0.55)
    found = estimate_psf(clipped).parameters
    assert math.sqrt(found["sigma_major"] * found["sigma_minor"]) == pytest.approx(2, rel=0.25)  # 0.96 with them


@pytest.mark.parametrize("radius", [2.0, 4.0])
def test_a_defocus_is_found(discs: NDArray[Any], radius: float) -> None:
    found = estimate_psf(seen(discs, Blur(kernel=defocus(radius))), "defocus", source="edges")
    assert found.parameters["radius"] == pytest.approx(radius, rel=0.15)
    assert correlation(found.kernel, defocus(radius)) > 0.9


def test_the_aperture_is_found_from_the_data(discs: NDArray[Any]) -> None:
    true = AiryBlur(wavelength=520, numerical_aperture=0.8, pixel_size=100)
    found = estimate_psf(seen(discs, true), "airy", wavelength=520, pixel_size=100, source="edges")
    assert found.parameters["numerical_aperture"] == pytest.approx(0.8, rel=0.1)
    assert isinstance(found.blur, AiryBlur) and found.blur.pixel_size == 100
    bare = estimate_psf(seen(discs, true), "airy")
    assert bare.blur.kind == "blur"
    assert bare.parameters["wavelength_over_aperture"] == pytest.approx(6.5, rel=0.1)


def test_known_optics_are_calculated_and_checked_against_the_data(discs: NDArray[Any]) -> None:
    optics = {"wavelength": 520.0, "numerical_aperture": 1.2, "pixel_size": 100.0}
    alike = estimate_psf(seen(discs, AiryBlur(**optics)), "airy", scale=1, **optics)
    assert alike.blur == AiryBlur(**optics) and alike.source == "optics" and not alike.remarks
    wide = estimate_psf(seen(discs, GaussianBlur(sigma=3)), "airy", **optics)
    assert wide.blur == AiryBlur(**optics) and "times as wide" in wide.words()


def test_pixels_of_the_restored_image_are_finer(discs: NDArray[Any]) -> None:
    true = AiryBlur(wavelength=520, numerical_aperture=0.5, pixel_size=100)
    y = seen(discs, true, 2)
    found = estimate_psf(y, "airy", scale=2, wavelength=520, numerical_aperture=0.5, pixel_size=200)
    assert found.blur == true and found.pixel_size == (100, 100)
    assert found.fwhm_nm == pytest.approx((0.515 * 1040, 0.515 * 1040), rel=0.02)


def test_edges_in_one_direction_tell_a_round_blur() -> None:
    bars = np.repeat((np.arange(N) // 20 % 2).astype(float)[None], N, axis=0)
    found = estimate_psf(seen(bars, GaussianBlur(sigma=1.5)), source="edges")
    assert found.parameters["sigma_minor"] == found.parameters["sigma_major"] == pytest.approx(1.5, rel=0.1)
    assert "one direction" in found.words()


def test_a_free_kernel_is_found(discs: NDArray[Any]) -> None:
    true = gaussian_of(turned(2.0, 1.2, 30))
    found = estimate_psf(seen(discs, Blur(kernel=true)), "free")
    assert correlation(found.kernel, true) > 0.85
    assert found.kernel.sum() == pytest.approx(1) and found.kernel.min() >= 0
    assert found.source == "pixels" and found.operator.kind == "blur"


def test_half_the_sampling_gives_a_kernel_on_the_fine_grid() -> None:
    scene = dead_leaves(np.random.default_rng(0), (N, N), 1)[0]
    true = gaussian(1.6)
    found = estimate_psf(seen(scene, Blur(kernel=true), 2), "free", scale=2)
    assert correlation(found.kernel, true) > 0.85


# -- spots ------------------------------------------------------------------------------------------------------


def test_beads_are_measured_one_by_one(beads: NDArray[Any]) -> None:
    true = gaussian_of(turned(2.2, 1.4, 60))
    image = seen(beads, Blur(kernel=true), noise=0)
    image = 500 * image / image.max() + 100 + 5 * np.random.default_rng(0).standard_normal(image.shape)
    found = estimate_psf(image, pixel_size=65.0)
    assert found.source == "spots" and found.count >= 20
    assert correlation(found.kernel, true) > 0.99
    assert found.fwhm_nm == pytest.approx([65 * w for w in fwhm(true)], rel=0.05)
    assert "nm" in found.words() and f"{found.count} spots" in found.words()


def test_beads_tell_the_aperture(beads: NDArray[Any]) -> None:
    true = AiryBlur(wavelength=520, numerical_aperture=1.0, pixel_size=80)
    image = seen(beads, true, noise=0)
    found = estimate_psf(image / image.max(), "airy", wavelength=520, pixel_size=80)
    assert found.source == "spots"
    assert found.parameters["numerical_aperture"] == pytest.approx(1.0, rel=0.1)


def test_spots_that_are_asked_for_must_be_there(discs: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match="isolated spots"):
        estimate_psf(seen(discs, GaussianBlur(sigma=1)), source="spots")


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (np.full((64, 64), 3.0), ImageError, "flat"),
        (np.zeros((64, 64), np.uint8), ImageError, "flat"),
        (np.ones((1, 1)), ImageError, "too small"),
        (np.zeros((0, 5)), ImageError, "real numbers"),
        (np.zeros((31, 200)), ImageError, "too small"),
        (np.zeros((2, 3, 4, 5)), ImageError, "real numbers"),
        (np.full((64, 64), np.nan), NonFiniteError, "4096 of 4096"),
        (np.random.default_rng(0).standard_normal((64, 64)), ImageError, "too few edges"),
        (RAMP, ImageError, "too few edges"),
    ],
)
def test_images_without_a_blur_are_refused(image: NDArray[Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        estimate_psf(image)


@pytest.mark.parametrize("kind", ["gaussian", "airy", "defocus", "free"])
def test_every_kind_refuses_a_flat_image(kind: Any) -> None:
    with pytest.raises(ImageError, match="flat"):
        estimate_psf(np.zeros((40, 40)), kind)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "box"},
        {"source": "stars"},
        {"scale": 0.5},
        {"scale": (1, 2, 3)},
        {"scale": math.nan},
        {"noise": -1.0},
        {"noise": math.inf},
        {"pixel_size": 0.0},
    ],
)
def test_impossible_options_are_refused(discs: NDArray[Any], options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        estimate_psf(discs, **options)


def test_what_no_objective_gives_is_refused(discs: NDArray[Any]) -> None:
    y = seen(discs, GaussianBlur(sigma=1))
    with pytest.raises(OptionError, match="no objective"):
        estimate_psf(y, "airy", wavelength=520, pixel_size=1)
    with pytest.raises(OptionError, match="square pixels"):
        estimate_psf(y, "airy", wavelength=520, pixel_size=(60, 90))


def test_the_same_image_gives_the_same_blur(discs: NDArray[Any]) -> None:
    y = seen(discs, GaussianBlur(sigma=1.5))
    assert estimate_psf(y).words() == estimate_psf(y).words()
