"""Operators that are one matrix per axis.

``A = M₁ ⊗ M₂ (⊗ M₃)``, so ``A Aᵀ = M₁M₁ᵀ ⊗ M₂M₂ᵀ (⊗ …)`` is diagonalised by small per-axis eigendecompositions:
``A†`` is exact, with ridge too. A product of such operators is one again: blur and downsampling together keep
the closed form.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch
from napari_fidelity.operators._axes import Chain, chain_image_size, chain_sizes
from napari_fidelity.operators.base import RELATIVE_CUTOFF, Operator, check_ridge

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOSED_FORM_LIMIT = 3072
"""Longest measurement axis that is diagonalised (some ten seconds, once); above, conjugate gradients."""


class SeparableOperator(Operator):
    """An operator given by one chain of factors per axis; see :meth:`chains`."""

    @abstractmethod
    def chains(self, ndim: int) -> tuple[Chain, ...]:
        """Return what happens along each of ``ndim`` spatial axes, first applied first.

        Raises
        ------
        OperatorError
            If the operator is declared for another number of axes.
        """

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        self._check_image(x)
        self.measurement_shape(x.shape[2:])
        return forward(self.chains(x.ndim - 2), x)

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        shape = self._check_measurement(y, image_shape)
        return adjoint(self.chains(len(shape)), y, shape)

    def A_dagger(
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ y`` in closed form.

        For ``ridge = 0`` eigenvalues below :data:`~napari_fidelity.operators.base.RELATIVE_CUTOFF` of the largest
        are left out. Measurements longer than :data:`CLOSED_FORM_LIMIT` are solved by conjugate gradients.
        """
        shape = self._check_measurement(y, image_shape)
        check_ridge(ridge)
        if not has_closed_form(y):
            return super().A_dagger(y, shape, ridge=ridge, tolerance=tolerance)
        return pseudo_inverse(self.chains(len(shape)), y, shape, ridge)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        chains = self.chains(len(measurement_shape))
        return tuple(chain_image_size(c, int(m)) for c, m in zip(chains, measurement_shape, strict=True))

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        chains = self.chains(len(image_shape))
        return tuple(chain_sizes(c, int(n)) for c, n in zip(chains, image_shape, strict=True))


def forward(chains: Sequence[Chain], x: torch.Tensor) -> torch.Tensor:
    """Apply one chain per spatial axis to ``x (N, C, *n)``."""
    from napari_fidelity.operators._matrix import axis_matrix

    for axis in _order(chains, x.shape[2:]):
        x = axis_matrix(chains[axis], x.shape[2 + axis], x.dtype, x.device).apply(x, 2 + axis)
    return x


def adjoint(chains: Sequence[Chain], y: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Apply the adjoint to ``y (N, C, *m)``, giving an image of spatial ``shape``."""
    from napari_fidelity.operators._matrix import axis_matrix

    for axis in reversed(_order(chains, shape)):
        y = axis_matrix(chains[axis], shape[axis], y.dtype, y.device).apply_transposed(y, 2 + axis)
    return y


def has_closed_form(y: torch.Tensor) -> bool:
    """Tell whether the eigendecompositions for measurement ``y`` are small enough to compute."""
    return max(y.shape[2:]) <= CLOSED_FORM_LIMIT


def pseudo_inverse(chains: Sequence[Chain], y: torch.Tensor, shape: Sequence[int], ridge: float) -> torch.Tensor:
    """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ y`` for ``y (N, C, *m)``, an image of spatial ``shape``."""
    from napari_fidelity.operators._matrix import axis_spectrum

    # 16-bit floats cannot hold the reciprocals of small eigenvalues
    work = torch.promote_types(y.dtype, torch.float32)
    z = y.to(work)
    axes = _order(chains, shape)
    spectra = {axis: axis_spectrum(chains[axis], shape[axis], work, y.device) for axis in axes}
    eigenvalues = torch.ones((), dtype=work, device=y.device)
    for axis in reversed(axes):
        z = spectra[axis].analyse(z, 2 + axis)
        column = [-1 if other == axis else 1 for other in range(len(chains))]
        eigenvalues = eigenvalues * spectra[axis].values.reshape(column)
    z = z * inverse_eigenvalues(eigenvalues, ridge)
    for axis in reversed(axes):
        z = spectra[axis].synthesise(z, 2 + axis)
    return z.to(y.dtype)


def inverse_eigenvalues(eigenvalues: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return ``1 / (eigenvalues + ridge)``, with 0 where an eigenvalue is cut off (``ridge = 0`` only)."""
    if ridge > 0:
        return 1 / (eigenvalues + ridge)
    kept = eigenvalues > RELATIVE_CUTOFF * eigenvalues.max()
    return torch.where(kept, 1 / torch.where(kept, eigenvalues, 1), 0)


def _order(chains: Sequence[Chain], shape: Sequence[int]) -> list[int]:
    """Return the axes that are acted on, the one that shrinks most first, so that the rest has less to do."""
    active = [axis for axis, chain in enumerate(chains) if chain]
    return sorted(active, key=lambda axis: chain_sizes(chains[axis], shape[axis]) / shape[axis])
