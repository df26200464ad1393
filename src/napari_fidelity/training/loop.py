"""The training loop, a generator like every method: it yields steps and returns a result."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from napari_fidelity.core.options import Options
from napari_fidelity.core.step import Record
from napari_fidelity.training._run import Run
from napari_fidelity.training.checkpoint import load_checkpoint, save_checkpoint
from napari_fidelity.training.degrade import Degrade, Forward
from napari_fidelity.training.losses import LossName

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Mapping, Sequence

    from torch import Tensor, nn

    from napari_fidelity.core.step import Step
    from napari_fidelity.training.images import TrainingSet
    from napari_fidelity.training.synthetic import Image


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training returns.

    Attributes
    ----------
    weights
        The averaged weights by name, on the CPU: the ones to use.
    history
        One record per report.
    stop_reason
        Why the training ended, in words.
    seconds
        Time spent in training steps, all resumed parts together.
    provenance
        Settings and number of steps done, as plain values.
    """

    weights: Mapping[str, Tensor]
    history: tuple[Record, ...]
    stop_reason: str
    seconds: float
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Train(Options):
    """Supervised training of a restoration network on pairs ``(A x + noise, x)``.

    Adam (Kingma 2015, arXiv:1412.6980) with linear warm-up, cosine decay to zero (Loshchilov 2017,
    arXiv:1608.03983), gradient clipping and an exponential average of the weights. Step ``i`` draws its batch from
    a generator seeded by ``(seed, i)``: a resumed training sees the same batches as one that was never
    interrupted, and there is no random state to keep.
    """

    n_steps: int = Field(4000, ge=1, le=10_000_000, description="Number of optimiser steps.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Largest learning rate, reached after the warm-up.")
    warmup: int = Field(100, ge=0, le=1_000_000, description="Steps of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay (AdamW).")
    loss: LossName = Field("charbonnier", description="Pixel loss.")
    clip: float = Field(0.5, gt=0, le=1e6, description="Largest norm of the gradient.")
    average: float = Field(0.998, ge=0, lt=1, description="Decay of the exponential average of the weights.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Precision of the convolutions; bfloat16 is faster where the processor knows it."
    )
    report_every: int = Field(50, ge=1, le=1_000_000, description="Steps between two reports.")
    checkpoint_every: int = Field(200, ge=1, le=1_000_000, description="Steps between two checkpoints.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the batches.")
    degrade: Degrade = Field(Degrade(), description="How pairs are cut and augmented.")

    def steps(
        self,
        network: nn.Module,
        data: TrainingSet,
        operator: Forward,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        validation: Sequence[Image] = (),
    ) -> Generator[Step[Tensor], str | None, TrainResult]:
        """Train `network` in place; it ends in eval mode with the averaged weights.

        Parameters
        ----------
        network
            Maps (N, C, h, w) to (N, C, h·scale, w·scale), both in [0, 1]; ``scale`` counts as 1 if it has
            none. It is trained on the device it is on.
        data
            Clean images; those too small for a patch are left out.
        operator
            The image formation model.
        checkpoint
            File to resume from if it exists, and to write to, also when asked to stop or closed. On the same
            device and number of threads, a resumed training continues bit by bit as if never interrupted.
        validation
            Clean images (C, H, W) for the score ``val_psnr``, in dB, of the averaged weights; never trained on.

        Yields
        ------
        Step
            One per step, so that a request to end the training is heard at once. ``loss`` is the mean since the
            last report, which comes every `report_every` steps and at the end: the scores of those steps hold
            ``val_psnr``. ``estimate()`` is the first validation image as the averaged weights restore it, or empty
            without one.

        Raises
        ------
        ShapeError, ImageError
            If operator, images and patch size do not fit each other.
        ModelFileError
            If the checkpoint belongs to another training or is damaged.
        OutputError
            If the checkpoint cannot be written.
        DivergedError
            If the loss is no longer finite.
        """
        path = None if checkpoint is None else Path(checkpoint)
        run = Run(self, network, data, operator, validation)
        identity = _identity(self, network, data, operator) if path else {}
        if path and path.exists():
            run.load(load_checkpoint(path, identity))
        history: list[Record] = []
        reason = f"all {self.n_steps} steps done"
        request: str | None = None
        saved = run.index
        try:
            while run.index < self.n_steps and request is None:
                run.step()
                done = run.index == self.n_steps
                reports = done or run.index % self.report_every == 0
                step = run.told(reports=reports)
                # after a report, whose mean loss begins anew: so it does when the training is resumed
                if path and (done or run.index % self.checkpoint_every == 0):
                    save_checkpoint(path, run.state(), identity)
                    saved = run.index
                if reports:
                    history.append(Record.of(step))
                request = yield step
        except GeneratorExit:
            # closed between two steps: what was done so far is not lost
            if path and saved != run.index:
                save_checkpoint(path, run.state(), identity)
            raise
        if path and saved != run.index:
            save_checkpoint(path, run.state(), identity)
        provenance = {"train": self.to_plain(), "steps_done": run.index}
        return TrainResult(run.finish(), tuple(history), request or reason, run.seconds, provenance)

    def rate(self, index: int) -> float:
        """Return the learning rate of step `index`."""
        if index < self.warmup:
            return self.learning_rate * (index + 1) / (self.warmup + 1)
        progress = (index - self.warmup) / max(1, self.n_steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _identity(options: Train, network: nn.Module, data: TrainingSet, operator: Forward) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to belong to a training."""
    checksum = 0
    for image in data.images:
        checksum = zlib.crc32(image.tobytes(), checksum)
    return {
        **options.model_dump(mode="json", exclude={"report_every", "checkpoint_every"}),
        "weights": {name: list(value.shape) for name, value in network.state_dict().items()},
        "images": [len(data.images), zlib.crc32(data.weights.tobytes(), checksum)],
        "operator": operator.to_plain() if isinstance(operator, Options) else type(operator).__name__,
    }
