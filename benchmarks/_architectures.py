"""One small network of every architecture that spandrel knows: class and settings, built with random weights."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import torch
from torch import nn

WINDOWS: dict[str, Any] = {"img_size": 16, "embed_dim": 24, "depths": [2], "num_heads": [2], "window_size": 8}
TWICE: dict[str, Any] = {"upscale": 2, "upsampler": "pixelshuffle"}
MAP: dict[str, Any] = {"in_nc": 4, "out_nc": 3, "nc": [8, 16, 32, 64], "nb": 2}
STYLE = {"dim_in": 16, "dim_out": 64, "depth": 2}

# Architecture by its id, class of spandrel.architectures.<id>, and settings; left out, its own.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("Compact", "Compact", {"num_feat": 16, "num_conv": 4, "upscale": 2}),
    ("SwiftSRGAN", "SwiftSRGAN", {"num_channels": 16, "num_blocks": 2, "upscale_factor": 2}),
    ("HAT", "HAT", {**WINDOWS, "embed_dim": 96, "upscale": 2}),
    ("GRL", "GRL", {"img_size": 16, "embed_dim": 24, "depths": [2], "num_heads_window": [2],
                    "num_heads_stripe": [2], **TWICE}),
    ("Swin2SR", "Swin2SR", {**WINDOWS, **TWICE}),
    ("SwinIR", "SwinIR", {**WINDOWS, **TWICE}),
    ("GFPGAN", "GFPGAN", {"narrow": 0.25, "channel_multiplier": 1}),
    ("RestoreFormer", "RestoreFormer", {"ch": 32, "n_embed": 64}),
    ("LaMa", "LaMa", {"in_nc": 4}),
    ("OmniSR", "OmniSR", {"num_feat": 16, "up_scale": 2}),
    ("SCUNet", "SCUNet", {"config": [1, 1, 1, 1, 1, 1, 1], "dim": 64}),
    ("FBCNN", "FBCNN", {"nc": [8, 16, 32, 512], "nb": 2}),
    ("Uformer", "Uformer", {"embed_dim": 8, "depths": [1] * 9, "num_heads": [1, 2, 4, 8, 8, 8, 4, 2, 1]}),
    ("RGT", "RGT", {"img_size": 16, "embed_dim": 24, "depth": [2], "num_heads": [2]}),
    ("DAT", "DAT", {"img_size": 16, "embed_dim": 24, "depth": [2], "num_heads": [2]}),
    ("CRAFT", "CRAFT", {"embed_dim": 24, "depths": [2], "num_heads": [2], "upscale": 2}),
    ("KBNet", "KBNet_s", {"width": 16, "middle_blk_num": 1, "enc_blk_nums": [1] * 4, "dec_blk_nums": [1] * 4}),
    ("KBNet", "KBNet_l", {"num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}),
    ("DITN", "DITN", {"dim": 24, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}),
    ("MMRealSR", "MMRealSR", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_block": 2, "num_grow_ch": 8,
                              "num_feats": [16, 16, 16, 16]}),
    ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    ("RealCUGAN", "UpCunet2x", {}),
    ("RealCUGAN", "UpCunet3x", {}),
    ("RealCUGAN", "UpCunet4x", {}),
    ("RealCUGAN", "UpCunet2x_fast", {}),
    ("SAFMN", "SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    ("SAFMNBCIE", "SAFMNBCIE", {"dim": 16, "n_blocks": 2, "num_layers": 2}),
    ("DCTLSA", "DCTLSA", {"nf": 20, "num_modules": 6, "upscale": 2}),
    ("FFTformer", "FFTformer", {"dim": 16, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    ("NAFNet", "NAFNet", {"enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    ("ATD", "ATD", {**WINDOWS, **TWICE, "category_size": 16, "num_tokens": 16}),
    ("MixDehazeNet", "MixDehazeNet", {}),
    ("DRUNet", "DRUNet", MAP),
    ("DRUNet", "DRUNet", {**MAP, "downsample_mode": "maxpool", "upsample_mode": "upconv"}),
    ("DnCNN", "DnCNN", {"nc": 16, "nb": 8}),
    ("DnCNN", "DnCNN", {"in_nc": 2, "nc": 16, "nb": 8, "act_mode": "R", "mode": "FDnCNN"}),
    ("IPT", "IPT", {"patch_size": 24, "n_feats": 12, "num_layers": 1, "scale": [2]}),
    ("DRCT", "DRCT", {**WINDOWS, **TWICE, "depths": (6,), "num_heads": (6,), "gc": 8}),
    ("ESRGAN", "ESRGAN", {"num_filters": 16, "num_blocks": 1, "scale": 4}),
    ("ESRGAN", "ESRGAN", {"in_nc": 1, "out_nc": 1, "num_filters": 16, "num_blocks": 1, "scale": 2}),
    ("PLKSR", "PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    ("PLKSR", "RealPLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    ("RetinexFormer", "RetinexFormer", {"n_feat": 16, "stage": 1}),
    ("HVICIDNet", "HVICIDNet", {"channels": [12, 12, 24, 48]}),
    ("SeemoRe", "SeemoRe", {"num_experts": 2, "num_layers": 2, "embedding_dim": 24, "scale": 2}),
    ("MoSR", "MoSR", {"n_block": 2, "dim": 16, "upscale": 2}),
    ("MoESR", "MoESR", {"dim": 16, "n_blocks": 2, "n_block": 1, "scale": 2}),
    ("RCAN", "RCAN", {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 16, "scale": 2}),
    ("FDAT", "FDAT", {"embed_dim": 24, "num_groups": 1, "depth_per_group": 2, "num_heads": 2, "scale": 2}),
    ("AuraSR", "AuraSR", {"dim": 8, "image_size": None, "input_image_size": None, "style_network": STYLE,
                          "attn_depths": (1, 1, 1, 1, 1), "mid_attn_depth": 1}),
]  # fmt: skip


def build(architecture: str, name: str, settings: dict[str, Any]) -> nn.Module:
    """Return a network of spandrel's own class, with random weights that are always the same."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"spandrel.architectures.{architecture}")
        network: nn.Module = getattr(module, name)(**settings)
    return network.eval()


def label(architecture: str, name: str, settings: dict[str, Any]) -> str:
    """Return what a table calls a case: the class, and what tells several of the same class apart."""
    more = {"upsample_mode", "mode", "in_nc"} & settings.keys() if architecture in ("DRUNet", "DnCNN") else set()
    if (architecture, settings.get("in_nc")) == ("ESRGAN", 1):
        more = {"in_nc"}
    told = ", ".join(f"{key}={settings[key]}" for key in sorted(more))
    return f"{name} ({told})" if told else name
