"""Method, options, weights, stopping rule and intensity scaling: what a recipe holds beside model and operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._dock import LazyFold, fold_away, layer_combo, narrow, rows
from napari_fidelity.widgets._guess import full_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from napari_fidelity.core.options import Options
    from napari_fidelity.methods.base import Method
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.stopping.rules import StoppingRule
    from napari_fidelity.widgets._options import ChoiceForm, OptionsForm

SNAPSHOTS = 24  # iterations kept for the slider

_METHODS = {
    "finetune": (
        "Fine-tuning",
        "The network is adapted to this one image until its output explains the measurement; a projection has the "
        "last word. Best results; seconds to minutes.",
    ),
    "lucas2020": (
        "Fine-tuning, as published (2020)",
        "The settings of Lucas et al. 2020: plain gradient descent until the gain falls below 0.04 dB. For "
        "comparison with the paper; slow.",
    ),
    "project": (
        "Projection",
        "The network's output is changed as little as possible so that it explains the measurement. Fast; keeps "
        "whatever the network invented that the measurement cannot contradict.",
    ),
    "apply": ("The network alone", "Its output as it is, with no correction: to see how far it can be trusted."),
}
_RULES = {
    "settled": "the image has settled",
    "lr_psnr": "LR-PSNR stops rising",
    "lr_lpips": "LR-LPIPS stops falling",
    "lr_psnr_level": "an LR-PSNR is reached",
    "discrepancy": "the residual is as small as the noise",
    "held_out": "held-out pixels get worse",
    "budget": "iterations or time are used up",
}
_RECIPE_FIELDS = ("scaling", "scope", "channels", "seed")


class MethodPanel(QWidget):
    """Everything about how a layer is corrected, with the advanced part folded away."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.combo = narrow(QComboBox())
        for kind, (label, tooltip) in _METHODS.items():
            self.combo.addItem(label, kind)
            self.combo.setItemData(self.combo.count() - 1, tooltip, Qt.ItemDataRole.ToolTipRole)
        self._method: Options | None = None
        self._stop: Options | None = None
        self._fields: dict[str, Any] = {}
        self.options = LazyFold("Method options", self._build_options)
        self.stopping = LazyFold("Stop when", self._build_stopping)
        self.weights = _Weights(viewer)
        self.masking = LazyFold("Weights of the pixels", lambda: self.weights)
        self.intensities = LazyFold("Intensities, channels, seed", self._build_intensities)
        self.integers = QCheckBox("result in the layer's own data type")
        self.integers.setToolTip(
            "Off: the result is 32-bit float, in the layer's intensity units, nothing rounded or cut off. "
            "On: it is rounded to the layer's type, such as 16-bit integers"
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.combo)
        column.addWidget(
            fold_away("Advanced", self.options, self.stopping, self.masking, self.intensities, self.integers)
        )
        self.combo.currentIndexChanged.connect(self._method_chosen)
        self._method_chosen()

    # -- values -----------------------------------------------------------------------------------------------

    def method(self, image_shape: Sequence[int], measured_shape: Sequence[int]) -> Method:
        """Return the method for an image of a shape.

        Raises
        ------
        FidelityError
            If an option is out of its range or the weights' layer does not fit.
        """
        method: Any = self._form_value(self.options, self._method)
        if method.kind != "finetune":
            return method
        return method.replace(snapshots=SNAPSHOTS, mask=self.weights.mask(image_shape, measured_shape))

    def stop(self) -> StoppingRule | None:
        """Return the stopping rule; ``None`` for the method's own."""
        return self._form_value(self.stopping, self._stop)

    def recipe_fields(self) -> dict[str, Any]:
        """Return the fields of a recipe about intensities, channels and the seed."""
        form: Any = self.intensities.widget
        if form is None:
            return dict(self._fields)
        recipe = form.value()
        return {name: getattr(recipe, name) for name in _RECIPE_FIELDS}

    @property
    def dtype(self) -> str:
        """Data type of the result, as the pipeline takes it."""
        return "input" if self.integers.isChecked() else "float32"

    def set_recipe(self, recipe: Recipe) -> None:
        """Show the settings of a recipe."""
        method: Any = recipe.method
        self.combo.setCurrentIndex(self.combo.findData(_name_of(method)))
        self._set(self.options, "_method", method)
        self._set(self.stopping, "_stop", recipe.stop)
        self._fields = {name: getattr(recipe, name) for name in _RECIPE_FIELDS}
        if self.intensities.widget is not None:
            self.intensities.widget.set_value(recipe)
        if method.kind == "finetune":
            self.weights.set_mask(method.mask)

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.weights.reset_choices()

    # -- the folds --------------------------------------------------------------------------------------------

    def _method_chosen(self) -> None:
        from napari_fidelity.methods import Apply, FineTune, Project

        kind = self.combo.currentData()
        made: Method = {
            "finetune": FineTune(),
            "lucas2020": FineTune.lucas2020(),
            "project": Project(),
            "apply": Apply(),
        }[kind]
        before, self._method = self._method, made
        if self.options.widget is not None:
            if type(before) is type(made):
                self.options.widget.set_value(made)
            else:
                self.options.rebuild()
        self.combo.setToolTip(
            f"How the network's output is made to agree with the measurement. {_METHODS[kind][1]}"
        )
        for fold in (self.stopping, self.masking):
            fold.setVisible(kind in ("finetune", "lucas2020"))
        self.options.setVisible(kind != "apply")
        self.changed.emit()

    def _build_options(self) -> OptionsForm:
        from napari_fidelity.widgets._options import OptionsForm

        assert self._method is not None
        form = OptionsForm(type(self._method), leave_out=("kind", "snapshots", "mask"))
        form.set_value(self._method)
        form.changed.connect(self.changed)
        return form

    def _build_stopping(self) -> ChoiceForm:
        from napari_fidelity.stopping import RULES
        from napari_fidelity.widgets._options import ChoiceForm

        form = ChoiceForm(RULES, labels=_RULES, none="the method decides")
        form.set_value(self._stop)
        form.changed.connect(self.changed)
        return form

    def _build_intensities(self) -> OptionsForm:
        from napari_fidelity.pipeline import Recipe
        from napari_fidelity.widgets._options import OptionsForm

        form = OptionsForm(
            Recipe, leave_out=tuple(name for name in Recipe.model_fields if name not in _RECIPE_FIELDS)
        )
        form.set_value(Recipe(**self._fields))
        form.changed.connect(self.changed)
        return form

    def _form_value(self, fold: LazyFold, kept: Any) -> Any:
        form: Any = fold.widget
        return kept if form is None else form.value()

    def _set(self, fold: LazyFold, name: str, value: Any) -> None:
        setattr(self, name, value)
        form: Any = fold.widget
        if form is not None:
            form.set_value(value)


class _Weights(QWidget):
    """Weight of each pixel of the image in the data term: all alike, edges less, or from a layer."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.combo = narrow(QComboBox())
        for label, kind in (("all alike", "none"), ("edges count less", "edges"), ("from a layer", "layer")):
            self.combo.addItem(label, kind)
        self.combo.setToolTip(
            "Weight of each pixel when the result is compared with the measurement: all alike, edges less (Lucas "
            "2020, eq. 2), or from a layer such as a variance map or a region of interest"
        )
        self.layer = layer_combo(
            viewer, "Its values are the weights, 0 to 1 (others are divided by the largest)", accept=_is_map
        )
        self.layer.native.setVisible(False)
        self._given: NDArray[Any] | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(rows(Weights=self.combo))
        column.addWidget(self.layer.native)
        self.combo.currentIndexChanged.connect(self._chosen)

    def mask(self, image_shape: Sequence[int], measured_shape: Sequence[int]) -> Any:
        """Return what the method's option ``mask`` takes.

        Raises
        ------
        ImageError
            If the layer fits neither the restored image nor the measurement.
        """
        kind = self.combo.currentData()
        if kind == "given":
            return self._given
        if kind != "layer":
            return kind
        layer = self.layer.value
        if layer is None:
            raise ImageError("No layer is chosen for the weights", do="Add one, or choose 'all alike'")
        return _weights_of(np.asarray(full_data(layer)), layer.name, tuple(image_shape), tuple(measured_shape))

    def set_mask(self, mask: Any) -> None:
        """Show a method's ``mask``."""
        at = self.combo.findData("given")
        if isinstance(mask, str):
            self._given = None
            if at >= 0:
                self.combo.removeItem(at)
            self.combo.setCurrentIndex(self.combo.findData(mask))
            return
        self._given = mask
        if at < 0:
            self.combo.addItem("as in the recipe", "given")
        self.combo.setCurrentIndex(self.combo.findData("given"))

    def reset_choices(self) -> None:
        self.layer.reset_choices()

    def _chosen(self) -> None:
        self.layer.native.setVisible(self.combo.currentData() == "layer")


def _weights_of(
    data: NDArray[Any], name: str, image_shape: tuple[int, ...], measured_shape: tuple[int, ...]
) -> NDArray[Any]:
    values = np.squeeze(data).astype(np.float32)
    if values.shape == measured_shape != image_shape:
        index = [np.arange(n) * m // n for n, m in zip(image_shape, measured_shape, strict=True)]
        values = values[np.ix_(*index)]
    if values.shape != image_shape:
        raise ImageError(
            f"The layer '{name}' does not fit as weights",
            found=f"shape {values.shape}; the image will have {image_shape}, the measurement has {measured_shape}",
            do="Choose a 2-D layer of one of these sizes",
        )
    if not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise ImageError(
            f"The weights in '{name}' must be finite, none negative, not all zero",
            found=f"{values.min():g} to {values.max():g}",
            do="Choose a layer with values from 0 (does not count) to 1",
        )
    return values / max(1.0, float(values.max()))


def _is_map(layer: Any) -> bool:
    from napari.layers import Image, Labels

    return isinstance(layer, Image | Labels) and not getattr(layer, "rgb", False)


def _name_of(method: Any) -> str:
    """Return which entry of the combo box a method belongs to."""
    if method.kind != "finetune":
        return str(method.kind)
    published = type(method).lucas2020()
    return "lucas2020" if method.optimizer == published.optimizer and not method.average else "finetune"
