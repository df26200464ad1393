"""What commands share that judge a restored image: how it was, or is to be, restored."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import Group, Parameter

from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._options import IMAGE, Formation, Running
from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.spec import parse_one
from napari_fidelity.methods import AnyMethod, Apply, FineTune

if TYPE_CHECKING:
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.methods import Method
    from napari_fidelity.operators import Operator
    from napari_fidelity.pipeline import Recipe

RESTORED = Group("The restoration that is judged", sort_key=1)

METHODS: tuple[type[Method], ...] = get_args(get_args(AnyMethod)[0])


@Parameter(name="*")
@dataclass(frozen=True)
class Restoration:
    """How the image to judge was, or is to be, restored."""

    made_by: Annotated[Path | None, Parameter(group=RESTORED)] = None
    """Recipe or provenance record (.json, .toml) of the restoration. An image that this program wrote knows its
    own; the options that are given go before it."""
    method: Annotated[str | None, Parameter(group=RESTORED)] = None
    """finetune, project, apply (the network as it is), red, dip, deepred or zssr, with options as in
    finetune:iterations=4. Left out: the recipe's, or finetune where a model is given."""
    model: Annotated[str | None, Parameter(group=RESTORED)] = None
    """Id of a model (see the command models) or a model file."""
    scale: Annotated[int | None, Parameter(group=RESTORED)] = None
    """Adapt a model trained for another scale to this one. Left out: to that of --operator."""
    stop: Annotated[str | None, Parameter(group=RESTORED)] = None
    """Stopping rule of the restoration, as in budget:iterations=10."""
    spatial: Annotated[Literal["YX", "ZYX"] | None, Parameter(group=IMAGE)] = None
    """Slice by slice (YX), or whole volumes in 3-D (ZYX). Left out: the recipe's, or YX."""

    def recipe(
        self,
        formation: Formation,
        running: Running,
        restored: Image | None = None,
        default: Method | None = None,
        *,
        takes_restored: bool = False,
    ) -> Recipe:
        """Return the recipe of the restoration, by the default method where nothing says which it is.

        Parameters
        ----------
        formation, running
            Options of the command.
        restored
            The restored image, if there is one already.
        default
            The method where nothing else says which it is.
        takes_restored
            Whether the command has an option for a restored image.

        Raises
        ------
        OptionError
            If nothing says how the image is restored, and there is none; or a scale is given without a model.
        FidelityError
            If a recipe or an option cannot be read.
        """
        from napari_fidelity.pipeline import Recipe
        from napari_fidelity.pipeline.assessment import recipe_behind
        from napari_fidelity.pipeline.models import with_operator
        from napari_fidelity.uncertainty.base import judged_method

        made = Recipe.read(self.made_by) if self.made_by is not None else recipe_behind(restored)
        changes = self._given(formation, running, made)
        if made is None:
            return Recipe(**{"method": default or self._default(restored, takes_restored), **changes})
        ours: dict[str, Any] = {"method": judged_method(made.method), "last_iterations": None, "software": {}}
        if "operator" in changes:
            made = with_operator(made, changes.pop("operator"))
        return made.replace(**{**ours, **changes})

    def _given(self, formation: Formation, running: Running, made: Recipe | None) -> dict[str, Any]:
        from napari_fidelity.operators import parse_noise
        from napari_fidelity.pipeline import ModelReference
        from napari_fidelity.stopping import parse_stop

        if self.scale is not None and self.model is None:
            raise OptionError(
                "--scale says what a model is adapted to, and there is no --model",
                found=f"--scale {self.scale}",
                do="Give the model, too, or leave --scale out",
            )
        reference = ModelReference(name=self.model, scale=self.scale) if self.model else None
        operator: Operator | None = None
        if formation.operator is not None:
            operator = read_operator(formation.operator)
        elif made is None and reference is not None:
            operator = downsampling_of(reference, trust=running.trust)
        given = {
            "operator": operator,
            "noise": parse_noise(formation.noise) if formation.noise else None,
            "method": parse_one(self.method, METHODS, "method") if self.method else None,
            "stop": parse_stop(self.stop) if self.stop else None,
            "model": reference,
            "spatial": self.spatial,
            "seed": running.seed,
            "threads": running.threads,
        }
        defaults = {field.name: field.default for field in fields(formation)}
        chosen = {name: value for name, value in formation.recipe_fields().items() if value != defaults[name]}
        return {name: value for name, value in given.items() if value is not None} | chosen

    def _default(self, restored: Image | None, takes_restored: bool) -> Method:
        if self.model is not None:
            return FineTune()
        if restored is None and self.method is None:
            how = "how to make it" if takes_restored else "how the image is restored"
            raise OptionError(
                "There is nothing to judge",
                do=f"Give {'the restored image (--restored), or ' * takes_restored}{how}: "
                "--made-by, --model or --method",
            )
        return Apply()


def downsampling_of(reference: Any, *, trust: bool = False) -> Operator:
    """Return the downsampling that a model undoes."""
    from napari_fidelity.io import list_models
    from napari_fidelity.operators import Downsample
    from napari_fidelity.pipeline.models import load_reference

    known = {info.id: info.scale for info in list_models()}
    scale = reference.scale or known.get(reference.name) or load_reference(reference, trust=trust).scale
    return Downsample(scale=scale)
