"""BM3D, by the library of its authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from napari_fidelity.core.errors import MissingDependencyError
from napari_fidelity.denoisers.base import Denoiser, on_arrays
from napari_fidelity.denoisers.colour import from_opponent, opponent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_fidelity.denoisers.base import Network

_SMALLEST = 16  # pixels along an axis: the library refuses less than 8 and crashes at 8 × 8


class BM3D(Denoiser):
    """Block matching and collaborative filtering of groups of blocks; **its licence forbids commercial use**.

    Dabov, Foi, Katkovnik, Egiazarian, IEEE TIP 2007, doi:10.1109/TIP.2007.901238; Mäkinen, Azzari, Foi, IEEE TIP
    2020, doi:10.1109/TIP.2020.3014721. The code is the authors' package ``bm3d``, which is not installed along
    with this one. Three channels are taken for a colour image, whose blocks are matched in the luminance of
    opponent colours; other channels are denoised one by one, volumes slice by slice.
    """

    kind: Literal["bm3d"] = "bm3d"
    title: ClassVar[str] = "BM3D (non-commercial licence)"

    def _denoise(self, x: Tensor, sigma: float, network: Network | None) -> Tensor:
        library = _library()
        # The library's own function for colour divides by the range of each colour: 0 in gray images.
        output = on_arrays(opponent(x), lambda image: _filtered(library, image, sigma), slices=True)
        return from_opponent(output)


def _filtered(library: Any, image: NDArray[np.float64], sigma: float) -> NDArray[np.floating]:
    """Denoise one image (H, W, C)."""
    height, width, channels = image.shape
    border = [(0, max(0, _SMALLEST - n)) for n in (height, width)]
    padded = np.pad(image, [*border, (0, 0)], mode="symmetric")
    # Of three channels the first is what the blocks are matched in; the library fails if it is all 0.
    together = channels == 3 and padded[..., 0].any()
    parts = [padded] if together else np.split(padded, channels, axis=-1)
    profile = library.BM3DProfile()
    profile.num_threads = 1  # with more, the result differs a little from run to run
    with np.errstate(all="ignore"):  # whoever called looks at the result
        planes = [library.bm3d(np.ascontiguousarray(part), sigma, profile).reshape(part.shape) for part in parts]
    return np.concatenate(planes, axis=-1)[:height, :width]


def _library() -> Any:
    # the compiled part of the library fails in more ways than not being there
    try:
        import bm3d
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"BM3D needs the package bm3d ({error}), whose licence allows non-commercial use only",
            do="If yours is, pip install 'napari-fidelity[bm3d]'; if not, choose another denoiser",
        ) from error
    return bm3d
