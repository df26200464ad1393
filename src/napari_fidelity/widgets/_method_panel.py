"""How a layer is corrected: fine-tuning, projection or the network alone, and the weights of the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from napari_fidelity.widgets._dock import LazyFold
from napari_fidelity.widgets._recipe_panel import RecipePanel
from napari_fidelity.widgets._series import SeriesChoice
from napari_fidelity.widgets._unsuited import Unsuited
from napari_fidelity.widgets._weights import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.methods.base import Method
    from napari_fidelity.pipeline import Recipe


class MethodPanel(RecipePanel):
    """Everything about how a layer is corrected, with the advanced part folded away."""

    methods: ClassVar[Mapping[str, tuple[str, str]]] = {
        "finetune": (
            "Fine-tuning",
            "The network is adapted to this one image until its output explains the measurement; a projection has "
            "the last word. Best results; seconds to minutes.",
        ),
        "lucas2020": (
            "Fine-tuning, as published (2020)",
            "The settings of Lucas et al. 2020: plain gradient descent until the gain falls below 0.04 dB. For "
            "comparison with the paper; slow.",
        ),
        "project": (
            "Projection",
            "The network's output is changed as little as possible so that it explains the measurement. Fast; "
            "keeps whatever the network invented that the measurement cannot contradict.",
        ),
        "apply": (
            "The network alone",
            "Its output as it is, with no correction: to see how far it can be trusted.",
        ),
    }
    question = "How the network's output is made to agree with the measurement."
    shown_apart = ("mask",)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.weights = Weights(viewer)
        self.masking = LazyFold("Weights of the pixels", lambda: self.weights)
        self._untrainable = ""
        self.series = SeriesChoice()
        self.unsuited = Unsuited()
        self.unsuited.projection_wanted.connect(self.use_projection)
        self.lay_out(first=(self.unsuited, self.series), advanced=(self.masking,))
        self.series.changed.connect(self.changed)

    def method(self, image_shape: Sequence[int], measured_shape: Sequence[int]) -> Method:
        """Return the method for an image of a shape.

        Raises
        ------
        FidelityError
            If an option is out of its range or the weights' layer does not fit.
        """
        method = self._own_options()
        if method.kind != "finetune":
            return method
        return method.replace(mask=self.weights.mask(image_shape, measured_shape))

    def recipe_fields(self) -> dict[str, Any]:
        """Return the fields of a recipe about intensities, channels, the seed and time series."""
        return {**super().recipe_fields(), "series": self.series.value()}

    def set_untrainable(self, reason: str) -> None:
        """Say why the network cannot be fine-tuned, as long as that is what is chosen; empty if it can."""
        self._untrainable = reason
        self.show_for(self._method)

    def use_projection(self) -> None:
        """Correct by projection, which asks nothing of the network but its output."""
        self.combo.setCurrentIndex(self.combo.findData("project"))
        self.combo.setFocus()  # the button that had it is gone

    def use_map(self, layer: Layer) -> None:
        """Fine-tune with weights of the pixels from a map of uncertainty."""
        if self._method is None or getattr(self._method, "kind", "") != "finetune":
            self.combo.setCurrentIndex(self.combo.findData("finetune"))
        self.weights.use_map(layer)
        self.masking.expand(animate=False)
        self.unfold()

    def set_recipe(self, recipe: Recipe) -> None:
        """Show the settings of a recipe."""
        super().set_recipe(recipe)
        self.series.set_value(recipe.series)
        if recipe.method.kind == "finetune":
            self.weights.set_mask(recipe.method.mask)

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.weights.reset_choices()

    def made(self, key: str) -> Method:
        """Return the method of an entry of the combo box, with its defaults."""
        from napari_fidelity.methods import Apply, FineTune, Project

        return {
            "finetune": FineTune(),
            "lucas2020": FineTune.lucas2020(),
            "project": Project(),
            "apply": Apply(),
        }[key]

    def key_of(self, method: Any) -> str:
        """Return the entry of the combo box that a method belongs to."""
        if method.kind != "finetune":
            return str(method.kind)
        published = type(method).lucas2020()
        return "lucas2020" if method.optimizer == published.optimizer and not method.average else "finetune"

    def show_for(self, method: Any) -> None:
        """Show what belongs to a method, and hide what does not."""
        super().show_for(method)
        self.series.set_method(method)
        self.masking.setVisible(method.kind == "finetune")
        self.unsuited.say(self._untrainable if method.kind == "finetune" else "")
        self.options.setVisible(method.kind != "apply")
