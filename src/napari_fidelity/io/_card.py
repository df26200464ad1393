"""The card of a model: what the header of our own files says of it, as JSON under the key ``napari_fidelity``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_fidelity.core.errors import ModelFileError, OptionError
from napari_fidelity.core.options import option_error
from napari_fidelity.networks.info import ModelInfo

if TYPE_CHECKING:
    from napari_fidelity.networks.base import RestorationNetwork

KEY = "napari_fidelity"


class Card(BaseModel):
    """What a header says; unknown entries are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    architecture: str
    config: dict[str, Any]
    id: str = ""
    scale: int = Field(ge=1)
    n_channels: int = Field(ge=1)
    frames: int = Field(1, ge=1)
    value_range: tuple[float, float] = (0.0, 1.0)
    licence: str = ""
    trained_for: str = ""
    source: str = ""

    def info(self, n_parameters: int, sha256: str, name: str) -> ModelInfo:
        """Return what is known of a network with this card; ``name`` where it has no id."""
        return ModelInfo(
            **{**self.model_dump(include=_TOLD), "id": self.id or name},
            n_parameters=n_parameters,
            sha256=sha256,
            format="safetensors",
            card=dict(self.model_extra or {}),
        )


_COUNTED = {"architecture", "config", "scale", "n_channels", "frames"}  # told by the network, not by who saves it
_TOLD = set(Card.model_fields) - {"config"}


def card_text(network: RestorationNetwork, stem: str, told: dict[str, Any]) -> str:
    """Return the card of a network as JSON.

    Parameters
    ----------
    network
        Tells what can be counted, and by its ``info`` what is known.
    stem
        Its id where it has none.
    told
        What is to be known instead.

    Raises
    ------
    OptionError
        If this is what the network itself tells, or cannot be written as JSON.
    """
    if wrong := sorted(_COUNTED & told.keys()):
        raise OptionError(f"The card's '{wrong[0]}' is told by the network itself", do="Leave it out")
    info = network.info
    known = {name: getattr(info, name) for name in _TOLD - _COUNTED}
    counted: dict[str, Any] = {
        "architecture": network.architecture,
        "config": network.config(),
        "scale": network.scale,
        "n_channels": network.n_channels,
    }
    if info.frames != 1:
        counted["frames"] = info.frames
    content = {**info.card, **known, **told, **counted}
    content["id"] = content["id"] or stem
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        checked_range(Card.model_validate_json(text).value_range)
    except ValidationError as error:
        raise option_error("Model card", error) from None
    except (TypeError, ValueError) as error:
        raise OptionError(
            "The model card holds a value that cannot be written as JSON", found=str(error)
        ) from None
    return text


def read_card(header: dict[str, Any], name: str) -> Card | None:
    """Return the card in the header of a safetensors file, ``None`` if there is none.

    Raises
    ------
    ModelFileError
        If it is damaged.
    """
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or KEY not in metadata:
        return None
    try:
        card = Card.model_validate_json(metadata[KEY])
        checked_range(card.value_range)
    except (ValidationError, OptionError) as error:
        found = option_error("card", error).what if isinstance(error, ValidationError) else error.what
        raise ModelFileError(
            f"The description in the header of '{name}' is damaged",
            found=found,
            do="Get the file again, or convert the original weights again",
        ) from None
    return card


def checked_range(value: Any) -> tuple[float, float]:
    """Return a range of intensities.

    Raises
    ------
    OptionError
        If it is not two finite numbers, the lower one first.
    """
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and low < high < math.inf):
        raise OptionError("Model card: 'value_range' must be two increasing numbers", found=f"{value}")
    return low, high
