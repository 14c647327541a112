"""How often to augment: more while the discriminator overfits, less while it does not.

Where it overfits, its judgements of training images drift to one side of zero. The mean sign of
its judgements of real images tells how far.
Source: Karras et al. 2020 (arXiv:2006.06676), section 3.2: r_t = E[sign D(real)], target 0.6, p
    moved every four steps by what takes it from 0 to 1 in 500,000 images.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.errors import InputError

MODES = ("none", "fixed", "adaptive")
INTERVAL_STEPS = 4  # between two adjustments


class Adaptation(nn.Module):
    """Moves the probability of an augmentation.

    Attributes:
        mode: none, fixed or adaptive; only the last moves p.
        sums: Sum of the signs of judgements, and their number, since the last adjustment. Several
            processes add theirs up before they adjust.
    """

    sums: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Checks the settings.

        Args:
            settings: `training.augment`: `mode`; `target`, the mean sign aimed at;
                `adjustment_kimg`, thousand images that take p from 0 to 1; `p`, where it begins.

        Raises:
            InputError: If one is out of its range.
        """
        super().__init__()
        mode, target, kimg = (settings[key] for key in ("mode", "target", "adjustment_kimg"))
        if mode not in MODES:
            raise InputError(
                f"training.augment.mode must be one of {', '.join(MODES)}, got '{mode}'"
            )
        if not -1 < target < 1:
            raise InputError(
                f"training.augment.target must lie between -1 and 1, as a mean sign does, got "
                f"{target}"
            )
        if kimg <= 0:
            raise InputError(f"training.augment.adjustment_kimg must be above 0, got {kimg}")
        self.mode, self.target, self.num_images = mode, float(target), 1000.0 * kimg
        self.register_buffer("sums", torch.zeros(2))

    @torch.no_grad()
    def observe(self, judgements: Float[Tensor, " b"]) -> None:
        """Adds the discriminator's outputs for real, augmented images; what is no number is 0."""
        signs = judgements.detach().float().nan_to_num(nan=0.0).sign()
        self.sums += torch.stack((signs.sum(), torch.ones_like(signs).sum()))

    @torch.no_grad()
    def adjust(self, p: Float[Tensor, ""], num_images: int) -> None:
        """Moves p, in place and without waiting for the device, and begins to count anew.

        Args:
            p: The augmentation's probability; it stays in [0, 1], and unmoved if nothing was
                observed.
            num_images: Real images that all processes have shown since the last adjustment.
        """
        if self.mode == "adaptive":
            signs, count = self.sums
            direction = (signs - self.target * count).sign()  # 0 if nothing was observed
            p.add_(direction * (num_images / self.num_images)).clamp_(0, 1)
        self.sums.zero_()

    def overfitting(self) -> Float[Tensor, ""]:
        """r_t, the mean sign since the last adjustment; 0 if there is none."""
        return self.sums[0] / self.sums[1].clamp(min=1)
