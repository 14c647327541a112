"""Losses of GAN and StylEx training, as pure functions.

Sources: Goodfellow et al. 2014 (non-saturating loss); Mescheder et al. 2018, arXiv:1801.04406
    (R1); Karras et al.
2020, arXiv:1912.04958, section 3.2 (path length); Lang et al. 2021, arXiv:2104.13369
(reconstruction and classifier).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylex.types import Images, Logits, Styles

Scalar = Float[Tensor, ""]
Judgements = Float[Tensor, " b"]


def generator_adversarial(fake: Judgements) -> Scalar:
    """Non-saturating loss −log sigmoid(D(fake)), mean over images."""
    return F.softplus(-fake).mean()


def discriminator_adversarial(real: Judgements, fake: Judgements) -> Scalar:
    """Logistic loss −log sigmoid(D(real)) − log(1 − sigmoid(D(fake))), mean over images."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1_penalty(real: Judgements, images: Images) -> Scalar:
    """Half the mean squared norm of D's gradient at real images, to be multiplied by gamma.

    Args:
        real: D's output for `images`, with a graph.
        images: Real images that require gradients.
    """
    (gradient,) = torch.autograd.grad(real.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


def path_lengths(
    images: Images, latents: Float[Tensor, "b l d"], noise: Images
) -> Float[Tensor, " b"]:
    """Norm of Jᵀy per image: how far a unit step in the latent moves the image.

    Args:
        images: Generated from `latents`, with a graph.
        latents: One latent per layer, requiring gradients; the norm is the root of the mean over
            layers.
        noise: y, standard normal; it is divided by the root of the number of pixels here.
    """
    pixels = images.shape[2] * images.shape[3]
    (gradient,) = torch.autograd.grad(
        (images * noise).sum() / pixels**0.5, latents, create_graph=True
    )
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Judgements, mean: Scalar) -> Scalar:
    """Mean squared distance of the lengths from their running mean."""
    return (lengths - mean).square().mean()


def classifier_divergence(original: Logits, generated: Logits) -> Scalar:
    """KL(C(x) ‖ C(x′)) in nats, mean over images: what the generated image lost of the decision.

    Args:
        original: Logits of the real images.
        generated: Logits of their reconstructions.
    """
    return F.kl_div(
        generated.log_softmax(dim=1),
        original.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def perceptual_distance(
    original: Sequence[Float[Tensor, "b ..."]], generated: Sequence[Float[Tensor, "b ..."]]
) -> Scalar:
    """Squared distance of features of length 1 over channels, mean over places, sum over layers.

    This is the form of LPIPS (Zhang et al. 2018, arXiv:1801.03924) without its calibrated weights.
    """
    return torch.stack(
        [
            (F.normalize(a, dim=1, eps=1e-8) - F.normalize(b, dim=1, eps=1e-8))
            .square()
            .sum(dim=1)
            .mean()
            for a, b in zip(original, generated, strict=True)
        ]
    ).sum()


def style_deviation(styles: Styles, sizes: Sequence[int]) -> Scalar:
    """Mean absolute deviation of style coordinates from their batch mean, per layer's size.

    Demodulation makes a layer blind to the common scale of its styles, so each layer is divided by
    its own root mean square. As a penalty it lets an image differ from the mean in few
    coordinates, by much, rather than in many.

    Args:
        styles: Of a batch.
        sizes: Coordinates of every layer, as `StyleLayout.sizes` gives them.
    """
    deviations = [
        (layer - layer.mean(dim=0)).abs() / layer.square().mean().add(1e-8).sqrt()
        for layer in styles.split(list(sizes), dim=1)
    ]
    return torch.cat(deviations, dim=1).mean()


def style_distance(styles: Styles, goal: Styles, sizes: Sequence[int]) -> Scalar:
    """Mean absolute difference of style coordinates, each layer divided by its root mean square.

    Args:
        styles: Of a batch.
        goal: What they should be.
        sizes: Coordinates of every layer, as `StyleLayout.sizes` gives them.
    """
    pairs = zip(styles.split(list(sizes), dim=1), goal.split(list(sizes), dim=1), strict=True)
    distances = [
        (layer - wanted).abs() / wanted.square().mean().add(1e-8).sqrt() for layer, wanted in pairs
    ]
    return torch.cat(distances, dim=1).mean()
