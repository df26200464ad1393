"""Declared options from text, as written on a command line, and from plain values; and the text for options.

``kind:option=value,option=value`` names one variant of a family and its options; ``a + b`` is a list of them.
Values are numbers, words, or JSON (``scale=[1,2,2]``, ``mask="a, b.tif"``).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import numpy as np

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    ReadArray = Callable[[str, str], NDArray[Any]]

Declared = TypeVar("Declared", bound=Options)

_LONGEST_ARRAY = 100  # numbers
_COMMA = re.compile(",")
_PLUS = re.compile(r"\+(?!\s*[\d.])")  # not the sign of a number


def parse_sum(
    text: str, classes: Sequence[type[Declared]], what: str, read_array: ReadArray | None = None
) -> list[Declared]:
    """Return the options that ``a:x=1 + b:y=2`` describes, in that order; see :func:`parse_one`."""
    return [parse_one(part, classes, what, read_array) for part in _split(text, _PLUS)]


def parse_one(
    text: str, classes: Sequence[type[Declared]], what: str, read_array: ReadArray | None = None
) -> Declared:
    """Return the options that a text describes.

    Parameters
    ----------
    text
        ``kind`` or ``kind:option=value,…``.
    classes
        The variants there are, each with a field ``kind``.
    what
        What they are, for messages: ``"operator"``.
    read_array
        Called with the name of an array option that is a word, and the word; returns the array in the file of
        that name. Left out: a word is no array.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    table = read_table(text)
    cls = next((cls for cls in classes if _kind(cls) == table["kind"]), None)
    if cls is not None and read_array is not None:
        for name, field in cls.model_fields.items():
            if isinstance(table.get(name), str) and _takes_array(field.annotation):
                table[name] = read_array(name, table[name])
    return parse_table(table, classes, what)


def read_table(text: str) -> dict[str, Any]:
    """Return what ``kind:option=value,…`` says as a table of plain values, whatever the kind and its options.

    Raises
    ------
    OptionError
        If an option has no value or is given twice.
    """
    kind, _, options = text.strip().partition(":")
    table: dict[str, Any] = {"kind": kind.strip()}
    for item in _split(options, _COMMA) if options.strip() else ():
        name, equals, value = item.partition("=")
        if not equals:
            raise OptionError("An option is written name=value", found=f"'{item.strip()}' in '{text.strip()}'")
        if name.strip() in table:
            raise OptionError(f"'{name.strip()}' is given twice", found=f"'{text.strip()}'")
        table[name.strip()] = _value(value.strip())
    return table


def parse_table(table: Mapping[str, Any], classes: Sequence[type[Declared]], what: str) -> Declared:
    """Return the options that a table of plain values describes; errors as :func:`parse_one`."""
    values = dict(table)
    kinds = {_kind(cls): cls for cls in classes}
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise OptionError(f"There is no {what} '{kind}'", do="There are: " + ", ".join(sorted(kinds)))
    try:
        return kinds[kind](**values)
    except OptionError as error:
        raise OptionError(error.what, found=error.found, do=_options_of(kind, kinds[kind])) from None


def parse_declared(
    spec: str | Mapping[str, Any] | Declared,
    declared: type[Declared],
    classes: Sequence[type[Declared]],
    what: str,
) -> Declared:
    """Return the options that a text, a table of plain values or options themselves describe.

    Parameters
    ----------
    spec
        What was given.
    declared
        The family that the classes belong to.
    classes, what
        As for :func:`parse_one`, whose errors are raised.
    """
    if isinstance(spec, declared):
        return spec
    if isinstance(spec, str):
        return parse_one(spec, classes, what)
    return parse_table(spec, classes, what)  # type: ignore[arg-type]


def write_sum(parts: Iterable[Options]) -> str:
    """Return the text that :func:`parse_sum` reads these options from; see :func:`write_one`."""
    return " + ".join(write_one(part) for part in parts)


def write_one(options: Options) -> str:
    """Return the text that :func:`parse_one` reads these options from.

    Numbers are always written, whatever the default; words where they differ from it.

    Raises
    ------
    OptionError
        If an array among them is too large to be written out.
    """
    written = []
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if name == "kind" or value is None or (isinstance(value, str | bool) and value == field.default):
            continue
        written.append(f"{name}={_text(name, value)}")
    kind = _kind(type(options))
    return f"{kind}:{','.join(written)}" if written else kind


def number_text(value: float) -> str:
    """Return a number as it is written, without a point where it is a whole one; exact."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.size > _LONGEST_ARRAY:
            shape = " × ".join(str(n) for n in value.shape)
            raise OptionError(
                f"'{name}' is too large to be written out", found=f"{shape} numbers", do="Keep it in a recipe file"
            )
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(name, item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else number_text(value)


def _options_of(kind: str, cls: type[Options]) -> str:
    names = [name for name in cls.model_fields if name != "kind"]
    return f"Options of {kind}: " + (", ".join(names) or "none")


def _takes_array(annotation: Any) -> bool:
    return get_origin(annotation) is np.ndarray or any(_takes_array(part) for part in get_args(annotation))


def _kind(cls: type[Options]) -> str:
    return str(cls.model_fields["kind"].default)


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split at the separators that stand outside brackets and quotation marks."""
    parts, start = [], 0
    for match in separator.finditer(text):
        before = text[: match.start()]
        if before.count("[") <= before.count("]") and before.count('"') % 2 == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
