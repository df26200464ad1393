"""Reading and writing images: TIFF (ImageJ, OME, plain), PNG and JPEG."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.arrays import Alpha, Image
from napari_fidelity.core.errors import FidelityError, ImageError, OutputError
from napari_fidelity.core.scaling import cast
from napari_fidelity.io import _tiff
from napari_fidelity.io._atomic import atomic_write, check_output
from napari_fidelity.io._chunks import insert_comment, is_whole, read_comments, read_header
from napari_fidelity.io._record import apply_record, dump_record, load_record, make_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

_KINDS = {".tif": "tiff", ".tiff": "tiff", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
_MAGIC = {
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
    b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg",
}  # fmt: skip
_JPEG_QUALITY = 95


def read_image(path: str | os.PathLike[str], axes: str | None = None, *, alpha: Alpha = "refuse") -> Image:
    """Read an image file.

    Parameters
    ----------
    path
        A TIFF (ImageJ, OME, BigTIFF or plain; the first image in it), PNG or JPEG file; what it is, its content
        tells.
    axes
        One letter of ``TZCYXS`` per dimension, where the file does not name them or is wrong. Unnamed pages of a
        TIFF are taken as ``Z``.
    alpha
        What to do with an alpha channel: refuse the image or drop it.

    Returns
    -------
    Image
        In the file's dtype, with pixel size, unit and origin as far as the file knows them; its metadata names
        the ``"source"`` file and holds the ``"napari-fidelity"`` provenance if the file has one.

    Raises
    ------
    ImageError
        If the file is missing, empty, cut off, no image, too large for the memory, or of a kind that cannot be
        used, such as RGBA, CMYK or complex.
    """
    file = _existing(path)
    try:
        with open(file, "rb") as stream:
            start = stream.read(16)
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
        if kind is None:
            raise ImageError(
                f"'{path}' is not a TIFF, PNG or JPEG image", found=_nature(start), do="Convert it to TIFF first"
            )
        if kind == "tiff":
            image = _tiff.read_tiff(file, axes, alpha, _check_memory)
        else:
            image = _read_simple(file, kind, axes, alpha)
    except FidelityError:
        raise
    except MemoryError as error:
        raise ImageError(f"'{path}' does not fit into the memory") from error
    except Exception as error:  # a damaged file may fail anywhere in a decoder, in any way
        raise ImageError(f"'{path}' cannot be read; it is cut off or damaged", found=str(error)) from error
    return image.replace(metadata={"source": str(path), **image.metadata})


def write_image(
    image: Image | NDArray[Any],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    dtype: DTypeLike | Literal["input"] = "input",
    provenance: Mapping[str, Any] | None = None,
) -> int:
    """Write an image file, whole or not at all.

    Parameters
    ----------
    image
        An image, or an array whose axes can be guessed.
    path
        ``.tif`` or ``.tiff`` for any image: OME's form for ``.ome.tif``, otherwise the form the image was read
        from, ImageJ's for a new one; where that cannot hold the dtype, OME's, or a plain TIFF. Axes are written in
        the order ``TZCYXS``. ``.png`` for one gray or RGB image of uint8 or uint16, ``.jpg`` for uint8.
    overwrite
        Whether a file that exists may be replaced.
    dtype
        ``"input"``: the image's. Integers are rounded, and cut off at the ends of the dtype.
    provenance
        Plain values to be stored in the file; by default what the image's metadata holds.

    Returns
    -------
    int
        How many values were cut off.

    Raises
    ------
    OutputError
        If the file exists, its folder is missing, its extension is unknown, the format cannot hold the image, or
        the disk is full.
    """
    image = image if isinstance(image, Image) else Image.from_array(image)
    check_output(path, overwrite=overwrite)
    kind = _KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise OutputError(
            f"'{path}' has no known image extension",
            found=repr(Path(path).suffix),
            do=f"Use one of {', '.join(_KINDS)}",
        )
    wanted = image.dtype if dtype == "input" else np.dtype(dtype)
    data, saturated = (image.data, 0) if wanted == image.dtype else cast(image.data, wanted)
    record = make_record(image, provenance)
    changed = wanted != image.dtype
    image = image.replace(data=data)
    payload = None if kind == "tiff" else _encode(image, kind, str(path), dump_record(record))
    with atomic_write(path, overwrite=overwrite) as temporary:
        if payload is None:
            form = "ome" if _is_ome_name(path) else image.metadata.get("tiff")
            _tiff.write_tiff(temporary, image, record, form, keep_display=not changed)
        else:
            temporary.write_bytes(payload)
    return saturated


def _is_ome_name(path: str | os.PathLike[str]) -> bool:
    return Path(path).name.lower().endswith((".ome.tif", ".ome.tiff"))


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path).expanduser()
    if file.is_dir():
        raise ImageError(f"'{path}' is a folder", do="Give the name of an image file")
    if not file.exists():
        folder = file.parent
        if not folder.is_dir():
            raise ImageError(f"There is no file '{path}'", found=f"no folder '{folder}' either")
        close = difflib.get_close_matches(file.name, (entry.name for entry in folder.iterdir()), cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else "Check the name"
        raise ImageError(f"There is no file '{file.name}' in '{folder.resolve()}'", do=hint)
    if not os.access(file, os.R_OK):
        raise ImageError(f"No permission to read '{path}'")
    if file.stat().st_size == 0:
        raise ImageError(f"The file '{path}' is empty", do="Get the file again")
    return file


def _nature(start: bytes) -> str:
    known = {b"PK\x03\x04": "a zip archive", b"\x89HDF": "HDF5", b"%PDF": "PDF", b"GIF8": "GIF", b"BM": "BMP"}
    return next(
        (name for magic, name in known.items() if start.startswith(magic)), f"a file starting {start[:8]!r}"
    )


def _check_memory(size: int) -> None:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return
    if size > memory:
        raise ImageError(
            f"The image needs {size / 1e9:.3g} GB, the machine has {memory / 1e9:.3g} GB",
            do="Cut out a part of it first",
        )


def _read_simple(path: Path, kind: str, axes: str | None, alpha: Alpha) -> Image:
    import imagecodecs

    raw = path.read_bytes()
    if not is_whole(raw, kind):
        raise ImageError(f"'{path}' is cut off or damaged", do="Get the file again")
    height, width, samples, bits = read_header(raw, kind)
    _check_memory(height * width * samples * -(-bits // 8))
    if kind == "jpeg" and samples == 4:
        raise ImageError(f"'{path}' is a CMYK image", do="Convert it to RGB or gray first")
    data = imagecodecs.png_decode(raw) if kind == "png" else imagecodecs.jpeg8_decode(raw)
    if axes is None:
        axes = "YX" if data.ndim == 2 else "YXS"
    image = Image.from_array(data, axes, alpha=alpha)
    records = (load_record(comment)[0] for comment in read_comments(raw, kind))
    return apply_record(image, next((record for record in records if record), {}))


def _encode(image: Image, kind: str, name: str, record: str) -> bytes:
    import imagecodecs

    allowed = ("uint8",) if kind == "jpeg" else ("uint8", "uint16")
    kept = [i for i, axis in enumerate(image.axes) if axis in "YXS" or image.shape[i] > 1]
    axes = "".join(image.axes[i] for i in kept)
    if sorted(axes) not in (["X", "Y"], ["S", "X", "Y"]):
        raise OutputError(
            f"'{name}' can hold one gray or RGB image",
            found=f"axes {image.axes}, shape {image.shape}",
            do="Use .tif",
        )
    if image.dtype.name not in allowed:
        raise OutputError(
            f"'{name}' can hold {' or '.join(allowed)}, nothing was converted silently",
            found=str(image.dtype),
            do="Use .tif, or choose the dtype",
        )
    data = image.data.reshape([image.shape[i] for i in kept])
    data = np.ascontiguousarray(data.transpose([axes.index(axis) for axis in "YXS" if axis in axes]))
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    if kind == "png":
        return insert_comment(bytes(imagecodecs.png_encode(data)), kind, record)
    return insert_comment(bytes(imagecodecs.jpeg8_encode(data, level=_JPEG_QUALITY)), kind, record)
