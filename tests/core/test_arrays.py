from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from napari_fidelity.core.arrays import Image, check_finite, fill_unobserved, guess_axes
from napari_fidelity.core.errors import ImageError, NonFiniteError

DTYPES = [
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_real_dtype_is_accepted_as_it_is(dtype: str):
    data = np.arange(12).reshape(3, 4).astype(dtype)
    image = Image.from_array(data)
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4), bool), r"yes or no.*Convert it to uint8"),
        (np.zeros((3, 4), complex), r"Complex.*magnitude"),
        (np.zeros((3, 4), object), r"dtype object is not supported.*Convert"),
        (np.zeros((3, 4), "datetime64[s]"), "datetime64"),
        (np.zeros((3, 4), "U3"), "not supported"),
        (np.full((3, 4), 2**53 + 1), r"64-bit integers beyond.*9007199254740993"),
        (np.full((3, 4), -(2**63)), "64-bit integers beyond"),
        (np.full((3, 4), 2**63, np.uint64), "64-bit integers beyond"),
        (np.zeros((0, 4)), r"empty.*\(0, 4\)"),
        (np.float64(3), r"0-D array cannot be guessed"),
        (np.zeros(7), r"1-D array cannot be guessed"),
        (np.zeros((2, 3, 4, 5, 6)), r"5-D array.*Name them.*TZCYX"),
        (np.zeros((8, 9, 4)), r"RGBA.*Drop the alpha channel"),
        (np.zeros((2, 8, 9, 4)), r"RGBA.*Drop the alpha channel"),
        (np.ma.MaskedArray(np.zeros((3, 4)), np.eye(3, 4)), r"masked.*NaN"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(array: np.ndarray, message: str):
    with pytest.raises(ImageError, match=message):
        Image.from_array(array)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="long double is float64 here")
def test_long_double_is_refused():
    with pytest.raises(ImageError, match=r"not supported.*float64"):
        Image.from_array(np.zeros((3, 4), np.longdouble))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 6), "YX"),
        ((5, 6, 3), "YXS"),
        ((3, 5, 6), "ZYX"),
        ((5, 6, 2), "ZYX"),
        ((2, 5, 6, 3), "ZYXS"),
        ((2, 3, 5, 6), "TZYX"),
    ],
)
def test_axes_are_guessed_by_the_documented_rule(shape: tuple[int, ...], axes: str):
    assert guess_axes(shape) == axes
    assert Image.from_array(np.zeros(shape)).axes == axes


def test_five_dimensions_with_named_axes_are_accepted_in_any_order_and_case():
    image = Image.from_array(np.zeros((2, 3, 4, 5, 6)), "tczyx")
    assert image.sizes == {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6}
    assert Image.from_array(np.zeros((8, 9, 4)), "YXC").sizes["C"] == 4


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("YX", "name 2 dimensions, the array has 3"),
        ("QYX", "only use the letters TZCYXS"),
        ("YYX", "twice"),
        ("TZC", "must contain Y and X"),
        ("SYX", r"2 samples|alpha"),
    ],
)
def test_impossible_axes_are_refused(axes: str, message: str):
    with pytest.raises(ImageError, match=message):
        Image(np.zeros((2, 5, 6)), axes)


def test_alpha_is_dropped_on_request():
    rgba = np.random.default_rng(0).random((5, 6, 4))
    np.testing.assert_array_equal(Image.from_array(rgba, alpha="drop").data, rgba[..., :3])
    planar = Image.from_array(np.moveaxis(rgba, -1, 0), "SYX", alpha="drop")
    np.testing.assert_array_equal(planar.data, np.moveaxis(rgba, -1, 0)[:3])
    gray = Image.from_array(rgba[..., :2], "YXS", alpha="drop")
    assert gray.axes == "YX"
    np.testing.assert_array_equal(gray.data, rgba[..., 0])
    with pytest.raises(ImageError, match=r"gray \+ alpha"):
        Image.from_array(rgba[..., :2], "YXS")


def test_pixel_size_and_origin_are_filled_and_checked():
    data = np.zeros((2, 3, 4))
    image = Image.from_array(data, "ZYX", pixel_size={"z": 2, "X": 0.5}, unit="µm", origin={"Z": -3})
    assert image.pixel_size == {"Z": 2, "Y": 1, "X": 0.5}
    assert image.origin == {"Z": -3, "Y": 0, "X": 0}
    assert Image.from_array(data, "ZYX", pixel_size=0.1).pixel_size == {"Z": 0.1, "Y": 0.1, "X": 0.1}
    assert Image.from_array(data, "TYX", pixel_size={"T": 30}).pixel_size["T"] == 30
    assert "Z=2, Y=3, X=4" in repr(image) and "µm" in repr(image)
    for bad in ({"X": 0}, {"X": -1}, {"X": np.nan}, {"X": np.inf}):
        with pytest.raises(ImageError, match=r"pixel size along X must be a positive number"):
            Image.from_array(data, "ZYX", pixel_size=bad)
    with pytest.raises(ImageError, match=r"no pixel size along 'C'.*Z, Y, X"):
        Image.from_array(data, "ZYX", pixel_size={"C": 1})
    with pytest.raises(ImageError, match=r"origin along X must be a number"):
        Image.from_array(data, "ZYX", origin={"X": np.inf})


def test_an_image_never_changes():
    data = np.zeros((3, 4))
    image = Image.from_array(data)
    with pytest.raises(ValueError, match="read-only"):
        image.data[0, 0] = 1
    with pytest.raises(AttributeError):
        image.unit = "µm"
    assert np.shares_memory(image.data, data)
    assert data.flags.writeable


def test_replace_is_checked_and_keeps_the_rest():
    image = Image.from_array(np.zeros((2, 3, 4)), "ZYX", pixel_size=0.5, unit="nm", metadata={"a": 1})
    flat = image.replace(data=np.ones((3, 4)), axes="YX")
    assert flat.pixel_size == {"Y": 0.5, "X": 0.5}
    assert (flat.unit, flat.metadata) == ("nm", {"a": 1})
    with pytest.raises(ImageError):
        image.replace(axes="YX")


def test_an_image_can_be_pickled():
    image = Image.from_array(np.arange(12).reshape(3, 4), pixel_size=0.5)
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.data, image.data)
    assert again.pixel_size == image.pixel_size


def test_nonfinite_values_are_counted_and_placed():
    data = np.zeros((2, 3, 4), np.float32)
    check_finite(Image.from_array(data, "ZYX"))
    check_finite(Image.from_array(data.astype(np.uint8), "ZYX"))
    data[1, 2, 3] = np.nan
    data[1, 0, 1] = -np.inf
    data[1, 1, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"1 NaN and 2 infinite, the first at Z=1, Y=0, X=1"):
        check_finite(Image.from_array(data, "ZYX"))


def filled_in(image):
    return fill_unobserved(image, np.isfinite(image.data))


def test_unobserved_pixels_take_the_nearest_observed_value():
    data = np.array([[1.0, np.nan, np.nan, 9.0], [np.inf, 2.0, 8.0, 9.0]])
    filled = filled_in(Image.from_array(data, pixel_size={"Y": 10, "X": 1}))
    np.testing.assert_array_equal(filled.data, [[1, 1, 9, 9], [2, 2, 8, 9]])
    assert np.isnan(data[0, 1])  # the source stays as it was


def test_channels_and_time_points_are_filled_on_their_own():
    data = np.zeros((2, 4, 4, 3))
    data[..., 1], data[1] = 5, 7
    data[0, 1, 1, 1] = data[1, 1, 1, 0] = np.nan
    filled = filled_in(Image.from_array(data, "TYXS"))
    assert filled.data[0, 1, 1, 1] == 5
    assert filled.data[1, 1, 1, 0] == 7
    assert np.isfinite(filled.data).all()


def test_masking_what_is_finite_changes_nothing():
    image = Image.from_array(np.arange(12).reshape(3, 4))
    assert filled_in(image) is image


def test_nothing_observed_is_an_error():
    with pytest.raises(NonFiniteError, match="No pixel was observed"):
        filled_in(Image.from_array(np.full((3, 4), np.nan)))
    data = np.zeros((2, 3, 4))
    data[1] = np.nan
    with pytest.raises(NonFiniteError, match="T=1"):
        filled_in(Image.from_array(data, "TYX"))
    assert filled_in(Image.from_array(data, "ZYX")).data.max() == 0


def test_importing_the_modules_loads_no_torch():
    code = (
        "import sys, napari_fidelity.core.arrays, napari_fidelity.core.scaling, napari_fidelity.core.blocks\n"
        "assert not {'torch', 'torchvision', 'qtpy', 'napari', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
