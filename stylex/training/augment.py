"""Augmentation of all that a discriminator sees, so that it does not learn few images by heart.

Reals and fakes go through the same transforms, drawn anew for each image, so that the generator
does not learn them as long as p stays below 0.8 or so (the paper's section 3.1). A transform is
drawn with probability p; what it may do then includes doing nothing. Written from the paper for
images in [-1, 1] of one or three channels. Shapes never depend on what was drawn, nothing waits
for a device, and everything is twice differentiable with respect to the images, as R1 wants.
Departures: whole-pixel moves are copied exactly; images go on as mirror images with their edge
    pixels twice; the low-pass of `warp`.
Source: Karras et al. 2020 (arXiv:2006.06676), appendix B.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.ops.backend import Impl
from stylex.training import corruption
from stylex.training.warp import Maps, affine, blit, compose, low_pass, turn, warp
from stylex.types import Images

PAPER_BEST = ("blit", "geometry", "colour")  # "bgc", which the paper trains with
# Transforms of every kind, in the paper's order; each has its own chance of being drawn.
TRANSFORMS = {
    "blit": ("flip", "quarter_turns", "shift"),
    "geometry": ("scale", "first_turn", "stretch", "second_turn", "offset"),
    "colour": ("brightness", "contrast", "inversion", "hue", "saturation"),
    "filter": ("band_1", "band_2", "band_3", "band_4"),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
NAMES = tuple(name for names in TRANSFORMS.values() for name in names)


class Augment(nn.Module):
    """Transforms images by what `draw` drew.

    Attributes:
        p: Probability of every transform; a tensor, so that changing it waits for nothing.
        kinds: Kinds of transforms in use.
    """

    p: Tensor
    taps: Tensor
    bands: Tensor

    def __init__(
        self, channels: int, resolution_px: int, p: float, kinds: Sequence[str], impl: Impl = "auto"
    ) -> None:
        """Prepares the transforms.

        Args:
            channels: 1 or 3; of one, hue and saturation change nothing.
            resolution_px: Height and width of the images.
            p: Probability of every transform, in [0, 1]; `Adaptation` changes it.
            kinds: Any of blit, geometry, colour (`PAPER_BEST`), filter, noise, cutout.
            impl: Of the ops, as the configuration's `ops.impl`; see `ops.backend.fused`.

        Raises:
            InputError: If p is no probability, or a kind unknown.
        """
        super().__init__()
        if not 0 <= p <= 1:
            raise InputError(f"training.augment.p must be from 0 to 1, got {p}")
        unknown = [kind for kind in kinds if kind not in TRANSFORMS]
        if unknown:
            raise InputError(
                f"an augmentation's kinds are any of {', '.join(TRANSFORMS)}, got "
                f"{', '.join(unknown)}"
            )
        self.shape, self.kinds = (channels, resolution_px, resolution_px), tuple(kinds)
        self.impl: Impl = impl
        self.register_buffer("p", torch.tensor(float(p)))
        self.register_buffer("taps", low_pass(), persistent=False)
        self.register_buffer("bands", corruption.band_filters(), persistent=False)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws all random numbers for some images; p is not among them.

        Args:
            count: Number of images, on all processes together if each keeps its rows.
            generator: On the device of the images.

        Returns:
            Tensors whose first axis are the images: `chances` in [0, 1) of all transforms [b t],
            and the strength of each. Lengths are shares of the image's side, angles radians,
            brightness in units of [-1, 1], all factors log-normal.
        """
        device = generator.device
        chances, uniform = torch.rand(
            (2, count, len(NAMES)), generator=generator, device=device
        ).unbind()
        normal = torch.randn((count, 12), generator=generator, device=device)
        circle = (2 * uniform - 1) * math.pi
        drawn = {
            "chances": chances,
            "flip": (2 * uniform[:, 0]).floor(),
            "quarter_turns": (4 * uniform[:, 1]).floor(),
            "shift": (2 * uniform[:, 2:4] - 1) / 8,
            "scale": (0.2 * normal[:, 0]).exp2(),
            "first_turn": circle[:, 4],
            "stretch": (0.2 * normal[:, 1]).exp2(),
            "second_turn": circle[:, 5],
            "offset": normal[:, 2:4] / 8,
            "brightness": 0.2 * normal[:, 4],
            "contrast": (0.5 * normal[:, 5]).exp2(),
            "inversion": (2 * uniform[:, 6]).floor(),
            "hue": circle[:, 7],
            "saturation": normal[:, 6].exp2(),
        }
        if "filter" in self.kinds:
            drawn["bands"] = normal[:, 7:11].exp2()
        if "noise" in self.kinds:
            size = (count, *self.shape)
            drawn["noise_level"] = 0.1 * normal[:, 11].abs()
            drawn["noise"] = torch.randn(size, generator=generator, device=device)
        if "cutout" in self.kinds:
            drawn["cutout"] = uniform[:, 8:10]
        return drawn

    def forward(self, images: Images, draws: Mapping[str, Tensor]) -> Images:
        """Transforms images; one for which nothing was drawn comes back bit for bit.

        Args:
            images: In [-1, 1]; brightness and contrast may leave that range.
            draws: Of as many images, on their device.

        Returns:
            Images of the same shape and type.

        Raises:
            ValueError: If the images have another shape than was said.
        """
        if images.shape[1:] != self.shape:
            raise ValueError(f"images must be of shape {self.shape}, got {tuple(images.shape[1:])}")
        x = images if images.dtype == torch.float64 else images.float()
        drawn = self._drawn(draws)
        draws = {name: value.to(x.dtype) for name, value in draws.items()}
        if "blit" in self.kinds or "geometry" in self.kinds:
            x = self._moved(x, draws, drawn)
        if "colour" in self.kinds:
            x = torch.where(_any(drawn, "colour"), coloured(x, draws, drawn), x)
        if "filter" in self.kinds:
            on = torch.stack([drawn[name] for name in TRANSFORMS["filter"]], dim=1)
            filtered = corruption.filtered(x, torch.where(on, draws["bands"], 1.0), self.bands)
            x = torch.where(_any(drawn, "filter"), filtered, x)
        if "noise" in self.kinds:
            noisy = x + draws["noise_level"][:, None, None, None] * draws["noise"]
            x = torch.where(_any(drawn, "noise"), noisy, x)
        if "cutout" in self.kinds:
            x = x.masked_fill(_any(drawn, "cutout") & corruption.hole(x, draws["cutout"]), 0.0)
        return x.to(images.dtype)

    def _drawn(self, draws: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, " b"]]:
        """Which transforms each image gets.

        The two turns together are drawn with probability p, so each with 1 − √(1 − p).
        """
        turning = 1 - (1 - self.p).sqrt()
        used = {name for kind in self.kinds for name in TRANSFORMS[kind]}
        found = {}
        for name, chance in zip(NAMES, draws["chances"].unbind(dim=1), strict=True):
            probability = turning if name.endswith("_turn") else self.p
            found[name] = chance < (probability if name in used else 0.0)
        return found

    def _moved(self, x: Images, draws: Mapping[str, Tensor], drawn: Mapping[str, Tensor]) -> Images:
        """Whole-pixel moves, then all others on top of them in one go."""
        whole = whole_moves(draws, drawn, self.shape[2])
        placed = blit(x, whole)
        if "geometry" not in self.kinds:
            return placed
        free = free_moves(draws, drawn, self.shape[2])
        moved = warp(x, compose(whole, free), self.taps, self.impl)
        return torch.where(_any(drawn, "geometry"), moved, placed)


def whole_moves(draws: Mapping[str, Tensor], drawn: Mapping[str, Tensor], size_px: int) -> Maps:
    """Maps back from images that were mirrored, turned by quarters, then moved by whole pixels."""
    flip = torch.where(drawn["flip"], draws["flip"], 0.0)
    quarters = torch.where(drawn["quarter_turns"], draws["quarter_turns"], 0.0)
    shift = torch.where(drawn["shift"][:, None], draws["shift"], 0.0)
    u, v = (shift * size_px).round().unbind(dim=1)
    back = turn(-quarters * (math.pi / 2)).round()  # sines of quarters, made exact
    unflip = affine((1 - 2 * flip, 0.0, 0.0, 1.0), (0.0, 0.0), flip)
    unmove = affine((1.0, 0.0, 0.0, 1.0), (-u, -v), flip)
    return compose(unflip, compose(back, unmove))


def free_moves(draws: Mapping[str, Tensor], drawn: Mapping[str, Tensor], size_px: int) -> Maps:
    """Maps back from images scaled, turned, stretched, turned again, then moved."""
    scale = torch.where(drawn["scale"], draws["scale"], 1.0)
    stretch = torch.where(drawn["stretch"], draws["stretch"], 1.0)
    first = torch.where(drawn["first_turn"], draws["first_turn"], 0.0)
    second = torch.where(drawn["second_turn"], draws["second_turn"], 0.0)
    u, v = (torch.where(drawn["offset"][:, None], draws["offset"], 0.0) * size_px).unbind(dim=1)
    found = affine((1.0, 0.0, 0.0, 1.0), (-u, -v), scale)
    found = compose(turn(-second), found)
    found = compose(affine((1 / stretch, 0.0, 0.0, stretch), (0.0, 0.0), scale), found)
    found = compose(turn(-first), found)
    return compose(affine((1 / scale, 0.0, 0.0, 1 / scale), (0.0, 0.0), scale), found)


def coloured(x: Images, draws: Mapping[str, Tensor], drawn: Mapping[str, Tensor]) -> Images:
    """Brightness, contrast, inversion, hue, saturation: the paper's product of matrices, solved.

    All of them keep the grey axis: what lies along it is shifted, scaled and mirrored, what lies
    across it is scaled and turned. An image of one channel has nothing across it.
    """

    def strength(name: str, neutral: float) -> Tensor:
        return torch.where(drawn[name], draws[name], neutral)[:, None, None, None]

    contrast, hue = strength("contrast", 1.0), strength("hue", 0.0)
    mirror = 1 - 2 * strength("inversion", 0.0)
    grey = x.mean(dim=1, keepdim=True)
    colour = x - grey
    across = (colour.roll(1, dims=1) - colour.roll(-1, dims=1)) / math.sqrt(3)
    turned = hue.cos() * colour + hue.sin() * across
    along = mirror * (grey + strength("brightness", 0.0))
    return contrast * (along + strength("saturation", 1.0) * turned)


def flip(images: Images, chances: Float[Tensor, " b"], share: float) -> Images:
    """Mirrors a share of the images left to right.

    Args:
        images: Any.
        chances: Uniform in [0, 1), one per image.
        share: In [0, 1].
    """
    return torch.where((chances < share)[:, None, None, None], images.flip(3), images)


def _any(drawn: Mapping[str, Tensor], kind: str) -> Bool[Tensor, "b 1 1 1"]:
    """Images that get any transform of a kind."""
    found = torch.stack([drawn[name] for name in TRANSFORMS[kind]]).any(dim=0)
    return found[:, None, None, None]
