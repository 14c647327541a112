"""What a search knows of its images before any edit: latents, styles, logits, extremes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.artifacts import read_tensors, write_tensors
from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search.crew import Crew
from stylex.types import Images, Latents, Logits, Styles

BLOCK = 256  # images that a process runs at once


@dataclass(frozen=True)
class Statistics:
    """The images of a study, as the model sees them.

    Attributes:
        indices: Position of each image in its data set.
        latents: w of each image, with the appended probabilities last.
        styles: All style coordinates of each image.
        logits: The classifier's, of the originals.
        base_logits: The classifier's, of the unedited reconstructions; effects are measured from
            these.
        extremes: Smallest (row 0) and largest (row 1) value of every coordinate over the images.
    """

    indices: Int64[Tensor, " n"]
    latents: Latents
    styles: Styles
    logits: Logits
    base_logits: Logits
    extremes: Float[Tensor, "2 s"]

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes a safetensors file."""
        write_tensors(
            path, {field.name: getattr(self, field.name) for field in fields(self)}, metadata
        )

    @classmethod
    def read(cls, path: Path) -> "Statistics":
        """Reads what `save` wrote."""
        tensors, _ = read_tensors(path, "statistics")
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})


def with_image(
    reference: Statistics, model: StylEx, image: Images, autocast: torch.dtype | None
) -> Statistics:
    """The same with one more image, which is the last; the extremes stay as they are.

    Args:
        reference: Of the reference images.
        model: The model that saw them.
        image: One image, on any device.
        autocast: Lower type that both networks compute in; none computes as the model is set.
    """
    seen = _seen(model, image.to(model.generator.const.device), autocast)
    latents, styles, logits, base_logits = seen
    return Statistics(
        torch.cat((reference.indices, reference.indices.max()[None] + 1)),
        torch.cat((reference.latents, latents)),
        torch.cat((reference.styles, styles)),
        torch.cat((reference.logits, logits)),
        torch.cat((reference.base_logits, base_logits)),
        reference.extremes,
    )


def collect(
    model: StylEx, batches: Iterable[Images], indices: list[int], quantile: float
) -> Statistics:
    """Runs images through the model.

    Args:
        model: The model under explanation.
        batches: The images of the study.
        indices: Their positions in the data set.
        quantile: 0 takes the raw minimum and maximum (the paper); q takes the quantiles q and 1 −
            q.

    Raises:
        InputError: If the quantile is not in [0, 0.5).
    """
    parts = [_seen(model, images, None) for images in batches]
    return _statistics(
        [torch.cat(column) for column in zip(*parts, strict=True)], indices, quantile
    )


def collect_together(crew: Crew, quantile: float) -> Statistics:
    """The same of all images that a crew holds; see `collect`."""
    columns = crew.call(_collect)
    return _statistics(columns, list(range(len(columns[0]))), quantile)


def _collect(crew: Crew) -> list[Tensor]:
    """Latents, styles, logits and base logits of all images, in blocks that processes share."""
    member = crew.member
    device = member.model.generator.const.device
    autocast = member.computing.get("autocast")
    blocks = torch.arange(len(member.images)).split(BLOCK)
    columns: list[Tensor] = []
    for j in member.progress(crew.share(len(blocks)), "images"):
        parts = _seen(member.model, member.images[blocks[j]].to(device), autocast)
        if not columns:
            columns = [p.new_zeros(len(member.images), p.shape[1]) for p in parts]
        for column, part in zip(columns, parts, strict=True):
            column[blocks[j]] = part
    if not columns:  # more processes than blocks
        one = _seen(member.model, member.images[:1].to(device), autocast)
        columns = [p.new_zeros(len(member.images), p.shape[1]) for p in one]
    return [crew.merge(column) for column in columns]


@torch.no_grad()
def _seen(model: StylEx, images: Images, autocast: torch.dtype | None) -> tuple[Tensor, ...]:
    device = model.generator.const.device.type
    with torch.autocast(device, autocast, autocast is not None):
        latents = model.encode(images)
        styles = model.generator.styles(latents)
        base = model.classifier(model.render(styles))
        found = (latents, styles, model.classifier(images), base)
    return tuple(part.float().cpu() for part in found)


def _statistics(columns: Sequence[Tensor], indices: list[int], quantile: float) -> Statistics:
    if not 0 <= quantile < 0.5:
        raise InputError(f"search.quantile must be in [0, 0.5), got {quantile}")
    latents, styles, logits, base = columns
    extremes = torch.quantile(styles, torch.tensor([quantile, 1 - quantile]), dim=0)
    return Statistics(torch.tensor(indices), latents, styles, logits, base, extremes)
