"""How an image is reconstructed without training pairs: method, denoiser, start, runs, slices or volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtWidgets import QSpinBox

from napari_fidelity.widgets._controls import choice, labelled
from napari_fidelity.widgets._denoiser import DenoiserChoice
from napari_fidelity.widgets._dock import fold_away
from napari_fidelity.widgets._fields import quiet_wheel
from napari_fidelity.widgets._recipe_panel import SNAPSHOTS, RecipePanel
from napari_fidelity.widgets._settings import settings
from napari_fidelity.widgets._start_form import StartForm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel

    from napari_fidelity.methods.base import Method
    from napari_fidelity.pipeline import ModelReference, Recipe

_SPATIAL = {
    "YX": ("slice by slice", "Every slice is an image of its own. Fast, and little memory is needed."),
    "ZYX": (
        "the whole volume (3-D)",
        "The slices of a stack are one image with three axes: what is lost in one is found in its neighbours. "
        "Blur and scale above are those within a slice; for one number for each of z, y and x choose 'Written "
        "out', such as gaussian_blur:sigma=[3,1,1].",
    ),
}
_PUBLISHED = {"denoise": "denoising", "super_resolution": "super-resolution", "deblur": "deblurring"}


class PriorPanel(RecipePanel):
    """Everything about how a layer is reconstructed, with the advanced part folded away."""

    methods: ClassVar[Mapping[str, tuple[str, str]]] = {
        "red": (
            "Denoiser as prior (RED)",
            "The image that explains the measurement and that a denoiser has little to take from. Seconds; "
            "first choice where there is a denoiser for such images.",
        ),
        "dip": (
            "Deep image prior (DIP)",
            "An untrained network is fitted to the measurement, and stopped before it fits the noise. No "
            "denoiser, nothing learned from other images; minutes.",
        ),
        "deepred": (
            "Both (DeepRED)",
            "The deep image prior, held back by a denoiser from fitting the noise. Minutes.",
        ),
        "zssr": (
            "Its own reduced copies (ZSSR)",
            "A small network learns from the image alone how its structures look at a coarser scale, and enlarges "
            "the image with it. Nothing learned from other images; the image formation above must include "
            "downsampling. Seconds to a minute.",
        ),
        "romano2017": (
            "RED (2017)",
            "As published: the settings of Romano et al. 2017, a fixed noise level and 200 iterations. For "
            "comparison with the paper.",
        ),
        **{
            task: (
                f"DeepRED (2019): {words}",
                f"As published: the settings of Mataev et al. 2019 for {words}. For comparison with the paper; "
                "hours on a large image.",
            )
            for task, words in _PUBLISHED.items()
        },
        "shocher2018": (
            "ZSSR (2018)",
            "As published: the settings of Shocher et al. 2018 for bicubic downsampling, up to 3000 steps. For "
            "comparison with the paper; many minutes.",
        ),
    }
    question = "What is known about the image, beside the measurement."
    shown_apart = ("denoiser", "start", "runs")

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.denoiser = DenoiserChoice(settings().model_folder)
        self.start = StartForm(viewer)
        self.runs = QSpinBox()
        self.runs.setRange(1, 64)
        self.runs.setToolTip(
            "<qt>So many untrained networks with other random numbers; the image is their average, in which "
            "their errors partly cancel. The time grows with their number.</qt>"
        )
        self.runs.setAccessibleName("average of runs")
        quiet_wheel(self.runs)
        self.spatial = choice(_SPATIAL, "work on", "What is one image: a slice, or a stack of them.")
        self._runs_row = labelled({"average of runs": self.runs})
        self.spatial_row = labelled({"work on": self.spatial})
        self.denoising = fold_away("Denoiser options", self.denoiser.options)
        self.lay_out(
            first=(self.denoiser, self.spatial_row, self.start, self._runs_row), advanced=(self.denoising,)
        )
        for signal in (self.denoiser.changed, self.start.changed, self.runs.valueChanged):
            signal.connect(lambda *_: self.changed.emit())
        self.denoiser.changed.connect(self._show_denoising)
        self._show_denoising()

    # -- values -----------------------------------------------------------------------------------------------

    def method(self, snapshots: int = SNAPSHOTS) -> Method:
        """Return the method, with at most so many iterations kept for the slider.

        Raises
        ------
        FidelityError
            If an option is out of its range, or a package is missing.
        """
        method = self._own_options()
        changes: dict[str, Any] = {"snapshots": min(snapshots, SNAPSHOTS)}
        if hasattr(method, "start"):
            changes["start"] = self.start.start()
        if hasattr(method, "denoiser"):
            changes["denoiser"] = self.denoiser.denoiser()
        if hasattr(method, "runs"):
            changes["runs"] = self.runs.value()
        return method.replace(**changes)

    def reference(self) -> ModelReference | None:
        """Return the denoising network; ``None`` where none is wanted.

        Raises
        ------
        FidelityError
            If the chosen file cannot be used.
        """
        return self.denoiser.reference() if hasattr(self._method, "denoiser") else None

    def set_recipe(self, recipe: Recipe) -> None:
        """Show the settings of a recipe."""
        super().set_recipe(recipe)
        method: Any = recipe.method
        if hasattr(method, "start"):
            self.start.set_start(method.start)
        if hasattr(method, "denoiser"):
            self.denoiser.show(method.denoiser)
        if hasattr(method, "runs"):
            self.runs.setValue(method.runs)
        if recipe.model is not None:
            self.denoiser.model.set_reference(recipe.model)
        self.spatial.setCurrentIndex(self.spatial.findData(recipe.spatial))

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.start.reset_choices()

    # -- methods ----------------------------------------------------------------------------------------------

    def made(self, key: str) -> Method:
        """Return the method of an entry of the combo box, with its defaults."""
        from napari_fidelity.methods import DIP, RED, ZSSR, DeepRED

        if key in _PUBLISHED:
            return DeepRED.mataev2019(key)  # type: ignore[arg-type]
        if key == "romano2017":
            return RED.romano2017()
        if key == "shocher2018":
            return ZSSR.shocher2018()
        made: dict[str, Method] = {"red": RED(), "dip": DIP(), "deepred": DeepRED(), "zssr": ZSSR()}
        return made[key]

    def key_of(self, method: Any) -> str:
        """Return the entry of the combo box that a method belongs to."""
        kind = str(method.kind)
        published = {"red": ["romano2017"], "deepred": list(_PUBLISHED), "zssr": ["shocher2018"]}.get(kind, [])
        return next((key for key in published if _settings(self.made(key)) == _settings(method)), kind)

    def show_for(self, method: Any) -> None:
        """Show what belongs to a method, and hide what does not."""
        super().show_for(method)
        self.start.show_for(method)
        self.denoiser.setVisible(hasattr(method, "denoiser"))
        self._runs_row.setVisible(hasattr(method, "runs"))
        self.spatial.setEnabled(3 in method.spatial_dims)
        if 3 not in method.spatial_dims:
            self.spatial.setCurrentIndex(self.spatial.findData("YX"))
        if hasattr(method, "denoiser"):
            self.denoiser.show(method.denoiser)
        if hasattr(method, "runs"):
            self.runs.setValue(method.runs)
        self._show_denoising()

    def _show_denoising(self) -> None:
        form = self.denoiser.options.form
        self.denoising.setVisible(hasattr(self._method, "denoiser") and form is not None and bool(form.fields))


def _settings(method: Any) -> tuple[Any, ...]:
    """Return what tells published settings from others, whatever else has been changed."""
    names = ("learning_rate", "beta", "mu", "strength", "sigma_start", "schedule", "turns", "noise_level")
    return tuple(getattr(method, name, None) for name in names)
