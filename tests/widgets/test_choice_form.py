"""Forms to choose one of a family of options, by itself and within other options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt

from napari_fidelity.core.errors import OptionError
from napari_fidelity.denoisers import BM3D, NLM, TV
from napari_fidelity.methods import RED, DeepRED
from napari_fidelity.networks.untrained import DeepDecoder, Skip
from napari_fidelity.operators import NOISES, LaplaceNoise, PoissonNoise
from napari_fidelity.stopping import AnyOf, Budget, Discrepancy, LRPSNRGain, Settled
from napari_fidelity.widgets._options import ChoiceForm, OptionsForm

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from napari_fidelity.core.options import Options


def make(declared: type[Options], qtbot: QtBot) -> OptionsForm:
    made = OptionsForm(declared)
    qtbot.addWidget(made)
    return made


# -- a family -----------------------------------------------------------------------------------------------------


@pytest.fixture
def choice(qtbot: QtBot) -> ChoiceForm:
    form = ChoiceForm(NOISES, labels={"poisson": "photon noise"}, none="not known")
    qtbot.addWidget(form)
    return form


def test_a_family_begins_with_none(choice: ChoiceForm) -> None:
    assert choice.value() is None
    assert [choice.combo.itemText(i) for i in range(3)] == ["not known", "gaussian", "photon noise"]
    assert "Photon noise" in choice.combo.itemData(2, Qt.ItemDataRole.ToolTipRole)


@pytest.mark.parametrize("noise", [PoissonNoise(gain=2), LaplaceNoise(scale=3), None], ids=str)
def test_a_family_goes_through_unchanged(choice: ChoiceForm, noise: Any, qtbot: QtBot) -> None:
    choice.combo.setCurrentIndex(1)
    with qtbot.waitSignals([choice.changed]):
        choice.set_value(noise)
    assert choice.value() == noise


def test_options_are_kept_while_others_are_looked_at(choice: ChoiceForm) -> None:
    choice.set_value(PoissonNoise(gain=2))
    choice.combo.setCurrentIndex(1)
    assert choice.value() == NOISES[0]()
    choice.combo.setCurrentIndex(2)
    assert choice.value() == PoissonNoise(gain=2)


def test_what_a_family_lacks_is_kept_as_it_is(qtbot: QtBot) -> None:
    form = ChoiceForm([LRPSNRGain, Discrepancy], none="the method decides")
    qtbot.addWidget(form)
    rule = AnyOf(rules=(Settled(), Budget(iterations=3)))
    form.set_value(rule)
    assert (form.value(), form.combo.currentText()) == (rule, "as given")
    form.combo.setCurrentIndex(1)
    assert form.value() == LRPSNRGain()


def test_a_family_without_none(qtbot: QtBot) -> None:
    form = ChoiceForm([LRPSNRGain, Discrepancy])
    qtbot.addWidget(form)
    assert form.value() == LRPSNRGain()


# -- within options ----------------------------------------------------------------------------------------------


def test_options_of_what_is_chosen_within_options(qtbot: QtBot) -> None:
    form = make(DeepRED, qtbot)
    given = DeepRED(network=Skip(width=16), denoiser=NLM(h=0.8), iterations=9)
    form.set_value(given)
    assert form.value() == given
    choices = {child.combo.accessibleName(): child for child in form.findChildren(ChoiceForm)}
    assert set(choices) == {"network", "denoiser"}
    assert form.fields["denoiser"].widget is choices["denoiser"].combo
    assert choices["denoiser"].combo.currentText() == NLM.title
    denoiser = choices["denoiser"].combo
    with qtbot.waitSignal(form.changed):
        denoiser.setCurrentIndex(denoiser.findData("tv"))
    assert form.value() == given.replace(denoiser=TV())
    choices["network"].combo.setCurrentIndex(1)
    scales = choices["network"].form.fields["scales"].widget
    with qtbot.waitSignal(form.changed):
        scales.setValue(3)
    assert form.value().network == DeepDecoder(scales=3)


def test_what_is_wrong_with_a_choice_within_options_is_said_once(qtbot: QtBot) -> None:
    form = make(RED, qtbot)
    form.set_value(RED(denoiser=NLM()))
    (choice,) = form.findChildren(ChoiceForm)
    choice.form.fields["h"].widget.setText("much")
    assert "'h' is a number" in form.problem.text()
    assert not choice.form.problem.text()
    with pytest.raises(OptionError, match="'h' is a number"):
        form.value()
    choice.form.fields["h"].widget.setText("0.5")
    assert not form.problem.text()
    assert form.value() == RED(denoiser=NLM(h=0.5))


def test_a_choice_without_options_takes_no_room(qtbot: QtBot) -> None:
    form = make(RED, qtbot)
    form.set_value(RED(denoiser=BM3D()))
    (choice,) = form.findChildren(ChoiceForm)
    assert not choice.isVisibleTo(form)
