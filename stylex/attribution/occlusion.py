"""How far a class's probability falls when a patch of the image is covered.

Source: Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks"
    (arXiv:1311.2901).
"""

import math
from collections.abc import Sequence

import torch
from torchvision.transforms.functional import gaussian_blur

from stylex.attribution.chunks import check_chunk_size
from stylex.attribution.exhibits import Maps
from stylex.attribution.extras import load_extra
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

FILLS = ("mean", "blur")
Fill = str | float | Sequence[float]


def occlusion(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    patch_px: int | None,
    stride_px: int | None,
    fill: Fill,
    chunk_size: int,
    progress: Progress = quiet,
) -> Maps:
    """Slides a patch over the image; every pixel has the mean fall over patches that cover it.

    The last patch of a row or column ends at the border and may be smaller.

    Args:
        classifier: Whose decision is looked at.
        images: In [-1, 1].
        targets: A class for each image.
        patch_px: Height and width of the patch; none is a fifth of the image's.
        stride_px: From one patch to the next; none is half a patch.
        fill: What covers the patch: "mean", the image's mean colour; "blur", the image blurred
            with half the patch as standard deviation; a value in [-1, 1], or one per channel.
        chunk_size: Covered copies of an image that run together.
        progress: Shows the loop over images.

    Returns:
        In [-1, 1]; below 0 where covering a pixel raises the probability.

    Raises:
        InputError: If the patch does not fit the images, the stride would leave pixels uncovered,
            or the fill is not known.
    """
    check_chunk_size(chunk_size)
    patch, stride = patch_and_stride(images, patch_px, stride_px)
    method = load_extra("captum.attr", "captum").Occlusion(classifier.probabilities)
    covers = filled(images.detach(), fill, patch / 2)
    maps = images.new_zeros(len(images), *images.shape[2:])
    for i in progress(range(len(images)), "occlusion"):
        with torch.no_grad():
            falls = method.attribute(
                images[i : i + 1].detach(),
                target=int(targets[i]),
                sliding_window_shapes=(images.shape[1], patch, patch),
                strides=(images.shape[1], stride, stride),
                baselines=covers[i : i + 1],
                perturbations_per_eval=chunk_size,
            )
        maps[i] = falls[0, 0]  # all channels are covered together
    return maps


def patch_and_stride(
    images: Images, patch_px: int | None, stride_px: int | None
) -> tuple[int, int]:
    """Sizes of the patch and its step, in pixels.

    Raises:
        InputError: If the patch does not fit the images or the stride would leave gaps.
    """
    side = min(images.shape[2:])
    patch = max(1, side // 5) if patch_px is None else patch_px
    if not 1 <= patch <= side:
        raise InputError(
            f"patch_px must be from 1 to the image's {side} px, got {patch}; give a smaller patch"
        )
    stride = max(1, patch // 2) if stride_px is None else stride_px
    if not 1 <= stride <= patch:
        raise InputError(
            f"stride_px must be from 1 to patch_px ({patch}), so that every pixel is covered, got "
            f"{stride}; give another"
        )
    return patch, stride


def filled(images: Images, fill: Fill, blur_px: float) -> Images:
    """What is seen where an image is covered.

    Args:
        images: In [-1, 1].
        fill: "mean", "blur", a value, or a value per channel.
        blur_px: Standard deviation of the blur.

    Returns:
        As large as the images.

    Raises:
        InputError: If the fill is none of these.
    """
    if isinstance(fill, str):
        if fill == "mean":
            return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
        if fill == "blur":
            return blurred(images, blur_px)
        raise InputError(
            f"fill must be one of {', '.join(FILLS)}, or a colour in [-1, 1], got '{fill}'; give "
            "one of them"
        )
    colour = [float(v) for v in fill] if isinstance(fill, Sequence) else [float(fill)]
    if len(colour) not in (1, images.shape[1]) or not all(-1 <= v <= 1 for v in colour):
        raise InputError(
            f"fill must be one value in [-1, 1] or one per channel ({images.shape[1]}), got "
            f"{colour}; give another colour"
        )
    return images.new_tensor(colour)[:, None, None].expand_as(images)


def blurred(images: Images, deviation_px: float) -> Images:
    """Images under a Gaussian blur, cut off at two standard deviations."""
    reach = min(math.ceil(2 * deviation_px), min(images.shape[2:]) - 1)
    return gaussian_blur(images, [2 * reach + 1] * 2, [deviation_px] * 2)
