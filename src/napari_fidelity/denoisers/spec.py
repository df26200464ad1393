"""The explicit list of denoisers, and denoisers from text and as text: ``nlm:h=0.6``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field

from napari_fidelity.core.spec import parse_declared, write_one
from napari_fidelity.denoisers.base import Denoiser
from napari_fidelity.denoisers.bm3d import BM3D
from napari_fidelity.denoisers.network import NetworkDenoiser
from napari_fidelity.denoisers.nlm import NLM
from napari_fidelity.denoisers.tv import TV
from napari_fidelity.denoisers.wavelet import Wavelet

if TYPE_CHECKING:
    from collections.abc import Mapping

# The list of denoisers: a new one is added here.
_Denoisers = NetworkDenoiser | NLM | BM3D | TV | Wavelet

AnyDenoiser = Annotated[_Denoisers, Field(discriminator="kind")]
"""Any denoiser as a field of options, told apart by ``kind``."""

DENOISERS: tuple[type[Denoiser], ...] = get_args(_Denoisers)
"""Every denoiser class."""


def parse_denoiser(spec: str | Mapping[str, Any] | Denoiser) -> Denoiser:
    """Return the denoiser that a text (``nlm:h=0.6``), a table of plain values or a denoiser describes.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    return parse_declared(spec, Denoiser, DENOISERS, "denoiser")  # type: ignore[type-abstract]


def describe(denoiser: Denoiser) -> str:
    """Return the text that :func:`parse_denoiser` reads this denoiser from."""
    return write_one(denoiser)
