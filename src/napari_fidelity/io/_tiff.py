"""TIFF: ImageJ's, OME's and plain ones, with pixel size, unit and axes."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np

from napari_fidelity.core.arrays import AXES, Alpha, Image
from napari_fidelity.core.errors import ImageError
from napari_fidelity.io._record import LENGTHS, apply_record, dump_record, load_record, usual_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Form = Literal["imagej", "ome", "plain"]

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_LARGEST = 2**32 - 1  # numerator or denominator of a resolution
_CLASSIC_LIMIT = 2**32 - 2**25  # bytes; ImageJ's form has no 64-bit offsets
_TRUNCATED = ("invalid page offset", "invalid offset to first page", "invalid value offset")
_STRUCTURE = {"ImageJ", "images", "channels", "slices", "frames", "hyperstack", "spacing", "unit", "finterval"}
_LISTS = {"Labels", "LUTs", "Overlays"}
_RANGES = {"min", "max", "Ranges"}
_PLACES = {"ROI", "Overlays"}  # in pixels of the grid they were drawn on


def read_tiff(path: Path, axes: str | None, alpha: Alpha, fits: Any) -> Image:
    """Read the first image of a TIFF file.

    Parameters
    ----------
    path
        The file.
    axes
        Names of the axes, if the file's own are missing or wrong.
    alpha
        As in :meth:`Image.from_array`.
    fits
        Called with the number of bytes the image needs; raises if there is no room.
    """
    import tifffile

    with _noting_truncation() as truncated, tifffile.TiffFile(path) as tif:
        if not tif.pages or not tif.series:
            raise ImageError(f"'{path}' holds no image")
        if len(tif.series) > 1:
            log.warning("'%s' holds %d images; the first is read", path, len(tif.series))
        series = tif.series[0]
        fits(series.size * series.dtype.itemsize)
        data = series.asarray()
        if truncated:
            raise ImageError(f"'{path}' is cut off or damaged", found=truncated[0], do="Get the file again")
        page = series.keyframe
        _check_photometric(page, tif.is_imagej)
        data, axes = (data, axes) if axes else _known_axes(data, series.axes, page)
        image = Image.from_array(data, axes, alpha=alpha)
        if tif.is_ome and tif.ome_metadata:
            return _read_ome(image, tif.ome_metadata)
        if tif.is_imagej:
            return _read_imagej(image, dict(tif.imagej_metadata or {}), page)
        return _read_plain(image, tif, page)


def write_tiff(
    path: Path, image: Image, record: Mapping[str, Any], form: str | None, *, keep_display: bool = True
) -> None:
    """Write an image as TIFF.

    Parameters
    ----------
    path
        The file, which is overwritten.
    image
        Any image; its axes are written in the order ``TZCYXS``.
    record
        From :func:`~napari_fidelity.io._record.make_record`.
    form
        The form wanted, ``"imagej"``, ``"ome"`` or ``"plain"``; where it cannot hold the image, another that can.
        ``None``: ImageJ's if it can.
    keep_display
        Whether the display range ImageJ stored still suits the intensities.
    """
    import tifffile

    wanted, form = form, _possible_form(image, form)
    if wanted not in (None, form):
        log.info("the %s form of TIFF cannot hold this %s image; written as %s", wanted, image.dtype, form)
    axes = "".join(axis for axis in AXES if axis in image.axes)
    data = np.transpose(image.data, [image.axes.index(axis) for axis in axes])
    sizes = [image.pixel_size[axis] for axis in "XY"]
    options: dict[str, Any] = {"photometric": "rgb" if "S" in axes else "minisblack"}
    if "S" in axes:
        options["planarconfig"] = "contig"
    if form == "imagej":
        options |= {"imagej": True, "metadata": _imagej_metadata(image, axes, record, keep_display)}
        options |= _pixels_per_unit([1 / size for size in sizes])
    elif form == "ome":
        options |= {"ome": True, "metadata": _ome_metadata(image, axes, record)}
    else:
        options["metadata"] = {"axes": axes, "napari-fidelity": dict(record)}
    if form != "imagej" and image.unit in LENGTHS:
        centimetre = LENGTHS["cm"] / LENGTHS[image.unit]
        pixels = [centimetre / size for size in sizes]
        options |= _pixels_per_unit(pixels, told=form == "ome", resolutionunit="CENTIMETER")
    tifffile.imwrite(path, data, **options)


def _pixels_per_unit(pixels: Sequence[float], *, told: bool = False, **unit: str) -> dict[str, Any]:
    """Return the options for pixels per unit; none for what the format's fractions of 32 bits cannot hold.

    Parameters
    ----------
    pixels
        Along x and y.
    told
        Whether the pixel size stands elsewhere in the file, too.
    """
    if all(1 / _LARGEST <= number <= _LARGEST for number in pixels):
        return {"resolution": tuple(pixels), **unit}
    if not told:
        log.warning("the pixel size is too small or too large for this form of TIFF, and is not written")
    return {}


def _possible_form(image: Image, form: str | None) -> Form:
    rgb = "S" in image.axes
    imagej = image.dtype.name in _IMAGEJ_DTYPES and (not rgb or image.dtype == np.uint8)
    if form in (None, "imagej") and imagej and image.data.nbytes < _CLASSIC_LIMIT:
        return "imagej"
    if form != "plain" and image.dtype.name in _OME_DTYPES:
        return "ome"
    return "plain"


@contextlib.contextmanager
def _noting_truncation() -> Iterator[list[str]]:
    """Collect what tifffile only logs: it reads the first pages of a file cut short as if they were all."""
    notes: list[str] = []
    thread = threading.get_ident()

    def note(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.thread != thread or not any(sign in message for sign in _TRUNCATED):
            return True
        notes.append(message)
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(note)
    try:
        yield notes
    finally:
        logger.removeFilter(note)


def _check_photometric(page: tifffile.TiffPage, imagej: bool) -> None:
    name = getattr(page.photometric, "name", str(page.photometric))
    # ImageJ keeps intensities with a colour table; in other files the pixels are only numbers of colours.
    if name == "PALETTE" and not imagej:
        raise ImageError("The image has a colour table (palette)", do="Convert it to RGB or gray first")
    if name in ("SEPARATED", "CIELAB", "ICCLAB", "CFA"):
        raise ImageError(f"The image is stored as {name}, not as gray or RGB", do="Convert it first")


def _known_axes(data: NDArray[Any], axes: str, page: tifffile.TiffPage) -> tuple[NDArray[Any], str]:
    """Translate tifffile's letters: drop lengths of 1, take pages as depth, samples not RGB as channels."""
    drop = tuple(i for i, axis in enumerate(axes) if axis not in AXES and data.shape[i] == 1)
    data, axes = np.squeeze(data, drop), "".join(axis for i, axis in enumerate(axes) if i not in drop)
    alpha = any(getattr(sample, "name", "") in ("ASSOCALPHA", "UNASSALPHA") for sample in page.extrasamples)
    rgb = getattr(page.photometric, "name", "") in ("RGB", "YCBCR")
    if "S" in axes and not rgb and not alpha and "C" not in axes:
        axes = axes.replace("S", "C")
    unknown = [axis for axis in axes if axis not in AXES]
    free = [axis for axis in "ZT" if axis not in axes]
    if len(unknown) == 1 and free:
        axes = axes.replace(unknown[0], free[0])
    elif unknown:
        raise ImageError(
            f"The axes '{axes}' of the file are not known",
            found=f"shape {data.shape}",
            do=f"Name them (axes=, --axes) with letters of {AXES}",
        )
    return data, axes


def _read_imagej(image: Image, metadata: dict[str, Any], page: tifffile.TiffPage) -> Image:
    record, rest = load_record(metadata.get("Info"))
    size = _resolution(page)
    if "spacing" in metadata and "Z" in image.axes:
        size["Z"] = abs(float(metadata["spacing"]))
    if float(metadata.get("finterval") or 0) > 0 and "T" in image.axes:
        size["T"] = float(metadata["finterval"])
    kept = {name: value for name, value in metadata.items() if name not in _STRUCTURE | {"Info"}}
    for name in kept.keys() & _LISTS:  # tifffile unwraps lists of one, and would take them apart on writing
        kept[name] = kept[name] if isinstance(kept[name], list) else [kept[name]]
    kept["grid"] = [image.sizes["Y"], image.sizes["X"]]
    info = rest.get("Info") if record else metadata.get("Info")
    kept |= {"Info": info} if info else {}
    image = image.replace(
        pixel_size=_sound(size),
        unit=usual_unit(str(metadata.get("unit", ""))),
        metadata={"tiff": "imagej", "imagej": kept},
    )
    return apply_record(image, record, only_origin=True)


def _imagej_metadata(image: Image, axes: str, record: Mapping[str, Any], keep_display: bool) -> dict[str, Any]:
    kept = dict(image.metadata.get("imagej", {}))
    same_grid = kept.pop("grid", None) == [image.sizes["Y"], image.sizes["X"]]
    stale = (set() if keep_display else _RANGES) | (set() if same_grid else _PLACES)
    kept = {name: value for name, value in kept.items() if name not in stale}
    metadata = {**kept, "axes": axes, "Info": dump_record(record, Info=kept.get("Info", ""))}
    metadata["unit"] = "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in image.unit)
    if "Z" in axes:
        metadata["spacing"] = image.pixel_size["Z"]
    if "T" in image.pixel_size:
        metadata["finterval"] = image.pixel_size["T"]
    return metadata


def _read_ome(image: Image, xml: str) -> Image:
    root = ElementTree.fromstring(xml)
    space = {"ome": root.tag.partition("}")[0].lstrip("{")}
    source = root.find("ome:Image", space)
    pixels = source.find("ome:Pixels", space) if source is not None else None
    if source is None or pixels is None:
        return image
    units = {axis: usual_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XYZ"}
    sizes = {a: float(pixels.get(f"PhysicalSize{a}", 0)) for a in "XYZ" if a in image.axes}
    unit = units["X"] if sizes.get("X", 0) > 0 else "pixel"
    sizes = {axis: _convert(size, units[axis], unit) for axis, size in sizes.items()}
    if "T" in image.axes and pixels.get("TimeIncrementUnit", "s") == "s":
        sizes["T"] = float(pixels.get("TimeIncrement", 0))
    first = pixels.find("ome:Plane", space)
    plane = first.attrib if first is not None else {}
    origin = {}
    for axis in [axis for axis in "XYZ" if axis in image.axes and f"Position{axis}" in plane]:
        named = usual_unit(plane.get(f"Position{axis}Unit", "reference frame"))
        if named == unit or {named, unit} <= LENGTHS.keys():
            origin[axis] = _convert(float(plane[f"Position{axis}"]), named, unit)
    text = source.findtext("ome:Description", "", space)
    record, rest = load_record(text)
    kept = {"Name": source.get("Name", ""), "Description": rest.get("Description", "") if record else text}
    kept |= {"Channel": [c.get("Name", "") for c in pixels.findall("ome:Channel", space)]}
    image = image.replace(
        pixel_size=_sound(sizes), unit=unit, origin=origin, metadata={"tiff": "ome", "ome": kept}
    )
    return apply_record(image, record, only_origin=True)


def _ome_metadata(image: Image, axes: str, record: Mapping[str, Any]) -> dict[str, Any]:
    kept = image.metadata.get("ome", {})
    unit = image.unit if image.unit in (*LENGTHS, "pixel") else "reference frame"
    metadata: dict[str, Any] = {"axes": axes}
    for axis in "ZYX":
        if axis in axes:
            metadata |= {f"PhysicalSize{axis}": image.pixel_size[axis], f"PhysicalSize{axis}Unit": unit}
    if "T" in image.pixel_size:
        metadata |= {"TimeIncrement": image.pixel_size["T"], "TimeIncrementUnit": "s"}
    if any(image.origin.values()):
        planes = int(np.prod([n for axis, n in image.sizes.items() if axis in "TZC"], dtype=int))
        metadata["Plane"] = {f"Position{axis}": [value] * planes for axis, value in image.origin.items()}
        metadata["Plane"] |= {f"Position{axis}Unit": [unit] * planes for axis in image.origin}
    names = kept.get("Channel", [])
    if any(names) and len(names) == image.sizes.get("C", 1):
        metadata["Channel"] = {"Name": names}
    if kept.get("Name"):
        metadata["Name"] = kept["Name"]
    metadata["Description"] = dump_record(record, Description=kept.get("Description", ""))
    return metadata


def _read_plain(image: Image, tif: tifffile.TiffFile, page: tifffile.TiffPage) -> Image:
    metadata = {"tiff": "plain"}
    record = (tif.shaped_metadata or ({},))[0].get("napari-fidelity")
    if isinstance(record, dict):
        return apply_record(image.replace(metadata=metadata), record)
    per_unit = {2: LENGTHS["in"], 3: LENGTHS["cm"]}.get(int(getattr(page, "resolutionunit", 1) or 1))
    size = _resolution(page)
    if per_unit is None or not size:
        return image.replace(metadata=metadata)
    size = {axis: value * per_unit for axis, value in size.items()}
    return image.replace(pixel_size=_sound(size), unit="µm", metadata=metadata)


def _resolution(page: tifffile.TiffPage) -> dict[str, float]:
    sizes = {}
    for axis in "XY":
        tag = page.tags.get(f"{axis}Resolution")
        if tag is not None and tag.value[0] and tag.value[1]:
            sizes[axis] = tag.value[1] / tag.value[0]
    return sizes


def _sound(sizes: Mapping[str, float]) -> dict[str, float]:
    return {axis: size for axis, size in sizes.items() if np.isfinite(size) and size > 0}


def _convert(value: float, unit: str, to: str) -> float:
    if unit == to or not {unit, to} <= LENGTHS.keys():
        return value
    return value * LENGTHS[unit] / LENGTHS[to]
