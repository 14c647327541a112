"""What a table of counterfactuals must be read beside: doing nothing, copying, and an attack."""

import torch
from torch.nn.functional import cross_entropy

from stylex.evaluation.counterfactual.networks import Classifier
from stylex.imaging import from_uint8, to_uint8
from stylex.types import Pixels


def attacked(
    classifier: Classifier,
    pixels: Pixels,
    target: int,
    *,
    epsilon: float,
    num_steps: int,
    batch_size: int,
) -> Pixels:
    """Adversarial images by projected gradient descent (PGD), as they would be saved.

    Every step moves each value by 2.5 epsilon / num_steps in the direction that lowers the cross
    entropy to the target, and projects onto the images within epsilon of the original; it starts
    at the original. A flip by an attack means nothing to people, and has tiny distances. Source:
    Madry et al. 2018.

    Args:
        classifier: Images in [-1, 1] to logits; differentiable.
        pixels: Originals.
        target: Class to be reached.
        epsilon: Largest change of a value, images in [0, 1]; 8/255 is common.
        num_steps: At least 1; 20 is common.
        batch_size: Largest number of images at once.

    Returns:
        Pixels that differ from the originals by no more than `epsilon`, up to rounding.
    """
    reach = 2 * epsilon  # images are in [-1, 1] here
    step = 2.5 * reach / num_steps
    found = []
    for part in pixels.split(batch_size):
        original = from_uint8(part)
        low, high = (original - reach).clamp(min=-1), (original + reach).clamp(max=1)
        targets = torch.full((len(part),), target, device=part.device)
        images = original
        for _ in range(num_steps):
            with torch.enable_grad():
                images = images.detach().requires_grad_(True)
                loss = cross_entropy(classifier(images), targets, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, images)
            images = (images.detach() - step * gradient.sign()).clamp(low, high)
        found.append(to_uint8(images))
    return torch.cat(found)
