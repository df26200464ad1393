"""Weights published under other names than ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_fidelity.networks.edsr import EDSR

# EDSR-PyTorch (github.com/sanghyun-son/EDSR-PyTorch): where each layer is in our EDSR.
_EDSR_NAMES = (
    (re.compile(r"head\.0\.(\w+)"), r"head.\1"),
    (re.compile(r"body\.(\d+)\.body\.0\.(\w+)"), r"blocks.\1.conv1.\2"),
    (re.compile(r"body\.(\d+)\.body\.2\.(\w+)"), r"blocks.\1.conv2.\2"),
    (re.compile(r"body\.\d+\.(\w+)"), r"body_end.\1"),
    (re.compile(r"tail\.0\.0\.(\w+)"), r"upsampler.0.0.\1"),  # pixel shuffles are counted, too
    (re.compile(r"tail\.0\.2\.(\w+)"), r"upsampler.1.0.\1"),
    (re.compile(r"tail\.0\.4\.(\w+)"), r"upsampler.2.0.\1"),
    (re.compile(r"tail\.1\.(\w+)"), r"tail.\1"),
)
_EDSR_OWN = {"sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"}


def adopt(weights: Mapping[str, Tensor]) -> EDSR | None:
    """Return one of our networks that does what these weights do in the program they come from.

    Known: EDSR-PyTorch, whose networks work on 0..255; the range is folded into the first and the last layer.
    Its 256-feature networks scale residuals by 0.1, which weights do not tell and which is assumed here.

    Returns
    -------
    EDSR or None
        ``None`` if the names are none of the known ones.

    Raises
    ------
    ArchitectureError
        If weights are missing or their shapes do not fit together.
    """
    if not {"head.0.weight", "body.0.body.0.weight", "tail.1.weight", "sub_mean.bias"} <= weights.keys():
        return None
    from napari_fidelity.networks.edsr import EDSR, RGB_MEAN

    ours = {_renamed(name): tensor for name, tensor in weights.items() if name not in _EDSR_OWN}
    shift = -weights["sub_mean.bias"].double()
    peak = 255.0 if float(shift.max()) > 1 else 1.0
    ours["head.weight"] = ours["head.weight"] * peak
    ours["tail.weight"] = ours["tail.weight"] / peak
    mean = (shift / peak).tolist()
    if max(abs(a - b) for a, b in zip(mean, RGB_MEAN, strict=False)) < 1e-6:
        mean = list(RGB_MEAN)
    # Ours adds no mean at the end: the bias of the last layer holds it.
    ours["tail.bias"] = ours["tail.bias"] / peak + ours["tail.bias"].new_tensor(mean)
    config = {**EDSR.infer_config(ours), "mean": mean}
    if config["n_feats"] == 256:
        config["res_scale"] = 0.1
    network = EDSR(**config)
    network.load_weights(ours)
    return network


def _renamed(name: str) -> str:
    for pattern, ours in _EDSR_NAMES:
        if match := pattern.fullmatch(name):
            return match.expand(ours)
    return name
