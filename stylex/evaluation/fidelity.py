"""How true the reconstructions are: to the image, and to the classifier's decision."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.estimates import Estimate, mean, share
from stylex.model import StylEx
from stylex.types import Images, Labels, Logits


@dataclass(frozen=True)
class Reconstructions:
    """What a model made of a set of images, image by image.

    Attributes:
        labels: The data's classes.
        logits: The classifier's, of the originals.
        reconstructed_logits: The classifier's, of the reconstructions.
        l1: Mean absolute difference of original and reconstruction, in units of [-1, 1].
    """

    labels: Labels
    logits: Logits
    reconstructed_logits: Logits
    l1: Float[Tensor, " b"]


@torch.no_grad()
def reconstruct(model: StylEx, batches: Iterable[tuple[Images, Labels]]) -> Reconstructions:
    """Runs all batches through the model."""
    parts = []
    for images, labels in batches:
        made = model.reconstruct(images)
        difference = (made - images).abs().mean(dim=(1, 2, 3))
        parts.append((labels, model.classifier(images), model.classifier(made), difference))
    return Reconstructions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def fidelity(found: Reconstructions) -> dict[str, Estimate]:
    """Agreement, reconstruction L1, classifier KL and classifier accuracy over all images."""
    original, made = found.logits, found.reconstructed_logits
    log_p, log_q = original.log_softmax(dim=1), made.log_softmax(dim=1)
    return {
        "classifier_accuracy": share(original.argmax(dim=1) == found.labels),
        "agreement": share(original.argmax(dim=1) == made.argmax(dim=1)),
        "reconstruction_l1": mean(found.l1),
        "classifier_kl": mean((log_p.exp() * (log_p - log_q)).sum(dim=1)),
    }
