from __future__ import annotations

import errno
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.errors import ImageError, OutputError
from napari_fidelity.io.images import read_image, write_image

RNG = np.random.default_rng(0)
PROVENANCE = {"method": {"kind": "finetune"}, "seed": 3, "word": "σ"}
PIXEL_SIZE = {"T": 2.5, "Z": 2.0, "Y": 0.3, "X": 1 / 3}
ORIGIN = {"Y": -0.15, "X": 4.0}


def _image(axes: str, dtype: str = "uint16") -> Image:
    lengths = {"T": 2, "Z": 4, "C": 2, "Y": 7, "X": 9, "S": 3}
    data = RNG.integers(0, 100, [lengths[axis] for axis in axes]).astype(dtype)
    size = {axis: value for axis, value in PIXEL_SIZE.items() if axis in axes}
    return Image.from_array(data, axes, pixel_size=size, unit="µm", origin=ORIGIN)


def _assert_same(a: Image, b: Image) -> None:
    np.testing.assert_array_equal(a.data, b.data)
    assert a.dtype == b.dtype.newbyteorder("=")
    assert (a.axes, a.unit) == (b.axes, b.unit)
    assert a.pixel_size == pytest.approx(b.pixel_size)
    assert a.origin == pytest.approx(b.origin)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "TZCYX", "ZCYX"])
@pytest.mark.parametrize(
    ("name", "dtype", "form"),
    [
        ("a.tif", "uint8", "imagej"),
        ("a.tiff", ">u2", "imagej"),
        ("a.tif", "float32", "imagej"),
        ("a.ome.tif", "uint16", "ome"),
        ("a.tif", "int16", "ome"),
        ("a.tif", "uint32", "ome"),
        ("a.tif", "float64", "ome"),
        ("a.tif", "float16", "plain"),
        ("a.tif", "int64", "plain"),
    ],
)
def test_tiff_keeps_pixels_axes_geometry_and_provenance(tmp_path: Path, axes, name, dtype, form):
    image = _image(axes, dtype)
    assert write_image(image, tmp_path / name, provenance=PROVENANCE) == 0
    again = read_image(tmp_path / name)
    _assert_same(again, image)
    assert again.metadata["tiff"] == form
    assert again.metadata["napari-fidelity"] == PROVENANCE
    with tifffile.TiffFile(tmp_path / name) as tif:
        assert (tif.is_imagej, bool(tif.is_ome)) == (form == "imagej", form == "ome")


@pytest.mark.parametrize(
    ("axes", "dtype", "name"),
    [
        ("YXS", "uint8", "a.tif"),
        ("ZYXS", "uint8", "a.tif"),
        ("YXS", "uint16", "a.tif"),
        ("YXS", "uint8", "a.ome.tif"),
    ],
)
def test_rgb_tiff(tmp_path: Path, axes, dtype, name):
    image = _image(axes, dtype)
    write_image(image, tmp_path / name)
    _assert_same(read_image(tmp_path / name), image)


def test_other_axis_orders_are_written_in_the_usual_order(tmp_path: Path):
    image = _image("XYZ", "uint16")
    write_image(image, tmp_path / "a.tif")
    again = read_image(tmp_path / "a.tif")
    assert again.axes == "ZYX"
    np.testing.assert_array_equal(again.data, image.data.transpose())
    assert again.pixel_size == pytest.approx(image.pixel_size)
    planar = _image("SYX", "float16")
    write_image(planar, tmp_path / "planar.tif")
    again = read_image(tmp_path / "planar.tif")
    assert again.axes == "YXS"
    np.testing.assert_array_equal(again.data, np.moveaxis(planar.data, 0, -1))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 9), st.integers(1, 9), st.floats(1e-3, 1e3), st.sampled_from(["nm", "µm", "Å", "pixel"]),
    st.sampled_from(["a.tif", "a.ome.tif", "a.png"]),
)  # fmt: skip
@example(1, 1, 2**-6, "Å", "a.ome.tif")  # more pixels to a centimetre than a fraction of 32 bits holds
def test_any_size_and_pixel_size_comes_back(tmp_path: Path, height, width, size, unit, name):
    data = RNG.integers(0, 65535, (height, width)).astype(np.uint16)
    image = Image.from_array(data, pixel_size={"Y": size, "X": 2 * size}, unit=unit, origin={"X": -size})
    write_image(image, tmp_path / name, overwrite=True)
    _assert_same(read_image(tmp_path / name), image)


def test_a_file_of_imagej_is_understood_and_its_own_metadata_kept(tmp_path: Path):
    data = RNG.integers(0, 9, (2, 4, 2, 7, 9)).astype(np.uint16)
    metadata = {
        "axes": "TZCYX", "unit": "micron", "spacing": 1.5, "finterval": 3.0, "Info": "by hand",
        "Ranges": (0.0, 9.0, 1.0, 8.0), "mode": "composite", "Labels": [f"plane {i}" for i in range(16)],
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(4.0, 5.0), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.unit) == ("TZCYX", "µm")
    assert image.pixel_size == pytest.approx({"T": 3, "Z": 1.5, "Y": 0.2, "X": 0.25})
    half = image.replace(pixel_size={**image.pixel_size, "X": 0.125})
    write_image(half, tmp_path / "b.tif", provenance=PROVENANCE)
    write_image(read_image(tmp_path / "b.tif"), tmp_path / "c.tif")
    again = read_image(tmp_path / "c.tif")
    assert again.pixel_size["X"] == 0.125
    assert again.metadata["napari-fidelity"] == PROVENANCE
    kept = again.metadata["imagej"]
    assert kept["Info"] == "by hand"
    assert kept["mode"] == "composite"
    assert kept["Ranges"] == metadata["Ranges"]
    assert kept["Labels"] == metadata["Labels"]
    write_image(image, tmp_path / "d.tif", dtype="uint8")
    assert "Ranges" not in read_image(tmp_path / "d.tif").metadata["imagej"]


def test_a_pixel_size_changed_by_other_software_wins_over_our_record(tmp_path: Path):
    write_image(_image("YX"), tmp_path / "a.tif", provenance=PROVENANCE)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        metadata = {**tif.imagej_metadata, "unit": "nm"}
        tifffile.imwrite(tmp_path / "b.tif", tif.asarray(), imagej=True, resolution=(0.5, 0.5), metadata=metadata)
    image = read_image(tmp_path / "b.tif")
    assert (image.unit, image.pixel_size, image.origin) == ("nm", {"Y": 2, "X": 2}, {"Y": 0, "X": 0})
    assert image.metadata["napari-fidelity"] == PROVENANCE


def test_a_file_of_ome_is_understood_and_its_own_metadata_kept(tmp_path: Path):
    data = RNG.integers(0, 9, (2, 4, 7, 9)).astype(np.int16)
    metadata = {
        "axes": "CZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.2, "PhysicalSizeZ": 1,
        "PhysicalSizeYUnit": "µm", "Name": "cells", "Description": "by hand", "Channel": {"Name": ["DAPI", "GFP"]},
        "Plane": {"PositionX": [3.0] * 8, "PositionXUnit": ["µm"] * 8},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata=metadata)
    image = read_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.unit) == ("CZYX", "nm")
    assert image.pixel_size == pytest.approx({"Z": 1000, "Y": 200, "X": 250})
    assert image.origin == pytest.approx({"Z": 0, "Y": 0, "X": 3000})
    write_image(image, tmp_path / "b.tif", provenance=PROVENANCE)
    again = read_image(tmp_path / "b.tif")
    _assert_same(again, image.replace(data=np.moveaxis(image.data, 0, 1), axes="ZCYX"))
    assert again.metadata["ome"] == {"Name": "cells", "Description": "by hand", "Channel": ["DAPI", "GFP"]}


def test_plain_tiffs(tmp_path: Path):
    pages = RNG.integers(0, 9, (5, 7, 9)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "pages.tif", bigtiff=True) as writer:
        for page in pages:
            writer.write(page, metadata=None, resolution=(1e4, 2e4), resolutionunit="CENTIMETER")
    image = read_image(tmp_path / "pages.tif")
    assert (image.axes, image.unit) == ("ZYX", "µm")
    assert image.pixel_size == pytest.approx({"Z": 1, "Y": 0.5, "X": 1})
    assert read_image(tmp_path / "pages.tif", "tyx").axes == "TYX"
    tifffile.imwrite(
        tmp_path / "five.tif", np.moveaxis(pages, 0, -1), photometric="minisblack", planarconfig="contig"
    )
    assert read_image(tmp_path / "five.tif").axes == "YXC"
    with pytest.raises(ImageError, match="name 2 dimensions"):
        read_image(tmp_path / "pages.tif", "YX")


def test_the_first_of_several_images_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((7, 9), np.uint8), metadata=None)
        writer.write(np.zeros((5, 4), np.uint8), metadata=None)
    assert read_image(tmp_path / "a.tif").shape == (7, 9)
    assert "holds 2 images; the first is read" in caplog.text


@pytest.mark.parametrize(
    ("axes", "dtype"), [("YX", "uint8"), ("YX", "uint16"), ("YXS", "uint8"), ("YXS", "uint16")]
)
def test_png_keeps_bits_geometry_and_provenance(tmp_path: Path, axes, dtype):
    image = _image(axes, dtype)
    image = image.replace(data=(image.data * (np.iinfo(dtype).max // 100)).astype(dtype))
    write_image(image, tmp_path / "a.png", provenance=PROVENANCE)
    again = read_image(tmp_path / "a.png")
    _assert_same(again, image)
    assert again.metadata["napari-fidelity"] == PROVENANCE


def test_jpeg_is_close_and_keeps_geometry_and_provenance(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    y, x = np.mgrid[:40, :50]
    image = Image.from_array((2 * y + 3 * x).astype(np.uint8), pixel_size=0.5, unit="nm")
    write_image(image, tmp_path / "a.jpg", provenance=PROVENANCE)
    again = read_image(tmp_path / "a.jpg")
    assert np.abs(again.data.astype(int) - image.data).max() < 4
    assert (again.pixel_size, again.unit) == ({"Y": 0.5, "X": 0.5}, "nm")
    assert again.metadata["napari-fidelity"] == PROVENANCE
    write_image(image, tmp_path / "b.jpg", provenance={"long": "x" * 70000})
    assert "too long for a JPEG" in caplog.text
    assert read_image(tmp_path / "b.jpg").shape == (40, 50)


def test_single_planes_of_a_stack_fit_into_png_but_stacks_do_not(tmp_path: Path):
    write_image(np.zeros((1, 7, 9), np.uint8), tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").axes == "YX"
    for name, image, message in [
        ("b.png", _image("ZYX", "uint8"), r"one gray or RGB image.*ZYX.*Use \.tif"),
        ("b.png", _image("CYX", "uint8"), r"one gray or RGB image"),
        ("b.png", _image("YX", "float32"), r"uint8 or uint16.*float32"),
        ("b.jpg", _image("YX", "uint16"), r"can hold uint8.*uint16"),
        ("b.gif", _image("YX", "uint8"), r"no known image extension.*'\.gif'.*\.tif"),
        ("b", _image("YX", "uint8"), r"no known image extension"),
    ]:
        with pytest.raises(OutputError, match=message):
            write_image(image, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_casting_on_writing_counts_what_was_cut_off(tmp_path: Path):
    image = Image.from_array(np.array([[-3.0, 1.6, 300.0]]))
    assert write_image(image, tmp_path / "a.png", dtype="uint8") == 2
    assert read_image(tmp_path / "a.png").data.tolist() == [[0, 2, 255]]


def test_alpha_is_refused_or_dropped_on_request(tmp_path: Path):
    rgba = RNG.integers(0, 255, (7, 9, 4)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(rgba))
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(rgba[..., :2].copy()))
    tifffile.imwrite(tmp_path / "c.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    for name in ("a.png", "b.png", "c.tif"):
        with pytest.raises(ImageError, match="alpha channel"):
            read_image(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", alpha="drop").data, rgba[..., :3])
    np.testing.assert_array_equal(read_image(tmp_path / "b.png", alpha="drop").data, rgba[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif", alpha="drop").data, rgba[..., :3])


def test_missing_files_are_named_with_their_folder_and_close_names(tmp_path: Path):
    (tmp_path / "cells_01.tif").touch()
    with pytest.raises(ImageError, match=rf"no file 'cell_01.tif' in '{tmp_path}'.*Did you mean cells_01.tif"):
        read_image(tmp_path / "cell_01.tif")
    with pytest.raises(ImageError, match="no folder"):
        read_image(tmp_path / "nowhere" / "a.tif")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="is empty"):
        read_image(tmp_path / "cells_01.tif")


@pytest.mark.parametrize("start", [b"hello, world", b"PK\x03\x04zip", b"II", b"\0" * 100])
def test_what_is_no_image_is_named(tmp_path: Path, start: bytes):
    (tmp_path / "a.tif").write_bytes(start)
    with pytest.raises(ImageError, match=r"not a TIFF, PNG or JPEG image"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "pages.tif", "a.png", "a.jpg"])
def test_cut_off_files_are_errors_wherever_they_are_cut(tmp_path: Path, name: str, caplog):
    if name == "pages.tif":
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for _ in range(3):
                writer.write(RNG.integers(0, 255, (30, 40)).astype(np.uint8), metadata=None)
    else:
        shape = (3, 30, 40) if "tif" in name else (30, 40)
        write_image(RNG.integers(0, 255, shape).astype(np.uint8), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.01, 0.05, 0.2, 0.5, 0.8):
        (tmp_path / name).write_bytes(whole[: max(16, int(share * len(whole)))])
        with pytest.raises(ImageError, match=r"cut off|no image|not a TIFF"):
            read_image(tmp_path / name)


def test_unusable_kinds_are_named(tmp_path: Path):
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((7, 9), np.complex64))
    with pytest.raises(ImageError, match="Complex"):
        read_image(tmp_path / "c.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.eye(8, 16, dtype=bool))
    with pytest.raises(ImageError, match="bool"):
        read_image(tmp_path / "b.tif")
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((7, 9), np.uint8), photometric="palette", colormap=colours)
    with pytest.raises(ImageError, match="palette"):
        read_image(tmp_path / "p.tif")
    tifffile.imwrite(tmp_path / "k.tif", np.zeros((7, 9, 4), np.uint8), photometric="separated")
    with pytest.raises(ImageError, match="SEPARATED"):
        read_image(tmp_path / "k.tif")
    tifffile.imwrite(tmp_path / "d.tif", np.zeros((2, 3, 2, 2, 7, 9), np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match="Name them"):
        read_image(tmp_path / "d.tif")


def test_an_image_larger_than_the_memory_is_refused_before_it_is_read(tmp_path: Path):
    raw = bytearray(imagecodecs.png_encode(np.zeros((7, 9), np.uint8)))
    raw[16:24] = b"\x7f\xff\xff\xff" * 2
    (tmp_path / "a.png").write_bytes(raw)
    with pytest.raises(ImageError, match=r"needs 4\.61e\+09 GB"):
        read_image(tmp_path / "a.png")


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    write_image(_image("YX"), tmp_path / "a.tif")
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_image(_image("ZYX"), tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes() == before
    write_image(_image("ZYX"), tmp_path / "a.tif", overwrite=True)
    assert read_image(tmp_path / "a.tif").axes == "ZYX"
    with pytest.raises(OutputError, match="does not exist"):
        write_image(_image("YX"), tmp_path / "no" / "a.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tifffile, "imwrite", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"No space left.*Free some space"):
        write_image(_image("YX"), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_really_fills_up_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = tifffile.imwrite
    monkeypatch.setattr(tifffile, "imwrite", lambda path, *rest, **more: write("/dev/full", *rest, **more))
    with pytest.raises(OutputError, match="could not be written"):
        write_image(np.zeros((500, 500), np.float32), tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


def test_a_form_that_cannot_hold_the_image_is_changed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="napari_fidelity")
    write_image(_image("YX", "float16"), tmp_path / "a.ome.tif")
    assert "ome form of TIFF cannot hold this float16 image; written as plain" in caplog.text
    assert read_image(tmp_path / "a.ome.tif").dtype == np.float16


def test_lists_of_one_survive(tmp_path: Path):
    table = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    metadata = {"Labels": ["one"], "LUTs": [table], "Overlays": [b"overlay"], "ROI": b"region"}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((7, 9), np.uint8), imagej=True, metadata=metadata)
    write_image(read_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    kept = read_image(tmp_path / "b.tif").metadata["imagej"]
    assert (kept["Labels"], kept["Overlays"], kept["ROI"]) == (["one"], [b"overlay"], b"region")
    np.testing.assert_array_equal(kept["LUTs"], [table])
    finer = read_image(tmp_path / "b.tif").replace(data=np.zeros((14, 18), np.uint8))
    write_image(finer, tmp_path / "c.tif")
    assert not {"ROI", "Overlays"} & read_image(tmp_path / "c.tif").metadata["imagej"].keys()
