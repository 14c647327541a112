"""What a search knows of its images before any edit: latents, styles, logits, extremes."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.artifacts import read_tensors, write_tensors
from stylex.errors import InputError
from stylex.model import StylEx
from stylex.types import Images, Latents, Logits, Styles


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


@torch.no_grad()
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
    if not 0 <= quantile < 0.5:
        raise InputError(f"search.quantile must be in [0, 0.5), got {quantile}")
    parts = []
    for images in batches:
        latents = model.encode(images)
        styles = model.generator.styles(latents)
        base = model.classifier(model.generator.synthesis(styles))
        parts.append((latents, styles, model.classifier(images), base))
    latents, styles, logits, base = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    extremes = torch.quantile(styles, torch.tensor([quantile, 1 - quantile]), dim=0)
    return Statistics(torch.tensor(indices), latents, styles, logits, base, extremes)
