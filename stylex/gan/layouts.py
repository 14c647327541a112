"""Names of StyleGAN2's tensors in published state_dicts, one table per layout.

NVlabs is stylegan2-ada-pytorch, and the StyleGAN2 of stylegan3, which has the same names. Neither
layout flips or rescales a kernel, so a table has only names and axes of length 1.
Source: Karras et al. 2020 (arXiv:1912.04958, arXiv:2006.06676) and the state_dicts themselves.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Network = Literal["generator", "mapping", "discriminator"]
LayoutName = Literal["nvlabs", "rosinality"]


class Depth(NamedTuple):
    """Mapping layers, and resolutions of generator and discriminator; 0 is no such network."""

    mapping: int
    generator: int
    discriminator: int


class Row(NamedTuple):
    """A tensor of every place of a kind: our leaf, their name, axes of length 1 that they add."""

    kind: str
    ours: str
    theirs: str
    axes: tuple[int, ...] = ()


class Filter(NamedTuple):
    """A stored resampling filter of every place of a kind: their name, and the filter's sum."""

    kind: str
    theirs: str
    gain: float


class Place(NamedTuple):
    """A tensor at one place: whose it is, our name, their name, axes of length 1 that they add."""

    network: Network
    ours: str
    theirs: str
    axes: tuple[int, ...]


class Layout(NamedTuple):
    """A published layout.

    Attributes:
        sections: Prefixes of the generator with its mapping, best first, and of the discriminator.
        marks: A tensor that every generator has and nothing else, and one of discriminators.
        counted: Patterns of one tensor per mapping layer, generator and discriminator resolution.
        mean_latent: Name of the mean latent, with its prefix.
        unfit: Patterns of tensors of networks that StylEx cannot take, and why.
        filter_name: Ending of a stored filter's name.
        rows: All tensors.
        filters: All stored filters.
    """

    sections: tuple[tuple[str, ...], tuple[str, ...]]
    marks: tuple[str, str]
    counted: tuple[str, str, str]
    mean_latent: str
    unfit: dict[str, str]
    filter_name: str
    rows: tuple[Row, ...]
    filters: tuple[Filter, ...]

    def places(self, depth: Depth) -> Iterator[Place]:
        """All tensors of networks of this depth."""
        for row in self.rows:
            network, count = _extent(row.kind, depth)
            for i in range(count):
                ours = row.ours if row.kind in ("const", "trunk") else f"{row.kind}.{i}.{row.ours}"
                theirs = row.theirs.format(**_fields(row.kind, i, depth))
                yield Place(network, ours, theirs, row.axes)

    def stored_filters(self, depth: Depth) -> Iterator[tuple[Network, str, float]]:
        """Network, their name and sum of all filters that networks of this depth store."""
        for kind, theirs, gain in self.filters:
            network, count = _extent(kind, depth)
            for i in range(count):
                yield network, theirs.format(**_fields(kind, i, depth)), gain


def count(patterns: tuple[str, str, str], names: Iterable[str]) -> Depth:
    """Depth of the networks that have these tensors."""
    there = list(names)
    return Depth(*(sum(bool(re.fullmatch(p, name)) for name in there) for p in patterns))


def _extent(kind: str, depth: Depth) -> tuple[Network, int]:
    """Whose part a kind of place is, and how many of them there are."""
    _, generator, discriminator = depth
    extents: dict[str, tuple[Network, int]] = {
        "layers": ("mapping", depth.mapping),
        "const": ("generator", min(generator, 1)),
        "convolutions": ("generator", max(2 * generator - 1, 0)),
        "torgbs": ("generator", generator),
        "ups": ("generator", max(generator - 1, 0)),
        "trunk": ("discriminator", min(discriminator, 1)),
        "blocks": ("discriminator", max(discriminator - 1, 0)),
    }
    return extents[kind]


def _fields(kind: str, i: int, depth: Depth) -> dict[str, int | str]:
    """What a name says of the i-th place: its resolution, and its number as each layout counts."""
    if kind == "convolutions":
        resolution = 4 << (i + 1) // 2
    elif kind == "torgbs":
        resolution = 4 << i
    else:
        resolution = 2 << depth.discriminator >> i
    return {
        "r": resolution,
        "i": i,
        "odd": (i + 1) % 2,
        "next": i + 1,
        "double": 2 * i,
        "conv": f"convs.{i - 1}" if i else "conv1",
        "rgb": f"to_rgbs.{i - 1}" if i else "to_rgb1",
    }


AFFINE = ("affine.weight", "affine.bias")
BOTH = ("weight", "bias")
NOISE = ("noise_strength", "noise_const")
OURS = (r"layers\.\d+\.weight", r"torgbs\.\d+\.weight", r"(blocks\.\d+\.conv0|conv)\.weight")

NVLABS = Layout(
    sections=(("G_ema", "G"), ("D",)),
    marks=("synthesis.b4.const", "b4.out.weight"),
    counted=(
        r"mapping\.fc\d+\.weight",
        r"synthesis\.b\d+\.conv1\.weight",
        r"b(\d+\.conv0|4\.conv)\.weight",
    ),
    mean_latent="G_ema.mapping.w_avg",
    unfit={
        r"mapping\.embed\..*": "be of networks without labels, since StylEx has its own classes",
        r"synthesis\.b\d+\.skip\..*": "be of a generator of the architecture 'skip'",
    },
    filter_name="resample_filter",
    rows=(
        *(Row("layers", x, f"mapping.fc{{i}}.{x}") for x in BOTH),
        Row("const", "const", "synthesis.b4.const"),
        *(
            Row("convolutions", x, f"synthesis.b{{r}}.conv{{odd}}.{x}")
            for x in (*AFFINE, *BOTH, *NOISE)
        ),
        *(Row("torgbs", x, f"synthesis.b{{r}}.torgb.{x}") for x in (*AFFINE, *BOTH)),
        *(Row("trunk", f"from_rgb.{x}", f"b{{r}}.fromrgb.{x}") for x in BOTH),
        *(Row("blocks", f"conv0.{x}", f"b{{r}}.conv0.{x}") for x in BOTH),
        *(Row("blocks", f"conv1.{x}", f"b{{r}}.conv1.{x}") for x in BOTH),
        Row("blocks", "skip.weight", "b{r}.skip.weight"),
        *(Row("trunk", f"conv.{x}", f"b4.conv.{x}") for x in BOTH),
        *(Row("trunk", f"fc.{x}", f"b4.fc.{x}") for x in BOTH),
        *(Row("trunk", f"out.{x}", f"b4.out.{x}") for x in BOTH),
    ),
    filters=(
        Filter("torgbs", "synthesis.b{r}.resample_filter", 1.0),
        Filter("convolutions", "synthesis.b{r}.conv{odd}.resample_filter", 1.0),
        Filter("trunk", "b{r}.fromrgb.resample_filter", 1.0),
        Filter("blocks", "b{r}.resample_filter", 1.0),
        Filter("blocks", "b{r}.conv0.resample_filter", 1.0),
        Filter("blocks", "b{r}.conv1.resample_filter", 1.0),
        Filter("blocks", "b{r}.skip.resample_filter", 1.0),
        Filter("trunk", "b4.conv.resample_filter", 1.0),
    ),
)

ROSINALITY = Layout(
    sections=(("g_ema", "g"), ("d",)),
    marks=("input.input", "final_linear.1.weight"),
    counted=(
        r"style\.\d+\.weight",
        r"to_rgb(1|s\.\d+)\.conv\.weight",
        r"(convs\.\d+\.conv1|final_conv)\.0\.weight",
    ),
    mean_latent="latent_avg",
    unfit={},
    filter_name="kernel",
    rows=(
        *(Row("layers", x, f"style.{{next}}.{x}") for x in BOTH),
        Row("const", "const", "input.input", (0,)),
        *(Row("convolutions", f"affine.{x}", f"{{conv}}.conv.modulation.{x}") for x in BOTH),
        Row("convolutions", "weight", "{conv}.conv.weight", (0,)),
        Row("convolutions", "bias", "{conv}.activate.bias"),
        Row("convolutions", "noise_strength", "{conv}.noise.weight", (0,)),
        Row("convolutions", "noise_const", "noises.noise_{i}", (0, 1)),
        *(Row("torgbs", f"affine.{x}", f"{{rgb}}.conv.modulation.{x}") for x in BOTH),
        Row("torgbs", "weight", "{rgb}.conv.weight", (0,)),
        Row("torgbs", "bias", "{rgb}.bias", (0, 2, 3)),
        Row("trunk", "from_rgb.weight", "convs.0.0.weight"),
        Row("trunk", "from_rgb.bias", "convs.0.1.bias"),
        Row("blocks", "conv0.weight", "convs.{next}.conv1.0.weight"),
        Row("blocks", "conv0.bias", "convs.{next}.conv1.1.bias"),
        Row("blocks", "conv1.weight", "convs.{next}.conv2.1.weight"),
        Row("blocks", "conv1.bias", "convs.{next}.conv2.2.bias"),
        Row("blocks", "skip.weight", "convs.{next}.skip.1.weight"),
        Row("trunk", "conv.weight", "final_conv.0.weight"),
        Row("trunk", "conv.bias", "final_conv.1.bias"),
        *(Row("trunk", f"fc.{x}", f"final_linear.0.{x}") for x in BOTH),
        *(Row("trunk", f"out.{x}", f"final_linear.1.{x}") for x in BOTH),
    ),
    filters=(
        Filter("ups", "convs.{double}.conv.blur.kernel", 4.0),
        Filter("ups", "to_rgbs.{i}.upsample.kernel", 4.0),
        Filter("blocks", "convs.{next}.conv2.0.kernel", 1.0),
        Filter("blocks", "convs.{next}.skip.0.kernel", 1.0),
    ),
)

LAYOUTS: dict[LayoutName, Layout] = {"nvlabs": NVLABS, "rosinality": ROSINALITY}
