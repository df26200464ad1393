"""What napari makes of the manifest: commands, menus, docks, preferences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from qtpy.QtWidgets import QLabel, QWidget

import napari_fidelity
from napari_fidelity.denoisers import TV
from napari_fidelity.methods import DIP, RED, ZSSR, FineTune
from napari_fidelity.pipeline import Recipe
from napari_fidelity.uncertainty import NullSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

MANIFEST = PluginManifest.from_file(Path(napari_fidelity.__file__).parent / "napari.yaml")
DOCKS = {
    "napari-fidelity.open_correct": "Correct",
    "napari-fidelity.open_reconstruct": "Reconstruct",
    "napari-fidelity.open_uncertainty": "Uncertainty",
    "napari-fidelity.open_compare": "Compare",
}
MENUS = {
    "napari/layers/filter": {
        "Correct (Fidelity)",
        "Reconstruct (Fidelity)",
        "Reproduce the selected result (Fidelity)",
    },
    "napari/layers/measure": {"Uncertainty (Fidelity)", "Compare (Fidelity)"},
    "napari/plugins/napari-fidelity": {f"{dock} (Fidelity)" for dock in DOCKS.values()},
}


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], plugin_settings: None, npe2pm: Any) -> Any:
    """A viewer in which the plugin is installed, with settings of its own."""
    npe2pm.register(MANIFEST)
    return make_napari_viewer()


def titles(menu: str) -> set[str]:
    app = get_app_model()
    return {item.command.title for item in app.menus.get_menu(menu) if hasattr(item, "command")}


def test_everything_that_the_manifest_names_can_be_imported() -> None:
    MANIFEST.validate_imports()


@pytest.mark.parametrize("menu", MENUS)
def test_menus(menu: str, viewer: Any) -> None:
    assert MENUS[menu] <= titles(menu)


@pytest.mark.parametrize(
    ("menu", "dock"), [("Filter", "Correct (Fidelity)"), ("Measure", "Uncertainty (Fidelity)")]
)
def test_a_click_in_the_layers_menu_opens_the_dock(menu: str, dock: str, viewer: Any) -> None:
    (submenu,) = (action.menu() for action in viewer.window.layers_menu.actions() if action.text() == menu)
    submenu.aboutToShow.emit()
    ours = [action for action in submenu.actions() if "Fidelity" in action.text()]
    assert ours[0].text() == dock
    ours[0].trigger()
    assert list(viewer.window._wrapped_dock_widgets) == [dock]


def test_samples_have_a_menu_of_their_own(viewer: Any) -> None:
    shown = titles("napari/file/samples/napari-fidelity")
    assert shown == {sample.display_name for sample in MANIFEST.contributions.sample_data or ()}


@pytest.mark.parametrize("command", DOCKS)
def test_a_command_opens_its_dock_hides_it_and_shows_it_again(command: str, viewer: Any) -> None:
    run = get_app_model().commands.execute_command
    run(command).result()
    docks = viewer.window._wrapped_dock_widgets
    assert list(docks) == [f"{DOCKS[command]} (Fidelity)"]
    (dock,) = docks.values()
    widget = dock.inner_widget()
    assert type(widget).__name__ == f"{DOCKS[command]}Widget"
    run(command).result()
    run(command).result()
    assert dock.inner_widget() is widget


@pytest.mark.parametrize("name", DOCKS.values())
def test_a_dock_opens_from_code(name: str, viewer: Any) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("napari-fidelity", name)
    assert type(widget).__name__ == f"{name}Widget"
    assert viewer.window.add_plugin_dock_widget("napari-fidelity", name)[1] is widget


def test_reproduce_without_a_result_says_so(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", said.append)
    get_app_model().commands.execute_command("napari-fidelity.reproduce_active").result()
    assert len(said) == 1
    assert not viewer.window._wrapped_dock_widgets


@pytest.mark.parametrize(
    ("method", "dock"),
    [
        (FineTune(), "Correct"),
        (RED(denoiser=TV()), "Reconstruct"),
        (DIP(), "Reconstruct"),
        (ZSSR(), "Reconstruct"),
        (NullSpace(of=RED(denoiser=TV())), "Uncertainty"),
    ],
)
def test_reproduce_opens_the_dock_that_makes_such_results(method: Any, dock: str, viewer: Any) -> None:
    recipe = Recipe(method=method, seed=7)
    layer = viewer.add_image(np.zeros((8, 8)), metadata={"napari-fidelity": {"recipe": recipe.to_plain()}})
    viewer.layers.selection.active = layer
    get_app_model().commands.execute_command("napari-fidelity.reproduce_active").result()
    ((_, opened),) = viewer.window._wrapped_dock_widgets.items()
    assert type(opened.inner_widget()).__name__ == f"{dock}Widget"
    assert opened.inner_widget().method.recipe_fields()["seed"] == 7


def test_preferences_show_every_setting(viewer: Any, qtbot: QtBot) -> None:
    from napari._qt.dialogs.preferences_dialog import PreferencesDialog

    dialog = PreferencesDialog()
    qtbot.addWidget(dialog)
    pages = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    page = dialog._stack.widget(pages.index("Fidelity"))
    shown = {label.text() for label in page.findChildren(QLabel)}
    properties = MANIFEST.contributions.configurations["fidelity"].properties
    assert {prop.title for prop in properties.values()} <= shown
    spins = {type(w).__name__: w for w in page.findChildren(QWidget) if hasattr(w, "setMaximum")}
    assert spins
    settings = get_plugin_settings("napari-fidelity").fidelity
    settings.memory_limit_gb = 512.0
    assert any(w.value() == 512.0 for w in page.findChildren(QWidget) if hasattr(w, "decimals"))
