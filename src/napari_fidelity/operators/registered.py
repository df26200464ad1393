"""An operator of the user's own, registered in this process under a name that a recipe can hold."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from napari_fidelity.core.errors import FidelityError, OperatorError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import fingerprint
from napari_fidelity.core.registry import OWN_OPERATORS, check_name
from napari_fidelity.operators._foreign import ForeignOperator, called, check_made
from napari_fidelity.operators.base import Grid, Operator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from napari_fidelity.operators._axes import Chain

log = logging.getLogger(__name__)

_TRIED = 16  # pixels along each axis of the image that an adjoint is tried on
_ADJOINT_ERROR = 1e-3  # relative to the norms of image and measurement, in float32


class Registered(Operator):
    """The operator that was registered under a name in this process (``nf.register_operator``).

    It does what that one does. Of an object that is no :class:`Operator` the shapes are found by applying it to
    zeros, and its image is taken to cover the same area as its measurement.

    Raises
    ------
    OperatorError
        If nothing was registered under the name.
    """

    kind: Literal["registered"] = "registered"
    name: str = Field(min_length=1, description="Name that the operator was registered under.")

    @model_validator(mode="after")
    def _there(self) -> Self:
        _ = self.own
        return self

    @property
    def own(self) -> Operator | ForeignOperator:
        """The operator itself, or what is known of an object that is none."""
        found: Operator | ForeignOperator | None = OWN_OPERATORS.get(self.name)
        if found is None:
            known = ", ".join(f"'{name}'" for name in OWN_OPERATORS.all())
            raise OperatorError(
                f"No operator of the name '{self.name}' is registered in this process",
                found=f"registered: {known or 'none'}",
                do="Run the code that registers it first (nf.register_operator; on the command line in a file "
                "given by --import)",
            )
        return found

    @property
    def _told(self) -> Operator | None:
        """The operator, if it is one that tells all of itself."""
        return self.own if isinstance(self.own, Operator) else None

    @property
    def spatial_dims(self) -> tuple[int, ...]:  # type: ignore[override]  # of all others the class knows it
        """How many spatial axes it works on."""
        return (2, 3) if self._told is None else self._told.spatial_dims

    @property
    def shares_grid(self) -> bool:  # noqa: D102 - inherited
        return self._told is None or self._told.shares_grid

    def A(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - inherited
        self._check_image(x)
        return self.own.A(x)

    def A_adjoint(  # noqa: D102 - inherited
        self, y: torch.Tensor, image_shape: Sequence[int] | None = None
    ) -> torch.Tensor:
        shape, own = self._check_measurement(y, image_shape), self.own
        return own.A_adjoint(y, shape) if isinstance(own, Operator) else own.A_adjoint(y)

    def A_dagger(  # noqa: D102 - inherited
        self,
        y: torch.Tensor,
        image_shape: Sequence[int] | None = None,
        *,
        ridge: float = 0.0,
        tolerance: float | None = None,
    ) -> torch.Tensor:
        solve = super().A_dagger if self._told is None else self._told.A_dagger
        return solve(y, image_shape, ridge=ridge, tolerance=tolerance)

    def chains(self, ndim: int) -> tuple[Chain, ...] | None:  # noqa: D102 - inherited
        return None if self._told is None else self._told.chains(ndim)

    def image_channels(self, channels: int) -> int:  # noqa: D102 - inherited
        return channels if self._told is None else self._told.image_channels(channels)

    def measurement_channels(self, channels: int) -> int:  # noqa: D102 - inherited
        return channels if self._told is None else self._told.measurement_channels(channels)

    def grid(self, ndim: int) -> Grid:  # noqa: D102 - inherited
        return self.own.grid(ndim)

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        return self.own.image_shape(measurement_shape)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:  # noqa: D102 - inherited
        return self.own.measurement_shape(image_shape)


def register_operator(name: str, operator: Any) -> Registered:
    """Make an operator of one's own known by a name, so that recipes, the command line and the docks can hold it.

    A recipe keeps the name, and a hash where there is one (:func:`fingerprints`): whoever replays it registers the
    same operator first.

    Parameters
    ----------
    name
        What it is called: ``registered:name=my-blur`` on the command line. An operator registered under it before
        is replaced.
    operator
        An object of a subclass of :class:`Operator`; or any object with the methods ``A(x)`` and
        ``A_adjoint(y)`` for tensors ``(N, C, *spatial)``, differentiable by torch, such as a
        ``deepinv.physics.LinearPhysics``.

    Returns
    -------
    Registered
        The operator by its name, to be used as any other. The log warns if its adjoint proves wrong.

    Raises
    ------
    OptionError
        If the name is no name, or the operator lacks one of the two methods.
    OperatorError
        If one of them makes no real tensor, or one in half precision; or changes what it is given, though the
        operator is an :class:`Operator` (other objects are given copies).
    """
    check_name(name, "operator")
    if isinstance(operator, Registered):
        operator = operator.own
    elif not isinstance(operator, Operator):
        operator = ForeignOperator(name, _checked(operator))
    _try_adjoint(name, operator)
    OWN_OPERATORS.add(name, operator)
    return Registered(name=name)


def fingerprints(operator: object) -> dict[str, str]:
    """Return a hash of each operator of an image formation model that goes by a name.

    Of an :class:`Operator` it is that of its options and the name of its class, and its code is not in it. Other
    objects do not tell what they are made from, and what they hold may be computed and differ by a rounding
    elsewhere: for them it is ``""``.
    """
    found: dict[str, str] = {}
    for part in getattr(operator, "operators", (operator,)):
        if isinstance(part, Registered):
            own = part.own
            found |= {part.name: fingerprint(own) if isinstance(own, Operator) else "", **fingerprints(own)}
    return found


def _checked(operator: Any) -> Any:
    """Return what was given if it is an object with ``A`` and ``A_adjoint``."""
    if isinstance(operator, type):
        raise OptionError("An operator is an object", found=f"the class {operator.__name__}", do="Make one of it")
    missing = [method for method in ("A", "A_adjoint") if not callable(getattr(operator, method, None))]
    if missing:
        found = f"{type(operator).__name__} without {' and '.join(missing)}"
        raise OptionError("An operator is an object with the methods A and A_adjoint", found=found)
    return operator


def _try_adjoint(name: str, operator: Operator | ForeignOperator) -> None:
    """Say so if ``A_adjoint`` is not the adjoint of ``A``, where these can be tried on a small image."""
    random = torch.Generator().manual_seed(0)
    own = operator if isinstance(operator, Operator) else operator.operator
    for channels in (1, 2, 3):
        x = torch.randn((1, channels, _TRIED, _TRIED), generator=random)
        y = _tried(name, own, "A", x)
        if y is None:
            continue
        z = torch.randn(y.shape, generator=random)
        back = _tried(name, own, "A_adjoint", z)
        if back is None or back.shape != x.shape:
            continue
        gap = abs(float((y * z).sum() - (x * back).sum()))
        if gap > _ADJOINT_ERROR * float(x.norm() * z.norm()):
            log.warning("A_adjoint of '%s' is not the adjoint of its A: what it restores will be wrong", name)
        return


def _tried(name: str, own: Any, method: str, x: torch.Tensor) -> torch.Tensor | None:
    """Return what a method makes of a tensor; ``None`` if it cannot be applied: it may want another size."""
    given = x.clone()
    try:
        made = called(name, getattr(own, method), given)
    except FidelityError:
        return None
    check_made(name, made, x)
    if isinstance(own, Operator) and not torch.equal(given, x):
        raise OperatorError(
            f"The {method} of '{name}' changes the tensor that it is given",
            do=f"Let it work on a copy: {method}(x.clone())",
        )
    return made
