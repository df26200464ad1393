"""``frc``: the resolution of a measurement, and of what was restored from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from napari_fidelity.cli._console import INTERRUPTED, OK, display, err, out, print_json, set_up_logging
from napari_fidelity.cli._judged import Restoration
from napari_fidelity.cli._options import RUN, Formation, RunningModel
from napari_fidelity.core.errors import OutputError

if TYPE_CHECKING:
    from napari_fidelity.metrics import FRC
    from napari_fidelity.uncertainty.frc import RestoredFRC


def frc(
    source: Path,
    /,
    *,
    split: Literal["auto", "noise", "pixels"] = "auto",
    csv: Path | None = None,
    restoration: Restoration = Restoration(),
    formation: Formation = Formation(),
    running: RunningModel = RunningModel(),
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
) -> int:
    """Tell the resolution of a measurement and of its restoration by Fourier ring correlation.

    For example: napari-fidelity frc lowres.tif --model edsr-s-x2 --noise poisson:gain=2

    The measurement is split into two independent halves, one is restored, and compared with the other, raw one:
    what a network adds to both of two restored halves would pass for resolution.

    Parameters
    ----------
    source
        The measurement, a picture (or a volume, with --spatial ZYX).
    split
        noise: by its noise, whose level must be known (--noise); pixels: every second pixel, which costs
        resolution unless the measurement is well sampled; auto: by the noise where it is known.
    csv
        Write the curves to this file.
    overwrite
        Replace the file given by --csv.
    """
    from napari_fidelity.io import atomic_write, check_output, read_image
    from napari_fidelity.pipeline.resolution import frc_of

    set_up_logging(quiet=running.silent)
    if csv is not None:
        if check_output(csv, overwrite=overwrite) == source.expanduser().resolve():
            raise OutputError(f"'{csv}' is the measurement itself", do="Choose another name for the curves")
    image = read_image(source, formation.axes, alpha=formation.alpha)
    recipe = restoration.recipe(formation, running)
    with display(source.name, quiet=running.silent, stop=recipe.stop) as show:
        found = frc_of(recipe, image, split=split, device=running.device, trust=running.trust, on_step=show)
    if show.interrupt.requested:
        err.print("The restoration of the half is not finished; there is no resolution to tell.")
        return INTERRUPTED
    if csv is not None:
        with atomic_write(csv, overwrite=overwrite) as temporary:
            temporary.write_text(_rows(found), encoding="utf-8")
    lengths = {"raw": found.raw_resolution, "restored": found.restored_resolution}
    unit = found.raw.unit
    if running.json:
        known = {name: None if math.isnan(value) else value for name, value in lengths.items()}
        print_json({"resolution": known, "unit": unit, "split": found.split})
        return OK
    halves = "its noise" if found.split == "noise" else "every second pixel"
    out.print(f"{source}, halves by {halves}:", markup=False)
    out.print(f"  measurement  {_length(found.raw, lengths['raw'])} (1/7)")
    out.print(f"  restored     {_length(found.restored, lengths['restored'])} (√(1/7), against the raw half)")
    return OK


def _length(curve: FRC, value: float) -> str:
    if math.isnan(value):
        return "none: the halves do not correlate"
    limit = " or less: the grid ends there" if value <= 2 * curve.pixel_size * (1 + 1e-9) else ""
    return f"{value:.4g} {curve.unit}{limit}"


def _rows(found: RestoredFRC) -> str:
    head = f"frequency (1/{found.raw.unit}),raw halves,restored against raw,coefficients\n"
    columns = (found.raw.frequency, found.raw.correlation, found.restored.correlation, found.raw.count)
    return head + "".join(f"{f:.6g},{a:.6g},{b:.6g},{n}\n" for f, a, b, n in zip(*columns, strict=True))
