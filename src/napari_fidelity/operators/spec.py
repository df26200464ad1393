"""Operators and noise models from text, as written on a command line, and from plain values; and their text.

``downsample:scale=4`` is one operator; ``gaussian_blur:sigma=1.6 + downsample:scale=2`` are two, the first one
applied to the image first. Values are numbers, words, or JSON (``scale=[1,2,2]``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.spec import parse_declared, parse_sum, parse_table, write_sum
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import OPERATORS, Compose
from napari_fidelity.operators.noise import NOISES, Noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.core.spec import ReadArray


def parse_operator(spec: str | Mapping[str, Any] | Operator, read_array: ReadArray | None = None) -> Operator:
    """Return the operator that a text, a table of plain values or an operator describes.

    Parameters
    ----------
    spec
        The description.
    read_array
        Reads the files that a text may name for arrays, see :func:`napari_fidelity.core.spec.parse_one`.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    if isinstance(spec, Operator):
        return spec
    if not isinstance(spec, str):
        return parse_table(spec, OPERATORS, "operator")
    parts = parse_sum(spec, OPERATORS, "operator", read_array)
    return parts[0] if len(parts) == 1 else Compose(operators=tuple(parts))


def describe(model: Operator | Noise) -> str:
    """Return the text that :func:`parse_operator` or :func:`parse_noise` reads this model from.

    Numbers are always written, words where they differ from the default. A composition of a single operator is
    written as that operator.

    Raises
    ------
    OptionError
        If it holds an array of more than a hundred numbers.
    """
    return write_sum(model.operators if isinstance(model, Compose) else (model,))


def parse_noise(spec: str | Mapping[str, Any] | Noise) -> Noise:
    """Return the noise model that a text (``gaussian:sigma=2``) or a table of plain values describes.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    return parse_declared(spec, Noise, NOISES, "noise model")  # type: ignore[type-abstract]
