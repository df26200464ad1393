"""The image formation panel: presets, units, layers, noise."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QPushButton, QTextEdit, QWidget

from napari_fidelity.core.errors import FidelityError, OperatorError, OptionError
from napari_fidelity.operators import (
    AiryBlur,
    Blur,
    Compose,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Identity,
    LaplaceNoise,
    Mask,
    MotionBlur,
    PoissonGaussianNoise,
    PoissonNoise,
    UniformBlur,
)
from napari_fidelity.operators.psf import gaussian
from napari_fidelity.widgets._formation import FormationPanel
from napari_fidelity.widgets._from_layer import Background
from napari_fidelity.widgets._lengths import PixelGrid
from napari_fidelity.widgets._psf import widths_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

KEY = "napari-fidelity"
PRESETS = ("downsampled", "blurred", "both", "missing", "noisy", "written")


@pytest.fixture
def viewer(qapp: Any) -> ViewerModel:
    """A viewer's layers and dimensions, without its window."""
    return ViewerModel()


@pytest.fixture
def panel(viewer: Any, qtbot: QtBot) -> FormationPanel:
    made = FormationPanel(viewer)
    qtbot.addWidget(made)
    return made


@pytest.fixture
def cells(viewer: Any, scene: Any) -> Any:
    """A measurement of 0.1 µm pixels."""
    return viewer.add_image(scene(48, 64), name="cells", scale=(0.1, 0.1), units=("µm", "µm"))


def choose(panel: FormationPanel, preset: str, blur: str | None = None) -> None:
    panel.forms.preset.setCurrentIndex(panel.forms.preset.findData(preset))
    if blur is not None:
        panel.forms.blur.kind.setCurrentIndex(panel.forms.blur.kind.findData(blur))


def in_microns(field: Any, text: str) -> None:
    field.unit.setCurrentIndex(field.unit.findText("µm"))
    field.edit.setText(text)


# -- first use ---------------------------------------------------------------------------------------------------


def test_a_layer_nobody_said_anything_about(panel: FormationPanel, cells: Any) -> None:
    panel.set_source(cells)
    panel.set_scale(4)
    assert panel.operator() == Downsample(scale=4)
    assert (panel.noise(), panel.nonfinite(), panel.forms.chosen) == (None, "error", "downsampled")
    assert not panel.note.text() and not panel.problem.text()


def test_a_layer_that_says_how_it_was_formed(panel: FormationPanel, cells: Any, viewer: Any, qtbot: QtBot) -> None:
    operator = Compose(operators=(GaussianBlur(sigma=1.234567890123), Downsample(scale=2)))
    noise = PoissonGaussianNoise(gain=0.31, offset=99, sigma=1.7)
    sample = viewer.add_image(
        np.ones((20, 20)),
        name="sample",
        metadata={KEY: {"formation": {"operator": operator.to_plain(), "noise": noise.to_plain(), "model": "m"}}},
    )
    panel.set_source(cells)
    with qtbot.waitSignal(panel.changed):
        panel.set_source(sample)
    assert (panel.operator(), panel.noise()) == (operator, noise)
    assert panel.note.text() == "Filled in from the layer's own notes."
    assert panel.forms.chosen == "both"
    panel.set_scale(4)  # the network has to fit the sample, not the other way round
    assert panel.operator() == operator
    panel.set_source(cells)
    assert (panel.operator(), panel.noise(), panel.note.text()) == (Downsample(scale=4), None, "")


@pytest.mark.parametrize(
    "formation", [{"operator": {"kind": "magic"}}, {"noise": {"kind": "gaussian"}}, {"operator": "a"}]
)
def test_a_damaged_note_is_said(panel: FormationPanel, viewer: Any, formation: Any) -> None:
    panel.set_source(viewer.add_image(np.ones((9, 9)), name="odd", metadata={KEY: {"formation": formation}}))
    assert "'odd' notes about its formation cannot be used" in panel.note.text()
    assert panel.operator() == Downsample(scale=2)


@pytest.mark.parametrize("metadata", [{KEY: "x"}, {KEY: {"formation": 3}}, {KEY: {}}])
def test_other_metadata_is_none_of_its_business(panel: FormationPanel, viewer: Any, metadata: Any) -> None:
    panel.set_source(viewer.add_image(np.ones((9, 9)), metadata=metadata))
    assert panel.operator() == Downsample(scale=2) and not panel.note.text()


def test_what_was_filled_in_by_hand_survives_another_layer(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    panel.set_source(cells)
    choose(panel, "blurred")
    panel.forms.blur.sigma.edit.setText("3")
    panel.set_source(viewer.add_image(np.ones((30, 30))))
    panel.set_source(None)
    assert panel.operator() == GaussianBlur(sigma=3)


# -- scale -------------------------------------------------------------------------------------------------------


def test_the_scale_follows_the_network_until_it_is_typed(panel: FormationPanel, qtbot: QtBot) -> None:
    for scale in (4, 2):
        with qtbot.waitSignal(panel.changed):
            panel.set_scale(scale)
        assert panel.operator() == Downsample(scale=scale)
    with qtbot.assertNotEmitted(panel.changed):
        panel.set_scale(2)
    panel.forms.scale.setText("3")
    panel.set_scale(4)
    assert panel.operator() == Downsample(scale=3)
    panel.forms.scale.setText("2, 1")
    assert panel.operator() == Downsample(scale=(2, 1))


def test_a_network_that_does_not_enlarge(panel: FormationPanel) -> None:
    panel.set_scale(1)
    assert (panel.forms.chosen, panel.operator()) == ("noisy", Identity())
    choose(panel, "both")
    assert panel.operator() == Compose(operators=(GaussianBlur(), Downsample(scale=2)))
    choose(panel, "missing")
    assert panel.operator() == Identity()
    panel.set_scale(2)
    assert panel.operator() == Downsample(scale=2)


def test_a_network_does_not_change_what_the_user_chose(panel: FormationPanel) -> None:
    choose(panel, "blurred")
    for scale in (4, 1, 2):
        panel.set_scale(scale)
        assert panel.operator() == GaussianBlur()


# -- presets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "preset"),
    [
        (Downsample(scale=(2, 3)), "downsampled"),
        (Downsample(scale=2.5), "downsampled"),
        (GaussianBlur(sigma=(1, 0), border="zero"), "blurred"),
        (UniformBlur(size=(3, 8)), "blurred"),
        (MotionBlur(length=12.5, angle=-30, border="circular"), "blurred"),
        (AiryBlur(wavelength=610, numerical_aperture=0.75, pixel_size=81.3), "blurred"),
        (Blur(kernel=gaussian(1.3)), "blurred"),
        (Compose(operators=(MotionBlur(length=5), Downsample(scale=4))), "both"),
        (Compose(operators=(Blur(kernel=np.ones((2, 3)), border="valid"), Downsample(scale=4))), "both"),
        (Mask(mask=np.eye(5)), "missing"),
        (Compose(operators=(Downsample(scale=2), Mask(mask=np.eye(5)))), "missing"),
        (Identity(), "noisy"),
        (Compose(operators=(Identity(), Downsample(scale=3))), "downsampled"),
        (Compose(operators=(Downsample(scale=2), GaussianBlur())), "written"),
        (Compose(operators=(GaussianBlur(sigma=1), GaussianBlur(sigma=2))), "written"),
        (GaussianBlur(sigma=(1, 2, 3)), "written"),
        (Compose(operators=(Mask(mask=np.random.default_rng(0).random((40, 40))), GaussianBlur())), "given"),
        (Blur(kernel=np.ones((3, 3)), normalise=False), None),
    ],
    ids=str,
)
def test_every_model_goes_through_unchanged(panel: FormationPanel, cells: Any, operator: Any, preset: str) -> None:
    panel.set_source(cells)
    noise = PoissonNoise(gain=1.25)
    panel.set_formation(operator, noise)
    assert preset is None or panel.forms.chosen in (preset, "given")
    assert (panel.operator(), panel.noise()) == (operator, noise)
    choose(panel, "noisy" if panel.forms.chosen != "noisy" else "downsampled")
    assert panel.operator() != operator
    assert panel.forms.preset.findData("given") < 0


@pytest.mark.parametrize(
    "operator",
    [
        Downsample(scale=3),
        Compose(operators=(GaussianBlur(sigma=(1, 0.5), border="zero"), Downsample(scale=2))),
        UniformBlur(size=5),
        MotionBlur(length=12.5, angle=-30),
        AiryBlur(wavelength=610, numerical_aperture=0.75, pixel_size=81.3),
        Mask(mask=np.eye(5)),
        Compose(operators=(Downsample(scale=2), Mask(mask=np.eye(5)))),
        Identity(),
    ],
    ids=str,
)
def test_the_controls_say_the_same_as_the_model_they_were_filled_from(
    panel: FormationPanel, operator: Any
) -> None:
    panel.set_formation(operator, None)
    assert panel.forms.operator() == operator


def test_a_given_kernel_stays_when_something_else_is_changed(panel: FormationPanel) -> None:
    kernel = np.arange(1.0, 10).reshape(3, 3)
    panel.set_formation(Compose(operators=(Blur(kernel=kernel), Downsample(scale=2))), None)
    assert panel.forms.blur.psf.combo.native.currentText() == "as given, 3 × 3 px"
    panel.forms.scale.setText("4")
    operator: Any = panel.operator()
    np.testing.assert_allclose(operator.operators[0].kernel, kernel / kernel.sum())
    assert operator.operators[1] == Downsample(scale=4)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_view_of_every_preset_is_simple(panel: FormationPanel, preset: str) -> None:
    panel.show()
    choose(panel, preset)
    kinds = (QComboBox, QLineEdit, QAbstractSpinBox, QTextEdit)
    shown = [w for w in panel.findChildren(QWidget) if isinstance(w, kinds) and w.isVisible()]
    assert len(shown) <= 5, [w.accessibleName() for w in shown]  # with the preset itself and a unit
    assert panel.noise_fold.isExpanded() == (preset == "noisy")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_control_has_a_tooltip_and_a_name(panel: FormationPanel, preset: str) -> None:
    panel.show()
    choose(panel, preset)
    panel.noise_fold.expand(animate=False)
    panel.forms.blur.fold.expand(animate=False)
    for widget in panel.findChildren(QWidget):
        if isinstance(widget, QComboBox | QLineEdit | QTextEdit | QPushButton) and widget.isVisible():
            named = widget.accessibleName() or (isinstance(widget, QPushButton) and widget.text())
            assert named, widget
            fold = widget in (panel.noise_fold.toggleButton(), panel.forms.blur.fold.toggleButton())
            assert widget.toolTip() or fold, widget.accessibleName()


def test_tab_reaches_the_controls_in_their_order(panel: FormationPanel, qtbot: QtBot) -> None:
    panel.show()
    choose(panel, "both")
    reached: list[QWidget] = []
    widget: QWidget = panel.forms.preset
    while widget not in reached:
        reached.append(widget)
        widget = widget.nextInFocusChain()
    blur = panel.forms.blur
    order = [panel.forms.scale, blur.kind, blur.sigma.edit, blur.sigma.unit, panel.check_button]
    places = [reached.index(control) for control in order]
    assert places == sorted(places)


# -- lengths -----------------------------------------------------------------------------------------------------


def test_a_length_in_microns_becomes_pixels_of_the_restored_image(panel: FormationPanel, cells: Any) -> None:
    panel.set_source(cells)
    choose(panel, "both")
    panel.forms.scale.setText("2")
    in_microns(panel.forms.blur.sigma, "0.2")
    assert panel.operator() == Compose(operators=(GaussianBlur(sigma=4), Downsample(scale=2)))
    panel.forms.scale.setText("4")
    assert panel.operator() == Compose(operators=(GaussianBlur(sigma=8), Downsample(scale=4)))
    choose(panel, "blurred")
    assert panel.operator() == GaussianBlur(sigma=2)


def test_pixels_that_are_not_square(panel: FormationPanel, viewer: Any) -> None:
    layer = viewer.add_image(np.ones((40, 40)), scale=(0.2, 0.1), units=("µm", "µm"))
    panel.set_source(layer)
    choose(panel, "both")
    in_microns(panel.forms.blur.sigma, "0.2")
    assert panel.operator() == Compose(operators=(GaussianBlur(sigma=(2, 4)), Downsample(scale=2)))
    panel.forms.scale.setText("2, 1")
    in_microns(panel.forms.blur.sigma, "0.2, 0.4")
    assert panel.operator() == Compose(operators=(GaussianBlur(sigma=(2, 4)), Downsample(scale=(2, 1))))
    choose(panel, "blurred", "uniform_blur")
    in_microns(panel.forms.blur.size, "0.62")
    assert panel.operator() == UniformBlur(size=(3, 6))
    choose(panel, "blurred", "motion_blur")
    in_microns(panel.forms.blur.length, "1")
    panel.forms.blur.angle.setText("90")
    assert panel.operator() == MotionBlur(length=5, angle=90)
    panel.forms.blur.angle.setText("45")
    moved: Any = panel.operator()
    assert moved.length == pytest.approx(np.hypot(5, 10) * 2**-0.5)
    assert moved.angle == pytest.approx(np.degrees(np.arctan2(5, 10)))


def test_another_unit_shows_the_same_length(panel: FormationPanel, cells: Any) -> None:
    panel.set_source(cells)
    choose(panel, "both")
    sigma = panel.forms.blur.sigma
    sigma.edit.setText("3, 1.5")
    sigma.unit.setCurrentIndex(1)
    assert sigma.edit.text() == "0.15, 0.075"
    before = panel.operator()
    sigma.unit.setCurrentIndex(0)
    assert sigma.edit.text() == "3, 1.5"
    assert panel.operator() == before


def test_a_changed_pixel_size_is_taken_up(panel: FormationPanel, cells: Any, qtbot: QtBot) -> None:
    panel.set_source(cells)
    choose(panel, "blurred")
    in_microns(panel.forms.blur.sigma, "0.2")
    with qtbot.waitSignal(panel.changed):
        cells.scale = (0.05, 0.05)
    assert panel.operator() == GaussianBlur(sigma=4)
    panel.set_source(None)
    with qtbot.assertNotEmitted(panel.changed):
        cells.scale = (0.5, 0.5)


def test_a_layer_without_a_unit_offers_pixels_alone(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    panel.set_source(cells)
    choose(panel, "blurred")
    in_microns(panel.forms.blur.sigma, "0.2")
    panel.set_source(viewer.add_image(np.ones((20, 20))))
    unit = panel.forms.blur.sigma.unit
    assert [unit.itemText(i) for i in range(unit.count())] == ["px"]
    assert panel.operator() == GaussianBlur(sigma=0.2)


@pytest.mark.parametrize("text", ["", "abc", "0,2", "1, 2, 3", "nan", "-1", "1e9"])
def test_a_bad_length_is_said(panel: FormationPanel, text: str) -> None:
    choose(panel, "blurred")
    panel.forms.blur.sigma.edit.setText(text)
    with pytest.raises(OptionError, match="sigma"):
        panel.operator()
    assert "sigma" in panel.problem.text()
    panel.forms.blur.sigma.edit.setText("2")
    assert not panel.problem.text()


@pytest.mark.parametrize(
    ("kind", "field", "name"),
    [
        ("airy_blur", "wavelength", "wavelength"),
        ("airy_blur", "aperture", "numerical.aperture"),
        ("airy_blur", "pixel", "pixel.size"),
        ("motion_blur", "angle", "angle"),
        ("motion_blur", "length", "length"),
        ("uniform_blur", "size", "size"),
    ],
)
@pytest.mark.parametrize("text", ["", "abc", "1e9"])
def test_other_bad_numbers_are_said(panel: FormationPanel, kind: str, field: str, name: str, text: str) -> None:
    choose(panel, "blurred", kind)
    control = getattr(panel.forms.blur, field)
    getattr(control, "edit", control).setText(text)
    with pytest.raises(OptionError, match=name):
        panel.operator()


def test_a_bad_scale_is_said(panel: FormationPanel) -> None:
    for text in ("", "abc", "0.5", "1, 2, 3, 4", "nan"):
        panel.forms.scale.setText(text)
        with pytest.raises(OptionError, match="scale"):
            panel.operator()
        assert "scale" in panel.problem.text()


def test_the_note_says_pixels(panel: FormationPanel, cells: Any, qtbot: QtBot) -> None:
    panel.set_source(cells)
    choose(panel, "both")
    in_microns(panel.forms.blur.sigma, "0.2")
    qtbot.waitUntil(lambda: panel.forms.blur.note.text() == "σ = 4 px of the restored image")


# -- diffraction -------------------------------------------------------------------------------------------------


def test_diffraction_takes_its_pixels_from_the_layer(panel: FormationPanel, cells: Any) -> None:
    choose(panel, "both", "airy_blur")
    assert not panel.forms.blur.pixel.isReadOnly()
    panel.set_source(cells)
    operator: Any = panel.operator()
    assert operator.operators[0] == AiryBlur(pixel_size=50)
    assert panel.forms.blur.pixel.isReadOnly() and panel.forms.blur.pixel.text() == "50"


def test_diffraction_refuses_pixels_that_are_not_square(panel: FormationPanel, viewer: Any) -> None:
    panel.set_source(viewer.add_image(np.ones((9, 9)), scale=(0.2, 0.1), units=("µm", "µm")))
    choose(panel, "blurred", "airy_blur")
    with pytest.raises(OperatorError, match=r"square pixels.*200 × 100 nm.*Gaussian"):
        panel.operator()


# -- a layer as point-spread function ----------------------------------------------------------------------------


def take_psf(panel: FormationPanel, layer: Any) -> None:
    panel.reset_choices()
    choose(panel, "both", "blur")
    panel.forms.blur.psf.combo.value = layer


def test_a_psf_from_a_layer(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    panel.set_source(cells)
    choose(panel, "both", "blur")
    with pytest.raises(OperatorError, match="No layer is chosen"):
        panel.operator()
    take_psf(panel, viewer.add_image(gaussian(1.5), name="psf", scale=(0.05, 0.05), units=("µm", "µm")))
    operator: Any = panel.operator()
    np.testing.assert_allclose(operator.operators[0].kernel, gaussian(1.5), rtol=1e-6)
    assert not panel.forms.blur.psf.note.text()


def test_a_psf_on_the_measurements_grid_is_resampled(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    panel.set_source(cells)
    layer = viewer.add_image(gaussian(1.5), name="psf", scale=(0.1, 0.1), units=("µm", "µm"))
    take_psf(panel, layer)
    assert "Resampled from 0.1 µm per pixel to the restored image's 0.05 µm" in panel.forms.blur.psf.note.text()
    operator: Any = panel.operator()
    assert operator.operators[0].kernel.shape[0] == pytest.approx(2 * 13, abs=3)


def test_a_stack_as_psf(panel: FormationPanel, viewer: Any) -> None:
    stack = np.zeros((5, 9, 9), np.uint16)
    stack[3, 4, 4] = 9
    take_psf(panel, viewer.add_image(stack, name="bead"))
    assert panel.forms.blur.psf.note.text().startswith("Plane 4 of 5")
    operator: Any = panel.operator()
    assert operator.operators[0].kernel.shape == (9, 9)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.ones((200, 200)), "larger than the image.*200 × 200 on 96 × 128 px"),
        (-np.ones((3, 3)), "negative"),
        (np.full((3, 3), np.nan), "NaN"),
        (np.ones((9, 9, 3), np.uint8), "a colour image"),
        (np.ones((2, 2, 9, 9)), "4 dimensions"),
    ],
)
def test_a_layer_that_is_no_psf(panel: FormationPanel, cells: Any, viewer: Any, data: Any, said: str) -> None:
    panel.set_source(cells)
    take_psf(panel, viewer.add_image(data, name="no psf", rgb=data.dtype == np.uint8))
    with pytest.raises(OperatorError, match=said):
        panel.operator()
    assert panel.problem.text()


def test_a_psf_layer_that_is_removed(panel: FormationPanel, viewer: Any) -> None:
    layer = viewer.add_image(gaussian(1.5), name="psf")
    take_psf(panel, layer)
    viewer.layers.remove(layer)
    panel.reset_choices()
    with pytest.raises(OperatorError, match="No layer is chosen"):
        panel.operator()


def test_a_large_psf_is_made_in_a_worker(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    take_psf(panel, viewer.add_image(gaussian(40.0), name="psf"))
    assert "'psf' is still being read. Wait a moment." in panel.problem.text()
    qtbot.waitUntil(lambda: not panel.problem.text(), timeout=20_000)
    operator: Any = panel.operator()
    np.testing.assert_allclose(operator.operators[0].kernel, gaussian(40.0), rtol=1e-6)
    bad = viewer.add_image(-gaussian(40.0), name="bad")
    take_psf(panel, bad)
    qtbot.waitUntil(lambda: "negative pixels" in panel.problem.text(), timeout=20_000)


def test_only_the_last_answer_is_kept(panel: FormationPanel, qtbot: QtBot) -> None:
    background = Background(panel)
    for key in range(5):
        with (
            qtbot.waitSignal(background.ready, timeout=10_000),
            pytest.raises(OperatorError, match="still being read"),
        ):
            background.get(key, "layer", lambda: np.ones(3), at_once=False)
    assert background.get(4, "layer", lambda: np.ones(3), at_once=False).tolist() == [1, 1, 1]
    qtbot.waitUntil(lambda: len(background.children()) == 1)

    def fail() -> None:
        raise ZeroDivisionError("no disk")

    with qtbot.waitSignal(background.ready, timeout=10_000), pytest.raises(OperatorError):
        background.get("bad", "layer", fail, at_once=False)
    with pytest.raises(FidelityError, match="no disk"):
        background.get("bad", "layer", fail, at_once=False)


def test_a_psf_on_disk_is_read_in_a_worker(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    threads = []

    def block() -> Any:
        threads.append(threading.current_thread())
        return gaussian(1.0)

    lazy = dask.array.from_delayed(dask.delayed(block)(), (9, 9), float)
    layer = viewer.add_image(lazy, name="psf", contrast_limits=(0, 1))
    threads.clear()
    take_psf(panel, layer)
    qtbot.waitUntil(lambda: not panel.problem.text(), timeout=10_000)
    operator: Any = panel.operator()
    np.testing.assert_allclose(operator.operators[0].kernel, gaussian(1.0), rtol=1e-6)
    assert threads and threading.main_thread() not in threads


# -- missing pixels ----------------------------------------------------------------------------------------------


def missing(panel: FormationPanel, way: str) -> None:
    panel.reset_choices()
    choose(panel, "missing")
    panel.forms.scale.setText("1")
    panel.forms.missing.way.setCurrentIndex(panel.forms.missing.way.findData(way))


def test_pixels_that_are_nan(panel: FormationPanel, cells: Any) -> None:
    panel.set_source(cells)
    missing(panel, "nan")
    assert (panel.operator(), panel.nonfinite()) == (Identity(), "mask")
    panel.forms.scale.setText("2")
    assert (panel.operator(), panel.nonfinite()) == (Downsample(scale=2), "mask")
    panel.set_formation(Downsample(scale=2), None, nonfinite="mask")
    assert (panel.forms.chosen, panel.nonfinite()) == ("missing", "mask")
    choose(panel, "downsampled")
    assert panel.nonfinite() == "error"


def test_pixels_painted_in_a_labels_layer(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    labels = viewer.add_labels(np.zeros((48, 64), int), name="missing")
    panel.set_source(cells)
    missing(panel, "painted")
    labels.data[3:5, 7] = 2
    expected = np.ones((48, 64))
    expected[3:5, 7] = 0
    assert (panel.operator(), panel.nonfinite()) == (Mask(mask=expected), "error")
    assert panel.forms.missing.note.text() == "0.0651 % of the pixels are missing."
    panel.forms.scale.setText("2")
    assert panel.operator() == Compose(operators=(Downsample(scale=2), Mask(mask=expected)))


def test_pixels_that_are_zero_in_a_mask(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    seen = np.random.default_rng(0).random((48, 64)) < 0.7
    viewer.add_image(seen.astype(np.uint8) * 255, name="mask")
    panel.set_source(cells)
    missing(panel, "zero")
    assert panel.operator() == Mask(mask=seen.astype(float))


def test_pixels_of_one_value_in_the_slice_that_is_shown(panel: FormationPanel, viewer: Any) -> None:
    data = np.ones((4, 10, 12), np.uint16)
    data[2, 5, 6] = 65535
    layer = viewer.add_image(data)
    viewer.dims.set_point(0, 2)
    panel.set_source(layer)
    missing(panel, "value")
    panel.forms.missing.value.setText("65535")
    expected = np.ones((10, 12))
    expected[5, 6] = 0
    assert panel.operator() == Mask(mask=expected)
    assert "counts for all slices" in panel.forms.missing.note.text()
    panel.forms.missing.value.setText("dead")
    with pytest.raises(OptionError, match="'value' is a number"):
        panel.operator()


def test_a_large_mask_is_made_in_a_worker_and_only_once(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    data = np.ones((1100, 1000), np.uint16)
    panel.set_source(viewer.add_image(data))
    missing(panel, "value")
    panel.forms.missing.value.setText("7")
    with pytest.raises(OperatorError, match="still being read"):
        panel.operator()
    qtbot.waitUntil(lambda: not panel.problem.text(), timeout=20_000)
    assert panel.operator() is panel.operator()
    data[3, 4] = 7
    with qtbot.waitSignal(panel.changed, timeout=20_000), pytest.raises(OperatorError, match="still being read"):
        panel.operator()
    operator: Any = panel.operator()
    assert np.argwhere(operator.mask == 0).tolist() == [[3, 4]]


def test_a_mask_on_disk_is_read_in_a_worker(panel: FormationPanel, cells: Any, viewer: Any, qtbot: QtBot) -> None:
    seen = np.random.default_rng(0).random((48, 64)) < 0.7
    viewer.add_image(dask.array.from_array(seen.astype(np.uint8), chunks=20), name="mask", contrast_limits=(0, 1))
    panel.set_source(cells)
    missing(panel, "zero")
    qtbot.waitUntil(lambda: not panel.problem.text(), timeout=20_000)
    assert panel.operator() == Mask(mask=seen.astype(float))


def test_colour_pixels_are_missing_in_all_colours(panel: FormationPanel, viewer: Any) -> None:
    data = np.ones((10, 12, 3), np.uint8)
    data[1, 2] = 0
    data[3, 4, 0] = 0
    panel.set_source(viewer.add_image(data, rgb=True))
    missing(panel, "value")
    expected = np.ones((10, 12))
    expected[1, 2] = 0
    assert panel.operator() == Mask(mask=expected)


def test_masks_that_do_not_fit(panel: FormationPanel, cells: Any, viewer: Any) -> None:
    panel.set_source(cells)
    missing(panel, "painted")
    with pytest.raises(OperatorError, match=r"No layer is chosen.*paint"):
        panel.operator()
    viewer.add_labels(np.zeros((10, 10), int), name="small")
    panel.reset_choices()
    with pytest.raises(OperatorError, match=r"'small'.*10 × 10 and 48 × 64 px"):
        panel.operator()
    labels = viewer.add_labels(np.ones((48, 64), int), name="all")
    panel.reset_choices()
    panel.forms.missing.layer.value = labels
    with pytest.raises(OperatorError, match="leaves nothing to be seen"):
        panel.operator()
    panel.set_source(None)
    missing(panel, "value")
    with pytest.raises(OperatorError, match="no measurement"):
        panel.operator()


def test_a_given_mask_can_be_given_up(panel: FormationPanel) -> None:
    panel.set_formation(Mask(mask=np.eye(4)), None)
    way = panel.forms.missing.way
    assert way.currentText() == "as given"
    panel.set_formation(Identity(), None, nonfinite="mask")
    assert (way.currentText(), way.findData("given")) == ("that are NaN", -1)


# -- noise -------------------------------------------------------------------------------------------------------


def noisy(viewer: Any, shape: tuple[int, ...] = (120, 130)) -> Any:
    ramp = np.linspace(50, 400, shape[-1])
    data = np.random.default_rng(0).poisson(np.broadcast_to(ramp, shape)).astype(np.uint16)
    return viewer.add_image(data, name="noisy")


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (None, lambda n: isinstance(n, GaussianNoise) and n.sigma > 5),
        ("gaussian", lambda n: isinstance(n, GaussianNoise) and n.sigma > 5),
        ("poisson", lambda n: isinstance(n, PoissonNoise) and abs(n.gain - 1) < 0.15),
        ("poisson_gaussian", lambda n: isinstance(n, PoissonGaussianNoise) and abs(n.gain - 1) < 0.15),
        ("laplace", lambda n: isinstance(n, LaplaceNoise) and n.scale > 5),
    ],
)
def test_the_level_is_estimated_in_the_background(
    panel: FormationPanel, viewer: Any, qtbot: QtBot, kind: str | None, check: Callable[[Any], bool]
) -> None:
    panel.set_source(noisy(viewer))
    form = panel.noise_form
    form.choice.combo.setCurrentIndex(form.choice.combo.findData(kind))
    form.estimate_button.click()
    assert not form.estimate_button.isEnabled()
    qtbot.waitUntil(form.estimate_button.isEnabled, timeout=20_000)
    assert check(panel.noise()), panel.noise()
    assert form.note.text().startswith("Found")
    assert panel.noise_fold.text().startswith("Noise: ") and "=" in panel.noise_fold.text()


def test_the_slice_that_is_shown_is_looked_at(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    data = np.random.default_rng(0).normal(100, [[[1.0]], [[7.0]]], (2, 64, 64))
    panel.set_source(viewer.add_image(data))
    viewer.dims.set_point(0, 1)
    panel.noise_form.estimate()
    qtbot.waitUntil(panel.noise_form.estimate_button.isEnabled, timeout=20_000)
    noise: Any = panel.noise()
    assert noise.sigma == pytest.approx(7, rel=0.1)
    assert "in the slice Z = 1" in panel.noise_form.note.text()


def test_what_cannot_be_estimated_is_said(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    panel.noise_form.estimate()
    assert "no measurement" in panel.noise_form.note.text()
    panel.set_source(viewer.add_image(np.ones((64, 64))))
    panel.noise_form.estimate()
    qtbot.waitUntil(lambda: "is flat" in panel.noise_form.note.text(), timeout=20_000)
    assert panel.noise_form.estimate_button.isEnabled() and panel.noise() is None


def test_an_estimate_of_another_layer_is_dropped(
    panel: FormationPanel, cells: Any, viewer: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, arrived = panel.noise_form, []
    take = form._found
    monkeypatch.setattr(form, "_found", lambda result: arrived.append(take(result)))
    panel.set_source(noisy(viewer))
    form.estimate()
    panel.set_source(cells)
    assert form.estimate_button.isEnabled()
    qtbot.waitUntil(lambda: len(arrived) == 1, timeout=20_000)
    assert panel.noise() is None
    panel.set_source(viewer.layers["noisy"])
    form.estimate()
    panel.set_formation(Downsample(scale=2), GaussianNoise(sigma=3))  # by hand or from a recipe: it stays
    qtbot.waitUntil(lambda: len(arrived) == 2, timeout=20_000)
    assert panel.noise() == GaussianNoise(sigma=3)


def test_a_level_that_was_found_belongs_to_its_layer(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    form = panel.noise_form
    panel.set_source(noisy(viewer))
    form.estimate("poisson")
    qtbot.waitUntil(lambda: form.found is not None, timeout=20_000)
    data = np.random.default_rng(1).poisson(np.broadcast_to(np.linspace(50, 400, 130), (120, 130))) * 3.0
    panel.set_source(viewer.add_image(data))
    assert panel.noise() is None
    qtbot.waitUntil(lambda: form.found is not None, timeout=20_000)
    noise: Any = panel.noise()
    assert noise.kind == "poisson" and noise.gain == pytest.approx(3, rel=0.15)
    typed = GaussianNoise(sigma=5)
    form.set_noise(typed)
    panel.set_source(viewer.layers["noisy"])
    assert panel.noise() == typed and form.estimate_button.isEnabled()


def test_a_bad_level_is_said(panel: FormationPanel) -> None:
    panel.noise_form.choice.combo.setCurrentIndex(1)
    form: Any = panel.noise_form.choice.form
    form.fields["sigma"].widget.setText("-3")
    with pytest.raises(OptionError, match="sigma"):
        panel.noise()
    assert panel.noise_fold.text() == "Noise: incomplete"


# -- written out -------------------------------------------------------------------------------------------------


def test_a_text_is_checked_while_it_is_typed(panel: FormationPanel, qtbot: QtBot) -> None:
    panel.show()
    choose(panel, "both")
    choose(panel, "written")
    edit, note = panel.forms.written.edit, panel.forms.written.note
    assert edit.toPlainText() == "gaussian_blur:sigma=1 + downsample:scale=2"  # begins with what was chosen
    assert panel.operator() == Compose(operators=(GaussianBlur(sigma=1), Downsample(scale=2)))
    edit.setFocus()
    for text, said in (
        ("gaussian_blur:sigm", "name=value"),
        ("gaussian_blur:sigm=1", "there is no option 'sigm'. Options of gaussian_blur: sigma"),
        ("gausian:sigma=1", "no operator 'gausian'. There are: airy_blur"),
        ("gaussian_blur:sigma=-1", "sigma"),
        ("", "Nothing is written yet"),
    ):
        edit.setPlainText(text)
        assert said in note.text().replace("GaussianBlur: ", "")
        assert edit.toPlainText() == text
        with pytest.raises(FidelityError):
            panel.operator()
    with qtbot.waitSignal(panel.changed):
        edit.setPlainText("motion_blur:length=5\n+ downsample:scale=[2,1]")
    assert not note.text() and not panel.problem.text()
    assert panel.operator() == Compose(operators=(MotionBlur(length=5), Downsample(scale=(2, 1))))
    choose(panel, "noisy")
    choose(panel, "written")
    assert panel.operator() == Compose(operators=(MotionBlur(length=5), Downsample(scale=(2, 1))))


# -- the rest ----------------------------------------------------------------------------------------------------


def test_check_asks_its_dock(panel: FormationPanel, qtbot: QtBot) -> None:
    with qtbot.waitSignal(panel.check_requested):
        panel.check_button.click()


def test_every_change_is_told(panel: FormationPanel, cells: Any, qtbot: QtBot) -> None:
    panel.set_source(cells)
    blur = panel.forms.blur
    for act in (
        lambda: choose(panel, "both"),
        lambda: blur.kind.setCurrentIndex(2),
        lambda: blur.angle.setText("30"),
        lambda: blur.border.setCurrentIndex(1),
        lambda: choose(panel, "missing"),
        lambda: panel.forms.missing.way.setCurrentIndex(3),
        lambda: panel.forms.missing.value.setText("7"),
        lambda: panel.noise_form.choice.combo.setCurrentIndex(2),
        lambda: panel.set_formation(Identity(), None),
    ):
        with qtbot.waitSignal(panel.changed, timeout=500):
            act()


def test_the_drawing_follows(panel: FormationPanel, cells: Any, qtbot: QtBot) -> None:
    panel.show()
    panel.set_source(cells)
    choose(panel, "blurred")
    blur = panel.forms.blur
    assert not blur.preview.isVisible()
    blur.fold.expand(animate=False)
    blur.sigma.edit.setText("3")
    qtbot.waitUntil(lambda: blur.preview.text.text() == widths_text(gaussian(3.0), PixelGrid((0.1, 0.1), "µm")))
    blur.sigma.edit.setText("x")
    qtbot.waitUntil(lambda: not blur.preview.isVisible())


def test_a_removed_layer_is_let_go(panel: FormationPanel, viewer: Any) -> None:
    import gc
    import weakref

    layer = viewer.add_image(np.ones((9, 9)), name="gone")
    panel.reset_choices()
    panel.set_source(layer)
    viewer.layers.remove(layer)
    viewer.add_image(np.ones((9, 9)), name="other")  # or napari's selection holds the old one
    panel.set_source(None)
    panel.reset_choices()
    held = weakref.ref(layer)
    del layer
    gc.collect()
    assert held() is None


def test_opening_and_using_it_loads_no_torch() -> None:
    import subprocess

    code = (
        "import sys\n"
        "from qtpy.QtWidgets import QApplication\n"
        "from napari.components import ViewerModel\n"
        "from napari_fidelity.widgets._formation import FormationPanel\n"
        "app = QApplication([])\n"
        "panel = FormationPanel(ViewerModel())\n"
        "for i in range(panel.forms.preset.count()):\n"
        "    panel.forms.preset.setCurrentIndex(i)\n"
        "    for j in range(4):\n"
        "        panel.forms.blur.kind.setCurrentIndex(j)\n"
        "        panel.operator().grid(2)\n"
        "        panel.forms.blur._draw()\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_notes_wrap(panel: FormationPanel) -> None:
    notes = [panel.note, panel.problem, panel.forms.written.note, panel.noise_form.note, panel.forms.missing.note]
    assert all(note.wordWrap() for note in notes)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_in_a_dock_of_300_pixels_nothing_is_clipped(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, theme: str
) -> None:
    viewer = make_napari_viewer()
    viewer.theme = theme
    panel = FormationPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Formation")
    panel.setFixedWidth(300)
    panel.noise_fold.expand(animate=False)
    panel.forms.blur.fold.expand(animate=False)
    for preset in PRESETS:
        choose(panel, preset)
        for kind in range(panel.forms.blur.kind.count()):
            panel.forms.blur.kind.setCurrentIndex(kind)
            for noise in range(panel.noise_form.choice.combo.count()):
                panel.noise_form.choice.combo.setCurrentIndex(noise)
                assert panel.minimumSizeHint().width() <= 280, (preset, kind, noise)
