"""Pictures between the extremes: what a report's knobs turn through, one attribute after another.

A knob's position is 0 at the image's own value, 1 at the attribute's extreme and -1 at the opposite
one; positions above 1 go as far beyond as the attribute's pictures do.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from stylex.artifacts import write_tensors
from stylex.imaging import resize, to_uint8
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.search.counterfactuals import move, turn
from stylex.search.results import Explanation, Settings
from stylex.search.selection import Pick
from stylex.types import Images, Styles

STEPS_BACK, STEPS_ON = 10, 20  # from 0 to -1, and from 0 to the strength: 31 frames (the paper's)
GALLERY_PX = 128  # larger images are reduced to this for the gallery, which is for screens
NUM_RECONSTRUCTIONS = 16
BATCH = 64


def positions(strength: float) -> Float[Tensor, " t"]:
    """Where a knob stops: from -1 over 0 to the strength.

    Args:
        strength: Last position, above 0.
    """
    back, on = torch.linspace(-1, 0, STEPS_BACK + 1), torch.linspace(0, strength, STEPS_ON + 1)
    return torch.cat((back, on[1:]))


def write_sweeps(
    model: StylEx,
    images: Images,
    found: Explanation,
    settings: Settings,
    folder: Path,
    progress: Progress,
) -> None:
    """Writes counterfactuals/NN-sweep, gallery and reconstructions, all safetensors.

    A sweep shows an attribute on the first images that show it best; the gallery shows every
    attribute, and all one after another, on images that were not chosen; the reconstructions are
    spread evenly over the reference images.

    Args:
        model: The model explained.
        images: All reference images.
        found: What was found.
        settings: Of the search.
        folder: The search's.
        progress: Wraps the loop over the attributes.
    """
    pictures, extremes = folder / "counterfactuals", found.statistics.extremes
    rows = torch.tensor(found.held[: settings.num_shown])
    turned, stops = [], []
    for attribute in progress(found.attributes, "sweeps"):
        at = positions(attribute.shown_strength or settings.strength)
        turned.append(_turned(found.statistics.styles[rows], attribute.pick, extremes, at))
        stops.append(at)
        if attribute.shown is not None and settings.num_swept:
            shown = attribute.shown.indices[: settings.num_swept]
            styles = _turned(found.statistics.styles[shown], attribute.pick, extremes, at)
            frames, probabilities = _drawn(model, styles, None)
            tensors = {
                "indices": shown,
                "positions": at,
                "frames": frames,
                "probabilities": probabilities,
            }
            write_tensors(pictures / f"{attribute.rank:02d}-sweep.safetensors", tensors, {})
    _write_gallery(model, images, found, settings, rows, (turned, stops), pictures)
    spread = torch.linspace(0, len(images) - 1, min(NUM_RECONSTRUCTIONS, len(images))).long()
    frames, probabilities = _drawn(model, found.statistics.styles[spread][:, None], None)
    tensors = {
        "indices": found.statistics.indices[spread],
        "images": to_uint8(images[spread]).cpu(),
        "reconstructions": frames[:, 0],
        "probabilities": torch.stack(
            (found.statistics.logits[spread].softmax(dim=1), probabilities[:, 0]), dim=1
        ),
    }
    write_tensors(pictures / "reconstructions.safetensors", tensors, {})


def _write_gallery(
    model: StylEx,
    images: Images,
    found: Explanation,
    settings: Settings,
    rows: Int64[Tensor, " g"],
    knobs: tuple[list[Tensor], list[Tensor]],
    pictures: Path,
) -> None:
    turned, stops = knobs
    frames, probabilities = _drawn(model, torch.stack(turned, dim=1), GALLERY_PX)
    ranks = found.subset or tuple(attribute.rank for attribute in found.attributes)
    picks = [found.attributes[rank - 1].pick for rank in ranks]
    styles, extremes = found.statistics.styles[rows], found.statistics.extremes
    steps = [move(styles, picks[:n], extremes, settings.strength) for n in range(len(picks) + 1)]
    ladder, ladder_probabilities = _drawn(model, torch.stack(steps, dim=1), None)
    tensors = {
        "indices": found.statistics.indices[rows],
        "images": to_uint8(images[rows]).cpu(),
        "image_probabilities": found.statistics.logits[rows].softmax(dim=1),
        "positions": torch.stack(stops),
        "frames": frames,
        "probabilities": probabilities,
        "ladder_ranks": torch.tensor(ranks),
        "ladder": ladder,
        "ladder_probabilities": ladder_probabilities,
    }
    write_tensors(pictures / "gallery.safetensors", tensors, {})


def _turned(
    styles: Styles, pick: Pick, extremes: Float[Tensor, "2 s"], at: Float[Tensor, " t"]
) -> Float[Tensor, "b t s"]:
    """Styles of every image at every position of an attribute's knob."""
    return torch.stack([turn(styles, pick, extremes, p) for p in at.tolist()], dim=1)


@torch.no_grad()
def _drawn(
    model: StylEx, styles: Float[Tensor, "*any s"], most_px: int | None
) -> tuple[UInt8[Tensor, "*any c h w"], Float[Tensor, "*any k"]]:
    """Images of styles, reduced to a side if one is given, and all classes' probabilities."""
    device, leading = model.generator.const.device, styles.shape[:-1]
    pixels, probabilities = [], []
    for part in styles.flatten(0, -2).split(BATCH):
        images = model.render(part.to(device))
        probabilities.append(model.classifier.probabilities(images).cpu())
        small = images if most_px is None else resize(images, min(most_px, images.shape[-1]))
        pixels.append(to_uint8(small).cpu())
    return torch.cat(pixels).unflatten(0, leading), torch.cat(probabilities).unflatten(0, leading)
