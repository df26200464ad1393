"""``compare``: scores of images against a reference, against the measurement, or both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from napari_fidelity.cli._console import OK, out, print_json
from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._options import Own
from napari_fidelity.core.errors import ImageError, OptionError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_fidelity.metrics import Row


def compare(
    images: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    reference: Path | None = None,
    measurement: Path | None = None,
    operator: str | None = None,
    channels: Literal["rgb", "y", "gray", "each"] = "rgb",
    crop: int = 0,
    data_range: float | None = None,
    rounded: bool = False,
    lpips: bool = False,
    csv: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    own: Own = Own(),
) -> int:
    """Score images: PSNR and SSIM against a reference, the data residual against the measurement.

    Of time series (TYX, TYXS) the means over the frames, and their flicker: the standard deviation over time where
    nothing moves, in intensity units, and how many times that of the enlarged measurement it is.

    For example: napari-fidelity compare network.tif corrected.tif --reference true.tif --crop 4

    Parameters
    ----------
    images
        Restored images, one or more.
    reference
        The true image.
    measurement
        What the images were restored from; needs --operator.
    operator
        Image formation model, such as downsample:scale=4.
    channels
        What PSNR and SSIM are taken on: all channels, luma (Y of YCbCr), their mean, or each channel's PSNR.
    crop
        Border left out, in pixels.
    data_range
        Difference of the largest and the smallest possible intensity; left out, that of the reference's integer
        type, or the range of its values.
    rounded
        Round to whole intensities first, as the super-resolution papers do.
    lpips
        LPIPS as well (extra: metrics; its backbone must be on this machine).
    csv
        Write the table to this file.
    json
        Print one JSON document.
    overwrite
        Replace the file given by --csv.
    """
    from napari_fidelity import metrics

    if reference is None and measurement is None:
        raise OptionError("There is nothing to compare with", do="Give --reference, --measurement or both")
    if measurement is not None and operator is None:
        raise OptionError("The residual needs the image formation model", do="Give --operator")
    true = _array(reference) if reference else None
    seen = _array(measurement) if measurement else None
    base = true if true is not None else seen
    assert base is not None
    model = read_operator(operator) if operator and measurement else None
    settings: dict[str, Any] = {
        "data_range": data_range or metrics.data_range_of(base),
        "channels": channels,
        "crop": crop,
        "rounded": rounded,
        "operator": model,
        "perceptual": lpips,
    }
    rows = [_row(str(path), _array(path), true, seen, settings) for path in images]
    if csv is not None:
        _write_csv(rows, csv, overwrite=overwrite)
    if json:
        print_json([row.to_plain() for row in rows])
    else:
        print_rows(rows)
    return OK


def print_rows(rows: Sequence[Row], extra: dict[str, Sequence[str]] | None = None) -> None:
    """Print scores as a table; columns that hold nothing are left out, ``extra`` ones are added."""
    heads = {
        "psnr": ("PSNR", "dB", 2),
        "ssim": ("SSIM", "", 4),
        "lpips": ("LPIPS", "", 4),
        "residual": ("residual", "", 4),
        "lr_psnr": ("LR-PSNR", "dB", 2),
        "flicker": ("flicker", "", 4),
        "flicker_ratio": ("× measurement", "", 2),
    }
    shown = [name for name in heads if any(name in row.to_plain() for row in rows)]
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("image", overflow="fold")
    for name in shown:
        head, unit, _ = heads[name]
        table.add_column(f"{head} ({unit})" if unit else head, justify="right", no_wrap=True)
    for head in extra or {}:
        table.add_column(head, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        cells = [_cell(getattr(row, name), heads[name][2]) for name in shown]
        table.add_row(row.name, *cells, *(values[i] for values in (extra or {}).values()))
    out.print(table)
    for row in rows:
        for note in row.notes:
            out.print(f"{row.name}: {note}", markup=False)


def _cell(value: float, digits: int) -> str:
    return "–" if value != value else f"{value:.{digits}f}"


def _row(
    name: str,
    image: NDArray[Any],
    true: NDArray[Any] | None,
    seen: NDArray[Any] | None,
    settings: dict[str, Any],
) -> Row:
    """Score one image, or the frames of a series with their flicker.

    Raises
    ------
    ShapeError
        If it is a series and what it is compared with is none of that length, or the other way round.
    """
    from napari_fidelity import metrics
    from napari_fidelity.metrics.flicker import flicker_beside

    if not _is_series(image):
        return metrics.compare({name: image}, true, measurement=seen, **settings)[0]
    beside = [array for array in (true, seen) if array is not None]
    if any(not _is_series(array) or len(array) != len(image) for array in beside):
        raise ShapeError(
            "Series are compared frame by frame, and have as many of them",
            found=f"{image.shape} beside {' and '.join(str(array.shape) for array in beside)}",
        )
    rows = [
        metrics.compare({name: _at(image, t)}, _at(true, t), measurement=_at(seen, t), **settings)[0]
        for t in range(len(image))
    ]
    if len(image) == 1:
        return rows[0]
    picture = seen if getattr(settings["operator"], "shares_grid", True) else None
    guide, measured = (None if series is None else partial(iter, series) for series in (true, picture))
    found = flicker_beside(partial(iter, image), guide, measured)
    return replace(metrics.mean_row(name, rows), flicker=found.value, flicker_ratio=found.relative)


def _at(series: NDArray[Any] | None, t: int) -> Any:
    """Return a frame ``(H, W)`` or ``(H, W, 3)`` of a series, if there is one."""
    return None if series is None else series[t].squeeze(-1) if series.shape[-1] == 1 else series[t]


def _is_series(image: NDArray[Any]) -> bool:
    """Tell whether an array of :func:`_array` has frames."""
    return image.ndim == 4


def _array(path: Path) -> NDArray[Any]:
    """Return a file as ``(H, W)``, ``(H, W, 3)``, or frames ``(T, H, W, C)``."""
    from napari_fidelity.io import read_image

    image = read_image(path, alpha="drop")
    if image.axes not in ("YX", "YXS", "TYX", "TYXS"):
        raise ImageError(
            "Only gray and RGB 2-D images, or time series of them, are compared",
            found=f"axes {image.axes} in '{path}'",
            do="Cut out a slice",
        )
    return image.data[..., None] if image.axes == "TYX" else image.data


def _write_csv(rows: Sequence[Row], path: Path, *, overwrite: bool) -> None:
    from napari_fidelity.io import atomic_write
    from napari_fidelity.metrics import to_csv

    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(to_csv(rows), encoding="utf-8")
