"""Doing a result again: its settings back in the dock, or as a command, a script or a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, RecipeError
from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._guess import full_data
from napari_fidelity.widgets._icons import set_icon
from napari_fidelity.widgets._layers import KEY

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.pipeline import Recipe


def recipe_of(layer: Layer | None) -> Recipe:
    """Return the recipe a result layer was made with.

    Raises
    ------
    RecipeError
        If the layer is no result of this plugin, or its record is damaged.
    """
    from napari_fidelity.pipeline import Recipe

    record = record_of(layer)
    if "recipe" not in record:
        raise RecipeError(
            "This layer was not made by Fidelity" if layer is not None else "No layer is selected",
            do="Select a layer that a correction has made",
        )
    return Recipe.from_plain(record)


def record_of(layer: Layer | None) -> dict[str, Any]:
    """Return what this plugin knows of a layer, empty if nothing."""
    record = getattr(layer, "metadata", {}).get(KEY, {})
    return record if isinstance(record, dict) else {}


def measurement_of(viewer: ViewerModel, result: Layer | None) -> Layer | None:
    """Return the layer that a result was made from, if it is in the viewer."""
    return _found(viewer, record_of(result).get("source", {}))


def judged_of(viewer: ViewerModel, shown: Layer | None) -> Layer | None:
    """Return the layer whose image a map judges, if it is in the viewer."""
    return _found(viewer, record_of(shown).get("judged", {}))


def _found(viewer: ViewerModel, source: dict[str, Any]) -> Layer | None:
    """Return a layer of which a record knows.

    A name says little: layers are renamed, and another one may bear it by now.
    """
    known = source.get("id", "none")
    layers = [layer for layer in viewer.layers if str(getattr(layer, "unique_id", "")) == known]
    alike = [
        layer
        for layer in viewer.layers
        if layer.name == source.get("layer")
        and list(getattr(full_data(layer), "shape", ())) == source.get("shape")
        and str(getattr(full_data(layer), "dtype", "")) == source.get("dtype")
    ]
    return next(iter(layers + alike), None)


def settings_of(recipe: Recipe) -> Recipe:
    """Return a recipe without what does not change the result, and without where it ended."""
    method: Any = recipe.method
    if hasattr(method, "of"):
        method = method.replace(of=_plain(method.of), image=None)
    method = _plain(method)
    model = recipe.model and recipe.model.replace(sha256=None)
    return recipe.replace(method=method, model=model, software={}, threads=None, last_iterations=None)


def as_loaded(recipe: Recipe, loaded: Recipe) -> Recipe:
    """Return a recipe that ends where a loaded one did, if they do not differ otherwise."""
    if settings_of(recipe) != settings_of(loaded):
        return recipe
    return recipe.replace(last_iterations=loaded.last_iterations, threads=loaded.threads)


def _plain(method: Any) -> Any:
    """Return a method that keeps no iterations."""
    return method.replace(snapshots=0) if method.iterative else method


def in_words(layer: Layer | None, form: str) -> str:
    """Return how to make a result again.

    Parameters
    ----------
    layer
        A result layer.
    form
        ``"command"``: command line; ``"script"``: Python script; ``"recipe"``: JSON document.
    """
    from napari_fidelity.pipeline.reproduce import OWN_FILE, command_line, own_names, python_script

    recipe = recipe_of(layer)
    if form == "recipe":
        return recipe.to_json()
    source, remark = _source_file(record_of(layer))
    names = " and ".join(f"'{name}'" for name in own_names(recipe))
    remarks = [remark, f"{OWN_FILE} is your code that registers {names}" if names else ""]
    text = (command_line if form == "command" else python_script)(recipe, source, "restored.tif")
    return "".join(f"# {said}\n" for said in remarks if said) + text


def _source_file(record: dict[str, Any]) -> tuple[str, str]:
    """Return the file of the measurement, and a remark where the layer has to be saved as one first."""
    source = record.get("source", {})
    path, index = source.get("path"), source.get("index") or {}
    if path and not index:
        return str(path), ""
    part = ", ".join(f"{axis}={position}" for axis, position in index.items())
    what = f"the layer '{source.get('layer', '?')}'" + (f" at {part}" if part else "")
    return "measurement.tif", f"measurement.tif is {what}, axes {source.get('axes', '?')}: save it first"


class ReproduceBar(QWidget):
    """Settings, command line, script and recipe of the selected result layer.

    Attributes
    ----------
    load_requested
        The user wants the settings of a layer in the dock: the layer.
    """

    load_requested = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.load = QPushButton("Load its settin&gs")
        self.load.setToolTip("Set everything in this dock as it was when the selected result layer was made")
        self.copy = QPushButton("Cop&y as")
        self.copy.setToolTip(
            "Copy how to make the selected result again: on the command line, in Python, as a recipe"
        )
        set_icon(self.load, "reproduce")
        menu = QMenu(self.copy)
        for label, form in (("Command line", "command"), ("Python script", "script"), ("Recipe", "recipe")):
            menu.addAction(label, lambda form=form: self._copy(form))
        menu.addSeparator()
        menu.addAction("Save recipe to a file…", self._save)
        self.copy.setMenu(menu)
        self.note = note_label()
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.load)
        buttons.addWidget(self.copy)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(buttons)
        column.addWidget(self.note)
        self.load.clicked.connect(self._load)
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The selected layer."""
        return self.viewer.layers.selection.active

    def refresh(self) -> None:
        """Offer what the selected layer allows."""
        usable = "recipe" in record_of(self.layer)
        self.load.setEnabled(usable)
        self.copy.setEnabled(usable)
        set_note(self.note, f"of '{self.layer.name}'" if usable and self.layer else "Select a result layer.")

    def _load(self) -> None:
        self.load_requested.emit(self.layer)

    def _copy(self, form: str) -> None:
        try:
            QApplication.clipboard().setText(in_words(self.layer, form))
        except FidelityError as error:
            set_note(self.note, str(error))
            return
        name = {"command": "command line", "script": "Python script", "recipe": "recipe"}[form]
        set_note(self.note, f"The {name} is in the clipboard.")

    def _save(self) -> None:
        from napari_fidelity.io import atomic_write

        try:
            recipe = recipe_of(self.layer)
            path, _ = QFileDialog.getSaveFileName(
                self, "Save the recipe", str(Path.home() / "recipe.json"), "Recipes (*.json *.toml)"
            )
            if not path:
                return
            text = recipe.dumps(path)
            with atomic_write(Path(path), overwrite=True) as temporary:  # the dialog has asked
                temporary.write_text(text, encoding="utf-8")
        except FidelityError as error:
            set_note(self.note, str(error))
            return
        set_note(self.note, f"Saved: {Path(path).name}")


def dock_for(recipe: Recipe) -> str:
    """Return the name of the dock that makes results with a recipe."""
    if hasattr(recipe.method, "outputs"):
        return "Uncertainty"
    return "Reconstruct" if recipe.method.kind in ("dip", "red", "deepred", "zssr") else "Correct"


def open_dock(viewer: ViewerModel, name: str) -> Any:
    """Open a dock of this plugin, or bring the one that is open to the front; return its widget."""
    holder, dock = viewer.window.add_plugin_dock_widget("napari-fidelity", name, tabify=True)
    holder.show()
    holder.raise_()
    return dock


def reproduce_active() -> None:
    """Open the dock that made the selected result layer, with its settings."""
    import napari
    from napari.utils.notifications import show_error, show_info

    viewer = napari.current_viewer()
    if viewer is None:
        show_info("Open a viewer first.")
        return
    layer = viewer.layers.selection.active
    try:
        recipe = recipe_of(layer)
    except FidelityError as error:
        show_error(str(error))
        return
    open_dock(viewer, dock_for(recipe)).load_layer(layer)
