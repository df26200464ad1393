"""Reconstruction from a measurement and its image formation model alone, without training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.methods import RED
from napari_fidelity.operators.identity import Identity
from napari_fidelity.pipeline.restoration import restore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.methods.base import LinearOperator, Method


def reconstruct(
    image: Image | ArrayLike,
    *,
    operator: LinearOperator | None = None,
    method: Method | None = None,
    **settings: Any,
) -> Result[Image]:
    """Reconstruct an image from its measurement without training pairs, by what is known of images.

    Parameters
    ----------
    image
        The measurement: an :class:`Image`, or an array (axes as :func:`guess_axes` finds them).
    operator
        Image formation model; the identity (denoising) if left out.
    method
        :class:`RED` (a denoiser as prior), :class:`DIP` (an untrained network), :class:`DeepRED` (both) or
        :class:`ZSSR` (the image at coarser scales); :class:`RED` with its defaults if left out. Where it begins
        with an image (``start``), that has the measurement's intensity units and the result's shape.
    settings
        As for :func:`restore`: ``noise``, ``stop``, ``seed``, ``device``, ``dtype``, ``trust``, ``on_step``,
        ``model`` (a denoising network in place of the bundled one), ``spatial`` (``"ZYX"`` for whole volumes), and
        the other fields of :class:`Recipe`.

    Returns
    -------
    Result
        As :func:`restore`.

    Raises
    ------
    FidelityError
        A named error for everything that can be wrong with the input.
    """
    return restore(
        image,
        operator=Identity() if operator is None else operator,
        method=RED() if method is None else method,
        **settings,
    )
