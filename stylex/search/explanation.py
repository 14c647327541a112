"""The whole search: statistics → effects → selection → evidence, in memory or in a folder.

`stylex.explain` is this module's `explain`; the door `search.py` calls the same function with a
folder.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stylex.artifacts import digest
from stylex.errors import InputError
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.progress import Progress, quiet
from stylex.search.crew import Crew, Member, Place
from stylex.search.handover import write_edits
from stylex.search.results import Explanation, Settings, write_explanation
from stylex.search.statistics import collect_together
from stylex.search.study import Search, class_index, most_confused_pair
from stylex.search.sweeps import write_sweeps
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
    discriminator: Discriminator | None = None,
    batch_size: int | None = None,
    output_dir: str | Path | None = None,
    made_by: Mapping[str, Any] | None = None,
    progress: Progress = quiet,
    **settings: Any,  # noqa: ANN401  each setting has its own type
) -> Explanation:
    """Finds the attributes that move the classifier's decision to a class, or those of one image.

    Args:
        model: From `stylex.load`.
        images: Reference images; extremes are taken over all of them.
        target: Class to move to; none takes the most confused pair, or an image's second class.
        source: Class to move from (one-vs-one); none takes all others (one-vs-all).
        image: Position in `images` of the one image to explain; none explains a class.
        k: Number of attributes.
        discriminator: From `stylex.model.load_discriminator`; coordinates whose edits it sees are
            left out. None leaves out none.
        batch_size: Edited images per forward pass; none chooses by device and memory.
        output_dir: Folder for all files; a stopped search goes on there. None keeps nothing.
        made_by: Facts of the model and data; measurements made by others are refused.
        progress: Wraps long loops.
        **settings: Any of `stylex.search.results.Settings`, where each is explained; the others
            are those of configs/search/default.yaml.

    Raises:
        InputError: If a class, an image or a setting is not to be had.
    """
    chosen = Settings.of({"num_attributes": k, **settings})
    crew = Crew(Place())
    crew.member = Member(model, images, {"batch_size": batch_size}, progress)
    with _folder(None if output_dir is None else Path(output_dir)) as folder:
        found, facts = explain_together(
            crew, target, source, image, chosen, folder, made_by or {}, discriminator
        )
        if output_dir is not None:
            write_explanation(found, folder, chosen, facts)
            write_sweeps(model, images, found, chosen, folder, progress)
            write_edits(model, images, found, chosen, folder, progress)
    return found


def explain_together(
    crew: Crew,
    target: str | None,
    source: str | None,
    image: int | None,
    settings: Settings,
    folder: Path,
    made_by: Mapping[str, Any],
    discriminator: Discriminator | None,
) -> tuple[Explanation, dict[str, Any]]:
    """The same with a crew, whose first process runs this while the others serve.

    Returns:
        What was found, and the facts of what made it.
    """
    model, images = crew.member.model, crew.member.images
    names = model.class_names
    to, start = (None if c is None else class_index(names, c) for c in (target, source))
    if image is not None and start is not None:
        raise InputError(f"an image has its own source, got '{source}'; give image or source")
    facts = {
        **made_by,
        "classifier": model.classifier.fingerprint(),
        "model": digest(model.state_dict()),
        "reference": digest({"images": images}),
        "extremes": settings.reach,
        **{name: str(crew.member.computing.get(name)) for name in ("autocast",)},
    }
    statistics = collect_together(crew, settings.reach)
    search = Search(crew, statistics, settings, folder, facts, discriminator)
    if image is not None:
        return search.explain_image(image, to), facts
    if to is None and start is None:
        start, to = most_confused_pair(statistics)
    elif to is None:
        others = statistics.base_logits[search.said == start].softmax(dim=1).mean(dim=0)
        others[start] = -1
        to = int(others.argmax())
    return search.explain_class(start, to), facts
