"""What belongs to the object, cut out by its colours from where a map is strong and weak.

Source: Simonyan et al. 2013 (arXiv:1312.6034), section 3.2; Rother et al. 2004, "GrabCut".
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from stylex.attribution.exhibits import Maps, Pictures
from stylex.attribution.extras import load_extra
from stylex.attribution.occlusion import blurred
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.estimates import Estimate, mean
from stylex.imaging import to_uint8
from stylex.types import Images, Labels

Masks = Bool[Tensor, "b h w"]
MapMethod = Callable[..., Maps]
CONTOUR = (1.0, 1.0, -1.0)  # yellow


def segmentation(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    map_method: MapMethod,
    smoothing: float,
    foreground: float,
    background: float,
    iterations: int,
    seed: int,
) -> tuple[Pictures, Pictures]:
    """Masks of the object that a map points at, and their outlines on the images.

    Args:
        classifier: Whose decision is looked at.
        images: In [-1, 1].
        targets: A class for each image.
        map_method: Gives the maps, whose sizes count and not their signs.
        smoothing: Standard deviation of a blur of the maps, as a share of the image's side; 0
            leaves them as they are. Without, the seeds of grainy maps are single pixels.
        foreground: Pixels above this quantile of their map are taken for the object.
        background: Pixels below this quantile of their map are taken for what is around it.
        iterations: Of GrabCut.
        seed: Of GrabCut's first guess of the colours.

    Raises:
        InputError: If the smoothing, the quantiles or the number of iterations are out of range.
    """
    if not 0 <= smoothing < 0.25:
        raise InputError(f"smoothing must be in [0, 0.25), got {smoothing}; give a smaller share")
    maps = map_method(classifier, images, targets).abs()
    if smoothing > 0:
        maps = blurred(maps[:, None], smoothing * maps.shape[1])[:, 0]
    masks = grabcut(
        images, maps, foreground=foreground, background=background, iterations=iterations, seed=seed
    )
    shares = masks.flatten(1).double().mean(dim=1).tolist()
    words = tuple(f"{share:.0%} of the image" if share else "nothing found" for share in shares)
    shown = (masks[:, None].to(images) * 2 - 1).expand(-1, 3, -1, -1)
    outlined = images.detach().expand(-1, 3, -1, -1).clone()
    lines = contours(masks)[:, None]
    outlined = torch.where(lines, images.new_tensor(CONTOUR)[:, None, None], outlined)
    return Pictures(shown, words, len(images)), Pictures(outlined, words, len(images))


def grabcut(
    images: Images,
    maps: Maps,
    *,
    foreground: float,
    background: float,
    iterations: int,
    seed: int,
) -> Masks:
    """Parts images into object and surroundings by colour, from seeds that maps give.

    Args:
        images: In [-1, 1].
        maps: One per image; one that is the same everywhere gives an empty mask.
        foreground: Pixels above this quantile of their map are certainly the object.
        background: Pixels below this quantile of their map are certainly not.
        iterations: Of the fit of colours.
        seed: Of its first guess, the same for every image.

    Raises:
        InputError: If not 0 < background <= foreground < 1, or there is no iteration.
    """
    if not 0 < background <= foreground < 1:
        raise InputError(
            "segmentation needs quantiles 0 < background <= foreground < 1, got "
            f"{background} and {foreground}; give others"
        )
    if iterations < 1:
        raise InputError(f"iterations must be at least 1, got {iterations}; give 1 or more")
    cv2 = load_extra("cv2", "opencv-python-headless")
    pixels = to_uint8(images.detach()).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu()
    masks = torch.zeros(maps.shape, dtype=torch.bool)
    for i, values in enumerate(maps.detach().cpu().double().numpy()):
        low, high = np.quantile(values, (background, foreground))
        given = np.where(values > np.median(values), cv2.GC_PR_FGD, cv2.GC_PR_BGD)
        given[values <= low], given[values >= high] = cv2.GC_BGD, cv2.GC_FGD
        given = given.astype(np.uint8)
        if values.min() == values.max() or not (given == cv2.GC_BGD).any():
            continue
        cv2.setRNGSeed(seed)
        picture, models = pixels[i].contiguous().numpy(), [np.zeros((1, 65)) for _ in range(2)]
        cv2.grabCut(picture, given, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
        masks[i] = torch.from_numpy((given == cv2.GC_FGD) | (given == cv2.GC_PR_FGD))
    return masks.to(images.device)


def contours(masks: Masks) -> Masks:
    """Pixels of the masks that touch a pixel outside, corners included; the border is no outside.

    On images above 128 px, lines are wider, so that they are seen.
    """
    width = max(1, masks.shape[1] // 128)
    outside = (~masks).float()[:, None]
    grown = F.max_pool2d(outside, 2 * width + 1, stride=1, padding=width)[:, 0] > 0
    return masks & grown


def iou(masks: Masks, known: Masks) -> Estimate:
    """Mean intersection over union with masks that are known.

    Args:
        masks: As they were found.
        known: Of the same images; an image where both are empty does not count.
    """
    both = (masks & known).flatten(1).sum(dim=1)
    either = (masks | known).flatten(1).sum(dim=1)
    kept = either > 0
    return mean(both[kept].double() / either[kept])
