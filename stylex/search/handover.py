"""What a search hands over to an evaluation: held-out images with each method's edits, as pixels.

An evaluation judges what was saved, and needs neither the search nor the model for it.
"""

import json
from pathlib import Path

import torch

from stylex.artifacts import write_tensors
from stylex.imaging import to_uint8
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.search.counterfactuals import alone_and_together
from stylex.search.results import EDITS, Explanation, Settings
from stylex.types import Images, Pixels, Styles

OWN, OWN_RANKER = "stylex", "attfind"  # two names of the search's own attributes
BATCH = 64


def write_edits(
    model: StylEx,
    images: Images,
    found: Explanation,
    settings: Settings,
    folder: Path,
    progress: Progress,
) -> None:
    """Writes edits/METHOD.safetensors for the search's attributes and each other ranker's edits.

    All methods have the same images: those held out, at most `num_edited` spread evenly over them,
    or the one image explained. Each file has their positions, originals, reconstructions, every
    edit alone, and the first edits together.

    Args:
        model: The model explained.
        images: All reference images.
        found: What was found.
        settings: Of the search.
        folder: The search's.
        progress: Wraps the loop over a method's edits.
    """
    count = min(settings.num_edited, len(found.held))
    if not count:
        return
    some = torch.arange(count) * len(found.held) // count
    rows = torch.tensor(found.held)[some]
    styles, picks = found.statistics.styles[rows], [each.pick for each in found.attributes]
    moved = alone_and_together(styles, picks, found.statistics.extremes, settings.strength)
    methods = {OWN: (tuple(each.name for each in found.attributes), *moved)}
    for ranking in found.rankings:
        if ranking.name != OWN_RANKER:
            methods[ranking.name] = (
                ranking.ranked,
                ranking.alone[:, some],
                ranking.together[:, some],
            )
    kept = {
        "positions": found.statistics.indices[rows],
        "images": to_uint8(images[rows]),
        "reconstructions": _pixels(model, styles),
    }
    facts = {
        "source": found.source or "",
        "target": found.target,
        "class_names": json.dumps(found.class_names, ensure_ascii=False),
        "strength": str(settings.strength),
    }
    for method, (names, alone, together) in methods.items():
        steps = progress((*alone, *together), f"edits {method}")
        drawn = torch.stack([_pixels(model, each) for each in steps]).chunk(2)
        tensors = {**kept, "edited": drawn[0], "together": drawn[1]}
        metadata = {"names": json.dumps(names, ensure_ascii=False), **facts}
        write_tensors(folder / EDITS / f"{method}.safetensors", tensors, metadata)


@torch.no_grad()
def _pixels(model: StylEx, styles: Styles) -> Pixels:
    """The images of styles as a file keeps them, on the CPU."""
    device = model.generator.const.device
    parts = [model.render(part.to(device)) for part in styles.split(BATCH)]
    return torch.cat([to_uint8(part).cpu() for part in parts])
