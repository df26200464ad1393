"""Fields that methods of many iterations share."""

from __future__ import annotations

from typing import Annotated

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
