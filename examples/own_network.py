"""A network of your own becomes a model: registered in one line, then used by its name.

    python examples/own_network.py
    napari-fidelity correct lowres.tif corrected.tif --model detail-x2 --import examples/own_network.py

In napari's console, run the file and choose ``detail-x2`` in the docks.
"""

import torch
from skimage.data import camera
from torch import Tensor, nn
from torch.nn.functional import interpolate

import napari_fidelity as nf


class Detail(nn.Module):
    """Enlargement and a correction to it: any module from image to image may stand here."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU())
        # The output is affine in the weights of a layer of this name: fine-tuning can solve for them at once.
        self.last_layer = nn.Conv2d(24, 1, 3, padding=1)
        nn.init.zeros_(self.last_layer.weight)  # nothing is trained here: it begins as plain enlargement
        nn.init.zeros_(self.last_layer.bias)

    def forward(self, y: Tensor) -> Tensor:
        """Take ``(N, 1, H, W)``, nominally in [0, 1], to ``(N, 1, 2 H, 2 W)``."""
        x = interpolate(y, scale_factor=2, mode="bicubic")
        return x + self.last_layer(self.features(x))


torch.manual_seed(0)  # the weights are what a recipe knows the model by: they have to be the same each time
network = Detail()  # with trained weights: network.load_state_dict(torch.load("mine.pth", weights_only=True))
nf.register_model("detail-x2", network, scale=2, n_channels=1, trained_for="nothing: an example")


def main() -> None:
    """Restore a photograph of which a quarter of the pixels was recorded."""
    truth = camera()[64:192, 192:320]
    A = nf.operators.Downsample(scale=2)
    y = A.A(torch.tensor(truth, dtype=torch.float32)[None, None])[0, 0].numpy()  # your measurement
    for method in (nf.Apply(), nf.FineTune()):  # the network as it is, and fine-tuned on this measurement
        result = nf.restore(y, operator=A, method=method, model="detail-x2")
        psnr = nf.metrics.psnr(result.image.data, truth, data_range=255)
        print(f"{method.kind}: {psnr:.2f} dB from the truth; {result.stop_reason}")


if __name__ == "__main__":
    main()
