"""A recipe: everything that turns a measurement into a result, as a plain document."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from napari_fidelity.core.blocks import Spatial
from napari_fidelity.core.errors import OperatorError, OptionError, RecipeError
from napari_fidelity.core.options import Options
from napari_fidelity.core.scaling import Mode, Scope
from napari_fidelity.methods import AnyMethod, FineTune
from napari_fidelity.operators import AnyNoise, AnyOperator
from napari_fidelity.operators.registered import fingerprints
from napari_fidelity.pipeline.series import Series
from napari_fidelity.stopping import AnyRule
from napari_fidelity.uncertainty import AnyMap, UncertaintyMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Channels
    from napari_fidelity.uncertainty import Output


class ModelReference(Options):
    """Which model: a bundled id or a file, with the hash that says it is still the same."""

    name: str = Field(min_length=1, description="Bundled id, or path of a model file.")
    scale: int | None = Field(
        None, ge=1, description="Adapt a model trained for another scale to this one (scale surgery)."
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Hash of the file; a different one is refused."
    )


class Recipe(Options):
    """Operator, noise, method, stopping rule, model, seed and intensity scaling of one restoration.

    It round-trips through JSON and TOML, is part of every result's provenance, and
    ``napari-fidelity run recipe.json in.tif out.tif`` replays it.
    """

    format: Literal[1] = Field(1, description="Version of this document's format.")
    operator: AnyOperator | None = Field(
        None, description="Image formation model; left out, one that only code can give."
    )
    noise: AnyNoise | None = Field(None, description="Noise model, in the measurement's intensity units.")
    method: AnyMethod | AnyMap = Field(
        FineTune(), description="Method and its options; or a map over a method.", discriminator="kind"
    )
    stop: AnyRule | None = Field(None, description="Stopping rule; left out, the method's own.")
    model: ModelReference | None = Field(
        None,
        description="Restoration network or denoiser; left out, the one the method takes by itself, if any.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    scaling: Mode = Field("auto", description="How intensities are brought to [0, 1].")
    scope: Scope = Field("series", description="What one intensity scaling is found from.")
    channels: Literal["auto", "joint", "each"] = Field(
        "auto",
        description="Restore the channels of a multichannel image together, or each on its own. auto: together, "
        "but each on its own where an image is reconstructed whose channels (C) have intensities of their own.",
    )
    spatial: Spatial = Field(
        "YX", description="Work slice by slice (YX), or on whole volumes in 3-D (ZYX), where the method can."
    )
    series: Series = Field(
        "auto",
        description="What a network is adapted to in a time series (T): every frame on its own, a window of "
        "consecutive frames (as many as a video network looks at, else 5), or the whole series once. auto: every "
        "frame on its own; with a video network, windows.",
    )
    nonfinite: Literal["error", "mask"] = Field(
        "error", description="NaN and infinity: refuse them, or take them as unobserved pixels."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Processor threads, on which the rounding depends; left out, as many as torch takes.",
    )
    last_iterations: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Where the user or the clock ended a stack: the last iteration of each slice (or run of "
        "frames) that was begun; those after it are left empty. Left out, every slice ends by the stopping rule.",
    )
    registered: dict[str, str] | None = Field(
        None,
        description="Hashes of the registered operators that it names, where they have one; others are refused.",
    )
    software: dict[str, str] = Field({}, description="Versions the result was made with.")

    def channels_of(self, image: Image) -> Channels:
        """Return whether the channels of an image are restored together or each on its own."""
        if self.channels != "auto":
            return self.channels
        operator = self.operator
        # colours, and the real and imaginary parts of Fourier samples, belong together
        own = "C" in image.axes and "S" not in image.axes and operator is not None and operator.shares_grid
        return "each" if own and not self.method.reads_measurement else "joint"

    def recognised(self) -> Self:
        """Return the recipe with the hashes of the registered operators that it names.

        Raises
        ------
        OperatorError
            If one of them is not the one the recipe was made with.
        """
        found = fingerprints(self.operator)
        for name, sha256 in (self.registered or {}).items():
            if found.get(name, sha256) != sha256:
                now = f"SHA-256 {found[name][:12]}…" if found[name] else "an object that has no hash"
                raise OperatorError(
                    f"The operator '{name}' is not the one the recipe was made with",
                    found=f"{now} instead of {sha256[:12]}…",
                    do="Register the original one, or remove 'registered' from the recipe",
                )
        known = {name: sha256 for name, sha256 in found.items() if sha256}
        return self if not known and self.registered is None else self.replace(registered=known or None)

    def to_json(self) -> str:
        """Return the recipe as a JSON document."""
        return json.dumps(self.to_plain(), indent=2, ensure_ascii=False) + "\n"

    def to_toml(self) -> str:
        """Return the recipe as a TOML document."""
        import tomli_w

        return tomli_w.dumps(self.to_plain())

    @classmethod
    def from_text(cls, text: str, format: Annotated[str, "json or toml"] = "json") -> Self:
        """Read a recipe from a JSON or TOML document.

        Raises
        ------
        RecipeError
            If the document cannot be parsed or does not describe a recipe.
        """
        try:
            values = tomllib.loads(text) if format == "toml" else json.loads(text)
        except ValueError as error:
            raise RecipeError(f"The recipe is not valid {format.upper()}", found=str(error)) from error
        if not isinstance(values, dict):
            raise RecipeError("A recipe is a table of settings", found=type(values).__name__)
        return cls.from_plain(values)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a recipe from a ``.json`` or ``.toml`` file, or from the provenance written beside a result.

        Raises
        ------
        RecipeError
            If the file is missing, unreadable or holds no recipe.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"Cannot read the recipe '{path}'", found=str(error)) from error
        return cls.from_text(text, _format_of(path))

    def dumps(self, path: str | Path) -> str:
        """Return the document in the format that belongs to a file name."""
        return self.to_toml() if _format_of(Path(path)) == "toml" else self.to_json()

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Read a recipe from a table of plain values, or from the provenance record that holds one.

        Raises
        ------
        RecipeError
            If it does not describe a recipe.
        """
        # A provenance record holds its recipe beside what was measured.
        inner = values.get("recipe", values)
        if not isinstance(inner, dict):
            raise RecipeError("The entry 'recipe' must be a table of settings", found=type(inner).__name__)
        try:
            return cls.parse(inner)
        except (OptionError, OperatorError) as error:
            raise RecipeError("The recipe cannot be used", found=str(error)) from error


def outputs_of(recipe: Recipe) -> Mapping[str, Output]:
    """Return the images that a recipe makes by name, the first of them its result; none for a plain method."""
    method = recipe.method
    return method.outputs if isinstance(method, UncertaintyMap) else {}


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".json", ".toml"):
        raise RecipeError(f"A recipe's file name ends in .json or .toml, not '{suffix}'", found=path.name)
    return suffix[1:]
