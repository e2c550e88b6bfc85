"""A shifted-window transformer, MONAI's, whose parameters have the names of its SwinUNETR's `swinViT`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch.nn.functional as F
from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformer, compute_mask, get_window_size
from torch import Tensor

from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, FoveateError, Norm


@final
@dataclass(frozen=True, kw_only=True)
class SwinConfig(EncoderConfig):
    """The transformer half of MONAI's SwinUNETR.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of a patch at stride 2; every stage doubles them. A multiple of `heads`.
        heads: Attention heads of the first stage; every stage doubles them.
        depths: Blocks of each of the four stages.
        window: Patches along each axis of an attention window.
        residual_blocks: A residual convolution block before every stage (SwinUNETR-V2).
    """

    name: Literal["swin"] = "swin"
    in_channels: int = 1
    width: int = 48
    heads: int = 3
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    window: int = 7
    residual_blocks: bool = False

    @property
    def decoder_norm(self) -> Norm:
        """It has no choice: layer normalisation inside."""
        return "batch"


@final
class SwinEncoder(Encoder):
    """Maps at strides 2 to 32, each with layer normalisation over its channels."""

    input_weight = "swin.patch_embed.proj.weight"

    def __init__(self, config: SwinConfig, dimension: Dimension) -> None:
        super().__init__()
        if config.width % config.heads:
            raise FoveateError(
                f"--encoder.width {config.width}: accepted are multiples of --encoder.heads {config.heads}."
            )
        self.swin = SwinTransformer(
            in_chans=config.in_channels,
            embed_dim=config.width,
            window_size=(config.window,) * dimension,
            patch_size=(2,) * dimension,
            depths=config.depths,
            num_heads=[config.heads * 2**i for i in range(4)],
            spatial_dims=dimension,
            use_v2=config.residual_blocks,
        )
        self.channels = tuple(config.width * 2**i for i in range(5))
        self.strides = (2, 4, 8, 16, 32)
        self.in_channels = config.in_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, *S / stride_i), fine to coarse."""
        x = self.swin.patch_embed(x)
        maps, stages = [normalised(x)], dict(self.swin.named_children())
        for i in range(1, 5):
            if self.swin.use_v2:
                x = stages[f"layers{i}c"][0](x.contiguous())
            x = run_stage(stages[f"layers{i}"][0], x)
            maps.append(normalised(x))
        return maps


def run_stage(stage: BasicLayer, x: Tensor) -> Tensor:
    """(B, C, *S) to (B, 2C, *S / 2): MONAI's own blocks, called here because its `forward` needs einops."""
    sizes = x.shape[2:]
    window, shift = get_window_size(sizes, stage.window_size, stage.shift_size)
    mask = compute_mask([-(-n // w) * w for n, w in zip(sizes, window, strict=True)], window, shift, x.device)
    x = x.movedim(1, -1)  # (B, *S, C)
    for block in stage.blocks:
        x = block(x, mask)
    return stage.downsample(x).movedim(-1, 1)


def normalised(x: Tensor) -> Tensor:
    """Every position's channels with mean 0 and variance 1."""
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


SWIN = EncoderEntry(
    config=SwinConfig,
    build=SwinEncoder,
    dimensions=(2, 3),
    upsample="transpose",
    widest=lambda config: 8 * config.width,
    widths={"paper": 48, "small": 12},
)
