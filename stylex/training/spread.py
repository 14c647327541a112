"""How much samples of the noise path differ from one another, against real images.

A generator that has collapsed makes the same few images of all latents; its losses need not tell.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.model import StylEx
from stylex.training.losses import style_deviation
from stylex.types import Images


@torch.no_grad()
def spread(model: StylEx, images: Images) -> dict[str, float]:
    """Differences among samples over those among real images: about 1 is healthy, 0 a collapse.

    Args:
        model: With a trained noise path.
        images: Real ones, at least two, on the model's device; a few dozen do. The samples have
            their probabilities and always the same random latents.

    Returns:
        `sample_spread`, of the mean distance of two images; `style_spread`, of the styles'
        deviation from their mean.
    """
    random = torch.Generator().manual_seed(0)
    deviates = torch.randn(len(images), model.mapping.latent_dim, generator=random)
    encoded = model.encode(images)
    told = encoded[:, model.mapping.latent_dim :]
    latents = torch.cat((model.mapping(deviates.to(images)), told), dim=1)
    styles, sizes = model.generator.styles(latents), model.generator.layout.sizes
    real_styles = model.generator.styles(encoded)
    pairs = {
        "sample_spread": (pairwise(model.render(styles)), pairwise(images)),
        "style_spread": (style_deviation(styles, sizes), style_deviation(real_styles, sizes)),
    }
    return {name: float(made / real.clamp(min=1e-8)) for name, (made, real) in pairs.items()}


def pairwise(images: Images) -> Float[Tensor, ""]:
    """Mean absolute difference of two different images, over all pairs."""
    count = len(images)
    rows = [(images - image).abs().mean() for image in images]
    return torch.stack(rows).mean() * (count / (count - 1))
