"""The Estimate button of the formation panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from scipy.ndimage import gaussian_filter

from napari_fidelity.operators import AiryBlur, Blur, Compose, Downsample, GaussianBlur
from napari_fidelity.operators.estimation import correlation
from napari_fidelity.operators.psf import gaussian_of
from napari_fidelity.widgets._formation import FormationPanel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytestqt.qtbot import QtBot

SIGMA = 1.5


@pytest.fixture
def viewer(qapp: Any) -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def panel(viewer: Any, qtbot: QtBot) -> FormationPanel:
    made = FormationPanel(viewer)
    qtbot.addWidget(made)
    made.forms.choose("blurred")
    return made


def squares(sigma: float | tuple[float, float] = SIGMA) -> NDArray[np.float64]:
    """Turned squares, blurred, with noise: edges in four directions."""
    y, x = np.mgrid[:96, :96]
    scene = (
        0.2 + 0.6 * ((y // 24 + x // 24) % 2) * (y < 48) + 0.6 * (((y + x) // 30 + (y - x) // 30) % 2) * (y >= 48)
    )
    return gaussian_filter(scene, sigma) + 0.003 * np.random.default_rng(0).standard_normal(scene.shape)


def beads() -> NDArray[np.float64]:
    scene = np.zeros((96, 96))
    scene[12:90:18, 12:90:18] = 1
    image = gaussian_filter(scene, SIGMA)
    return image / image.max() + 0.003 * np.random.default_rng(0).standard_normal(scene.shape)


def press(panel: FormationPanel, qtbot: QtBot) -> str:
    form = panel.forms.blur.estimate
    form.button.click()
    qtbot.waitUntil(form.button.isEnabled, timeout=60_000)
    return str(form.note.text())


def test_the_blur_is_found_filled_in_and_drawn(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    changes: list[None] = []
    panel.set_source(viewer.add_image(squares()))
    panel.changed.connect(lambda: changes.append(None))
    assert press(panel, qtbot).startswith("Found: Gaussian, σ = ")
    found: Any = panel.operator()
    assert found.kind == "gaussian_blur" and np.allclose(found.sigma, SIGMA, rtol=0.2)
    assert changes and panel.forms.blur.fold.isExpanded()
    assert not panel.forms.blur.preview.picture.pixmap().isNull()


def test_the_border_that_was_chosen_stays(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    panel.set_source(viewer.add_image(squares()))
    border = panel.forms.blur.border
    border.setCurrentIndex(border.findData("circular"))
    press(panel, qtbot)
    assert panel.operator().border == "circular"  # type: ignore[attr-defined]


def test_a_slanting_blur_becomes_a_kernel(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    from scipy.signal import fftconvolve

    kernel = gaussian_of(np.array([[3.0, 2.0], [2.0, 3.0]]))
    scene = squares(0.0)
    panel.set_source(
        viewer.add_image(fftconvolve(np.pad(scene, 12, mode="symmetric"), kernel, mode="same")[12:-12, 12:-12])
    )
    press(panel, qtbot)
    found = panel.operator()
    assert isinstance(found, Blur) and correlation(found.kernel_array(2), kernel) > 0.95
    assert panel.forms.blur.kind.currentData() == "blur"
    assert press(panel, qtbot).startswith("Found: Gaussian")  # once more


@pytest.mark.parametrize(
    ("kind", "said"), [("uniform_blur", "Defocus disc"), ("motion_blur", "Kernel of any shape")]
)
def test_the_kind_of_blur_says_what_is_looked_for(
    panel: FormationPanel, viewer: Any, qtbot: QtBot, kind: str, said: str
) -> None:
    panel.set_source(viewer.add_image(squares()))
    panel.forms.blur.kind.setCurrentIndex(panel.forms.blur.kind.findData(kind))
    assert said in press(panel, qtbot)
    assert isinstance(panel.operator(), Blur)


def test_widths_are_in_nanometres_where_the_layer_has_a_pixel_size(
    panel: FormationPanel, viewer: Any, qtbot: QtBot
) -> None:
    panel.set_source(viewer.add_image(beads(), scale=(0.065, 0.065), units=("um", "um")))
    said = press(panel, qtbot)
    assert "spots" in said and "px = 2" in said and "nm" in said  # 65 nm × 1.5 × 2.35 = 230 nm


def test_the_scale_counts(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    panel.forms.choose("both")
    panel.set_scale(2)
    panel.set_source(viewer.add_image(squares(), scale=(0.2, 0.2), units=("um", "um")))
    assert "nm" in press(panel, qtbot)
    found: Any = panel.operator()
    assert isinstance(found, Compose) and found.operators[1] == Downsample(scale=2)
    assert np.allclose(found.operators[0].sigma, 2 * SIGMA, rtol=0.2)


def test_diffraction_is_found_with_the_wavelength_of_the_form(
    panel: FormationPanel, viewer: Any, qtbot: QtBot
) -> None:
    panel.set_source(viewer.add_image(beads(), scale=(0.1, 0.1), units=("um", "um")))
    blur = panel.forms.blur
    blur.wavelength.setText("600")
    blur.kind.setCurrentIndex(blur.kind.findData("airy_blur"))
    press(panel, qtbot)
    found = panel.operator()
    assert isinstance(found, AiryBlur) and found.wavelength == 600 and found.pixel_size == 100
    assert found.numerical_aperture == pytest.approx(0.21 * 600 / (SIGMA * 100), rel=0.15)


def test_the_slice_that_is_shown_is_looked_at(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    panel.set_source(viewer.add_image(np.stack([squares(3.0), squares(1.0)])))
    viewer.dims.set_point(0, 1)
    assert "in the slice Z = 1" in press(panel, qtbot)
    found: Any = panel.operator()
    assert np.allclose(found.sigma, 1, rtol=0.25)


def test_what_cannot_be_estimated_is_said(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    form = panel.forms.blur.estimate
    form.estimate("gaussian")
    assert "no measurement" in form.note.text()
    before = panel.operator()
    panel.set_source(viewer.add_image(np.ones((64, 64))))
    assert "flat" in press(panel, qtbot)
    assert panel.operator() == before and form.button.isEnabled()


def test_an_estimate_of_another_layer_is_dropped(
    panel: FormationPanel, viewer: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, arrived = panel.forms.blur.estimate, []
    take = form._done
    monkeypatch.setattr(form, "_done", lambda result: arrived.append(take(result)))
    panel.set_source(viewer.add_image(squares()))
    before = panel.operator()
    form.estimate("gaussian")
    panel.set_source(viewer.add_image(np.ones((64, 64))))
    assert form.button.isEnabled() and not form.note.text()
    qtbot.waitUntil(lambda: len(arrived) == 1, timeout=60_000)
    assert panel.operator() == before and not form.note.text()


def test_a_changed_number_takes_the_words_away(panel: FormationPanel, viewer: Any, qtbot: QtBot) -> None:
    panel.set_source(viewer.add_image(squares()))
    assert press(panel, qtbot)
    panel.forms.blur.sigma.edit.setText("4")
    assert not panel.forms.blur.estimate.note.text()
    assert panel.operator() == GaussianBlur(sigma=4)
