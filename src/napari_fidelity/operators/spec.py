"""Operators and noise models from text, as written on a command line, and from plain values.

``downsample:scale=4`` is one operator; ``gaussian_blur:sigma=1.6 + downsample:scale=2`` are two, the first one
applied to the image first. Values are numbers, words, or JSON (``scale=[1,2,2]``).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from napari_fidelity.core.errors import OptionError
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import OPERATORS, Compose
from napari_fidelity.operators.noise import NOISES, Noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fidelity.core.options import Options

Declared = TypeVar("Declared", bound="Operator | Noise")

_COMMA = re.compile(",")
_PLUS = re.compile(r"\+(?!\s*[\d.])")  # not the sign of a number


def parse_operator(spec: str | Mapping[str, Any] | Operator) -> Operator:
    """Return the operator that a text, a table of plain values or an operator describes.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    if isinstance(spec, Operator):
        return spec
    if not isinstance(spec, str):
        return _from_table(spec, OPERATORS, "operator")
    parts = [_from_text(part, OPERATORS, "operator") for part in _split(spec, _PLUS)]
    return parts[0] if len(parts) == 1 else Compose(operators=tuple(parts))


def parse_noise(spec: str | Mapping[str, Any] | Noise) -> Noise:
    """Return the noise model that a text (``gaussian:sigma=2``) or a table of plain values describes.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    if isinstance(spec, Noise):
        return spec
    if isinstance(spec, str):
        return _from_text(spec, NOISES, "noise model")
    return _from_table(spec, NOISES, "noise model")


def _from_text(text: str, classes: Sequence[type[Declared]], what: str) -> Declared:
    kind, _, options = text.strip().partition(":")
    table: dict[str, Any] = {"kind": kind.strip()}
    for item in _split(options, _COMMA) if options.strip() else ():
        name, equals, value = item.partition("=")
        if not equals:
            raise OptionError("An option is written name=value", found=f"'{item.strip()}' in '{text.strip()}'")
        table[name.strip()] = _value(value.strip())
    return _from_table(table, classes, what)


def _from_table(table: Mapping[str, Any], classes: Sequence[type[Declared]], what: str) -> Declared:
    values = dict(table)
    kinds = {_kind(cls): cls for cls in classes}
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise OptionError(f"There is no {what} '{kind}'", do="There are: " + ", ".join(sorted(kinds)))
    try:
        return kinds[kind](**values)
    except OptionError as error:
        raise OptionError(error.what, found=error.found, do=_options_of(kind, kinds[kind])) from None


def _options_of(kind: str, cls: type[Options]) -> str:
    names = [name for name in cls.model_fields if name != "kind"]
    return f"Options of {kind}: " + (", ".join(names) or "none")


def _kind(cls: type[Options]) -> str:
    return str(cls.model_fields["kind"].default)


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split at the separators that stand outside brackets."""
    parts, start = [], 0
    for match in separator.finditer(text):
        before = text[: match.start()]
        if before.count("[") <= before.count("]"):
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
