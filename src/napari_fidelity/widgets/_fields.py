"""One control for one declared option: the right kind of widget, its label, its tooltip and its text."""

from __future__ import annotations

import json
import re
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from magicgui.widgets import create_widget
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QSizePolicy, QWidget

from napari_fidelity.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

    from napari_fidelity.core.options import Options

_LARGEST = 2**31 - 1  # of a spin box without an upper limit
_NONE_WORD = "auto"
EMPTY = ""
"""What a field without a value holds."""
_SEPARATORS = re.compile(r"[\s,;×]+")
_AMBIGUOUS = re.compile(r"\d,\d")
_CHOICES = {"none": "none", "norm_bias": "normalisation and biases", "low_rank": "low rank"}


@dataclass
class Field:
    """A control and how to read it, fill it and listen to it.

    Attributes
    ----------
    widget
        What is put into the form.
    get
        Returns the value, or text that the declaration then refuses with a message.
    set
        Shows a value.
    connect
        Has a function called after every change.
    wanted
        What the value must be, in words, where text may be none of it.
    """

    widget: QWidget
    get: Callable[[], Any]
    set: Callable[[Any], None]
    connect: Callable[[Callable[[], None]], None]
    wanted: str = ""


def make_field(name: str, info: FieldInfo) -> Field | None:
    """Return the control for a declared option; ``None`` for an array, which no one types in."""
    members = _members(info.annotation)
    none = none_of(info)
    if none is not None:
        inner = _plain_field([m for m in members if m is not types.NoneType], info)
        field = None if inner is None else _optional(name, inner, none)
    else:
        field = _plain_field(members, info)
    if field is not None:
        field.widget.setToolTip(tooltip(info))
        field.widget.setAccessibleName(label(name, info))
    return field


def variants_of(info: FieldInfo) -> list[type[Options]]:
    """Return the classes of options of which a declared option is one; empty for any other option."""
    members = [member for member in _members(info.annotation) if member is not types.NoneType]
    return members if all("kind" in getattr(member, "model_fields", ()) for member in members) else []


def none_of(info: FieldInfo) -> str | None:
    """Return the word for a declared option without a value; ``None`` if it always has one."""
    if types.NoneType not in _members(info.annotation):
        return None
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return str(extra.get("none", _NONE_WORD))


def label(name: str, info: FieldInfo) -> str:
    """Return an option's name, or its own words where it has some, with its unit: ``level (dB)``."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    unit = extra.get("unit")
    words = str(extra.get("words", name.replace("_", " ")))
    return f"{words} ({unit})" if unit else words


def tooltip(info: FieldInfo) -> str:
    """Return an option's description with its range, as rich text, which wraps."""
    limits = [
        f"{word} {value:g}"
        for word, value in zip(("at least", "above", "at most", "below"), _limits(info), strict=True)
        if value is not None and abs(value) <= _LARGEST
    ]
    description = (info.description or "").replace("&", "&amp;").replace("<", "&lt;")
    range_ = f" ({', '.join(limits)})" if limits else ""
    return f"<qt>{description}{range_}</qt>"


def number_text(value: float) -> str:
    """Return a number in its shortest form that reads back the same: ``0.00015``, ``9``, ``0.1``."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def parse_number(text: str) -> Any:
    """Return a number, with a point or a decimal comma; the text itself where it holds anything else."""
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return text


def parse_numbers(text: str) -> Any:
    """Return one number, or several as a tuple; the text itself where it holds anything else.

    ``1, 2`` and ``1; 2`` are two numbers; ``1,2`` might be one and a fifth and is left as it is.
    """
    if _AMBIGUOUS.search(text):
        return text
    try:
        numbers = tuple(float(part) for part in _SEPARATORS.split(text.strip()))
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 else numbers


def quiet_wheel(widget: QWidget) -> QWidget:
    """Keep the mouse wheel from changing a value while the dock is scrolled; return the widget."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_WheelFilter(widget))
    return widget


class _WheelFilter(QObject):
    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _members(annotation: Any) -> list[Any]:
    """Return what a union is made of, without annotations."""
    annotation = _bare(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return [_bare(member) for member in get_args(annotation)]
    return [annotation]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_array(annotation: Any) -> bool:
    return get_origin(annotation) is np.ndarray


def _plain_field(members: list[Any], info: FieldInfo) -> Field | None:
    """Return the control for an option that is never ``None``."""
    first = members[0]
    if all(_is_array(member) for member in members):
        return None
    if get_origin(first) is Literal:
        return _choice(get_args(first), takes_array=any(_is_array(member) for member in members))
    if first is bool:
        return _magic("CheckBox", bool, lambda value: value)
    if first is int and len(members) == 1:
        return _whole_number(info)
    if first in (int, float):
        if len(members) > 1:
            return _text(_numbers_text, parse_numbers, "one number, or one for each axis such as 1, 2")
        return _text(_numbers_text, parse_number, "a number")
    if first is str:
        return _text(str, str)
    return _text(_json_text, _from_json)


def _magic(kind: str, get: Callable[[Any], Any], show: Callable[[Any], Any], **options: Any) -> Field:
    control: Any = create_widget(widget_type=kind, options=options)

    def fill(value: Any) -> None:
        control.value = show(value)

    def connect(listener: Callable[[], None]) -> None:
        control.changed.connect(lambda _: listener())

    return Field(control.native, lambda: get(control.value), fill, connect)


def _text(show: Callable[[Any], str], get: Callable[[str], Any], wanted: str = "") -> Field:
    field = _magic("LineEdit", get, show)
    field.wanted = wanted
    field.widget.setMinimumWidth(50)
    return field


def _whole_number(info: FieldInfo) -> Field:
    least, above, most, below = _limits(info)
    low = int(least) if least is not None else int(above) + 1 if above is not None else -_LARGEST
    high = int(most) if most is not None else int(below) - 1 if below is not None else _LARGEST
    field = _magic("SpinBox", int, int, min=low, max=high, step=1)
    quiet_wheel(field.widget)
    field.widget.setMinimumWidth(50)
    field.widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return field


def _choice(values: tuple[Any, ...], *, takes_array: bool) -> Field:
    """Return a combo box over some values; an array, if it may be one, becomes an entry of its own."""
    combo = QComboBox()
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(6)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    held: list[Any] = list(values)
    combo.addItems([_CHOICES.get(str(value), str(value).replace("_", " ")) for value in values])

    def fill(value: Any) -> None:
        if isinstance(value, np.ndarray) and takes_array:
            del held[len(values) :]
            held.append(value)
            combo.removeItem(len(values))
            combo.addItem("as given, " + " × ".join(str(n) for n in value.shape))
            combo.setCurrentIndex(len(values))
        else:
            combo.setCurrentIndex(values.index(value))

    def connect(listener: Callable[[], None]) -> None:
        combo.currentIndexChanged.connect(lambda _: listener())

    return Field(quiet_wheel(combo), lambda: held[combo.currentIndex()], fill, connect)


def _optional(name: str, inner: Field, word: str) -> Field:
    """Return a control with a box to tick for ``None``."""
    box = QWidget()
    tick = QCheckBox(word)
    tick.setChecked(True)
    tick.setAccessibleName(f"{name.replace('_', ' ')}: {word}")
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(tick)
    row.addWidget(inner.widget, 1)
    box.setFocusProxy(tick)

    def get() -> Any:
        if tick.isChecked():
            return None
        value = inner.get()
        if value == EMPTY:
            raise OptionError(f"'{name}' has no value", do=f"Type a number, or tick '{word}'")
        return value

    def fill(value: Any) -> None:
        tick.setChecked(value is None)
        if value is not None:
            inner.set(value)
        inner.widget.setEnabled(value is not None)

    def connect(listener: Callable[[], None]) -> None:
        tick.toggled.connect(lambda _: listener())
        inner.connect(listener)

    tick.toggled.connect(lambda on: inner.widget.setEnabled(not on))
    inner.widget.setEnabled(False)
    return Field(box, get, fill, connect, inner.wanted)


def _limits(info: FieldInfo) -> tuple[Any, Any, Any, Any]:
    """Return the limits ≥, >, ≤, < of an option, ``None`` where there is none."""
    names = ("ge", "gt", "le", "lt")
    found = {name: getattr(item, name) for item in info.metadata for name in names if hasattr(item, name)}
    return found.get("ge"), found.get("gt"), found.get("le"), found.get("lt")


def _numbers_text(value: Any) -> str:
    values = value if isinstance(value, list | tuple) else (value,)
    return EMPTY if value == EMPTY else ", ".join(number_text(v) for v in values)


def _json_text(value: Any) -> str:
    return EMPTY if value == EMPTY else json.dumps(value, ensure_ascii=False, default=lambda part: part.to_plain())


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
