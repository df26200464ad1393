"""How good is an image: against a reference, against the measurement, to the eye.

Every metric takes numpy arrays, channel-last: ``(H, W)`` or ``(H, W, C)``;
:func:`napari_fidelity.core.blocks.to_channel_last` makes them of tensors.
"""

from napari_fidelity.metrics.calibration import Reliability, coverage, reliability, width
from napari_fidelity.metrics.control import MapScore, control_map, evaluate_map
from napari_fidelity.metrics.data import lr_psnr, noise_left, residual, residual_image
from napari_fidelity.metrics.fidelity import Squirrel, Whiteness, squirrel, whiteness
from napari_fidelity.metrics.flicker import Flicker, flicker
from napari_fidelity.metrics.frc import FRC, checkerboard, frc, split_counts, split_gaussian
from napari_fidelity.metrics.perceptual import lpips, lpips_available
from napari_fidelity.metrics.ranking import Sparsification, ause, block_mean, sparsification, spearman
from napari_fidelity.metrics.reference import psnr, psnr_per_channel, rgb_to_y, ssim
from napari_fidelity.metrics.table import Row, compare, data_range_of, mean_row, to_csv

__all__ = [
    "FRC",
    "Flicker",
    "MapScore",
    "Reliability",
    "Row",
    "Sparsification",
    "Squirrel",
    "Whiteness",
    "ause",
    "block_mean",
    "checkerboard",
    "compare",
    "control_map",
    "coverage",
    "data_range_of",
    "evaluate_map",
    "flicker",
    "frc",
    "lpips",
    "lpips_available",
    "lr_psnr",
    "mean_row",
    "noise_left",
    "psnr",
    "psnr_per_channel",
    "reliability",
    "residual",
    "residual_image",
    "rgb_to_y",
    "sparsification",
    "spearman",
    "split_counts",
    "split_gaussian",
    "squirrel",
    "ssim",
    "to_csv",
    "whiteness",
    "width",
]
