"""Linear maps with a coded adjoint, in the precision of their input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

Map = Callable[[torch.Tensor], torch.Tensor]


class _Linear(torch.autograd.Function):
    """Gradient of a linear map = its adjoint; the adjoint is again such a map, so any order works."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, apply: Map, adjoint: Map) -> torch.Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        # not ctx.apply: autograd calls backward through that name
        _, ctx.linear, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        return linear_map(grads[0], ctx.adjoint, ctx.linear), None, None


def linear_map(x: torch.Tensor, apply: Map, adjoint: Map) -> torch.Tensor:
    """Return ``apply(x)``; autograd uses ``adjoint`` and stores nothing in between."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return apply(x)
    result: torch.Tensor = _Linear.apply(x, apply, adjoint)
    return result


def own_precision(x: torch.Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast, if it is on, leaves ``x`` alone: bfloat16 data terms lose two digits."""
    kind = x.device.type
    if kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()
