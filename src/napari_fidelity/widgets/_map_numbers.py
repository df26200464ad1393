"""What a map's record says about the whole image, in words."""

from __future__ import annotations

from html import escape
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_VOID = "guarantee void"
_WORDS = {
    "unseen_share": ("not verifiable", "Share of the image's energy about its mean that the data cannot verify"),
    "rsp": ("RSP", "Correlation between measurement and prediction; 1 is best"),
    "lr_psnr": ("LR-PSNR (dB)", "How well the result explains the measurement"),
    "discrepancy": ("residual over noise", "Mean square of the residual over that of noise; 1 is noise alone"),
    "whiteness": ("whiteness", "1 where the residual is white as noise is; more where structure is left"),
    "whiteness_p": ("p-value of whiteness", "How probable so much structure is in white noise"),
    "correlation": ("strongest correlation", "Of the residual with itself, moved by a few pixels"),
    "residual_to_noise": ("residual over noise", "Root mean square of the residual over the noise's deviation"),
}  # name and meaning, by score
_OF_INTERVALS = {
    "noise_to_contrast": ("noise over contrast", "The noise's deviation over the measurement's"),
    "std_to_contrast": ("deviation over contrast", "The map's root mean square over the image's deviation"),
    "slope": ("slope of the spectrum", "Exponent of the power spectrum: 0 for noise, 2 to 3 for scenes"),
    "shift_p": ("p-value of the shift", "How probable so different an image is among those of the calibration"),
    "guaranteed": ("coverage guaranteed", "Whether the intervals can be relied on"),
}  # what a calibration compares, shown where there is one
_SHARES = ("unseen_share",)
_SAMPLES = 2_000_000


def scores_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a map's record: means over its slices, of p-values the least times their number."""
    from napari_fidelity.pipeline.report import means  # not before there is a map: it loads all methods

    return means([run.get("scores", {}) for run in record.get("runs", ()) if isinstance(run, dict)])


def numbers_html(record: Mapping[str, Any], data: NDArray[Any]) -> str:
    """Return the numbers of a map as a table.

    Parameters
    ----------
    record
        What is known of its making. Scores without words, on the scale that the run worked on, are left out.
    data
        The map itself, in the intensity units of the image.
    """
    scores = scores_of(record)
    words = _WORDS | (_OF_INTERVALS if "guaranteed" in scores else {})
    rows = [_row(*words[name], _number(name, scores[name])) for name in words if isfinite(scores.get(name, nan))]
    title = record.get("output", {}).get("title", "")
    head = f"{escape(title)}." if title else ""
    return f"{head}<table width='100%'>{_sizes(data)}{''.join(rows)}</table>"


def _sizes(data: NDArray[Any]) -> str:
    """Return rows about the map's numbers as they are."""
    some = np.ravel(data)[:: max(1, data.size // _SAMPLES)]
    finite = np.abs(some[np.isfinite(some)]).astype(np.float64)
    if not finite.size:
        return ""
    mean, square = float(finite.mean()), float(np.sqrt(np.square(finite).mean()))
    in_units = "Of the map's absolute values, in the units of the layer"
    return _row("mean", in_units, f"{mean:.4g}") + _row("root mean square", in_units, f"{square:.4g}")


def void_words(record: Mapping[str, Any]) -> str:
    """Return why intervals cannot be relied on; empty if they can, or if there are none."""
    reasons = [str(run.get("stop_reason", "")) for run in record.get("runs", ()) if isinstance(run, dict)]
    for reason in reasons:
        if _VOID in reason:
            return reason[reason.index(_VOID) :].capitalize() + "."
    return ""


def _number(name: str, value: float) -> str:
    if name == "guaranteed":
        return "yes" if value == 1 else "no"
    return f"{100 * value:.3g} %" if name in _SHARES else f"{value:.4g}"


def _row(words: str, meaning: str, number: str) -> str:
    return f"<tr title='{escape(meaning)}'><td>{escape(words)}</td><td align='right'>{number}</td></tr>"
