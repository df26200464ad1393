"""Reconstruction networks of the library deepinv from files of weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import check_finite
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.reconstruction import ReconstructionNetwork
from napari_fidelity.operators._deepinv import library

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_HEAD = re.compile(r"m_head\.conv(\d+)\.weight")
_OWN = {
    "m_head.conv0.weight",
    "m_tail.conv0.weight",
    "m_body.enc.0.PhysicsBlock.encoding_conv.head0.convin.weight",
}
_LATER = {"fact_realign"}  # a weight that the library's class got later, and that begins as 1
_NOISE = 2  # input channels of a head beside the image's: the levels of Gaussian and of Poisson noise


def is_ram(weights: Mapping[str, Tensor]) -> bool:
    """Tell from the names of the weights whether they are those of RAM, the "reconstruct anything" model."""
    return weights.keys() >= _OWN


def ram_from_weights(weights: Mapping[str, Tensor]) -> ReconstructionNetwork:
    """Return ``deepinv.models.RAM`` with these weights (Terris 2025, arXiv:2503.08915).

    Raises
    ------
    MissingDependencyError
        If the library is missing.
    ArchitectureError
        If the weights do not fit the network of the installed version.
    ModelFileError
        If a weight is NaN or infinite.
    """
    heads = {int(m[1]): weights[name] for name in weights if (m := _HEAD.fullmatch(name))}
    channels = tuple(int(heads[number].shape[1]) - _NOISE for number in sorted(heads))
    module = library().models.RAM(in_channels=channels, pretrained=False, device="cpu")
    try:
        missing, unknown = module.load_state_dict(dict(weights), strict=False)
    except RuntimeError as error:  # a shape that differs
        raise ArchitectureError(
            "The weights do not fit RAM of the installed deepinv", found=str(error).splitlines()[-1].strip()
        ) from error
    if wrong := [*unknown, *(name for name in missing if name not in _LATER)]:
        raise ArchitectureError(
            "The weights do not fit RAM of the installed deepinv",
            found=f"{len(wrong)} names missing or not known, '{wrong[0]}' for one",
            do="Install the version of deepinv that the weights were made with",
        )
    check_finite(module.state_dict())
    info = ModelInfo(
        "",
        "RAM",
        scale=1,
        n_channels=max(channels),
        n_parameters=sum(p.numel() for p in module.parameters()),
        trained_for="any linear image formation model, which it is told",
        source="Terris et al. 2025, arXiv:2503.08915; weights from the file",
        format="deepinv",
    )
    return ReconstructionNetwork(module, info=info, in_channels=channels)
