"""An image formation model of your own gets a name: registered in one line, then used like any other.

    python examples/own_operator.py
    napari-fidelity reconstruct in.tif out.tif --operator registered:name=ghost --import examples/own_operator.py

In napari's console, run the file and choose ``ghost`` as the image formation in the docks.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from skimage.data import camera

import napari_fidelity as nf


class Ghost(nf.operators.Operator):
    """A second, weaker image beside the first, as by a reflection in a pane of glass.

    ``A`` is linear, and ``A_adjoint`` is its adjoint: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩. Both work on tensors
    ``(N, C, H, W)``; everything else, such as ``A_dagger``, follows from the two.
    """

    kind: Literal["ghost"] = "ghost"
    shift: int = Field(6, ge=1, description="Pixels from the image to its ghost.")
    strength: float = Field(0.5, gt=0, lt=1, description="Brightness of the ghost, relative to the image.")

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """Add the ghost."""
        y = x.clone()
        y[..., self.shift :] += self.strength * x[..., : -self.shift]
        return y

    def A_adjoint(self, y: torch.Tensor, image_shape: Sequence[int] | None = None) -> torch.Tensor:
        """Add it on the other side."""
        x = y.clone()
        x[..., : -self.shift] += self.strength * y[..., self.shift :]
        return x

    def image_shape(self, measurement_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the image, which is that of the measurement."""
        return tuple(measurement_shape)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the measurement, which is that of the image."""
        return tuple(image_shape)


# An object that only has A and A_adjoint will do too, such as a deepinv.physics.LinearPhysics.
nf.register_operator("ghost", Ghost(shift=6))


def main() -> None:
    """Reconstruct a photograph from what was recorded through a pane of glass, with noise."""
    truth = camera()[64:192, 192:320]
    A = nf.operators.Registered(name="ghost")
    noise = nf.operators.GaussianNoise(sigma=4)
    seen = A.A(torch.tensor(truth, dtype=torch.float32)[None, None])[0, 0]
    random = torch.Generator().manual_seed(0)
    y = (seen + 4 * torch.randn(seen.shape, generator=random)).numpy()  # your measurement
    prior = nf.RED(denoiser=nf.denoisers.TV(), iterations=30)
    result = nf.reconstruct(y, operator=A, noise=noise, method=prior)
    for name, image in (("measurement", y), ("reconstruction", result.image.data)):
        print(f"{name}: {nf.metrics.psnr(image, truth, data_range=255):.2f} dB from the truth")
    print(f"The recipe holds {result.provenance['recipe']['operator']}")


if __name__ == "__main__":
    main()
