"""Maps as pictures: colours over the image that they explain."""

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.attribution.exhibits import Maps, Pictures
from stylex.errors import InputError
from stylex.types import Images

UNSIGNED, SIGNED = "inferno", "coolwarm"  # matplotlib's tables
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601
QUANTILE = 0.995  # of a map's sizes; the few pixels beyond would leave the rest dark
SAMPLED = 1_000_000  # values that a quantile is taken of


def heat(
    images: Images, maps: Maps, *, signed: bool, shared: bool, opacity: float, columns: int
) -> Pictures:
    """Lays every map over its image, which turns grey, and says what the colours mean.

    Args:
        images: In [-1, 1].
        maps: One per image.
        signed: Whether blue speaks against, red for, and neutral is 0; otherwise dark is 0 and
            bright is most.
        shared: Whether one scale holds for all maps; otherwise each has its own.
        opacity: From 0, the image alone, to 1, the map alone.
        columns: How many pictures stand side by side.

    Raises:
        InputError: If the opacity is not in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity must be in [0, 1], got {opacity}; give a share")
    scales = map_scales(maps, shared)
    colours = coloured(maps / scales.to(maps)[:, None, None], signed)
    pictures = grey(images).lerp(colours, opacity)
    return Pictures(pictures, tuple(_words(s, signed, shared) for s in scales.tolist()), columns)


def map_scales(maps: Maps, shared: bool) -> Float[Tensor, " b"]:
    """The size that each map's strongest colour stands for; 1 for a map of zeros.

    All but the largest 0.5 % of a map's sizes lie below it.
    """
    sizes = maps.detach().flatten(1).abs()
    if shared and len(sizes):
        sizes = sizes.flatten()[None]
    step = max(1, sizes.shape[1] // SAMPLED)  # torch takes quantiles of 16 million at most
    scales = sizes[:, ::step].quantile(QUANTILE, dim=1)
    scales = torch.where(scales > 0, scales, sizes.amax(dim=1))
    scales = torch.where(scales > 0, scales, 1.0)
    return scales.expand(len(maps)).cpu()


def coloured(values: Maps, signed: bool) -> Float[Tensor, "b 3 h w"]:
    """Colours of values, in [-1, 1].

    Args:
        values: In [0, 1], or in [-1, 1] if they are signed; what lies beyond has the last colour.
        signed: Whether 0 is the middle.
    """
    from matplotlib import colormaps

    table = colormaps[SIGNED if signed else UNSIGNED]
    colours = torch.tensor(table(torch.linspace(0, 1, table.N).numpy())[:, :3]).to(values)
    shares = (values + 1) / 2 if signed else values
    places = (shares.clamp(0, 1) * (table.N - 1)).round().long()
    return (colours[places] * 2 - 1).permute(0, 3, 1, 2)


def grey(images: Images) -> Float[Tensor, "b 3 h w"]:
    """Brightness alone, in three channels."""
    if images.shape[1] == 3:
        images = (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def _words(scale: float, signed: bool, shared: bool) -> str:
    ends = f"blue −{scale:.2g} to red {scale:.2g}" if signed else f"dark 0 to bright {scale:.2g}"
    return f"{ends}, {'one scale for all' if shared else 'its own scale'}"
