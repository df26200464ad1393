"""Image formation models ``A`` and noise models."""

from napari_fidelity.operators._caches import clear_caches
from napari_fidelity.operators.base import Grid, Operator
from napari_fidelity.operators.blur import AiryBlur, Blur, GaussianBlur, MotionBlur, UniformBlur
from napari_fidelity.operators.compose import OPERATORS, AnyOperator, Compose, resolved
from napari_fidelity.operators.estimation import PSFEstimate, estimate_psf
from napari_fidelity.operators.fourier import Fourier, sampling_mask
from napari_fidelity.operators.identity import Identity
from napari_fidelity.operators.mask import Mask, random_mask
from napari_fidelity.operators.noise import (
    NOISES,
    AnyNoise,
    GaussianNoise,
    LaplaceNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
)
from napari_fidelity.operators.noise_level import estimate_noise
from napari_fidelity.operators.radon import Radon
from napari_fidelity.operators.registered import Registered, register_operator
from napari_fidelity.operators.resample import Downsample, resize
from napari_fidelity.operators.separable import SeparableOperator
from napari_fidelity.operators.spec import describe, parse_noise, parse_operator

__all__ = [
    "NOISES",
    "OPERATORS",
    "AiryBlur",
    "AnyNoise",
    "AnyOperator",
    "Blur",
    "Compose",
    "Downsample",
    "Fourier",
    "GaussianBlur",
    "GaussianNoise",
    "Grid",
    "Identity",
    "LaplaceNoise",
    "Mask",
    "MotionBlur",
    "Noise",
    "Operator",
    "PSFEstimate",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "Radon",
    "Registered",
    "SeparableOperator",
    "UniformBlur",
    "clear_caches",
    "describe",
    "estimate_noise",
    "estimate_psf",
    "parse_noise",
    "parse_operator",
    "random_mask",
    "register_operator",
    "resize",
    "resolved",
    "sampling_mask",
]
