"""What image files carry for us as JSON: geometry that the format cannot hold, and the provenance."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.core.arrays import Image

KEY = "napari-fidelity"
"""The name of the record in files, and of the provenance in an image's metadata."""

LENGTHS = {
    "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "in": 25400.0, "m": 1e6,
}  # fmt: skip
"""Length units in micrometres, named as in OME."""

_OTHER_NAMES = {
    "um": "µm", "μm": "µm", "micron": "µm", "microns": "µm", "micrometer": "µm", "micrometre": "µm",
    "inch": "in", "angstrom": "Å", "pixels": "pixel", "": "pixel", "nanometer": "nm", "millimeter": "mm",
}  # fmt: skip


_AGREE = 1e-5  # relative


def usual_unit(name: str) -> str:
    r"""Return the usual name of a length unit: ``µm`` for ``micron``, ``um`` or ImageJ's ``\u00B5m``."""
    name = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: chr(int(code[1], 16)), name.strip())
    return _OTHER_NAMES.get(name.lower(), name)


def make_record(image: Image, provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the image's array does not say, as plain values; provenance from its metadata if not given."""
    if provenance is None:
        provenance = image.metadata.get(KEY)
    record: dict[str, Any] = {
        "axes": image.axes,
        "pixel_size": dict(image.pixel_size),
        "unit": image.unit,
        "origin": dict(image.origin),
    }
    if provenance is not None:
        record["provenance"] = dict(provenance)
    return record


def dump_record(record: Mapping[str, Any], **more: str) -> str:
    """Write a record as JSON in plain ASCII, with further texts that stood in its place before."""
    return json.dumps({KEY: record, **{name: text for name, text in more.items() if text}})


def load_record(text: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what :func:`dump_record` wrote: the record and the rest; both empty for any other text."""
    try:
        document = json.loads(text) if text and text.lstrip().startswith("{") else {}
    except ValueError:
        document = {}
    record = document.pop(KEY, None)
    return (record, document) if isinstance(record, dict) else ({}, {})


def apply_record(image: Image, record: Mapping[str, Any], *, only_origin: bool = False) -> Image:
    """Return the image with what a record says of it.

    Parameters
    ----------
    image
        As read from the file's own fields.
    record
        From :func:`load_record`; values that do not fit the image are ignored.
    only_origin
        Whether the file's own pixel size and unit stand, because other software may have changed them. Sizes
        that agree are still taken from the record: files hold fractions or rounded numbers.
    """
    changes: dict[str, Any] = {}
    unit = record.get("unit")
    if isinstance(unit, str) and (not only_origin or usual_unit(unit) == image.unit):
        changes["origin"] = _known(image, record.get("origin"))
        sizes = _known(image, record.get("pixel_size"), "T")
        if only_origin:
            own = image.pixel_size
            sizes = {a: sizes[a] if abs(sizes.get(a, 0) - own[a]) < _AGREE * own[a] else own[a] for a in own}
        changes |= {"unit": unit, "pixel_size": sizes}
    if isinstance(record.get("provenance"), dict):
        changes["metadata"] = {**image.metadata, KEY: record["provenance"]}
    return image.replace(**changes) if changes else image


def _known(image: Image, values: Any, more: str = "") -> dict[str, float]:
    if not isinstance(values, dict):
        return {}
    letters = [axis for axis in image.axes if axis in "ZYX" + more]
    return {axis: float(values[axis]) for axis in letters if isinstance(values.get(axis), int | float)}
