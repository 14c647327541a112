"""A network that reads the factors of a drawn family from pixels, edited ones too."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stylex.artifacts import read_tensors, write_tensors
from stylex.classifier.backbones import convolution_block
from stylex.data.drawn import DrawnSet, Factor, Values
from stylex.errors import InputError
from stylex.evaluation.legibility import Legibility, legibility, read_legibility
from stylex.imaging import from_uint8, to_uint8
from stylex.progress import Progress
from stylex.types import Images, Pixels

_BATCH = 256
_MAP_PX = 4  # of the last map, whose places the head tells apart


@dataclass(frozen=True)
class Course:
    """How a reader is trained.

    Attributes:
        num_steps: Batches of new drawings.
        batch_size: Drawings a step.
        learning_rate: Highest, of AdamW with one cycle.
        width: Channels of the first stage.
        noise: Largest standard deviation of the noise on a drawing, in units of [-1, 1].
        brightness: Standard deviation of the shift of a drawing's brightness, in the same units.
        num_scored: Held-out drawings that the reader is scored on.
        seed: Of the drawings, the augmentation and the first weights.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    width: int
    noise: float
    brightness: float
    num_scored: int
    seed: int


class ReadingNetwork(nn.Module):
    """Convolutions down to a map of 4 px, whose places stay apart, then one output a factor."""

    def __init__(self, channels: int, resolution: int, num_factors: int, width: int) -> None:
        super().__init__()
        num_stages = int(math.log2(resolution // _MAP_PX)) - 1
        widths = [min(width * 2**i, 4 * width) for i in range(num_stages)]
        stages = [_stage(a, b) for a, b in zip([4 * channels, *widths], widths, strict=False)]
        self.stages = nn.Sequential(nn.PixelUnshuffle(2), *stages)
        self.head = nn.Sequential(
            nn.Linear(widths[-1] * _MAP_PX**2, 8 * width),
            nn.ReLU(),
            nn.Linear(8 * width, num_factors),
        )

    def forward(self, images: Images) -> Float[Tensor, "b f"]:
        """Readings: in spreads from the middle, or log odds of being there."""
        return self.head(self.stages(images).flatten(1))


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*convolution_block(in_channels, out_channels), nn.MaxPool2d(2))


@dataclass(frozen=True)
class Reader:
    """Reads factors from pixels.

    Attributes:
        network: Trained, frozen.
        family: Name of the drawn family.
        factors: In the order of the readings.
        resolution: Height and width of the images, in pixels.
        channels: 1 for grey, 3 for RGB.
        width: Channels of the network's first stage.
        held_out: How well it reads each factor of drawings that it was not trained on.
    """

    network: ReadingNetwork
    family: str
    factors: tuple[Factor, ...]
    resolution: int
    channels: int
    width: int
    held_out: tuple[Legibility, ...]

    @torch.no_grad()
    def read(self, pixels: Pixels) -> Values:
        """Values of the factors: of a binary one the probability that it is there.

        Others are about in [0, 1]; an edit may lead beyond.

        Raises:
            InputError: If the pixels have not the form that the reader was trained on.
        """
        form = (self.channels, self.resolution, self.resolution)
        if tuple(pixels.shape[1:]) != form:
            raise InputError(
                f"this reader reads images of {form}, got {tuple(pixels.shape[1:])}; train a "
                "reader at the images' resolution"
            )
        outputs = [self.network(from_uint8(part)) for part in pixels.split(_BATCH)]
        return in_units(torch.cat(outputs), self.factors)

    def save(self, path: Path) -> None:
        """Writes the weights, and what they read, as safetensors."""
        facts = {
            "family": self.family,
            "factors": [[factor.name, factor.is_binary] for factor in self.factors],
            "resolution": self.resolution,
            "channels": self.channels,
            "width": self.width,
            "held_out": [asdict(each) for each in self.held_out],
        }
        write_tensors(path, self.network.state_dict(), {"reader": json.dumps(facts)})


def in_units(outputs: Float[Tensor, "n f"], factors: Sequence[Factor]) -> Values:
    """Readings of a network in the units of the factors' values."""
    binary = torch.tensor([factor.is_binary for factor in factors])
    spreads = torch.tensor([factor.spread for factor in factors])
    return torch.where(binary, outputs.sigmoid(), 0.5 + spreads * outputs)


def load_reader(path: Path) -> Reader:
    """Reads a reader's file.

    Raises:
        InputError: If it is no such file.
    """
    tensors, metadata = read_tensors(path, "reader")
    try:
        facts = json.loads(metadata["reader"])
        factors = [Factor(name, is_binary) for name, is_binary in facts["factors"]]
        form = (facts["channels"], facts["resolution"])
        network = ReadingNetwork(*form, len(factors), facts["width"])
        network.load_state_dict(tensors)
        held_out = tuple(read_legibility(each) for each in facts["held_out"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"reader must be a file that a reader was saved in, got '{path}'; train it again"
        ) from error
    network.eval().requires_grad_(False)
    return Reader(network, facts["family"], tuple(factors), *form[::-1], facts["width"], held_out)


def train_reader(drawn: DrawnSet, course: Course, progress: Progress) -> Reader:
    """Trains a reader on drawings that are drawn as they are needed.

    Squared error for continuous factors, cross-entropy for binary ones, only where a factor can be
    seen. Drawings are blurred, brightened and made noisy, so that generated images can be read.

    Args:
        drawn: Draws the pictures.
        course: How to train.
        progress: Tells how far the training is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(course.seed)
        form = (drawn.channels, drawn.resolution)
        network = ReadingNetwork(*form, len(drawn.factors), course.width).train()
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, course.learning_rate, course.num_steps, pct_start=0.1
    )
    random = torch.Generator().manual_seed(course.seed)
    for step in progress(range(course.num_steps), "reader"):
        values = drawn.sample(course.batch_size, _step_seed(course.seed, step))
        images = augment(drawn.draw(values), course, random)
        outputs = network(images.contiguous(memory_format=torch.channels_last))
        loss = reading_loss(outputs, values, drawn.seen(values), drawn.factors)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network = network.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    family = type(drawn).__name__
    reader = Reader(network, family, drawn.factors, *form[::-1], course.width, ())
    return replace(reader, held_out=score_reader(reader, drawn, course.num_scored, course.seed))


def _step_seed(seed: int, step: int) -> int:
    """Seeds of training lie beyond those that held-out drawings are drawn with."""
    return (seed + 1) * 2**24 + step


def reading_loss(
    outputs: Float[Tensor, "n f"],
    values: Values,
    seen: Bool[Tensor, "n f"],
    factors: Sequence[Factor],
) -> Float[Tensor, ""]:
    """Mean over factors of the error where they are seen: squared spreads, or cross-entropy."""
    binary = torch.tensor([factor.is_binary for factor in factors])
    spreads = torch.tensor([factor.spread for factor in factors])
    squared = (outputs - (values - 0.5) / spreads).square()
    crossed = F.binary_cross_entropy_with_logits(outputs, values, reduction="none")
    errors = torch.where(binary, crossed, squared) * seen
    return (errors.sum(dim=0) / seen.sum(dim=0).clamp(min=1)).mean()


def augment(images: Images, course: Course, random: torch.Generator) -> Images:
    """Blurs by up to a binomial filter of 3 px, shifts brightness, adds noise; each at random."""
    count, channels = images.shape[:2]

    def one_each() -> Float[Tensor, "b 1 1 1"]:
        return torch.rand(count, 1, 1, 1, generator=random)

    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    blurred = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    images = images.lerp(blurred, one_each())
    shift = course.brightness * torch.randn(count, 1, 1, 1, generator=random)
    noise = torch.randn(images.shape, generator=random) * one_each() * course.noise
    return (images + shift + noise).clamp(-1, 1)


def score_reader(
    reader: Reader,
    drawn: DrawnSet,
    count: int,
    seed: int,
    reconstruct: Callable[[Images], Images] | None = None,
) -> tuple[Legibility, ...]:
    """Scores a reader on new drawings, or on reconstructions of them, saved as 8-bit pixels.

    On reconstructions a lost factor counts against the reader, too.

    Args:
        reader: The reader.
        drawn: Draws the pictures.
        count: Number of drawings.
        seed: Of the drawings.
        reconstruct: Makes a copy of drawings; none reads the drawings themselves.
    """
    values = drawn.sample(count, seed)
    readings = []
    for part in values.split(_BATCH):
        images = drawn.draw(part)
        readings.append(reader.read(to_uint8(reconstruct(images) if reconstruct else images)))
    return legibility(torch.cat(readings), values, drawn.seen(values), drawn.factors)
