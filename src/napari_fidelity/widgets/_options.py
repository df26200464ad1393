"""Forms made from declarations: every option of a method, operator, noise model or rule as a control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, OptionError
from napari_fidelity.widgets._dock import narrow, note_label, set_note
from napari_fidelity.widgets._fields import (
    EMPTY,
    Field,
    label,
    make_field,
    none_of,
    quiet_wheel,
    tooltip,
    variants_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.fields import FieldInfo

    from napari_fidelity.core.options import Options


class OptionsForm(QWidget):
    """A labelled row for each option of a class; what is wrong with the values is said below them.

    Parameters
    ----------
    declared
        The options class.
    leave_out
        Options without a row. They, and arrays, keep the values of the last :meth:`set_value`.
    part
        Whether it is part of another form, which says what is wrong with its values.
    """

    changed = Signal()

    def __init__(
        self, declared: type[Options], leave_out: Sequence[str] = ("kind",), *, part: bool = False
    ) -> None:
        super().__init__()
        self.declared = declared
        self.fields: dict[str, Field] = {}
        self._kept: dict[str, Any] = {}
        self._quiet, self._part = False, part
        self.problem = note_label()
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(2)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, info in declared.model_fields.items():
            if name not in leave_out:
                self._add(form, name, info)
        form.addRow(self.problem)
        self.reset()

    def _add(self, form: QFormLayout, name: str, info: FieldInfo) -> None:
        """Add the row of one option; a second one for the options of what is chosen in it, if it is a choice."""
        variants = variants_of(info)
        nested = ChoiceForm.of(name, info, variants) if variants else None
        field = make_field(name, info) if nested is None else nested.field()
        if field is None:
            return
        self.fields[name] = field
        words = QLabel(label(name, info))
        words.setToolTip(field.widget.toolTip())
        words.setBuddy(field.widget)
        form.addRow(words, field.widget)
        if nested is not None:
            nested.setContentsMargins(_INDENT, 0, 0, 0)
            form.addRow(nested)
        field.connect(self._field_changed)

    def value(self) -> Options:
        """Return the options.

        Raises
        ------
        OptionError
            If a value is out of its range or no number; the message names the option.
        """
        shown = {name: field.get() for name, field in self.fields.items()}
        for name, value in shown.items():
            if isinstance(value, str) and value == EMPTY:
                raise OptionError(f"'{name}' has no value", do="Type one")
            if isinstance(value, str) and self.fields[name].wanted:
                raise OptionError(f"'{name}' is {self.fields[name].wanted}", found=f"'{value}'")
        return self.declared(**{**self._kept, **shown})

    def set_value(self, options: Options) -> None:
        """Show some options."""
        if not isinstance(options, self.declared):
            raise OptionError(f"This form is for {self.declared.__name__}", found=type(options).__name__)
        self._kept = {
            name: getattr(options, name) for name in type(options).model_fields if name not in self.fields
        }
        self._fill({name: getattr(options, name) for name in self.fields})

    def reset(self) -> None:
        """Show the defaults; an option without one is left empty."""
        self._kept = {}
        infos = {name: self.declared.model_fields[name] for name in self.fields}
        self._fill({name: EMPTY if info.is_required() else _default(info) for name, info in infos.items()})

    def _fill(self, values: Mapping[str, Any]) -> None:
        self._quiet = True
        try:
            for name, value in values.items():
                self.fields[name].set(value)
        finally:
            self._quiet = False
        set_note(self.problem, "")
        self.changed.emit()

    def _field_changed(self) -> None:
        if self._quiet:
            return
        try:
            self.value()
        except FidelityError as error:
            set_note(self.problem, "" if self._part else str(error))
        else:
            set_note(self.problem, "")
        self.changed.emit()


class ChoiceForm(QWidget):
    """A combo box over the variants of a family, and the options of the one that is chosen.

    Parameters
    ----------
    classes
        The variants, each with an option ``kind``.
    labels
        Words for each kind; the kind itself where there are none.
    none
        Words for no variant, if that is a choice.
    tooltip
        What is chosen here.
    part
        Whether it belongs to another form, in which the combo box has a place of its own.
    """

    changed = Signal()

    def __init__(
        self,
        classes: Sequence[type[Options]],
        labels: Mapping[str, str] | None = None,
        none: str | None = None,
        tooltip: str = "",
        *,
        part: bool = False,
    ) -> None:
        super().__init__()
        self._part = part
        self.combo = narrow(QComboBox())
        self.combo.setToolTip(tooltip or "Choose one; its options appear below")
        quiet_wheel(self.combo)
        self._classes = {str(cls.model_fields["kind"].default): cls for cls in classes}
        self._forms: dict[str, OptionsForm] = {}
        self._given: Options | None = None
        if none is not None:
            self.combo.addItem(none, None)
        for kind, cls in self._classes.items():
            self.combo.addItem((labels or {}).get(kind, kind.replace("_", " ")), kind)
            self.combo.setItemData(self.combo.count() - 1, _first_line(cls), Qt.ItemDataRole.ToolTipRole)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        if not part:
            self._column.addWidget(self.combo)
            self.setFocusProxy(self.combo)
        self._show_form()
        self.combo.currentIndexChanged.connect(self._chosen)

    @classmethod
    def of(cls, name: str, info: FieldInfo, variants: Sequence[type[Options]]) -> ChoiceForm:
        """Return the form of an option that is one of several variants, as a part of another form."""
        made = cls(variants, titles(variants), none_of(info), tooltip(info), part=True)
        made.combo.setAccessibleName(label(name, info))
        made.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        return made

    def field(self) -> Field:
        """Return the form as a field of another one, which shows the combo box as its control."""
        return Field(
            self.combo,
            self.value,
            lambda value: self.set_value(None if isinstance(value, str) else value),
            lambda listener: self.changed.connect(listener),
        )

    @property
    def kind(self) -> str | None:
        """The kind that is chosen."""
        chosen: str | None = self.combo.currentData()
        return chosen

    @property
    def form(self) -> OptionsForm | None:
        """The form of the chosen kind; ``None`` if there are no options."""
        return self._forms.get(self.kind or "")

    def value(self) -> Options | None:
        """Return the options; ``None`` if none is chosen.

        Raises
        ------
        OptionError
            As in :meth:`OptionsForm.value`.
        """
        if self.kind == _GIVEN:
            return self._given
        return None if self.form is None else self.form.value()

    def set_value(self, options: Options | None) -> None:
        """Show some options; those of a class that is not offered become an entry of their own."""
        kind = None if options is None else str(getattr(options, "kind", ""))
        if options is not None and type(options) is not self._classes.get(kind or ""):
            self._given, kind = options, _GIVEN
            if self.combo.findData(_GIVEN) < 0:
                self.combo.addItem("as given", _GIVEN)
        before = self.blockSignals(True)
        self.combo.setCurrentIndex(max(0, self.combo.findData(kind)))
        self._show_form()
        if options is not None and self.form is not None:
            self.form.set_value(options)
        self.blockSignals(before)
        self.changed.emit()

    def _chosen(self) -> None:
        self._show_form()
        self.changed.emit()

    def _show_form(self) -> None:
        kind = self.kind or ""
        if kind in self._classes and kind not in self._forms:
            form = self._forms[kind] = OptionsForm(self._classes[kind], part=self._part)
            form.changed.connect(self.changed)
            self._column.addWidget(form)
        for name, form in self._forms.items():
            form.setVisible(name == kind)
        if self._part:
            self.setVisible(self.form is not None and bool(self.form.fields))


_GIVEN = "as given"
_INDENT = 12  # pixels by which the options of what is chosen stand in


def titles(classes: Sequence[type[Options]]) -> dict[str, str]:
    """Return the words that classes have for themselves, by kind."""
    named = {str(cls.model_fields["kind"].default): getattr(cls, "title", None) for cls in classes}
    return {kind: words for kind, words in named.items() if words}


def _default(info: FieldInfo) -> Any:
    return info.get_default(call_default_factory=True)


def _first_line(cls: type[Options]) -> str:
    """Return what a class is in one sentence."""
    return (cls.__doc__ or "").strip().partition("\n")[0]
