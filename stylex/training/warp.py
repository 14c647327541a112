"""Moves images by affine maps: whole pixels without loss, all else supersampled and filtered.

Beyond its edges an image goes on as its mirror image, so no margin has to be computed and shapes
never depend on what was drawn. Everything is linear in the images and twice differentiable with
respect to them; the maps get no gradient.
Sources: Karras et al. 2020 (arXiv:2006.06676), appendix B, for the chain of low-pass, bilinear
    sampling at twice the resolution and low-pass; Johnston 1980, "A filter family designed for use
    in quadrature mirror filter banks", filter 12A, for the low-pass. The paper's wavelet (sym6) is
    not symmetric, so it would not commute with mirroring and turning; this one is, and gives back
    an image that is not moved to within 0.5 % at every frequency, where the wavelet is exact.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from stylex.ops.backend import Impl
from stylex.ops.upfirdn2d import upfirdn2d
from stylex.types import Images

Maps = Float[Tensor, "b 2 3"]  # (x, y, 1) to (x, y), in pixels from the middle of the image
HALF_LOW_PASS = (-0.003809699, 0.01885659, -0.002710326, -0.08469594, 0.08846992, 0.48438940)
REACH_PX = 3  # of the low-pass at twice the resolution, in pixels of the image

torch.library.define("stylex::sample", "(Tensor images, Tensor grid) -> Tensor")
torch.library.define(
    "stylex::sample_adjoint", "(Tensor gy, Tensor grid, SymInt height, SymInt width) -> Tensor"
)


def low_pass() -> Float[Tensor, " t"]:
    """The symmetric half-band filter, of sum 1."""
    half = torch.tensor(HALF_LOW_PASS, dtype=torch.float64)
    taps = torch.cat((half, half.flip(0)))
    return (taps / taps.sum()).float()


def affine(
    linear: tuple[Tensor | float, Tensor | float, Tensor | float, Tensor | float],
    offset: tuple[Tensor | float, Tensor | float],
    like: Float[Tensor, " b"],
) -> Maps:
    """Maps x, y to a·x + b·y + u, c·x + d·y + v.

    Args:
        linear: a, b, c, d: one for all images, or one for each.
        offset: u, v, in pixels.
        like: Gives number of images, type and device.
    """
    (a, b, c, d), (u, v) = linear, offset
    entries = [entry + torch.zeros_like(like) for entry in (a, b, u, c, d, v)]
    return torch.stack(entries, dim=1).view(-1, 2, 3)


def turn(angles: Float[Tensor, " b"]) -> Maps:
    """Rotations by angles in radians, x towards y."""
    cos, sin = angles.cos(), angles.sin()
    return affine((cos, -sin, sin, cos), (0.0, 0.0), angles)


def compose(outer: Maps, inner: Maps) -> Maps:
    """The maps that apply `inner`, then `outer`.

    Written out: a matrix product would round to TF32 where that is allowed, a quarter of a pixel.
    """
    product = (outer[:, :, :2, None] * inner[:, None]).sum(dim=2)
    return product + F.pad(outer[:, :, 2:], (2, 0))


def mirrored(index: Int64[Tensor, "..."], size: int) -> Int64[Tensor, "..."]:
    """Pixel that lies at any index if an image goes on as its mirror image, edge pixels twice."""
    within = index.remainder(2 * size)
    return torch.where(within < size, within, 2 * size - 1 - within)


def padded(images: Images, margin: int) -> Float[Tensor, "b c h2 w2"]:
    """Images with a margin of mirrored pixels, of any width."""
    for dim in (2, 3):
        size = images.shape[dim]
        index = torch.arange(-margin, size + margin, device=images.device)
        images = images.index_select(dim, mirrored(index, size))
    return images


def blit(images: Images, maps: Maps) -> Images:
    """Takes every pixel from where its map points, which must be a whole pixel; copies exactly.

    Args:
        images: Square images.
        maps: From places in the result to places in `images`.
    """
    count, channels, _, size = images.shape
    middle = (size - 1) / 2
    places = torch.arange(size, device=images.device, dtype=maps.dtype) - middle
    found = _mapped(maps, places).add(middle).round().long()  # [b 2 h w]
    x, y = mirrored(found, size).unbind(dim=1)
    index = (y * size + x).view(count, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view(images.shape)


def warp(images: Images, maps: Maps, taps: Float[Tensor, " t"], impl: Impl = "auto") -> Images:
    """Moves images by any affine map, sampled at twice the resolution between two low-passes.

    Args:
        images: Square images, float32 or float64.
        maps: From places in the result to places in `images`.
        taps: `low_pass`, on the images' device.
        impl: Of the low-passes, see `ops.backend.fused`.
    """
    size = images.shape[3]
    # Sample j of the doubled image lies at (j + 1/2) / 2 pixels from the edge.
    doubled = upfirdn2d(padded(images, REACH_PX), taps, up=2, padding=(0, -1), gain=4.0, impl=impl)
    around = torch.arange(1 - 2 * REACH_PX, 2 * (size + REACH_PX) - 1, device=images.device)
    places = (around.to(maps.dtype) + 0.5) / 2 - size / 2
    grid = _mapped(maps, places).permute(0, 2, 3, 1) * (2 / size)  # edges at -1 and 1
    moved = torch.ops.stylex.sample(doubled, grid.to(images.dtype))
    return upfirdn2d(moved, taps, down=2, impl=impl)


def _mapped(maps: Maps, places: Float[Tensor, " p"]) -> Float[Tensor, "b 2 p p"]:
    """Where a square of places is mapped to."""
    x, y = places[None, None, None, :], places[None, None, :, None]
    a, b, u = (maps[:, :, k, None, None] for k in range(3))
    return a * x + b * y + u


@torch.library.impl("stylex::sample", "default")
def _sample(images: Tensor, grid: Tensor) -> Tensor:
    """Bilinear, mirrored beyond the edges."""
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


@torch.library.register_fake("stylex::sample")
def _sample_fake(images: Tensor, grid: Tensor) -> Tensor:
    return images.new_empty((*images.shape[:2], *grid.shape[1:3]))


@torch.library.impl("stylex::sample_adjoint", "default")
def _sample_adjoint(
    gy: Tensor, grid: Tensor, height: int | torch.SymInt, width: int | torch.SymInt
) -> Tensor:
    """Adds what was sampled to where it was sampled from."""
    images = gy.new_empty((*gy.shape[:2], height, width))  # only its shape is read
    call = (0, 2, False, (True, False))  # bilinear, mirrored, edges at -1 and 1, no grid gradient
    found: Tensor = torch.ops.aten.grid_sampler_2d_backward(gy.contiguous(), images, grid, *call)[0]
    return found


@torch.library.register_fake("stylex::sample_adjoint")
def _sample_adjoint_fake(
    gy: Tensor, grid: Tensor, height: int | torch.SymInt, width: int | torch.SymInt
) -> Tensor:
    return gy.new_empty((*gy.shape[:2], height, width))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    images, grid, *_ = inputs
    ctx.sizes = images.shape[2:]
    ctx.save_for_backward(grid)


def _derivative(ctx: Any, gy: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
    """The adjoint: the op is linear in the images."""
    (grid,) = ctx.saved_tensors
    return torch.ops.stylex.sample_adjoint(gy, grid, *ctx.sizes), None


def _adjoint_derivative(ctx: Any, gx: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
    """The adjoint of the adjoint: the op itself."""
    (grid,) = ctx.saved_tensors
    return torch.ops.stylex.sample(gx, grid), None, None, None


torch.library.register_autograd("stylex::sample", _derivative, setup_context=_keep)
torch.library.register_autograd("stylex::sample_adjoint", _adjoint_derivative, setup_context=_keep)
