"""What a calibration is made for, as plain values: map settings, image formation model and network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from napari_fidelity.uncertainty.base import UncertaintyMap


def settings_of(options: UncertaintyMap) -> dict[str, Any]:
    """Return the settings of a map that a calibration depends on, as plain values: without images."""
    of = options.of
    arrays = [name for name in ("start", "mask") if isinstance(getattr(of, name, None), np.ndarray)]
    # images are taken out before, as putting them into text takes long
    defaults = {name: type(of).model_fields[name].default for name in arrays}
    small = options.model_copy(
        update={"image": None, "calibration": None, "of": of.model_copy(update=defaults) if arrays else of}
    )
    plain = small.to_plain()
    plain["of"] = {name: value for name, value in plain["of"].items() if name not in arrays}
    return {name: value for name, value in plain.items() if name != "level"}


def plain_operator(operator: object) -> dict[str, Any] | None:
    """Return an image formation model as plain values; ``None`` for one that only code can give."""
    return operator.to_plain() if isinstance(operator, Options) else None


def sha256_of(model: object) -> str | None:
    """Return the hash of a network's file, adapters or not; ``None`` where it has none."""
    from napari_fidelity.networks.adapters import innermost  # not before it is needed: it loads torch

    return getattr(getattr(innermost(model), "info", None), "sha256", None) or None
