"""What follows every convolution: demodulate, add noise and bias, activate.

Source: Karras et al. 2020 (arXiv:1912.04958), figure 2; leaky ReLU with slope 0.2 and gain sqrt(2).
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SLOPE = 0.2
GAIN = math.sqrt(2.0)


def epilogue(
    x: Float[Tensor, "b c h w"],
    bias: Float[Tensor, " c"],
    demodulation: Float[Tensor, "b c"] | None = None,
    noise: Float[Tensor, "#b 1 h w"] | None = None,
    gain: float = GAIN,
) -> Float[Tensor, "b c h w"]:
    """Computes gain · lrelu(x · demodulation + noise + bias).

    Args:
        x: Output of a convolution.
        bias: Added to every channel.
        demodulation: Factor per sample and channel; none leaves the scale.
        noise: Noise times its strength, the same for all channels; none adds nothing.
        gain: Factor after the activation; sqrt(2) keeps the variance, 1 suits a residual branch.

    Returns:
        Activations.
    """
    if demodulation is not None:
        x = x * demodulation[:, :, None, None]
    if noise is not None:
        x = x + noise
    return F.leaky_relu(x + bias[:, None, None], SLOPE) * gain
