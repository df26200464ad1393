"""Forms made from declarations: every options class there is goes through them unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QCheckBox, QComboBox, QLineEdit, QWidget

from napari_fidelity.core.errors import FidelityError, OperatorError, OptionError
from napari_fidelity.denoisers import DENOISERS
from napari_fidelity.methods import AnyMethod, FineTune, Project
from napari_fidelity.networks.untrained import UNTRAINED
from napari_fidelity.operators import (
    NOISES,
    OPERATORS,
    Blur,
    Compose,
    Downsample,
    Fourier,
    GaussianBlur,
    Identity,
    LaplaceNoise,
    Mask,
    MotionBlur,
    Registered,
    UniformBlur,
    register_operator,
)
from napari_fidelity.pipeline import Recipe
from napari_fidelity.stopping import AnyOf, Budget, Settled
from napari_fidelity.stopping.rules import AnyRule
from napari_fidelity.widgets._options import OptionsForm

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from napari_fidelity.core.options import Options

METHODS = get_args(get_args(AnyMethod)[0])
RULES = get_args(get_args(AnyRule)[0])
# What a class without defaults for all its options is tried with.
EXAMPLES: dict[type[Options], Options] = {
    Blur: Blur(kernel=np.ones((3, 3)) / 9),
    Mask: Mask(mask=np.eye(4)),
    Fourier: Fourier(mask=np.eye(4)),
    Compose: Compose(operators=(GaussianBlur(sigma=(1.6, 0.8)), Downsample(scale=2))),
    Registered: register_operator("example", Identity()),
    LaplaceNoise: LaplaceNoise(scale=2.5),
    Budget: Budget(iterations=7),
    AnyOf: AnyOf(rules=(Settled(), Budget(seconds=9.5))),
}
CLASSES = [*METHODS, *OPERATORS, *NOISES, *RULES, *DENOISERS, *UNTRAINED, Recipe]
every_class = pytest.mark.parametrize("declared", CLASSES, ids=lambda cls: cls.__name__)


def example(declared: type[Options]) -> Options:
    return EXAMPLES[declared] if declared in EXAMPLES else declared()


@pytest.fixture
def form(qtbot: QtBot, request: pytest.FixtureRequest) -> OptionsForm:
    made = OptionsForm(request.param)
    qtbot.addWidget(made)
    return made


def make(declared: type[Options], qtbot: QtBot) -> OptionsForm:
    made = OptionsForm(declared)
    qtbot.addWidget(made)
    return made


def inner(widget: QWidget) -> QWidget:
    """Return the control beside the box that stands for no value."""
    found: QWidget = widget.findChild(QAbstractSpinBox) or widget.findChild(QLineEdit)
    return found


@every_class
def test_options_go_through_unchanged(declared: type[Options], qtbot: QtBot) -> None:
    form = make(declared, qtbot)
    if declared not in EXAMPLES:
        assert form.value() == declared()
    form.set_value(example(declared))
    assert form.value() == example(declared)
    assert type(form.value()) is declared


@every_class
def test_every_option_has_a_labelled_control_that_changes_it(declared: type[Options], qtbot: QtBot) -> None:
    form = make(declared, qtbot)
    form.set_value(example(declared))
    before = form.value()
    for name, field in form.fields.items():
        assert field.widget.toolTip() and field.widget.accessibleName()
        if type(before) is Recipe and name in (
            "operator",
            "noise",
            "method",
            "stop",
            "model",
            "software",
            "format",
        ):
            continue  # tables of their own, shown by forms of their own
        with qtbot.waitSignal(form.changed):
            change(field.widget)
        try:
            after = form.value()
        except (OptionError, OperatorError) as error:  # a number out of range, or a name of nothing
            assert name in str(error)
            assert name in form.problem.text()
        else:
            if field.get() != getattr(before, name, None):
                assert after != before, name
        form.set_value(before)
        assert form.value() == before


def change(widget: QWidget) -> None:
    if isinstance(widget, QCheckBox):
        widget.toggle()
    elif isinstance(widget, QComboBox):
        widget.setCurrentIndex((widget.currentIndex() + 1) % widget.count())
    elif isinstance(widget, QLineEdit):
        widget.setText("0.25" if widget.text() == "0.5" else "0.5")
    elif hasattr(widget, "setValue"):
        widget.setValue(widget.value() + 1)
    else:
        tick = widget.findChild(QCheckBox)
        tick.setChecked(False)
        change(inner(widget))


@every_class
@pytest.mark.parametrize("text", ["abc", "", "1,,", "nan", "-1e999", "[1", "½"])
def test_bad_text_is_said_and_never_a_crash(declared: type[Options], text: str, qtbot: QtBot) -> None:
    form = make(declared, qtbot)
    form.set_value(example(declared))
    for name, field in form.fields.items():
        edit = field.widget if isinstance(field.widget, QLineEdit) else field.widget.findChild(QLineEdit)
        if edit is None or not isinstance(edit, QLineEdit) or edit.objectName() == "qt_spinbox_lineedit":
            continue
        for tick in field.widget.findChildren(QCheckBox):
            tick.setChecked(False)
        edit.setText(text)
        with pytest.raises(FidelityError, match=name):
            form.value()
        assert name in form.problem.text()
        form.set_value(example(declared))
        assert not form.problem.text()


def test_small_numbers_are_readable_and_typed_freely(qtbot: QtBot) -> None:
    form = make(FineTune, qtbot)
    edit = form.fields["learning_rate"].widget
    assert edit.text() == "0.00015"
    for text, rate in (("3e-6", 3e-6), (" 0.02 ", 0.02), ("0,5", 0.5), (".25", 0.25)):
        edit.setText(text)
        assert form.value().learning_rate == rate
    form.set_value(FineTune(learning_rate=0.123456789012345))
    assert form.value().learning_rate == 0.123456789012345


def test_one_number_or_one_per_axis(qtbot: QtBot) -> None:
    form = make(GaussianBlur, qtbot)
    edit = form.fields["sigma"].widget
    for text, sigma in (
        ("2", 2.0),
        ("1, 2", (1, 2)),
        ("1; 2.5", (1, 2.5)),
        ("3 × 4", (3, 4)),
        ("1 2 3", (1, 2, 3)),
    ):
        edit.setText(text)
        assert form.value().sigma == sigma
    edit.setText("1, 2, 3, 4")
    with pytest.raises(OptionError, match="sigma"):
        form.value()
    form = make(UniformBlur, qtbot)
    form.fields["size"].widget.setText("9, 5")
    assert form.value() == UniformBlur(size=(9, 5))


def test_left_out_means_ticked(qtbot: QtBot) -> None:
    form = make(Project, qtbot)
    box = form.fields["ridge"].widget
    assert box.findChild(QCheckBox).isChecked() and not inner(box).isEnabled()
    box.findChild(QCheckBox).setChecked(False)
    with pytest.raises(OptionError, match=r"'ridge' has no value.*auto"):
        form.value()
    inner(box).setText("0.1")
    assert form.value() == Project(ridge=0.1)


def test_labels_units_ranges_and_descriptions(qtbot: QtBot) -> None:
    form = make(MotionBlur, qtbot)
    assert form.fields["length"].widget.accessibleName() == "length (px)"
    assert "Length of the path" in form.fields["length"].widget.toolTip()
    assert "at least 1, at most 500" in form.fields["length"].widget.toolTip()
    assert make(FineTune, qtbot).fields["learning_rate"].widget.accessibleName() == "learning rate"


def test_what_has_no_row_is_kept(qtbot: QtBot) -> None:
    mask = np.ones((4, 5), np.float32)
    form = OptionsForm(FineTune, leave_out=("kind", "snapshots"))
    qtbot.addWidget(form)
    given = FineTune(snapshots=9, mask=mask)
    form.set_value(given)
    assert form.value() == given
    assert "4 × 5" in form.fields["mask"].widget.currentText()
    form.fields["mask"].widget.setCurrentIndex(1)
    assert form.value() == FineTune(snapshots=9, mask="edges")
    form.reset()
    assert form.value() == FineTune()


def test_a_form_refuses_other_options(qtbot: QtBot) -> None:
    with pytest.raises(OptionError, match=r"FineTune.*Project"):
        make(FineTune, qtbot).set_value(Project())


def test_a_large_seed(qtbot: QtBot) -> None:
    form = OptionsForm(Recipe, leave_out=tuple(name for name in Recipe.model_fields if name != "seed"))
    qtbot.addWidget(form)
    form.set_value(Recipe(seed=2**62 + 1))
    assert form.value().seed == 2**62 + 1


def test_the_wheel_scrolls_the_dock_and_changes_nothing(qtbot: QtBot) -> None:
    form = make(FineTune, qtbot)
    form.show()
    for name in ("iterations", "optimizer"):
        widget = form.fields[name].widget
        widget.clearFocus()
        at = QPointF(widget.rect().center())
        event = QWheelEvent(
            at, QPointF(widget.mapToGlobal(widget.rect().center())), QPoint(), QPoint(0, -120),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, event)
    assert form.value() == FineTune()


def test_every_control_is_reached_by_tab(qtbot: QtBot) -> None:
    form = make(FineTune, qtbot)
    form.show()
    qtbot.waitExposed(form)
    first = form.fields["iterations"].widget
    first.setFocus()
    reached, widget = set(), first
    for _ in range(100):
        reached.add(widget)
        widget = widget.nextInFocusChain()
    for name, field in form.fields.items():
        parts = [field.widget, *field.widget.findChildren(QWidget)]
        assert any(part in reached and part.focusPolicy() & Qt.FocusPolicy.TabFocus for part in parts), name
