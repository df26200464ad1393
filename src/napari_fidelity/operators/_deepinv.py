"""Our image formation models as physics of the library deepinv, for networks ``f(y, A)``."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import MissingDependencyError
from napari_fidelity.core.lazy import torch
from napari_fidelity.operators.noise import GaussianNoise, LaplaceNoise, PoissonGaussianNoise, PoissonNoise

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.operators.noise import Noise


def library() -> Any:
    """Return the library.

    Raises
    ------
    MissingDependencyError
        If it is not there, or does not go with the torch that is.
    """
    # torchvision, which it imports, fails with a RuntimeError where it was built for another torch
    try:
        import deepinv
    except (ImportError, RuntimeError) as error:
        raise MissingDependencyError(
            f"Networks that are told the image formation model need the package deepinv ({error})",
            do=f"pip install 'napari-fidelity[deepinv]', for torch {torch.__version__}",
        ) from error
    return deepinv


def physics_of(operator: Operator, like: Tensor, noise: Noise | None = None) -> Any:
    """Return an operator as a ``deepinv.physics.LinearPhysics`` for measurements of one shape.

    Parameters
    ----------
    operator
        The operator.
    like
        Such a measurement, ``(N, C, *m)``; device and shape count.
    noise
        Its noise, in the units of ``like``; unknown noise counts as none.
    """
    shape = operator.image_shape(like.shape[2:])
    size = (operator.image_channels(like.shape[1]), *shape)
    return _class()(operator, size, noise_of(noise)).to(like.device)


def noise_of(noise: Noise | None) -> Any:
    """Return a noise model as one of deepinv's, with the same variance: ``gain · p + sigma²``.

    Those have no offset, nor Laplace noise: both go into ``sigma``, as far as a variance can be.
    """
    models = library().physics
    if isinstance(noise, PoissonNoise | PoissonGaussianNoise):
        read = noise.sigma if isinstance(noise, PoissonGaussianNoise) else 0.0
        sigma = math.sqrt(max(0.0, read**2 - noise.gain * noise.offset))
        return models.PoissonGaussianNoise(gain=float(noise.gain), sigma=sigma)
    if isinstance(noise, LaplaceNoise):
        return models.GaussianNoise(sigma=math.sqrt(2) * noise.scale)
    return models.GaussianNoise(sigma=float(noise.sigma) if isinstance(noise, GaussianNoise) else 0.0)


@cache
def _class() -> Any:
    """Return the class, made when the library is first needed."""
    base: Any = library().physics.LinearPhysics

    class OperatorPhysics(base):  # type: ignore[misc]
        """One of our operators, with its closed forms, for images of one size."""

        def __init__(self, operator: Operator, img_size: tuple[int, ...], noise_model: Any) -> None:
            super().__init__(img_size=img_size, noise_model=noise_model)
            self.operator = operator

        def A(self, x: Tensor, **_: Any) -> Tensor:
            return self.operator.A(x)

        def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
            return self.operator.A_adjoint(y, self.img_size[1:])

        def A_dagger(self, y: Tensor, **_: Any) -> Tensor:
            return self.operator.A_dagger(y, self.img_size[1:])

        def prox_l2(self, z: Tensor | float | None, y: Tensor, gamma: Tensor | float, **_: Any) -> Tensor:
            """Return ``argmin_x γ/2 ‖A x − y‖² + ½ ‖x − z‖²``, that is ``z + Aᵀ(A Aᵀ + I/γ)⁻¹(y − A z)``."""
            if not isinstance(z, torch.Tensor):
                z = torch.full_like(self.A_adjoint(y), 0.0 if z is None else float(z))
            gamma = torch.as_tensor(gamma, dtype=y.dtype, device=y.device)
            if gamma.numel() == 1:
                return z + _damped(self, y - self.A(z), gamma.reshape(()))
            # one for each image of the batch
            each = zip(torch.split(z, 1), torch.split(y, 1), gamma.reshape(-1), strict=True)
            return torch.cat([a + _damped(self, b - self.A(a), g) for a, b, g in each])

    return OperatorPhysics


def _damped(physics: Any, r: Tensor, gamma: Tensor) -> Tensor:
    """Return ``w = Aᵀ(A Aᵀ + ρI)⁻¹ r`` for ``ρ = 1/γ``, differentiable in ``r`` and, to first order, in ``γ``.

    Networks learn ``γ``. Our closed forms take ``ρ`` as a number, but ``dw/dρ = −(AᵀA + ρI)⁻¹ w`` is known.
    """
    ridge = 1 / gamma
    shape, value = physics.img_size[1:], float(ridge.detach())
    w: Tensor = physics.operator.A_dagger(r, shape, ridge=value)
    if not ridge.requires_grad:
        return w
    with torch.no_grad():
        slope: Tensor = (physics.operator.A_dagger(physics.A(w), shape, ridge=value) - w) / value
    changed: Tensor = w + (ridge - ridge.detach()) * slope
    return changed
