"""Results lie on their source to the pixel, and keep what the source says about itself."""

from __future__ import annotations

import gc
import weakref
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.assemble import Assembler
from napari_fidelity.core.blocks import planes
from napari_fidelity.core.errors import ImageError, ShapeError
from napari_fidelity.core.scaling import Scaling
from napari_fidelity.core.step import drain
from napari_fidelity.widgets._layers import Source, add_result, find_formation, guess_axes

TURN = np.array([[1.1, 0.2, 3.0], [-0.1, 0.9, -7.0], [0, 0, 1]])
TILT = [[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]]  # about the rows, out of the plane

# name: (shape, rgb, axes, how the layer lies)
LAYERS: dict[str, tuple[tuple[int, ...], bool, str, dict[str, Any]]] = {
    "plain": ((6, 8), False, "YX", {}),
    "anisotropic": ((6, 8), False, "YX", {"scale": (0.5, 0.2)}),
    "translated": ((6, 8), False, "YX", {"scale": (0.5, 0.2), "translate": (12345.6, -7)}),
    "rotated": ((6, 8), False, "YX", {"scale": (0.5, 0.2), "rotate": 30, "translate": (5, -7)}),
    "sheared": ((6, 8), False, "YX", {"scale": (0.5, 0.2), "shear": [0.4], "translate": (5, -7)}),
    "sheared the other way": ((6, 8), False, "YX", {"scale": (2, 3), "shear": [[1, 0], [0.3, 1]]}),
    "affine": ((6, 8), False, "YX", {"affine": TURN}),
    "all at once": (
        (6, 8), False, "YX",
        {"scale": (0.5, 0.2), "rotate": -75, "shear": [0.3], "translate": (9, 2), "affine": TURN},
    ),
    "mirrored": ((6, 8), False, "YX", {"scale": (-0.5, 0.2), "translate": (3, 4), "rotate": 10}),
    "with units": ((6, 8), False, "YX", {"scale": (108, 0.108), "units": ("nm", "um"), "translate": (3, 4)}),
    "RGB": ((6, 8, 3), True, "YXS", {"scale": (0.5, 0.2), "rotate": 30}),
    "RGBA": ((6, 8, 4), True, "YXS", {"scale": (0.5, 0.2), "translate": (1, 2)}),
    "t y x": ((3, 6, 8), False, "TYX", {"scale": (2.5, 1, 1), "units": ("s", "um", "um"), "translate": (7, 1, 2)}),
    "z y x": ((3, 6, 8), False, "ZYX", {"scale": (2, 0.5, 0.2), "rotate": (20, 0, 0), "translate": (1, 2, 3)}),
    "tilted z y x": ((3, 6, 8), False, "ZYX", {"scale": (2, 0.5, 0.2), "rotate": TILT, "shear": [0.1, 0.2, 0.3]}),
    "z y x RGB": ((3, 6, 8, 3), True, "ZYXS", {"scale": (2, 0.5, 0.2)}),
    "t z c y x": (
        (2, 3, 2, 6, 8), False, "TZCYX",
        {"scale": (5, 2, 1, 0.5, 0.2), "translate": (0, 1, 0, 2, 3), "axis_labels": ("t", "z", "c", "y", "x"),
         "units": ("s", "um", "pixel", "um", "um"), "shear": np.triu(np.full((5, 5), 0.1), 1) + np.eye(5)},
    ),
}  # fmt: skip

# What lies between measurement and result: samples per pixel, and where the first area begins.
GRIDS = {
    "same": ((1, 1), (0, 0)),
    "×2": ((2, 2), (0, 0)),
    "×3": ((3, 3), (0, 0)),
    "×2 of rows": ((2, 1), (0, 0)),
    "×1.5, ×2.25": ((1.5, 2.25), (0, 0)),
    "valid border": ((1, 1), (-2, -3)),
    "valid border, ×2": ((2, 2), (-1.5, -1)),
}


def layer_of(name: str, dtype: Any = np.float32) -> ImageLayer:
    shape, rgb, _, how = LAYERS[name]
    values = np.random.default_rng(0).random(shape) * (1 if np.dtype(dtype).kind == "f" else 100)
    return ImageLayer(values.astype(dtype), rgb=rgb, name=name, **how)


def restored(image: Image, scale: tuple[float, float], shift: tuple[float, float]) -> Image:
    """A result as the pipeline assembles it; wider than the measurement by the border on both sides."""
    assembler = Assembler(image, Scaling(), "float32", scale=scale, shift=shift)
    shape = [round((image.sizes[axis] - 2 * d) * s) for axis, s, d in zip("YX", scale, shift, strict=True)]
    for block in planes(image):
        assembler.add(block, torch.zeros(1, len(block.data), *shape))
    return assembler.image()


def corners(shape: tuple[int, ...]) -> Any:
    """Centres and outer corners of the first and last pixels."""
    ends = [(-0.5, 0.0, n - 1.0, n - 0.5) for n in shape]
    return product(*ends)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", LAYERS)
def test_results_lie_on_the_source(name: str, grid: str) -> None:
    layer, axes = layer_of(name), LAYERS[name][2]
    source = Source.of(layer, axes)
    scale, shift = GRIDS[grid]
    viewer = ViewerModel()
    viewer.add_layer(layer)
    result = add_result(viewer, source, restored(drain(source.read()), scale, shift), name="result")

    letters = axes.replace("S", "")
    finer = np.array([dict(zip("YX", scale, strict=True)).get(axis, 1) for axis in letters])
    begins = np.array([dict(zip("YX", shift, strict=True)).get(axis, 0) for axis in letters])
    first = (1 / finer - 1) / 2 + begins
    for pixel in corners(result.data.shape[: result.ndim]):
        there = layer.data_to_world(first + np.array(pixel) / finer)
        np.testing.assert_allclose(result.data_to_world(pixel), there, rtol=1e-12, atol=1e-6)
    assert result.units == layer.units
    assert result.axis_labels == layer.axis_labels
    assert result.rgb == layer.rgb


@pytest.mark.parametrize("grid", ["same", "×2", "valid border"])
@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("z y x", {"Z": 2}),
        ("t y x", {"T": 1}),
        ("tilted z y x", {"Z": 1}),
        ("z y x RGB", {"Z": 1}),
        ("t z c y x", {"T": 1, "Z": 2}),
        ("t z c y x", {"C": 1}),
    ],
)
def test_a_restricted_run_keeps_the_axis_at_its_slice(name: str, index: dict[str, int], grid: str) -> None:
    layer, axes = layer_of(name), LAYERS[name][2]
    source = Source.of(layer, axes, index)
    image = drain(source.read())
    assert all(image.sizes[axis] == 1 for axis in index)
    where = tuple(slice(index[axis], index[axis] + 1) if axis in index else slice(None) for axis in axes)
    np.testing.assert_array_equal(image.data, layer.data[where])

    scale, shift = GRIDS[grid]
    result = add_result(ViewerModel(), source, restored(image, scale, shift), name="result")
    assert result.ndim == layer.ndim
    first = (1 / np.array(scale) - 1) / 2 + shift
    letters = axes.replace("S", "")
    offset = [first["YX".index(a)] if a in "YX" else index.get(a, 0) for a in letters]
    np.testing.assert_allclose(
        result.data_to_world([0] * layer.ndim), layer.data_to_world(offset), rtol=1e-12, atol=1e-6
    )


def test_a_plane_alone_finds_its_place() -> None:
    layer = layer_of("t z c y x")
    source = Source.of(layer, index={"T": 1, "Z": 2, "C": 0})
    whole = drain(source.read())
    alone = Image(
        whole.data[0, 0, 0],
        "YX",
        {a: whole.pixel_size[a] for a in "YX"},
        whole.unit,
        {a: whole.origin[a] for a in "YX"},
    )
    viewer = ViewerModel()
    result = add_result(viewer, source, alone, name="result")
    assert result.data.shape == (1, 1, 1, 6, 8)
    np.testing.assert_allclose(result.data_to_world([0] * 5), layer.data_to_world([1, 2, 0, 0, 0]))
    with pytest.raises(ShapeError, match="does not have the axes"):
        source.whole(Image(np.zeros((2, 2, 3)), "YXS"))


def test_pixel_sizes_have_the_units_of_the_layer() -> None:
    image = drain(Source.of(layer_of("with units")).read())
    assert image.unit == "µm"
    assert image.pixel_size == pytest.approx({"Y": 0.108, "X": 0.108})
    stack = Source.of(layer_of("t z c y x"))
    assert stack.sampling.pixel_size == pytest.approx({"T": 5, "Z": 2, "Y": 0.5, "X": 0.2})
    assert stack.sampling.nanometres("Y") == pytest.approx(500)
    plain = Source.of(layer_of("anisotropic")).sampling
    assert (plain.unit, plain.nanometres("Y")) == ("pixel", None)
    frames = ImageLayer(np.zeros((2, 4, 4)), scale=(40, 2, 3), units=("ms", "nm", "nm"))
    assert Source.of(frames, "TYX").sampling.pixel_size == pytest.approx({"T": 0.04, "Y": 2, "X": 3})
    odd = ImageLayer(np.zeros((2, 4, 4)), scale=(40, 2, 3), units=("pixel", "nm", "nm"))
    assert Source.of(odd, "ZYX").sampling.pixel_size == pytest.approx({"Z": 40, "Y": 2, "X": 3})


def test_napari_without_units(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of("rotated")
    monkeypatch.setattr(ImageLayer, "units", None)
    source = Source.of(layer)
    assert source.sampling.unit == "pixel"
    assert "units" not in source.on_grid(drain(source.read()))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_data_types_are_read_as_they_are(dtype: str) -> None:
    layer = layer_of("z y x", dtype)
    source = Source.of(layer)
    image = drain(source.read())
    assert (image.dtype, source.nbytes) == (np.dtype(dtype), layer.data.nbytes)
    np.testing.assert_array_equal(image.data, layer.data)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (ImageLayer(np.zeros((4, 4), bool), name="mask"), "'mask' holds yes or no"),
        (Labels(np.zeros((4, 4), int), name="cells"), "'cells' is a labels layer"),
        (ImageLayer(np.zeros((2,) * 6), name="much"), "'much' has more dimensions"),
    ],
    ids=["bool", "labels", "6-D"],
)
def test_what_is_no_image_is_refused(layer: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Source.of(layer)


@pytest.mark.parametrize(
    ("axes", "index"),
    [("ZY", {}), ("ZZX", {}), ("QYX", {}), ("YXS", {}), ("ZYX", {"Z": 3}), ("ZYX", {"Y": 0}), ("ZYX", {"T": 0})],
)
def test_axes_and_index_must_fit(axes: str, index: dict[str, int]) -> None:
    with pytest.raises(ImageError):
        Source.of(layer_of("z y x"), axes, index)


def test_the_alpha_channel_is_left_out() -> None:
    layer = layer_of("RGBA")
    source = Source.of(layer)
    assert source.shape == (6, 8, 3)
    np.testing.assert_array_equal(drain(source.read()).data, layer.data[..., :3])


def test_multiscale_layers_are_read_at_full_resolution() -> None:
    fine = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    layer = ImageLayer([fine, fine[::2, ::2]], multiscale=True, scale=(0.5, 0.5), contrast_limits=(0, 1))
    source = Source.of(layer)
    image = drain(source.read())
    np.testing.assert_array_equal(image.data, fine)
    result = add_result(ViewerModel(), source, restored(image, (2, 2), (0, 0)), name="result")
    assert not result.multiscale
    np.testing.assert_allclose(result.data_to_world((0, 0)), layer.data_to_world((-0.25, -0.25)))


def test_the_look_is_the_measurement_s() -> None:
    layer = layer_of("plain", np.uint8)
    look = {
        "colormap": "magenta", "gamma": 0.7, "blending": "additive", "opacity": 0.8, "contrast_limits": (10, 60),
        "interpolation2d": "cubic", "rendering": "iso", "iso_threshold": 33.0,
    }  # fmt: skip
    for name, value in look.items():
        setattr(layer, name, value)
    source = Source.of(layer)
    result = add_result(ViewerModel(), source, restored(drain(source.read()), (2, 2), (0, 0)), name="result")
    for name in look:
        if name == "colormap":
            assert result.colormap.name == "magenta"
        else:
            assert getattr(result, name) == getattr(layer, name), name
    assert result.contrast_limits_range == [0, 255]
    assert layer.contrast_limits == [10, 60]


@pytest.mark.parametrize("name", ["z y x", "z y x RGB"])
def test_slices_not_reached_leave_the_contrast_alone(name: str) -> None:
    layer = layer_of(name)
    layer.contrast_limits = (0.2, 0.7)
    source = Source.of(layer)
    image = drain(source.read())
    data = np.full_like(image.data, np.nan)
    viewer = ViewerModel()
    result = add_result(viewer, source, image.replace(data=data), name="none reached")
    assert result.contrast_limits == pytest.approx([0.2, 0.7])
    assert np.isfinite(result.contrast_limits_range).all()


def test_metadata_are_kept_apart() -> None:
    formation = {"operator": {"kind": "downsample", "scale": 2}, "model": "edsr-s-x2"}
    layer = layer_of("z y x", np.uint16)
    layer.metadata = {"microscope": {"NA": 1.4}, "napari-fidelity": {"formation": formation}}
    source = Source.of(layer, index={"Z": 2})
    image = drain(source.read())
    run = {"recipe": {"seed": 1}, "device": "cpu"}
    viewer = ViewerModel()
    result = add_result(viewer, source, image.replace(metadata={"napari-fidelity": run}), name="result")

    assert result.metadata["microscope"] == {"NA": 1.4}
    assert result.metadata["microscope"] is not layer.metadata["microscope"]
    entry = result.metadata["napari-fidelity"]
    assert {key: entry[key] for key in run} == run
    assert "formation" not in entry  # it is the measurement's, not the result's
    assert entry["source"].pop("id") == str(getattr(layer, "unique_id", ""))
    assert entry["source"] == {
        "layer": "z y x",
        "path": None,
        "axes": "ZYX",
        "index": {"Z": 2},
        "shape": [3, 6, 8],
        "dtype": "uint16",
        "napari-fidelity": {"formation": formation},
    }
    assert layer.metadata["napari-fidelity"] == {"formation": formation}
    assert find_formation(layer) == find_formation(result) == formation
    again = add_result(viewer, Source.of(result), image.replace(data=image.data * 1), name="again")
    assert find_formation(again) == formation
    assert find_formation(layer_of("plain")) is None
    assert guess_axes(result) == "ZYX"


def test_no_layer_is_overwritten_and_the_viewer_stays_where_it_was() -> None:
    viewer = ViewerModel()
    layer = layer_of("z y x")
    viewer.add_layer(layer)
    viewer.dims.set_point(0, viewer.dims.range[0].start + 2 * layer.scale[0])
    before = viewer.dims.point[0], viewer.dims.current_step[0]
    source = Source.of(layer)
    image = restored(drain(source.read()), (2, 2), (0, 0))
    first = add_result(viewer, source, image, name="z y x")
    second = add_result(viewer, source, image, name="z y x")
    assert len({layer.name for layer in viewer.layers}) == 3
    assert layer in viewer.layers and first.name != second.name
    assert (viewer.dims.point[0], viewer.dims.current_step[0]) == pytest.approx(before)


def test_the_source_keeps_no_layer() -> None:
    def taken() -> tuple[Source, weakref.ref[ImageLayer]]:
        layer = layer_of("all at once")
        return Source.of(layer), weakref.ref(layer)

    source, layer = taken()
    gc.collect()
    assert layer() is None
    assert source.name == "all at once"


def test_results_own_their_array() -> None:
    layer = layer_of("plain")
    source = Source.of(layer)
    image = drain(source.read())
    assert np.shares_memory(image.data, layer.data)  # nothing is copied of what is in memory already
    viewer = ViewerModel()
    same = add_result(viewer, source, image, name="as it is")
    assert not np.shares_memory(same.data, layer.data)
    fresh = restored(image, (2, 2), (0, 0))
    result = add_result(viewer, source, fresh, name="result")
    assert np.shares_memory(result.data, fresh.data)  # a result is large; the layer takes it over
    result.data[0, 0] = 5  # and can be written to, slice by slice


def test_colour_results_have_colour_thumbnails() -> None:
    values = np.full((80, 70, 3), (200, 100, 0), np.uint8)
    layer = ImageLayer(values, rgb=True)
    source = Source.of(layer)
    viewer = ViewerModel()
    image = drain(source.read()).replace(data=values.astype(np.float32))
    result = add_result(viewer, source, image, name="result")
    seen = []
    shown = result.events.thumbnail.connect
    shown(lambda event: seen.append(result.thumbnail[16, 16, :3].tolist()), position="last")
    assert result.thumbnail[16, 16, :3].tolist() == [200, 100, 0]
    result.data = image.data / 2
    result.refresh()
    assert seen[-1] == [100, 50, 0]
