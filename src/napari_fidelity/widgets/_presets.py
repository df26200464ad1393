"""Users' words for image formation models, and which words fit a given model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import FidelityError

if TYPE_CHECKING:
    from napari_fidelity.operators import Mask
    from napari_fidelity.operators.base import Operator

PRESETS = {
    "downsampled": (
        "Downsampled",
        "The measurement has too few pixels: every one is a mean over several of the image you want.",
    ),
    "blurred": ("Blurred", "The measurement is blurred by the optics, a movement or a defocus."),
    "both": ("Blurred and downsampled", "It is blurred first, and then recorded with too few pixels."),
    "missing": ("Missing pixels", "Some pixels were not recorded: dead, saturated, skipped or painted over."),
    "noisy": ("Noisy", "The measurement is the image with noise, nothing else."),
    "written": ("Written out", "Any model, written as on the command line."),
}
"""Words and meaning of each preset."""

_BLURS = ("gaussian_blur", "airy_blur", "motion_blur", "uniform_blur", "blur")


@dataclass(frozen=True)
class Parts:
    """A model in the order of its parts: blur, sampling, missing pixels."""

    blur: Operator | None = None
    scale: float | tuple[float, ...] | None = None
    mask: Mask | None = None

    def operator(self) -> Operator:
        """Return the model.

        Raises
        ------
        OptionError
            If the scale is out of its range.
        """
        from napari_fidelity.operators import Compose, Downsample, Identity

        sampling = None if self.scale is None else Downsample(scale=self.scale)
        parts = [part for part in (self.blur, sampling, self.mask) if part is not None]
        if not parts:
            return Identity()
        return parts[0] if len(parts) == 1 else Compose(operators=tuple(parts))

    def preset(self, *, missing: bool) -> str:
        """Return the preset these parts belong to."""
        if missing:
            return "missing"
        if self.blur is not None:
            return "blurred" if self.scale is None else "both"
        return "noisy" if self.scale is None else "downsampled"


def parts_of(operator: Operator) -> Parts | None:
    """Return the parts of a model that a preset can show; ``None`` for any other model."""
    found: dict[str, Any] = {}
    names = ["blur", "scale", "mask"]
    part: Any
    for part in getattr(operator, "operators", (operator,)):
        name = "blur" if part.kind in _BLURS else {"downsample": "scale", "mask": "mask"}.get(part.kind)
        if name is None:
            if part.kind != "identity":
                return None
            continue
        if name not in names:
            return None  # twice, or in another order
        names = names[names.index(name) + 1 :]
        found[name] = part.scale if name == "scale" else part
    if "mask" in found and "blur" in found:
        return None  # the preset for missing pixels has no blur
    return None if _has_no_room(found) else Parts(**found)


def as_text(operator: Operator) -> str | None:
    """Return a model written out; ``None`` for one that holds arrays."""
    from napari_fidelity.operators import describe

    try:
        text: str = describe(operator)
    except FidelityError:
        return None
    return text


def _has_no_room(found: dict[str, Any]) -> bool:
    """Whether some option cannot be shown: a value for each of three axes, or a kernel used as it is."""
    blur, mask = found.get("blur"), found.get("mask")
    values = [found.get("scale"), *(getattr(blur, name, None) for name in ("sigma", "size"))]
    arrays = [getattr(blur, "kernel", None), getattr(mask, "mask", None)]
    return (
        any(isinstance(value, tuple) and len(value) > 2 for value in values)
        or any(array is not None and array.ndim > 2 for array in arrays)
        or not getattr(blur, "normalise", True)
    )
