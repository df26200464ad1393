"""Denoisers: image and noise level to image."""

from napari_fidelity.denoisers.base import Denoiser
from napari_fidelity.denoisers.bm3d import BM3D
from napari_fidelity.denoisers.network import NetworkDenoiser
from napari_fidelity.denoisers.nlm import NLM
from napari_fidelity.denoisers.spec import DENOISERS, AnyDenoiser, describe, parse_denoiser
from napari_fidelity.denoisers.tv import TV
from napari_fidelity.denoisers.wavelet import Wavelet

__all__ = [
    "BM3D",
    "DENOISERS",
    "NLM",
    "TV",
    "AnyDenoiser",
    "Denoiser",
    "NetworkDenoiser",
    "Wavelet",
    "describe",
    "parse_denoiser",
]
