"""Point-spread functions from layers, their widths and their drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.operators import AiryBlur, GaussianBlur, MotionBlur, UniformBlur
from napari_fidelity.operators.psf import airy, fwhm, gaussian
from napari_fidelity.widgets._lengths import PixelGrid
from napari_fidelity.widgets._psf import PsfPreview, kernel_from, kernel_of, resampled, widths_text

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

FWHM = 2 * np.sqrt(2 * np.log(2))
BARE = PixelGrid()


def microns(y: float, x: float | None = None) -> PixelGrid:
    return PixelGrid((y, y if x is None else x), "µm")


def spread(kernel: Any) -> tuple[float, float]:
    """Return the standard deviations along y and x."""
    total = kernel.sum()
    out = []
    for axis in (0, 1):
        n = np.arange(kernel.shape[axis])
        marginal = kernel.sum(axis=1 - axis) / total
        mean = (n * marginal).sum()
        out.append(float(np.sqrt(((n - mean) ** 2 * marginal).sum())))
    return out[0], out[1]


def test_a_plane_is_taken_as_it_is() -> None:
    data = np.arange(15, dtype=np.uint8).reshape(3, 5)
    kernel, said = kernel_from(data, "psf", BARE, BARE)
    np.testing.assert_array_equal(kernel, data)
    assert "off the centre" in said


def test_of_a_stack_the_plane_with_the_highest_peak() -> None:
    stack = np.zeros((7, 9, 9))
    stack[4, 4, 4] = 1
    stack = gaussian_filter(stack, 1.0)
    kernel, said = kernel_from(stack, "psf", BARE, BARE)
    np.testing.assert_array_equal(kernel, stack[4])
    assert said == "Plane 5 of 7, the one with the highest peak."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.full((5, 5), np.nan), "NaN or infinite.*25 of 25.*Set them to 0"),
        (np.pad(np.ones((3, 3)), 1) - 0.01, "negative.*16 of 25, the lowest -0.01.*background"),
        (np.zeros((5, 5), np.uint16), "black everywhere"),
        (np.zeros((3, 0)), "cannot be"),
        (np.zeros((2, 2, 5, 5)), "cannot be"),
        (np.full((3, 5, 5), np.nan), "NaN"),
    ],
)
def test_what_cannot_be_one(data: Any, said: str) -> None:
    with pytest.raises(OperatorError, match=f"(?s)'bead'.*{said}|{said}") as error:
        kernel_from(data, "bead", BARE, BARE)
    assert "'bead'" in str(error.value)


def test_even_sizes_are_explained() -> None:
    assert "even size has no middle" in kernel_from(np.ones((4, 4)), "psf", BARE, BARE)[1]
    assert kernel_from(np.ones((5, 5)), "psf", BARE, BARE)[1] == ""


def test_light_off_the_centre_is_said() -> None:
    data = np.zeros((9, 9))
    data[4, 6] = 1
    assert "+0.0 px (y) and +2.0 px (x) off the centre" in kernel_from(data, "psf", BARE, BARE)[1]


@pytest.mark.parametrize(
    ("own", "wanted", "sigmas"),
    [
        (microns(0.1), microns(0.05), (6, 6)),  # on the measurement's grid, for a restored image twice as fine
        (microns(0.1), microns(0.05, 0.1), (6, 3)),
        (PixelGrid((100, 100), "nm"), microns(0.05), (6, 6)),
        (microns(0.1), microns(0.2), (1.5, 1.5)),
        (microns(0.1), microns(0.06), (5, 5)),
    ],
)
def test_resampled_to_the_restored_pixels(own: PixelGrid, wanted: PixelGrid, sigmas: tuple[float, float]) -> None:
    kernel, said = kernel_from(gaussian(3.0), "psf", own, wanted)
    assert spread(kernel) == pytest.approx(sigmas, rel=0.03)
    assert kernel.sum() == pytest.approx(1)
    assert all(n % 2 for n in kernel.shape)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == tuple(n // 2 for n in kernel.shape)
    assert "Resampled from" in said


def test_a_kernel_off_the_centre_stays_there() -> None:
    data = np.zeros((15, 15))
    data[7, 9] = 1
    data = gaussian_filter(data, 1.2)
    kernel = resampled(data, (2.0, 2.0))
    at = np.unravel_index(kernel.argmax(), kernel.shape)
    assert (at[0] - kernel.shape[0] // 2, at[1] - kernel.shape[1] // 2) == (0, 4)


@pytest.mark.parametrize(
    ("own", "wanted", "said"),
    [
        (microns(0.1), microns(0.1), ""),
        (microns(0.1), microns(0.1004), ""),
        (BARE, BARE, ""),
        (BARE, PixelGrid((0.1, 0.1), "pixel"), ""),
        (BARE, microns(0.1), "Taken as it is"),
        (microns(0.1), BARE, "Taken as it is"),
    ],
)
def test_not_resampled_where_that_is_not_known(own: PixelGrid, wanted: PixelGrid, said: str) -> None:
    kernel, found = kernel_from(gaussian(2.0), "psf", own, wanted)
    np.testing.assert_array_equal(kernel, gaussian(2.0))
    assert found.startswith(said) and bool(found) == bool(said)


def test_pixel_sizes_of_which_one_is_wrong() -> None:
    with pytest.raises(OperatorError, match=r"too large.*pixel sizes"):
        kernel_from(np.ones((51, 51)), "psf", microns(100), microns(0.1))


def test_a_dark_margin_costs_nothing() -> None:
    data = np.pad(gaussian(2.0), 300)
    kernel, _ = kernel_from(data, "psf", microns(0.1), microns(0.05))
    assert max(kernel.shape) < 80


# -- widths and drawing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1.5, 3.0, 10.0])
def test_width_of_a_gaussian(sigma: float) -> None:
    assert fwhm(gaussian(sigma)) == pytest.approx((FWHM * sigma, FWHM * sigma), rel=0.02)


def test_width_of_an_airy_pattern() -> None:
    assert fwhm(airy(520, 1.4, 20))[0] * 20 == pytest.approx(0.515 * 520 / 1.4, rel=0.01)


def test_width_of_boxes() -> None:
    assert fwhm(kernel_of(UniformBlur(size=(5, 8)))) == pytest.approx((5, 8))
    assert fwhm(np.ones((1, 1))) == (1, 1)


@pytest.mark.parametrize(
    "blur",
    [GaussianBlur(sigma=(0, 2)), UniformBlur(size=1), MotionBlur(length=7, angle=30), AiryBlur(pixel_size=50)],
    ids=lambda blur: blur.kind,
)
def test_the_drawing(blur: Any, qtbot: QtBot) -> None:
    preview = PsfPreview()
    qtbot.addWidget(preview)
    preview.show_blur(blur, microns(0.05))
    pixmap = preview.picture.pixmap()
    assert 90 <= pixmap.width() <= 240 and pixmap.width() == pixmap.height()
    image = pixmap.toImage()
    middle = image.pixelColor(pixmap.width() // 2, pixmap.height() // 2).lightness()
    assert middle > 200 and image.pixelColor(0, 0).lightness() == 0
    assert preview.text.text().startswith("FWHM") and "µm" in preview.text.text()


def test_an_impossible_blur_clears_the_drawing(qtbot: QtBot) -> None:
    preview = PsfPreview()
    qtbot.addWidget(preview)
    preview.show_blur(GaussianBlur(), BARE)
    preview.show_blur(AiryBlur(numerical_aperture=0.02, wavelength=3000, pixel_size=1), BARE)
    assert preview.picture.pixmap().isNull()


def test_widths_in_words() -> None:
    text = widths_text(gaussian(2.0), microns(0.05, 0.1)).replace("\xa0", " ")
    assert text == "FWHM 4.76 px = 0.238 × 0.476 µm"
    assert widths_text(gaussian(2.0), BARE).replace("\xa0", " ") == "FWHM 4.76 px"
