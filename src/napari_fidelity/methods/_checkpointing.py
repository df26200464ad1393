"""Gradient checkpointing: what lies between some points of a network is computed again for the backward pass.

Chen, Xu, Zhang, Guestrin 2016, arXiv:1604.06174. Of a row of ``n`` blocks the inputs of ``√n`` groups are kept,
and one group at a time is run again.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def has_blocks(network: object) -> bool:
    """Tell whether there is a row of blocks in a network, without which there is nothing to checkpoint."""
    return isinstance(network, nn.Module) and len(_longest(network)) > 1


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[list[int]]:
    """Run the longest row of blocks in a network with checkpoints, as long as the context lasts.

    Only the forward pass has to lie in the context. Yields a list that gathers the bytes kept at each checkpoint.
    """
    row, kept = _longest(network), list[int]()
    if isinstance(row, nn.Sequential) and type(row).forward is nn.Sequential.forward:
        changed: dict[nn.Module, Callable[..., Any]] = {row: _grouped(row, kept)}
    else:  # whoever holds a plain list calls its blocks one by one
        changed = {block: _again(block.forward, kept) for block in row}
    for module, forward in changed.items():
        module.__dict__["forward"] = forward
    try:
        yield kept
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _longest(network: nn.Module) -> nn.Sequential | nn.ModuleList:
    rows = [module for module in network.modules() if isinstance(module, nn.Sequential | nn.ModuleList)]
    return max(rows, key=len, default=nn.ModuleList())


def _grouped(row: nn.Sequential, kept: list[int]) -> Callable[[Any], Any]:
    blocks = [*row]
    size = math.ceil(len(blocks) / max(1, round(math.sqrt(len(blocks)))))

    def forward(x: Any) -> Any:
        for start in range(0, len(blocks), size):
            x = _again(_in_a_row(blocks[start : start + size]), kept)(x)
        return x

    return forward


def _in_a_row(blocks: list[nn.Module]) -> Callable[[Any], Any]:
    def forward(x: Any) -> Any:
        for block in blocks:
            x = block(x)
        return x

    return forward


def _again(forward: Callable[..., Any], kept: list[int]) -> Callable[..., Any]:
    def run(*inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        kept.append(sum(x.nbytes for x in (*inputs, *named.values()) if isinstance(x, torch.Tensor)))
        return checkpoint(forward, *inputs, use_reentrant=False, **named)

    return run
