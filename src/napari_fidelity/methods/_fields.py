"""Fields that several methods share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

IterationField = Annotated[
    int | None,
    Field(
        ge=0, description="Return the image of this iteration and stop there; left out, the stopping rule decides."
    ),
]

SnapshotsField = Annotated[
    int, Field(ge=0, le=64, description="Number of iterations whose images are kept, evenly spread.")
]

TileField = Annotated[
    int | None,
    Field(
        ge=16,
        le=65536,
        description="Side of the tiles in which the network is run; left out, the whole image at once, or the "
        "largest tiles for which there is memory.",
        json_schema_extra={"unit": "px"},
    ),
]

MarginField = Annotated[
    int | None,
    Field(
        ge=0,
        le=1024,
        description="What the network is shown beyond a tile on each side; left out, as far as a cut through the "
        "image is seen to matter.",
        json_schema_extra={"unit": "px"},
    ),
]

CropsField = Annotated[
    int | None,
    Field(
        ge=1,
        le=65536,
        description="Of an image in tiles, how many a gradient step is taken from: others in each iteration, in "
        "random order. Left out, all of them.",
        json_schema_extra={"none": "all"},
    ),
]

CheckpointingField = Annotated[
    Literal["auto", "on", "off"],
    Field(
        description="Compute again for the backward pass what lies between some layers, which takes less memory "
        "and a third more time; auto: where not even small tiles fit otherwise. The result is the same."
    ),
]
