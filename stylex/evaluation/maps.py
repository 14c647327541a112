"""Attribution maps against the truth: does their mass fall where the reasons are drawn?"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.data.drawn import DrawnSet, Values
from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.evaluation.reliance import Reliance, region
from stylex.evaluation.tables import Column, Row, Table

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
