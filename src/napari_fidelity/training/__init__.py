"""Training restoration networks: clean images, pairs made by any operator, losses, and the loop.

Importing this package does not import torch.
"""

from napari_fidelity.training.clips import Motion
from napari_fidelity.training.degrade import Degrade, Forward
from napari_fidelity.training.images import TrainingSet, training_set, validation_images
from napari_fidelity.training.loop import Train, TrainResult
from napari_fidelity.training.losses import LOSSES, LossName

__all__ = [
    "LOSSES",
    "Degrade",
    "Forward",
    "LossName",
    "Motion",
    "Train",
    "TrainResult",
    "TrainingSet",
    "training_set",
    "validation_images",
]
