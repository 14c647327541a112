"""Do flips survive what happens to files: compression, a shift by a pixel, a little noise?"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from stylex.evaluation.counterfactual.metric import PerImageMetric
from stylex.imaging import check_channels
from stylex.types import Labels, Logits, Pixels


class SurvivalRate(PerImageMetric):
    """Share of flips that are still there after a disturbance of the saved image.

    Survival = 1[argmax f(T(x')) = c' for every form T of the disturbance]. `valid` is the survival
    rate, with the flipped images as denominator. `all` is the share of all images that flip and
    survive. Range 0 to 1, higher is better.
    """

    is_share = True
    higher_is_better = True

    def update(
        self, disturbed: Sequence[Logits], targets: Labels, valid: Bool[Tensor, " b"]
    ) -> None:
        """Adds a batch.

        Args:
            disturbed: Logits of the disturbed counterfactuals, one tensor a form.
            targets: Classes moved to.
            valid: Whether the undisturbed counterfactual is called the target.
        """
        still = torch.stack([logits.argmax(dim=1) == targets for logits in disturbed]).all(dim=0)
        self.keep(still & valid, valid)


def compressed(pixels: Pixels, quality: int) -> Pixels:
    """Saves as JPEG and reads again, with Pillow's other defaults.

    Args:
        pixels: Grey or RGB.
        quality: Pillow's, 1 to 95.

    Raises:
        InputError: If the images have neither 1 nor 3 channels.
    """
    check_channels(pixels.shape[1])
    found = []
    for picture in pixels.permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        grey = picture.shape[2] == 1
        Image.fromarray(picture[:, :, 0] if grey else picture).save(file, "JPEG", quality=quality)
        with Image.open(file, formats=("JPEG",)) as image:
            found.append(np.array(image).reshape(picture.shape))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous().to(pixels.device)


def shifted(pixels: Pixels) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Shifts by one pixel left, right, up and down; the border is repeated."""
    return (
        torch.cat([pixels[..., 1:], pixels[..., -1:]], dim=3),
        torch.cat([pixels[..., :1], pixels[..., :-1]], dim=3),
        torch.cat([pixels[..., 1:, :], pixels[..., -1:, :]], dim=2),
        torch.cat([pixels[..., :1, :], pixels[..., :-1, :]], dim=2),
    )


def noised(pixels: Pixels, std: float, generator: torch.Generator) -> Pixels:
    """Adds Gaussian noise, rounds and clamps.

    Args:
        pixels: Images.
        std: Standard deviation, images in [0, 1].
        generator: On the CPU.
    """
    noise = torch.randn(pixels.shape, generator=generator).to(pixels.device) * (std * 255)
    return (pixels + noise).round().clamp(0, 255).to(torch.uint8)
