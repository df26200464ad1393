"""Which parameters of a network fine-tuning may move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from napari_fidelity.methods.finetune import Subset

_FIRST_SHARE = 0.25  # of the layers with weights
_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


class LowRank(nn.Module):
    """A weight plus a low-rank change ``B A`` (Hu 2021, LoRA, arXiv:2106.09685); starts as no change."""

    def __init__(self, weight: torch.Tensor, rank: int, rng: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        down = torch.randn(rank, columns, generator=rng) / columns**0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(torch.zeros(rows, rank).to(weight))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight."""
        return weight + (self.up @ self.down).view_as(weight)


def choose_parameters(
    network: nn.Module, subset: Subset, *, rank: int, rng: torch.Generator, last: nn.Module | None
) -> list[nn.Parameter]:
    """Freeze all parameters but the chosen ones and return those.

    Parameters
    ----------
    network
        A private copy of the network; changed in place.
    subset
        ``all``, ``last`` (the last convolution), ``first`` (the first quarter of the layers), ``norm_bias``
        (normalisation layers and biases) or ``low_rank`` (a low-rank change of every weight).
    rank
        Rank of the change for ``low_rank``.
    rng
        For the random factor of ``low_rank``.
    last
        The layer that ``last`` means; the last one with weights if unknown.

    Raises
    ------
    ArchitectureError
        If the network has no such parameters.
    """
    network.requires_grad_(False)
    # a weight that is computed from parameters, as by weight normalisation, is a tensor
    layers = [layer for layer in network.modules() if isinstance(getattr(layer, "weight", None), torch.Tensor)]
    if not layers:
        raise ArchitectureError("This network has no parameters, so there is nothing to fine-tune")
    if subset == "low_rank":
        chosen = _low_rank(layers, rank, rng)
    elif subset == "norm_bias":
        chosen = [
            p for layer in layers for name, p in layer.named_parameters(recurse=False) if _moves(layer, name)
        ]
    else:
        picked = {
            "all": [network],
            "last": [last or layers[-1]],
            "first": layers[: max(1, round(_FIRST_SHARE * len(layers)))],
        }[subset]
        chosen = [p for layer in picked for p in layer.parameters()]
    if not chosen:
        raise ArchitectureError(
            f"This network has no parameters of the kind '{subset}'", do="Choose another subset"
        )
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def _moves(layer: nn.Module, name: str) -> bool:
    return name == "bias" or isinstance(layer, _NORMS)


def _low_rank(layers: list[nn.Module], rank: int, rng: torch.Generator) -> list[nn.Parameter]:
    chosen: list[nn.Parameter] = []
    for layer in layers:
        weight = layer.weight
        changeable = isinstance(weight, nn.Parameter) or parametrize.is_parametrized(layer, "weight")
        if not isinstance(weight, torch.Tensor) or not changeable or weight.ndim < 2:
            continue
        change = LowRank(weight.detach(), rank, rng)
        parametrize.register_parametrization(layer, "weight", change)
        chosen += list(change.parameters())
    return chosen
