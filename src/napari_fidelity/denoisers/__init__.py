"""Denoisers: image and noise level to image."""

from napari_fidelity.denoisers.base import Denoiser
from napari_fidelity.denoisers.network import NetworkDenoiser
from napari_fidelity.denoisers.nlm import NLM
from napari_fidelity.denoisers.spec import DENOISERS, AnyDenoiser, describe, parse_denoiser

__all__ = [
    "DENOISERS",
    "NLM",
    "AnyDenoiser",
    "Denoiser",
    "NetworkDenoiser",
    "describe",
    "parse_denoiser",
]
