"""The whole search: statistics → effects → selection → counterfactuals, in memory or in a folder.

`stylex.explain` is this module's `explain`; the door `search.py` calls the same function with a
folder.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stylex.artifacts import digest
from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search.effects import Progress, quiet
from stylex.search.results import Explanation, Selector, Settings, write_explanation
from stylex.search.statistics import collect
from stylex.search.study import Search, class_index, most_confused_pair
from stylex.types import Images


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given  # made by the first file in it: a refused question leaves nothing
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def explain(
    model: StylEx,
    images: Images,
    target: str | None = None,
    source: str | None = None,
    image: int | None = None,
    k: int = 10,
    *,
    selector: Selector = "joint",
    num_images: int = 48,
    picks_per_round: int = 2,
    num_candidates: int = 40,
    threshold: float = 1.0,
    drop_inconsistent: bool = True,
    max_image_effect: float = 0.5,
    unstable_change: float = 2.0,
    unstable_share: float = 0.0326,
    quantile: float = 0.0,
    torgb: bool = False,
    strength: float = 1.0,
    shown_strength: float = 2.0,
    num_shown: int = 6,
    least_rise: float = 0.05,
    batch_size: int = 256,
    seed: int = 0,
    output_dir: str | Path | None = None,
    made_by: dict[str, Any] | None = None,
    progress: Progress = quiet,
) -> Explanation:
    """Finds the attributes that move the classifier's decision to a class, or those of one image.

    The defaults are those of configs/search/default.yaml, where each is explained.

    Args:
        model: From `stylex.load`.
        images: Reference images; extremes are taken over all of them.
        target: Class to move to; none takes the most confused pair, or an image's second class.
        source: Class to move from (one-vs-one); none takes all others (one-vs-all).
        image: Position in `images` of the one image to explain; none explains a class.
        k: Number of attributes.
        selector: `joint`, `paper` or `notebook`.
        num_images: Most images explained per class.
        picks_per_round: Of the joint selector: picks between two measurements.
        num_candidates: Of the joint selector: coordinates measured anew in each round.
        threshold: Of the paper's selector, in logits.
        drop_inconsistent: Of the paper's selector.
        max_image_effect: Of the notebook's selector, in logits.
        unstable_change: Of the notebook's selector, in logits.
        unstable_share: Of the notebook's selector, share of an image's entries.
        quantile: 0 takes raw extremes.
        torgb: Whether ToRGB coordinates are searched, too.
        strength: Of the search; 1 reaches the extreme.
        shown_strength: Of the pictures, at most twice the search's.
        num_shown: Most images per attribute.
        least_rise: Least rise of the target's probability in a picture.
        batch_size: Edited images per forward pass.
        seed: Of the cut into two halves.
        output_dir: Folder for all files; a stopped search goes on there. None keeps nothing.
        made_by: Facts of the model and data; effects made by others are refused.
        progress: Wraps long loops.

    Raises:
        InputError: If a class, an image or a setting is not to be had.
    """
    settings = Settings(
        selector, k, num_images, picks_per_round, num_candidates, threshold, drop_inconsistent,
        max_image_effect, unstable_change, unstable_share, quantile, torgb, strength,
        shown_strength, num_shown, least_rise, batch_size, seed,
    )  # fmt: skip
    names = model.class_names
    to, start = (None if c is None else class_index(names, c) for c in (target, source))
    facts = {
        **(made_by or {}),
        "classifier": model.classifier.fingerprint(),
        "model": digest(model.state_dict()),
        "reference": digest({"images": images}),
        "quantile": quantile,
    }
    with _folder(None if output_dir is None else Path(output_dir)) as folder:
        batches = progress(images.split(batch_size), "images")
        statistics = collect(model, batches, list(range(len(images))), quantile)
        search = Search(model, statistics, settings, folder, facts, progress)
        if image is not None and start is not None:
            raise InputError(f"an image has its own source, got '{source}'; give image or source")
        if image is not None:
            found = search.explain_image(image, to)
        else:
            if to is None and start is None:
                start, to = most_confused_pair(statistics)
            elif to is None:
                others = statistics.base_logits[search.said == start].softmax(dim=1).mean(dim=0)
                others[start] = -1
                to = int(others.argmax())
            found = search.explain_class(start, to)
        if output_dir is not None:
            statistics.save(
                folder / "statistics.safetensors", {k: str(v) for k, v in facts.items()}
            )
            write_explanation(found, folder, settings, facts)
    return found
