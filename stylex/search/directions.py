"""Directions in the latent space: singular vectors of the styles' affine layers, and GANalyze's.

Sources: Shen & Zhou 2021 (arXiv:2007.06600), SeFa; Goetschalckx et al. 2019 (arXiv:1906.10112),
    GANalyze.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from stylex.errors import InputError
from stylex.gan.generator import Generator
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.types import Latents


@dataclass(frozen=True)
class Direction:
    """A direction of the latent space with its extent.

    Attributes:
        vector: Of length 1.
        low: Smallest projection of a reference image's latent on the vector.
        high: Largest projection.
    """

    vector: Float[Tensor, " d"]
    low: float
    high: float

    @classmethod
    def over(cls, vector: Float[Tensor, " d"], latents: Latents) -> "Direction":
        """The direction of a vector of any length above 0, with its extent over latents."""
        unit = vector / vector.norm()
        projections = latents @ unit
        return cls(unit, float(projections.min()), float(projections.max()))


class LatentEdit(NamedTuple):
    """A direction and the extreme that it is moved to: 0 the lowest projection, 1 the highest."""

    direction: Direction
    towards: int


def edited_latents(
    latents: Latents, direction: Direction, towards: int, strength: float
) -> Latents:
    """Moves latents along a direction; leaves the input untouched.

    Args:
        latents: Latents of the images.
        direction: The direction.
        towards: 0 its lowest projection, 1 its highest.
        strength: 0 changes nothing, 1 sets every projection to the extreme, more goes beyond it.
    """
    vector = direction.vector.to(latents)
    extreme = (direction.low, direction.high)[towards]
    return latents + strength * (extreme - latents @ vector)[:, None] * vector


def moved_latents(latents: Latents, edits: Sequence[LatentEdit], strength: float) -> Latents:
    """Latents with the sum of several edits, each measured from the unedited latent."""
    moved = latents.clone()
    for direction, towards in edits:
        moved += edited_latents(latents, direction, towards, strength) - latents
    return moved


@torch.no_grad()
def style_directions(
    generator: Generator, latents: Latents, num: int, code_dim: int
) -> list[Direction]:
    """Directions that change the styles most: right singular vectors of the stacked affine layers.

    Args:
        generator: Whose affine layers, the ToRGB layers' included, map a latent to styles.
        latents: Of the reference images; they give the extents.
        num: Most directions to return.
        code_dim: Leading dimensions of the latent that directions may use: the encoder's, since
            the rest are the appended probabilities and would leak the label.

    Returns:
        Directions at right angles, by falling singular value; each one's largest entry is above 0.

    Source: Shen & Zhou 2021 (arXiv:2007.06600), equation 9.
    """
    # The affine layers are A·w + b: the styles of unit vectors, less those of 0, are A's columns.
    probes = torch.eye(latents.shape[1], device=generator.const.device)[:code_dim]
    columns = generator.styles(probes) - generator.styles(torch.zeros_like(probes))  # [code s]
    vectors = torch.linalg.svd(columns.t().cpu(), full_matrices=False).Vh[:num]
    signs = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
    padded = functional.pad(vectors * signs, (0, latents.shape[1] - code_dim))
    return [Direction.over(vector, latents.cpu()) for vector in padded]


@torch.enable_grad()
def ganalyze_direction(
    model: StylEx,
    latents: Latents,
    target: int,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Progress,
) -> Direction:
    """A direction along which the target's logit rises in proportion to the step.

    θ is trained so that G(w + αθ) scores α more than G(w), with α uniform in [-0.5, 0.5]; the
    score is the target's logit, in units of its standard deviation over the images (GANalyze's
    own assessor is in [0, 1]). θ has no part in the appended probabilities.

    Args:
        model: The model under explanation.
        latents: Of the images to train on; they give the extent, too.
        target: The class whose logit shall rise towards the highest projection.
        steps: Of Adam.
        batch_size: Images per step.
        learning_rate: Of Adam.
        seed: Of images and steps α.
        progress: Wraps the loop over steps.

    Raises:
        InputError: If the logit does not depend on the encoder's part of the latents.

    Source: Goetschalckx et al. 2019 (arXiv:1906.10112), section 3.
    """
    device, num_classes = model.generator.const.device, len(model.class_names)
    latents = latents.to(device)

    def scored(latents: Latents) -> Float[Tensor, " b"]:
        return model.classifier(model.render(model.generator.styles(latents)))[:, target]

    with torch.no_grad():
        scores = torch.cat([scored(part) for part in latents.split(batch_size)])
    spread = scores.std()
    theta = torch.zeros(latents.shape[1] - num_classes, device=device, requires_grad=True)
    optimiser = torch.optim.Adam([theta], learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in progress(range(steps), "GANalyze"):
        rows = torch.randint(len(latents), (batch_size,), generator=generator).to(device)
        alpha = (torch.rand(batch_size, generator=generator) - 0.5).to(device)
        shift = functional.pad(alpha[:, None] * theta, (0, num_classes))
        loss = ((scored(latents[rows] + shift) - scores[rows]) / spread - alpha).square().mean()
        (theta.grad,) = torch.autograd.grad(loss, theta)
        optimiser.step()
    found = theta.detach().cpu()
    if not found.norm() > 0:
        raise InputError(
            f"GANalyze needs images that differ in the logit of '{model.class_names[target]}' and "
            "a generator that can move it, got neither or one; give more images or leave "
            "'ganalyze' out"
        )
    return Direction.over(functional.pad(found, (0, num_classes)), latents.cpu())
