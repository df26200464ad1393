from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QSize
from qtpy.QtGui import QIcon, QImage, QPainter
from qtpy.QtWidgets import QPushButton

from napari_fidelity.widgets._icons import NAMES, icon, set_icon

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray
    from pytestqt.qtbot import QtBot

ICONS = files("napari_fidelity.widgets") / "icons"


def pixels(drawn: QIcon, mode: QIcon.Mode = QIcon.Mode.Normal, size: int = 24) -> NDArray[np.float64]:
    """Red, green, blue and opacity, 0 to 255."""
    image = drawn.pixmap(QSize(size, size), mode).toImage()
    rows = [[image.pixelColor(x, y).getRgb() for x in range(image.width())] for y in range(image.height())]
    return np.array(rows, np.float64)


def colour(drawn: QIcon) -> tuple[int, ...]:
    image = pixels(drawn)
    return tuple(int(c) for c in np.median(image[image[..., 3] > 250], axis=0)[:3])


def test_every_file_is_an_icon_and_every_icon_a_file() -> None:
    drawings = {file.name for file in ICONS.iterdir()}
    assert drawings == {f"{name}.svg" for name in NAMES} | {"logo.svg", "logo.png"}


@pytest.mark.parametrize("name", NAMES)
def test_an_icon_is_drawn_in_the_colour_of_the_text(name: str, qtbot: QtBot) -> None:
    button = QPushButton()
    qtbot.addWidget(button)
    button.setStyleSheet("color: #c02080")
    image = pixels(icon(name, button))
    drawn = image[..., 3] > 250
    assert 0.05 < drawn.mean() < 0.8
    assert np.allclose(image[drawn][:, :3], (0xC0, 0x20, 0x80), atol=2)
    assert image[0, :, 3].max() == 0  # nothing is cut off at the border
    faint = pixels(icon(name, button), QIcon.Mode.Disabled)
    assert 60 < faint[..., 3].max() < 120


def test_icons_differ(qtbot: QtBot) -> None:
    button = QPushButton()
    qtbot.addWidget(button)
    images = [pixels(icon(name, button)).tobytes() for name in NAMES]
    assert len(set(images)) == len(NAMES)


def test_an_icon_follows_the_colour(qtbot: QtBot) -> None:
    button = QPushButton("Run")
    qtbot.addWidget(button)
    button.setStyleSheet("color: #ffffff")
    set_icon(button, "run")
    assert colour(button.icon()) == (255, 255, 255)
    button.setStyleSheet("color: #102030")
    button.show()
    assert colour(button.icon()) == (16, 32, 48)
    before = button.icon().cacheKey()
    button.setToolTip("nothing to draw again")
    assert button.icon().cacheKey() == before


def test_a_second_icon_takes_the_place_of_the_first(qtbot: QtBot) -> None:
    button = QPushButton()
    qtbot.addWidget(button)
    set_icon(button, "pause")
    pause = pixels(button.icon())
    set_icon(button, "run")
    assert not np.array_equal(pixels(button.icon()), pause)
    assert np.array_equal(pixels(button.icon()), pixels(icon("run", button)))
    assert len(button.children()) == 1


def test_icons_follow_naparis_theme(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> None:
    viewer = make_napari_viewer()
    button = QPushButton("Check")
    set_icon(button, "check")
    viewer.window.add_dock_widget(button, name="icons")
    seen = {}
    for theme in ("dark", "light"):
        viewer.theme = theme
        qtbot.waitUntil(lambda: colour(button.icon()) == _text(button))
        seen[theme] = colour(button.icon())
    assert min(seen["dark"]) > 200
    assert max(seen["light"]) < 60


def _text(button: QPushButton) -> tuple[int, ...]:
    return button.palette().color(button.foregroundRole()).getRgb()[:3]


def test_the_logo_is_its_drawing(qtbot: QtBot) -> None:
    from qtpy.QtSvg import QSvgRenderer

    image = QImage.fromData((ICONS / "logo.png").read_bytes())
    assert (image.width(), image.height()) == (256, 256)
    drawn = QImage(256, 256, QImage.Format.Format_ARGB32)
    drawn.fill(0)
    painter = QPainter(drawn)
    QSvgRenderer((ICONS / "logo.svg").read_bytes()).render(painter)
    painter.end()
    differences = [
        abs(image.pixelColor(x, y).red() - drawn.pixelColor(x, y).red()) for x in range(256) for y in range(256)
    ]
    assert np.mean(differences) < 1
