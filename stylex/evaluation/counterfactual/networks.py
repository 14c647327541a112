"""Networks that judge images, and how they are applied to saved pixels.

All take images in [-1, 1] and bring their own resizing and normalisation, so that one network
never has two input ranges. They must be in eval mode, on the device of the pixels.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.imaging import from_uint8
from stylex.types import Images, Logits, Pixels

Classifier = Callable[[Images], Logits]
Embedding = Callable[[Images], Float[Tensor, "b e"]]  # also of feature networks
AttributeReader = Callable[[Images], Float[Tensor, "b a"]]  # probability of each attribute
Distance = Callable[[Images, Images], Float[Tensor, " b"]]


@torch.no_grad()
def judge(network: Embedding, pixels: Pixels, batch_size: int) -> Float[Tensor, "b e"]:
    """Applies a network to saved images, batch by batch.

    Args:
        network: Any network of one batch of images: classifier, embedding, attribute reader.
        pixels: At least one image.
        batch_size: Largest number of images at once.
    """
    return torch.cat([network(from_uint8(part)) for part in pixels.split(batch_size)])
