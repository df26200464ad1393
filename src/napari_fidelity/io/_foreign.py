"""Weights published under other names than ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch
from napari_fidelity.networks import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from napari_fidelity.networks.base import RestorationNetwork

    Names = tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]

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
_DNCNN = "dncnn."
_EDSR_OWN = {"sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"}

# RDN-pytorch (github.com/yjn870/RDN-pytorch), whose networks work on 0..1 as ours do.
_RDN_NAMES = (
    (re.compile(r"sfe(\d)\.(\w+)"), r"shallow\1.\2"),
    (re.compile(r"rdbs\.(\d+)\.layers\.(\d+)\.conv\.(\w+)"), r"blocks.\1.layers.\2.\3"),
    (re.compile(r"rdbs\.(\d+)\.lff\.(\w+)"), r"blocks.\1.fuse.\2"),
    (re.compile(r"gff\.0\.(\w+)"), r"fusion.\1"),
    (re.compile(r"gff\.1\.(\w+)"), r"body_end.\1"),
    (re.compile(r"upscale\.0\.(\w+)"), r"upsampler.0.0.\1"),
    (re.compile(r"upscale\.2\.(\w+)"), r"upsampler.1.0.\1"),
    (re.compile(r"output\.(\w+)"), r"tail.\1"),
)


def _stage(match: re.Match[str]) -> str:
    return f"upsampler.{int(match[1]) - 1}_x2.{match[2]}"


def _dense(match: re.Match[str]) -> str:
    block, dense, conv, part = int(match[1]), int(match[2]) - 1, int(match[3]), match[4]
    return f"blocks.{block}.dense.{dense}." + (f"fuse.{part}" if conv == 5 else f"layers.{conv - 1}.{part}")


# ESRGAN and Real-ESRGAN (github.com/xinntao), BSRGAN (github.com/cszn/BSRGAN).
_RRDN_NAMES = (
    (re.compile(r"conv_first\.(\w+)"), r"first.\1"),
    (re.compile(r"(?:RRDB_trunk|body)\.(\d+)\.(?:RDB|rdb)([123])\.conv([1-5])\.(\w+)"), _dense),
    (re.compile(r"(?:trunk_conv|conv_body)\.(\w+)"), r"trunk_end.\1"),
    (re.compile(r"(?:upconv|conv_up)(\d)\.(\w+)"), _stage),
    (re.compile(r"(?:HRconv|conv_hr)\.(\w+)"), r"refine.\1"),
    (re.compile(r"conv_last\.(\w+)"), r"tail.\1"),
)


def adopt(weights: Mapping[str, Tensor]) -> RestorationNetwork | None:
    """Return one of our networks that does what these weights do in the program they come from.

    Known: EDSR of EDSR-PyTorch, RDN of RDN-pytorch, the networks of ESRGAN, BSRGAN and Real-ESRGAN that read the
    image as it is, DnCNN of DnCNN-PyTorch. (Those of KAIR have the names of our DnCNN and DRUNet.)

    Returns
    -------
    RestorationNetwork or None
        ``None`` if the names are none of the known ones.

    Raises
    ------
    ArchitectureError
        If weights are missing or their shapes do not fit together.
    """
    if {"head.0.weight", "body.0.body.0.weight", "tail.1.weight", "sub_mean.bias"} <= weights.keys():
        return _edsr(weights)
    if {"sfe1.weight", "rdbs.0.lff.weight", "output.weight"} <= weights.keys():
        return _under_our_names(weights, _RDN_NAMES)
    if {"conv_first.weight", "conv_last.weight"} <= weights.keys() and _reads_the_image(weights):
        return _under_our_names(weights, _RRDN_NAMES)
    if all(name.startswith(_DNCNN) for name in weights) and f"{_DNCNN}0.weight" in weights:
        return _dncnn(weights)
    return None


def _under_our_names(weights: Mapping[str, Tensor], names: Names) -> RestorationNetwork | None:
    """Return the network of weights of which every one has a known name."""
    ours = {_renamed(name, names): tensor for name, tensor in weights.items()}
    return None if any(name in ours for name in weights) else _built(ours)


def _built(ours: Mapping[str, Tensor]) -> RestorationNetwork:
    cls, config = detect(ours)
    network = cls(**config)
    network.load_weights(ours)
    return network


def _reads_the_image(weights: Mapping[str, Tensor]) -> bool:
    """Tell from first and last layer whether no pixels are folded into channels in front."""
    first, last = weights["conv_first.weight"], weights["conv_last.weight"]
    return first.ndim == last.ndim == 4 and first.shape[1] == last.shape[0]


def _dncnn(weights: Mapping[str, Tensor]) -> RestorationNetwork:
    """Return a DnCNN of DnCNN-PyTorch (github.com/SaoYan/DnCNN-PyTorch), whose convolutions have no biases."""
    ours = {f"model.{name.removeprefix(_DNCNN)}": tensor for name, tensor in weights.items()}
    for name, tensor in list(ours.items()):
        if name.endswith(".weight") and tensor.ndim == 4:
            ours.setdefault(f"{name.removesuffix('weight')}bias", tensor.new_zeros(len(tensor)))
        if name.endswith(
            ".running_mean"
        ):  # old programs kept no count of batches; it means nothing after training
            count = f"{name.removesuffix('running_mean')}num_batches_tracked"
            ours.setdefault(count, tensor.new_zeros((), dtype=torch.int64))
    return _built(ours)


def _edsr(weights: Mapping[str, Tensor]) -> RestorationNetwork:
    """Return an EDSR of EDSR-PyTorch, which works on 0..255: its first and last layer take up the range.

    Its 256-feature networks scale residuals by 0.1, which weights do not tell and which is assumed here.
    """
    from napari_fidelity.networks.edsr import EDSR, RGB_MEAN

    ours = {_renamed(name, _EDSR_NAMES): tensor for name, tensor in weights.items() if name not in _EDSR_OWN}
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


def _renamed(name: str, names: Names) -> str:
    for pattern, ours in names:
        if match := pattern.fullmatch(name):
            return ours(match) if callable(ours) else match.expand(ours)
    return name
