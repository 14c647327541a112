"""Shapes that every part of the framework speaks of.

Letters: b batch, n images of a study, c channels, h height, w width, d latent width, s style
    coordinates,
k classes. Images are float32 in [-1, 1]; logits are unnormalised, probabilities sum to 1 over k.
"""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Images = Float[Tensor, "b c h w"]
Pixels = UInt8[Tensor, "b c h w"]
Latents = Float[Tensor, "b d"]
Styles = Float[Tensor, "b s"]
Logits = Float[Tensor, "b k"]
Probabilities = Float[Tensor, "b k"]
Labels = Int64[Tensor, " b"]
Effects = Float[Tensor, "n 2 s k"]
