from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.assemble import Assembler, from_tensor
from napari_fidelity.core.blocks import planes, to_channel_last, to_tensor
from napari_fidelity.core.errors import ImageError, NonFiniteError, OptionError, ShapeError
from napari_fidelity.core.scaling import Scaling, cast, fit_scaling

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
MODES = st.sampled_from(["auto", "dtype", "minmax", "percentile", "none"])
SCOPES = st.sampled_from(["slice", "volume", "series"])


@settings(deadline=None)
@given(hnp.arrays(st.sampled_from(["u1", "i1", "u2", "i2", ">u2"]), st.just((2, 2, 3, 4))), MODES, SCOPES)
def test_integers_up_to_16_bits_come_back_exactly_through_a_tensor(data, mode, scope):
    image = Image.from_array(data, "TZYX")
    scaling = fit_scaling(image, mode, scope)
    tensor = to_tensor(image, scaling)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (4, 1, 3, 4)
    back, saturated = from_tensor(tensor, image, scaling)
    assert saturated == 0
    assert back.dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back.data, data)


@settings(deadline=None)
@given(hnp.arrays(st.sampled_from(["u4", "i4"]), SHAPES), MODES)
def test_32_bit_integers_come_back_exactly_in_float64(data, mode):
    scaling = fit_scaling(Image.from_array(data, "YX"), mode)
    values, saturated = cast(scaling.invert(scaling.apply(data)), data.dtype)
    np.testing.assert_array_equal(values, data)
    assert saturated == 0


@settings(deadline=None)
@given(hnp.arrays("f8", SHAPES, elements=st.floats(-1e6, 1e6)), MODES)
def test_floats_come_back_to_the_precision_of_their_range(data, mode):
    scaling = fit_scaling(Image.from_array(data, "YX"), mode)
    back = scaling.invert(scaling.apply(data))
    np.testing.assert_allclose(back, data, atol=1e-14 * max(1, np.abs(data).max()))


@settings(deadline=None)
@given(hnp.arrays("f4", SHAPES, elements=st.floats(-1e5, 1e5, width=32)))
def test_minmax_spans_zero_to_one(data):
    scaled = fit_scaling(Image.from_array(data, "YX"), "minmax").apply(data)
    assert scaled.min() == 0
    assert scaled.max() == (1 if data.max() > data.min() else 0)


@pytest.mark.parametrize(
    ("data", "mode", "offset", "gain"),
    [
        (np.array([[3, 40]], np.uint8), "dtype", 0, 255),
        (np.array([[3, 40]], np.uint16), "minmax", 3, 37),
        (np.array([[0.25, 0.5]]), "none", 0, 1),
        (np.array([[0.25, 1.5]]), "minmax", 0.25, 1.25),
        (np.array([[7, 7]], np.uint16), "minmax", 7, 1),
    ],
)
def test_auto_chooses_by_the_documented_rule(data, mode, offset, gain):
    scaling = fit_scaling(Image.from_array(data))
    assert (scaling.mode, float(scaling.offset), float(scaling.gain)) == (mode, offset, gain)


def test_dtype_spans_the_dtype():
    scaling = fit_scaling(Image.from_array(np.zeros((2, 2), np.int16)), "dtype")
    assert (float(scaling.offset), float(scaling.gain)) == (-32768, 65535)
    scaling = fit_scaling(Image.from_array(np.full((2, 2), 300.0)), "dtype")
    assert (float(scaling.offset), float(scaling.gain)) == (0, 1)


def test_percentiles_leave_the_extremes_outside_and_never_clip():
    data = np.arange(1001.0).reshape(7, 143)
    scaling = fit_scaling(Image.from_array(data), "percentile", percentiles=(10, 90))
    assert (float(scaling.offset), float(scaling.gain)) == (100, 800)
    assert scaling.apply(data).max() == pytest.approx(1.125)
    sparse = np.zeros((10, 10))
    sparse[3, 3] = 5
    assert float(fit_scaling(Image.from_array(sparse), "percentile", percentiles=(5, 95)).gain) == 5
    with pytest.raises(ImageError, match="percentiles"):
        fit_scaling(Image.from_array(data), "percentile", percentiles=(90, 10))


def test_each_scope_has_its_own_numbers():
    data = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5) * 10
    image = Image.from_array(data, "TZYX")
    assert fit_scaling(image, "minmax", "series").offset.shape == ()
    volume = fit_scaling(image, "minmax", "volume")
    assert (volume.axes, volume.offset.tolist()) == ("T", [0, 600])
    slices = fit_scaling(image, "minmax", "slice")
    assert (slices.axes, slices.gain.tolist()) == ("TZ", [[190] * 3] * 2)
    assert float(slices.at({"T": 1, "Z": 2}).offset) == 1000
    volume_of_slices = slices.at({"T": 1})
    assert volume_of_slices.axes == "Z"
    scaled = volume_of_slices.apply(data[1][None], "CZYX")
    assert (scaled.min(axis=(0, 2, 3)) == 0).all()
    assert (scaled.max(axis=(0, 2, 3)) == 1).all()
    with pytest.raises(ImageError, match=r"differs along Z, the array has no such axis"):
        volume_of_slices.apply(data[0, 0])


def test_channels_can_be_scaled_each_by_itself_but_rgb_never():
    data = np.stack([np.arange(12.0).reshape(3, 4), 100 * np.arange(12.0).reshape(3, 4)])
    image = Image.from_array(data, "CYX")
    scaling = fit_scaling(image, "minmax", channels="each")
    assert (scaling.axes, scaling.gain.tolist()) == ("C", [11, 1100])
    tensor = to_tensor(image, scaling)
    assert tensor.shape == (1, 2, 3, 4)
    assert tensor.amax((0, 2, 3)).tolist() == [1, 1]
    np.testing.assert_allclose(from_tensor(tensor, image, scaling)[0].data, data, atol=1e-4)
    assert fit_scaling(Image.from_array(data, "CYX"), "minmax").gain.shape == ()
    rgb = Image.from_array(np.random.default_rng(0).random((4, 5, 3)) * 9)
    assert fit_scaling(rgb, "minmax", channels="each").gain.shape == ()


def test_a_scaling_round_trips_through_json():
    image = Image.from_array(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), "TZYX")
    scaling = fit_scaling(image, "minmax", "slice")
    again = Scaling.parse(json.loads(json.dumps(scaling.to_plain())))
    assert again == scaling
    np.testing.assert_array_equal(again.gain, scaling.gain)
    assert Scaling(offset=16777217, gain=3).to_plain() == {
        "offset": 16777217, "gain": 3, "axes": "", "mode": "none", "scope": "series",
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [{"gain": 0}, {"gain": -1}, {"gain": np.nan}, {"gain": [1, 2]}, {"offset": [1], "gain": [1]}, {"a": 1}],
)
def test_impossible_scalings_are_refused(values):
    with pytest.raises(OptionError):
        Scaling(**values)


def test_nonfinite_and_overflowing_images_are_refused():
    with pytest.raises(NonFiniteError):
        fit_scaling(Image.from_array(np.array([[1, np.nan]])))
    with pytest.raises(ImageError, match="range of the intensities"):
        fit_scaling(Image.from_array(np.array([[-1.7e308, 1.7e308]])))
    with pytest.raises(NonFiniteError, match="float32"):
        to_tensor(Image.from_array(np.array([[0, 1e300]])), Scaling())
    image = Image.from_array(np.array([[0, 1e300]]))
    assert to_tensor(image, fit_scaling(image)).max() == 1


@pytest.mark.parametrize(
    ("dtype", "expected", "saturated"),
    [
        ("uint8", [0, 2, 2, 255], 2),
        ("int8", [-7, 2, 2, 127], 1),
        ("uint16", [0, 2, 2, 300], 1),
        ("float16", [-7, 1.5, 2.5, 300], 0),
    ],
)
def test_casting_rounds_and_saturates_only_at_the_ends(dtype, expected, saturated):
    values, count = cast(np.array([-7, 1.5, 2.5, 300]), dtype)
    assert values.dtype == dtype
    assert values.tolist() == expected
    assert count == saturated


def test_casting_at_the_far_ends_does_not_wrap_around():
    for dtype in ("int64", "uint64", "uint32", "int32"):
        values, count = cast(np.array([-1e300, 1e300]), dtype)
        assert count == 2
        assert values[1] > np.iinfo(dtype).max * 0.999
    assert cast(np.array([1e30]), "float16")[1] == 1
    with pytest.raises(NonFiniteError, match="1 of 2"):
        cast(np.array([np.nan, 1]), "uint8")
    with pytest.raises(ImageError, match="complex64"):
        cast(np.zeros(2), "complex64")


def test_saturation_is_reported(caplog: pytest.LogCaptureFixture):
    image = Image.from_array(np.array([[0, 255]], np.uint8))
    scaling = fit_scaling(image)
    with caplog.at_level(logging.WARNING):
        back, saturated = from_tensor(torch.tensor([[[[-0.1, 1.5]]]]), image, scaling)
    assert saturated == 2
    assert back.data.tolist() == [[0, 255]]
    assert "2 values (100 %) were cut off at the ends of uint8" in caplog.text
    back, saturated = from_tensor(torch.tensor([[[[-0.1, 1.5]]]]), image, scaling, "float32")
    assert saturated == 0
    np.testing.assert_allclose(back.data, [[-25.5, 382.5]], rtol=1e-6)


CASES = [
    # axes, shape, spatial, channels, shape of a block, number of blocks, index of the last
    ("YX", (4, 5), "YX", "joint", (1, 4, 5), 1, {}),
    ("YXS", (4, 5, 3), "YX", "joint", (3, 4, 5), 1, {}),
    ("YXS", (4, 5, 3), "YX", "each", (1, 4, 5), 3, {"S": 2}),
    ("TZCYX", (2, 3, 2, 4, 5), "YX", "joint", (2, 4, 5), 6, {"T": 1, "Z": 2}),
    ("TZCYX", (2, 3, 2, 4, 5), "ZYX", "joint", (2, 3, 4, 5), 2, {"T": 1}),
    ("TZCYX", (2, 3, 2, 4, 5), "ZYX", "each", (1, 3, 4, 5), 4, {"T": 1, "C": 1}),
    ("XYZ", (5, 4, 3), "ZYX", "joint", (1, 3, 4, 5), 1, {}),
    ("CYXS", (2, 4, 5, 3), "YX", "joint", (3, 4, 5), 2, {"C": 1}),
]


@pytest.mark.parametrize(("axes", "shape", "spatial", "channels", "block", "count", "last"), CASES)
def test_blocks_cover_the_image_and_go_back_where_they_came_from(
    axes, shape, spatial, channels, block, count, last
):
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    image = Image.from_array(data, axes)
    blocks = planes(image, spatial, channels)
    assert len(blocks) == count
    assert {b.data.shape for b in blocks} == {block}
    assert blocks[-1].index == last
    assert all(np.shares_memory(b.data, data) for b in blocks)
    scaling = fit_scaling(image, scope="slice")
    assembler = Assembler(image, scaling, spatial=spatial, channels=channels)
    for b in blocks:
        assembler.add(b, to_tensor(b, scaling))
    np.testing.assert_array_equal(assembler.image().data, data)
    tensor = to_tensor(image, scaling, spatial=spatial, channels=channels)
    assert tensor.shape == (count, *block)
    np.testing.assert_array_equal(
        from_tensor(tensor, image, scaling, spatial=spatial, channels=channels)[0].data, data
    )


def test_a_finer_grid_has_smaller_pixels_and_another_origin():
    image = Image.from_array(
        np.zeros((2, 3, 4, 5)), "TZYX", pixel_size={"Z": 2, "Y": 0.4, "X": 0.8, "T": 9}, unit="µm", origin={"X": 7}
    )
    result, _ = from_tensor(torch.zeros(6, 1, 16, 20), image, Scaling(), "float32")
    assert result.shape == (2, 3, 16, 20)
    assert result.pixel_size == pytest.approx({"Z": 2, "Y": 0.1, "X": 0.2, "T": 9})
    assert result.origin == pytest.approx({"Z": 0, "Y": 0.4 * (1 / 4 - 1) / 2, "X": 7 + 0.8 * (1 / 4 - 1) / 2})
    assert result.unit == "µm"
    for axis in "YX":  # both grids cover the same ground
        begin = [i.origin[axis] - i.pixel_size[axis] / 2 for i in (image, result)]
        end = [i.origin[axis] + (i.sizes[axis] - 0.5) * i.pixel_size[axis] for i in (image, result)]
        assert begin[0] == pytest.approx(begin[1])
        assert end[0] == pytest.approx(end[1])


def test_scale_and_shift_can_be_given():
    image = Image.from_array(np.zeros((4, 5)), pixel_size=0.5)
    result, _ = from_tensor(torch.zeros(1, 1, 8, 11), image, Scaling(), scale=(2, 2.2))
    assert result.pixel_size == pytest.approx({"Y": 0.25, "X": 0.5 / 2.2})
    wider, _ = from_tensor(torch.zeros(1, 1, 8, 9), image, Scaling(), scale=1, shift=-2)
    assert wider.pixel_size == {"Y": 0.5, "X": 0.5}
    assert wider.origin == {"Y": -1, "X": -1}
    with pytest.raises(ShapeError, match="One number for each of YX"):
        from_tensor(torch.zeros(1, 1, 8, 9), image, Scaling(), scale=(1, 2, 3))


def test_what_does_not_fit_is_refused():
    image = Image.from_array(np.zeros((2, 4, 5)), "ZYX")
    with pytest.raises(ShapeError, match="2 blocks"):
        from_tensor(torch.zeros(1, 1, 4, 5), image, Scaling())
    with pytest.raises(ShapeError, match=r"\(1, 1, Y, X\)"):
        from_tensor(torch.zeros(2, 3, 4, 5), image, Scaling())
    with pytest.raises(NonFiniteError, match="20 of 20"):
        from_tensor(torch.full((2, 1, 4, 5), torch.nan), image, Scaling())
    with pytest.raises(ImageError, match="no depth"):
        planes(Image.from_array(np.zeros((4, 5))), "ZYX")
    assembler = Assembler(image, Scaling())
    with pytest.raises(ShapeError, match="no result"):
        assembler.image()
    first, second = planes(image)
    assembler.add(first, torch.zeros(1, 1, 8, 10))
    with pytest.raises(ShapeError, match="differ in shape"):
        assembler.add(second, torch.zeros(1, 1, 4, 5))


def test_a_plain_array_becomes_a_tensor_and_channel_last_again():
    rgb = np.random.default_rng(0).random((4, 5, 3), dtype=np.float32)
    tensor = to_tensor(rgb, Scaling())
    assert tensor.shape == (1, 3, 4, 5)
    np.testing.assert_array_equal(to_channel_last(tensor), rgb)
    assert to_channel_last(tensor[:, :1]).shape == (4, 5)
    assert to_channel_last(tensor.bfloat16().requires_grad_()).dtype == np.float32
    with pytest.raises(ShapeError, match="One image"):
        to_channel_last(torch.zeros(2, 1, 4, 5))
