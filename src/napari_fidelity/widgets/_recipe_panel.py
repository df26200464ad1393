"""Method, its options, stopping rule and intensity scaling: what every dock chooses beside the image formation."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_fidelity.widgets._controls import choice
from napari_fidelity.widgets._dock import LazyFold, fold_away

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fidelity.core.options import Options
    from napari_fidelity.methods.base import Method
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.stopping.rules import StoppingRule
    from napari_fidelity.widgets._options import ChoiceForm, OptionsForm

SNAPSHOTS = 24  # iterations kept for the slider

_RULES = {
    "settled": "the image has settled",
    "lr_psnr": "LR-PSNR stops rising",
    "lr_lpips": "LR-LPIPS stops falling",
    "lr_psnr_level": "an LR-PSNR is reached",
    "discrepancy": "the residual is as small as the noise",
    "held_out": "held-out pixels get worse",
    "windowed_variance": "the image varies least (ES-WMV)",
    "budget": "iterations or time are used up",
}
_RECIPE_FIELDS = ("scaling", "scope", "channels", "seed")


class RecipePanel(QWidget):
    """A combo box of methods, what each is asked for first, and the advanced part folded away.

    Attributes
    ----------
    methods
        Words and meaning of each method, or of its settings as published, by a key.
    question
        What is chosen, as the combo box's tooltip begins.
    shown_apart
        Options of the methods that have controls of their own.
    """

    changed = Signal()
    methods: ClassVar[Mapping[str, tuple[str, str]]]
    question: ClassVar[str]
    shown_apart: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.combo = choice(self.methods, "method", self.question)
        self._method: Options | None = None
        self._stop: Options | None = None
        self._fields: dict[str, Any] = {}
        self.options = LazyFold("Method options", self._build_options)
        self.stopping = LazyFold("Stop when", self._build_stopping)
        self.intensities = LazyFold("Intensities, channels, seed", self._build_intensities)
        self.integers = QCheckBox("result in the layer's own data type")
        self.integers.setToolTip(
            "Off: the result is 32-bit float, in the layer's intensity units, nothing rounded or cut off. "
            "On: it is rounded to the layer's type, such as 16-bit integers"
        )
        self.setFocusProxy(self.combo)

    def lay_out(self, first: Sequence[QWidget] = (), advanced: Sequence[QWidget] = ()) -> None:
        """Put everything together, with a dock's own controls below the combo box and in the advanced part."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.combo)
        for widget in first:
            column.addWidget(widget)
        folds = (self.options, self.stopping, *advanced, self.intensities, self.integers)
        self._advanced = fold_away("Advanced", *folds)
        column.addWidget(self._advanced)
        self.combo.currentIndexChanged.connect(self._method_chosen)
        self._method_chosen()

    def unfold(self) -> None:
        """Show the advanced part."""
        self._advanced.expand(animate=False)

    # -- what a dock adds -------------------------------------------------------------------------------------

    @abstractmethod
    def made(self, key: str) -> Method:
        """Return the method of an entry of the combo box, with its defaults."""

    @abstractmethod
    def key_of(self, method: Any) -> str:
        """Return the entry of the combo box that a method belongs to."""

    def show_for(self, method: Any) -> None:
        """Show what belongs to a method, and hide what does not."""
        self.stopping.setVisible(method.iterative)

    # -- values -----------------------------------------------------------------------------------------------

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
        self.combo.setCurrentIndex(self.combo.findData(self.key_of(recipe.method)))
        self._set(self.options, "_method", recipe.method)
        self._set(self.stopping, "_stop", recipe.stop)
        self._fields = {name: getattr(recipe, name) for name in _RECIPE_FIELDS}
        if self.intensities.widget is not None:
            self.intensities.widget.set_value(recipe)

    def reset_choices(self) -> None:
        """Offer the layers there are now."""

    def _own_options(self) -> Any:
        """Return the method as its own form has it, snapshots for the slider included.

        Raises
        ------
        OptionError
            If an option is out of its range.
        """
        method: Any = self._form_value(self.options, self._method)
        return method.replace(snapshots=SNAPSHOTS) if method.iterative else method

    # -- the folds --------------------------------------------------------------------------------------------

    def _method_chosen(self) -> None:
        key = self.combo.currentData()
        made = self.made(key)
        before, self._method = self._method, made
        if self.options.widget is not None:
            if type(before) is type(made):
                self.options.widget.set_value(made)
            else:
                self.options.rebuild()
        self.combo.setToolTip(f"<qt>{self.question} {self.methods[key][1]}</qt>")
        self.show_for(made)
        self.changed.emit()

    def _build_options(self) -> OptionsForm:
        from napari_fidelity.widgets._options import OptionsForm

        assert self._method is not None
        form = OptionsForm(type(self._method), leave_out=("kind", "snapshots", *self.shown_apart))
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
