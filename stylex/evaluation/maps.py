"""Attribution maps against the truth: does their mass fall where the reasons are drawn?

Four plain maps, each a function of a classifier, images and a class. Sources: Simonyan et al. 2013
(gradient), Smilkov et al. 2017 (SmoothGrad), Zeiler & Fergus 2014 (occlusion), Selvaraju et al.
2017 (Grad-CAM).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.classifier.frozen import FrozenClassifier
from stylex.data.drawn import DrawnSet, Values
from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.evaluation.reliance import Classify, Reliance, log_odds, region
from stylex.evaluation.tables import Column, Row, Table
from stylex.types import Images

Maps = Float[Tensor, "n h w"]
Regions = Bool[Tensor, "n h w"]


@dataclass(frozen=True)
class Placement:
    """Where the mass of a kind of map falls, over images whose region is not empty.

    Attributes:
        mass: Mean share of a map's absolute mass in the region; a map of zeros has none there.
        uniform: The share that a uniform map has: the region's share of the pixels.
        pointing: Share of the maps whose largest absolute value lies in the region; of equal ones
            the first pixel counts, and a map of zeros points nowhere.
        left_out: Images whose region is empty.
    """

    mass: Estimate
    uniform: Estimate
    pointing: Estimate
    left_out: int


def gradient_map(classify: Classify, images: Images, target: int) -> Maps:
    """Gradient of the class's log odds, its absolute values summed over channels."""
    return _gradient(classify, images, target).abs().sum(dim=1)


def _gradient(classify: Classify, images: Images, target: int) -> Images:
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        total = log_odds(classify(images), target).sum()
    return torch.autograd.grad(total, images)[0]


def smooth_map(
    classify: Classify, images: Images, target: int, num_samples: int, noise: float, seed: int
) -> Maps:
    """Mean gradient over noisy copies of the images, its absolute values summed over channels.

    Args:
        classify: The classifier.
        images: In [-1, 1].
        target: Position of the class.
        num_samples: Copies of each image.
        noise: Standard deviation of the noise, in units of [-1, 1].
        seed: Of the noise.
    """
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(images)
    for _ in range(num_samples):
        noisy = images + noise * torch.randn(images.shape, generator=random).to(images.device)
        total += _gradient(classify, noisy, target)
    return (total / num_samples).abs().sum(dim=1)


@torch.no_grad()
def occlusion_map(classify: Classify, images: Images, target: int, patch_px: int) -> Maps:
    """Change of the class's log odds when a square of pixels becomes the image's mean colour.

    The squares tile the image; every pixel of one has its change.
    """
    height, width = images.shape[2:]
    grey = images.mean(dim=(2, 3), keepdim=True)
    base = log_odds(classify(images), target)
    maps = images.new_zeros(len(images), height, width)
    for top in range(0, height, patch_px):
        for left in range(0, width, patch_px):
            place = (slice(top, top + patch_px), slice(left, left + patch_px))
            hidden = images.clone()
            hidden[:, :, place[0], place[1]] = grey
            change = base - log_odds(classify(hidden), target)
            maps[:, place[0], place[1]] = change[:, None, None]
    return maps


def grad_cam_map(classifier: FrozenClassifier, images: Images, target: int) -> Maps:
    """Channels of the last feature layer, weighted by their mean gradients; negative sums are 0.

    Raises:
        InputError: If the classifier names no feature layers.
    """
    if not classifier.feature_layers:
        raise InputError(
            "Grad-CAM needs a classifier with feature layers, got none; give "
            "classifier.feature_layers"
        )
    images = images.detach().requires_grad_(True)  # so that the features depend on something
    with torch.enable_grad():
        logits, features = classifier.features(images)
        total = log_odds(logits, target).sum()
    last = features[-1]
    weights = torch.autograd.grad(total, last)[0].mean(dim=(2, 3), keepdim=True)
    maps = (weights * last).sum(dim=1, keepdim=True).relu().detach()
    return F.interpolate(maps, images.shape[2:], mode="bilinear")[:, 0]


def relied_regions(drawn: DrawnSet, values: Values, reliance: Reliance, least: float) -> Regions:
    """Pixels that an intervention on any factor relied upon changes.

    Args:
        drawn: Draws the pictures.
        values: Of the drawings.
        reliance: Of the classifier, measured on the same family.
        least: Effect above which a factor is relied upon, in standard deviations.
    """
    regions = torch.zeros(len(values), drawn.resolution, drawn.resolution, dtype=torch.bool)
    for name in reliance.relied_upon(least):
        regions |= region(drawn, values, reliance.factors.index(name))
    return regions


def place(maps: Maps, regions: Regions) -> Placement:
    """Scores maps against the regions of the same images."""
    kept = regions.flatten(1).any(dim=1)
    inside, strength = regions[kept].flatten(1), maps[kept].detach().cpu().double().abs().flatten(1)
    total = strength.sum(dim=1)
    mass = (strength * inside).sum(dim=1) / total.clamp(min=1e-300)
    hits = inside.gather(1, strength.argmax(dim=1, keepdim=True))[:, 0] & (total > 0)
    return Placement(
        mass=mean(mass),
        uniform=mean(inside.double().mean(dim=1)),
        pointing=share(hits),
        left_out=int((~kept).sum()),
    )


def maps_table(placed: Mapping[str, Placement]) -> Table:
    """Kinds of maps side by side, with a uniform map below them.

    Args:
        placed: By the kind's name as people read it; all of the same images.

    Raises:
        InputError: If there is none.
    """
    if not placed:
        raise InputError("a table of maps needs at least one kind of map, got none; give one")
    some = next(iter(placed.values()))
    rows = [Row(name, name, "", (found.mass, found.pointing)) for name, found in placed.items()]
    rows.append(Row("uniform", "A uniform map", "", (some.uniform, some.uniform)))
    return Table(
        name="maps",
        title="Do attribution maps point at the reasons?",
        reading="The reasons' region is where drawing the same picture with a factor changed that "
        "the classifier relies on changes pixels. A map that does no better than a uniform one "
        f"points at nothing. {some.left_out} images without such a region are left out.",
        columns=(
            Column("mass", "Mass in the region", "Share of the map's absolute values."),
            Column("pointing", "Pointing game", "Share of images whose largest value lies there."),
        ),
        rows=tuple(rows),
    )
