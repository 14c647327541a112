"""Several classifiers judge the same edited images: which attributes does only one of them use?

Generator, images, latents and extremes are those of the model with its own classifier throughout;
only the judge changes. Every classifier selects its own attributes on one half of the images, and
all of these are measured under every classifier on the other half. The first classifier is the
reference that the others are compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.artifacts import digest
from stylex.errors import InputError
from stylex.estimates import share
from stylex.gan.residual import Discriminator
from stylex.search.crew import Crew
from stylex.search.edits import Edits
from stylex.search.panel import Panel, judged, panel_of, seated
from stylex.search.results import Settings
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics, collect_together
from stylex.search.study import LEAST_IMAGES, Search, class_index, most_confused_pair
from stylex.search.tabulation import Tabulation
from stylex.search.verdicts import (
    ComparedAttribute,
    Comparison,
    Judge,
    Weighed,
    smallest_q,
    weigh,
)


def compare(
    crew: Crew,
    names: Sequence[str],
    source: str | None,
    target: str | None,
    settings: Settings,
    folder: Path,
    made_by: Mapping[str, Any],
    discriminator: Discriminator | None,
    least: float,
) -> Comparison:
    """Compares the classifiers of a crew's panels.

    Args:
        crew: The processes; each one's member is a `Panel` with the same classifiers.
        names: Of the classifiers, the reference first; at least two.
        source: Class to move from; none takes all others.
        target: Class to move to; none takes what the reference confuses the source with most.
        settings: Of every classifier's search.
        folder: Where measurements are kept, each classifier's in a folder of its own.
        made_by: Facts of the model and data.
        discriminator: Judge of the searches' discriminator filter; none switches the filter off.
        least: See `verdict`.

    Raises:
        InputError: If the question cannot be put, too few images are called the source by all, or
            nothing moves any classifier's decision.
    """
    panel = panel_of(crew)
    own = collect_together(crew, settings.reach)
    judged_by = crew.call(judged, own.styles)
    seen = [replace(own, logits=logits, base_logits=base) for logits, base in judged_by]
    class_names = panel.model.class_names
    start, to = _question(seen[0], class_names, source, target)
    selecting, held = _halves(seen, start, to, class_names, settings)
    scales = _scales(seen, torch.cat((selecting, held)), to, names)
    searches = _searches(crew, seen, settings, folder, made_by, discriminator)
    tables = [search.tabulation(start, to) for search in searches]
    selected: list[list[Pick]] = []
    for c, search in enumerate(searches):
        with seated(crew, c):
            selected.append(search.select(tables[c], selecting, start, to)[0])
    picks = list(dict.fromkeys(chain.from_iterable(selected)))
    if not picks:
        raise InputError(
            f"no coordinate moves any classifier's decision towards '{class_names[to]}' on the "
            f"{len(selecting)} images selected on; give more images or another pair"
        )
    effects = []
    for c, table in enumerate(tables):
        with seated(crew, c):
            effects.append(_effects(table, picks, held, to, settings.strength))
    ranks = [[some.index(p) + 1 if p in some else None for p in picks] for some in selected]
    weighed = weigh(torch.stack(effects), scales, names, ranks, least, settings.seed)
    return Comparison(
        source=None if start is None else class_names[start],
        target=class_names[to],
        judges=_judges(panel, names, seen, scales, tables),
        attributes=_described(panel, picks, weighed),
        selecting=tuple(own.indices[selecting].tolist()),
        held=tuple(own.indices[held].tolist()),
        least=least,
        smallest_q=smallest_q(len(held), len(picks) * (len(names) - 1)),
    )


def _question(
    reference: Statistics, class_names: tuple[str, ...], source: str | None, target: str | None
) -> tuple[int | None, int]:
    """The classes moved from and to, as the reference has them where none is given."""
    start, to = (None if c is None else class_index(class_names, c) for c in (source, target))
    if start is None and to is None:
        return most_confused_pair(reference)
    if to is None:
        mine = reference.base_logits.argmax(dim=1) == start
        others = reference.base_logits[mine].softmax(dim=1).mean(dim=0)
        others[start] = -1
        to = int(others.argmax())
    if start == to:
        raise InputError(f"source and target must be two classes, got '{class_names[to]}' twice")
    return start, to


def _halves(
    seen: Sequence[Statistics],
    source: int | None,
    target: int,
    class_names: tuple[str, ...],
    settings: Settings,
) -> tuple[Int64[Tensor, " h"], Int64[Tensor, " m"]]:
    """Images that every classifier calls the source, in two random halves."""
    said = torch.stack([statistics.base_logits.argmax(dim=1) for statistics in seen])
    wanted = (said != target) if source is None else (said == source)
    rows = wanted.all(dim=0).nonzero()[: settings.num_images, 0]
    if len(rows) < LEAST_IMAGES:
        what = f"anything but '{class_names[target]}'"
        what = what if source is None else f"'{class_names[source]}'"
        raise InputError(
            f"a comparison needs at least {LEAST_IMAGES} images that every classifier calls "
            f"{what}, got {len(rows)}; give more images or another class"
        )
    random = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(rows), generator=random)
    half = len(rows) // 2
    return rows[order[:half].sort().values], rows[order[half:].sort().values]


def _scales(
    seen: Sequence[Statistics], rows: Int64[Tensor, " n"], target: int, names: Sequence[str]
) -> Float[Tensor, " c"]:
    """Standard deviations of the target's logit on the unedited reconstructions."""
    logits = torch.stack([statistics.base_logits[rows, target] for statistics in seen])
    scales = logits.double().std(dim=1)
    for name, scale in zip(names, scales.tolist(), strict=True):
        if not scale > 0:
            raise InputError(
                f"a classifier's logits must differ between images, got the same {len(rows)} times "
                f"from '{name}'; compare trained classifiers"
            )
    return scales


def _searches(
    crew: Crew,
    seen: Sequence[Statistics],
    settings: Settings,
    folder: Path,
    made_by: Mapping[str, Any],
    discriminator: Discriminator | None,
) -> list[Search]:
    """Every classifier's search, in a folder of its own."""
    panel, found = panel_of(crew), []
    facts = {
        **made_by,
        "model": digest(panel.model.state_dict()),
        "reference": digest({"images": panel.images}),
        "extremes": settings.reach,
        "autocast": str(panel.computing.get("autocast")),
    }
    for statistics, classifier in zip(seen, panel.classifiers, strict=True):
        mark = classifier.fingerprint()
        place, made = folder / f"classifier-{mark}", {**facts, "classifier": mark}
        found.append(Search(crew, statistics, settings, place, made, discriminator))
    return found


def _effects(
    tables: Tabulation,
    picks: Sequence[Pick],
    rows: Int64[Tensor, " n"],
    target: int,
    strength: float,
) -> Float[Tensor, "a n"]:
    """Exact effects of every pick on the target's logit."""
    coordinate, direction = torch.tensor(picks).repeat_interleave(len(rows), dim=0).unbind(dim=1)
    images = rows.repeat(len(picks))
    edits = Edits(images, coordinate, direction, torch.full(images.shape, strength))
    return tables.journal.measure(edits)[:, target].view(len(picks), len(rows))


def _judges(
    panel: Panel,
    names: Sequence[str],
    seen: Sequence[Statistics],
    scales: Float[Tensor, " c"],
    tables: Sequence[Tabulation],
) -> tuple[Judge, ...]:
    said = [statistics.base_logits.argmax(dim=1) for statistics in seen]
    return tuple(
        Judge(
            name,
            panel.classifiers[c].fingerprint(),
            float(scales[c]),
            share(said[c] == said[0]),
            tables[c].passes,
        )
        for c, name in enumerate(names)
    )


def _described(
    panel: Panel, picks: Sequence[Pick], weighed: Sequence[Weighed]
) -> tuple[ComparedAttribute, ...]:
    layout = panel.model.generator.layout
    return tuple(
        ComparedAttribute(
            pick.coordinate,
            layout.name(pick.coordinate),
            *layout.locate(pick.coordinate),
            ("smallest", "largest")[pick.direction],
            *found,
        )
        for pick, found in zip(picks, weighed, strict=True)
    )
