"""Networks and operators called alike, our own and foreign ones, with named errors for what the latter throw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.errors import ArchitectureError, OperatorError
from napari_fidelity.core.foreign_code import errors_named
from napari_fidelity.core.lazy import torch
from napari_fidelity.operators._foreign import check_made, name_of
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.identity import Identity
from napari_fidelity.operators.resample import Downsample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods.base import LinearOperator, Network


def dagger(
    operator: LinearOperator,
    r: torch.Tensor,
    image_shape: Sequence[int],
    ridge: float = 0.0,
    tolerance: float | None = None,
) -> torch.Tensor:
    """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ r`` for our own operators and for foreign ones alike.

    Where there is no closed form, conjugate gradients stop at the relative ``tolerance``.
    """
    if isinstance(operator, Operator):
        return operator.A_dagger(r, image_shape, ridge=ridge, tolerance=tolerance)
    from napari_fidelity.operators._cg import damped_least_squares

    return damped_least_squares(
        operator.A, lambda z: adjoint(operator, z, image_shape), r, ridge, tolerance=tolerance
    )


def adjoint(operator: LinearOperator, r: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """Return ``Aᵀ r`` as an image of the given spatial shape."""
    if isinstance(operator, Operator):
        return operator.A_adjoint(r, image_shape)
    x = operator.A_adjoint(r.clone())  # it may work in place
    check_made(name_of(operator), x, r)
    return x


def apply_to_features(operator: LinearOperator, z: torch.Tensor, n_channels: int) -> torch.Tensor:
    """Return ``A z`` for features: any number of channels, each treated as ``A`` treats those of an image.

    Our own operators take any number of channels. A foreign one may be made for ``n_channels``: it is shown each
    feature in all of them.

    Raises
    ------
    OperatorError
        If the operator does not treat the channels of an image alike, so that a feature has no image under it.
    """
    if isinstance(operator, Operator) or z.shape[1] == n_channels:
        return operator.A(z)
    try:
        seen = call_operator(operator, z)
        if seen.shape[:2] == z.shape[:2]:  # one channel may have been broadcast to all of them
            return seen
    except OperatorError:
        pass
    copies = z.reshape(-1, 1, *z.shape[2:]).expand(-1, n_channels, *z.shape[2:])
    seen = call_operator(operator, copies)
    if not torch.allclose(seen, seen[:, :1].expand_as(seen), rtol=1e-4, atol=1e-6):
        raise OperatorError(
            f"{name_of(operator)} does not treat all channels alike, which the closed-form last layer needs",
            do="Set last_layer to 'descend'",
        )
    return seen[:, 0].reshape(*z.shape[:2], *seen.shape[2:])


def trained_part(operator: LinearOperator) -> Operator | None:
    """Return the downsampling at the end of an image formation model, if there is something else before it.

    Of several downsamplings none is the one that the network undoes.
    """
    if not isinstance(operator, Compose):
        return None
    parts = [part for part in operator.operators if not isinstance(part, Identity)]
    alone = sum(isinstance(part, Downsample) for part in parts) == 1
    return parts[-1] if alone and len(parts) > 1 and isinstance(parts[-1], Downsample) else None


def generator(rng: int | torch.Generator) -> torch.Generator:
    """Return a random generator on the CPU for a seed, or the one given."""
    return rng if isinstance(rng, torch.Generator) else torch.Generator().manual_seed(int(rng))


def in_channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Return a network of one's own with the channels of its weights last in memory, where it runs like that."""
    from napari_fidelity.networks.adapters import innermost  # it loads torch

    fits = getattr(innermost(network), "takes_channels_last", True)
    return network.to(memory_format=torch.channels_last) if fits else network


def call_network(network: Network, y: torch.Tensor) -> torch.Tensor:
    """Return ``f(y)``; what a network throws at such an image becomes an :class:`ArchitectureError`."""
    with errors_named(ArchitectureError, type(network).__name__, f"an image of shape {tuple(y.shape)}"):
        x = network(y)
    if not isinstance(x, torch.Tensor) or x.ndim != y.ndim:
        found = f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ArchitectureError(
            f"A restoration network turns an image {tuple(y.shape)} into an image (N, C, *spatial)", found=found
        )
    return x


def call_operator(operator: LinearOperator, x: torch.Tensor) -> torch.Tensor:
    """Return ``A x``; what a foreign operator throws becomes an :class:`OperatorError`."""
    with errors_named(OperatorError, name_of(operator), f"an image of shape {tuple(x.shape)}"):
        return operator.A(x)
