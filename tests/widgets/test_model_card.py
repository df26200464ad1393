"""The card of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLabel, QPushButton

from napari_fidelity.core.errors import ModelFileError, UntrustedModelError
from napari_fidelity.networks.info import FORMATS, ModelInfo
from napari_fidelity.networks.probe import SAME_NUMBERS
from napari_fidelity.widgets import _model_memory
from napari_fidelity.widgets._dock import Fold
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._model_card import Exact, ModelCard
from napari_fidelity.widgets._model_rows import further, linked, rows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_memory")
INFO = ModelInfo(
    "fancy", "RRDB", 4, 3, 16_697_987, (-1.0, 1.0), "ab" * 32, "CC-BY-4.0", "noise & blur", "doi:10.1234/x"
)


@pytest.fixture
def picker(qtbot: Any) -> ModelPicker:
    picker = ModelPicker()
    qtbot.addWidget(picker)
    picker.show()
    return picker


def texts(card: ModelCard) -> str:
    shown = [label.text() for label in card.findChildren(QLabel)]
    return "\n".join(shown).replace("\u200b", "")


def test_every_row_is_told() -> None:
    told = rows(replace(INFO, frames=5, size_multiple=8, smallest=64, format="spandrel", untrainable="it is odd"))
    assert told["parameters"] == "16,697,987"
    assert told["scale"] == "×4"
    assert told["channels"] == "3 (RGB)"
    assert told["intensities"] == "-1 to 1"
    assert told["frames"].startswith("5: ")
    assert told["size"] == "any; padded to multiples of 8 pixels and at least 64 pixels, then cropped"
    assert told["fine-tuning"] == "impossible: it is odd"
    assert told["format"] == FORMATS["spandrel"]
    plain = rows(ModelInfo("a", "b", 1, 2, 0))
    assert plain["fine-tuning"] == "possible"
    assert plain["random numbers"] == ""  # which the card leaves out
    assert rows(replace(INFO, random_numbers=SAME_NUMBERS))["random numbers"] == SAME_NUMBERS
    assert plain["size"] == "any"
    assert plain["licence"].startswith("not told")


def test_every_format_has_words() -> None:
    assert all(rows(replace(INFO, format=name))["format"] == words != name for name, words in FORMATS.items())


def test_links_lead_where_they_say_and_nothing_else_is_html() -> None:
    html = linked("See (https://a.org/x?y=1&z=2), doi:10.1109/TPAMI.2021.3088914, arXiv:1707.02921.", "#123456")
    assert 'href="https://a.org/x?y=1&amp;z=2"' in html
    assert 'href="https://doi.org/10.1109/TPAMI.2021.3088914"' in html
    assert 'href="https://arxiv.org/abs/1707.02921"' in html
    assert html.endswith("</a>.")
    assert html.count("#123456") == 3
    hostile = linked('<img src=x><a href="file:///etc">doi:no</a> javascript:alert(1) http://e.org/"x"', "red")
    assert "<img" not in hostile
    assert hostile.count("<a ") == 1
    assert 'href="http://e.org/"' in hostile


def test_the_rest_of_the_card_is_told_in_lines() -> None:
    told = further({"train": {"n_steps": 5, "degrade": {"noise": [0.0, 0.25]}}, "none": None, "data": ["a", "b"]})
    assert told == {"train": "n steps: 5\ndegrade:\n    noise: 0, 0.25", "data": "a, b"}


def test_the_button_opens_it_by_keyboard_and_it_follows_the_model(picker: ModelPicker, qtbot: Any) -> None:
    assert picker.about.accessibleName()
    assert picker.about.toolTip()
    assert picker.about.focusPolicy() & Qt.FocusPolicy.TabFocus
    qtbot.keyClick(picker.about, Qt.Key.Key_Space)
    card = picker.card
    assert card is not None
    assert card.isVisible()
    assert not card.isModal()
    assert "edsr-s-x2" in texts(card)
    assert "comes with the plugin" in texts(card)
    assert 'href="https://arxiv.org/abs/1707.02921"' in texts(card)
    fold = card.findChild(Fold)
    assert not fold.isExpanded()
    assert "set5" in texts(card)
    picker.choose("edsr-s-x4")
    assert "×4" in texts(card)
    qtbot.keyClick(card, Qt.Key.Key_Escape)
    assert not card.isVisible()
    picker.about.click()
    assert picker.card is card


def test_hash_and_file_can_be_copied(picker: ModelPicker, model_file: Path, qtbot: Any) -> None:
    picker.show_card()
    card = picker.card
    picker.choose(str(model_file))
    assert "Reading the file" in texts(card)
    qtbot.waitUntil(lambda: picker.info is not None, timeout=60_000)
    exact = {row.line.accessibleName(): row for row in card.findChildren(Exact)}
    for name, text in (("SHA-256", picker.info.sha256), ("file", str(model_file))):
        assert exact[name].line.text() == text
        assert exact[name].line.isReadOnly()
        exact[name].copy.click()
        assert QApplication.clipboard().text() == text


def test_what_cannot_be_used_says_why(qtbot: Any) -> None:
    card = ModelCard(None)
    qtbot.addWidget(card)
    card.tell("/a/b.pth", None, ModelFileError("It is <b>broken</b>"))
    assert "It is &lt;b&gt;broken&lt;/b&gt;" in texts(card)
    card.tell(
        "/a/b.ts", None, UntrustedModelError("It runs things", do="--trust", path="/a/b.ts", sha256="cd" * 32)
    )
    assert "It runs things. Nothing of it has been run." in texts(card)
    assert "--trust" not in texts(card)
    assert "cd" * 32 in [row.line.text() for row in card.findChildren(Exact)]


def test_trust_can_be_taken_back(qtbot: Any) -> None:
    card = ModelCard(None)
    qtbot.addWidget(card)
    _model_memory.trust(INFO.sha256)
    card.tell("/a/fancy.ts", INFO, None)
    button = next(b for b in card.findChildren(QPushButton) if "no longer" in b.text())
    with qtbot.waitSignal(card.distrusted) as blocker:
        button.click()
    assert blocker.args == [INFO.sha256]
    _model_memory.distrust(INFO.sha256)
    card.tell("/a/fancy.ts", INFO, None)
    qtbot.waitUntil(lambda: not [b for b in card.findChildren(QPushButton) if "no longer" in b.text()])


@pytest.mark.parametrize("size", [(300, 260), (900, 900)])
def test_nothing_is_cut_off_at_any_size(qtbot: Any, size: tuple[int, int]) -> None:
    card = ModelCard(None)
    qtbot.addWidget(card)
    card.tell("/a/" + "very_long_name-" * 9, replace(INFO, source="https://example.org/" + "part/" * 40), None)
    card.resize(*size)
    card.show()
    qtbot.waitExposed(card)
    page = card.area.widget()
    assert page.width() <= card.area.viewport().width()
    assert page.minimumSizeHint().width() <= 300


def test_links_are_readable_in_a_dark_and_in_a_light_theme(qtbot: Any) -> None:
    card = ModelCard(None)
    qtbot.addWidget(card)
    card.setStyleSheet("QWidget { background: #202020; color: #f0f0f0 }")
    card.tell("a", INFO, None)
    dark = texts(card)
    card.setStyleSheet("QWidget { background: #ffffff; color: #101010 }")
    qtbot.waitUntil(lambda: "#0a58ca" in texts(card))
    assert "#7cb7ff" in dark
    assert "#0a58ca" not in dark
