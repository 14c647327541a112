"""The arena's tables: methods side by side, the truth, the directions found, the readers."""

from collections.abc import Mapping, Sequence

from stylex.estimates import Estimate
from stylex.evaluation.arena import Arena, measure_moves
from stylex.evaluation.edits import Edits
from stylex.evaluation.recovery import main_factors
from stylex.evaluation.reliance import Reliance
from stylex.evaluation.tables import Column, Row, Section, Table

_AIM = 0.95  # of a reader's scores
_TITLES = {
    "stylex": "StylEx",
    "stylex_without_classifier": "StylEx without the classifier",
    "stylex_without_noise_path": "StylEx without the noise path",
    "wu": "Wu et al.",
    "ganalyze": "GANalyze",
    "svd": "SVD directions",
    "random": "Random coordinates",
}
_READINGS = {
    "recovery": (
        "Recovery at {k}",
        "Share of the factors relied upon that are the main factor of one of the first {k} "
        "directions; 1 is all of them.",
    ),
    "purity": (
        "Purity",
        "Mean share of a direction's movement that lies in its main factor; 1 moves one factor "
        "alone.",
    ),
    "precision": (
        "Precision at {k}",
        "Share of the first {k} directions whose main factor the classifier relies on.",
    ),
    "distractor_rate": (
        "Distractor rate",
        "1 less the precision: directions that point at what the classifier does not rely on.",
    ),
    "distractor_movement": (
        "Distractor movement",
        "Mean share of a direction's movement that lies in factors not relied upon; less is "
        "better.",
    ),
    "rank_agreement": (
        "Rank agreement",
        "Spearman's correlation, over all factors, of the largest effect found with the measured "
        "reliance; 1 is the same order, 0 none.",
    ),
    "sign_accuracy": (
        "Sign accuracy",
        "Of directions at factors relied upon, the share that moves the score the way the factor "
        "does; a coin gets one half.",
    ),
    "directions": (
        "Directions scored",
        "A method with fewer than {k} is scored on those it has.",
    ),
}


def arena_section(
    arena: Arena,
    searches: Mapping[str, Sequence[Edits]],
    scores: Mapping[str, Mapping[str, Estimate]],
    more: Sequence[Table],
) -> Section:
    """The arena's section of the evaluation.

    Args:
        arena: What was scored against.
        searches: One a seed, by method; the first method's directions are listed.
        scores: As `score_methods` gives them.
        more: Tables that follow, such as those of attribution maps.
    """
    has_seeds = any(len(found) > 1 for found in searches.values())
    tables = [methods_table(scores, arena.most, has_seeds)]
    tables += [reliance_table(found, arena.least) for found in arena.reliance.values()]
    first = next(iter(searches.values()))[0]
    tables += [directions_table(arena, first), readers_table(arena), *more]
    return Section(
        name="arena",
        title="Does the explanation find the classifier's real reasons?",
        reading="The pictures are drawn, so every factor in them is known, and the classifier's "
        "reliance on each is measured by drawing the same picture with that factor changed. A "
        "method is right if its first directions are the factors relied upon, and nothing else.",
        tables=tuple(tables),
    )


def methods_table(
    scores: Mapping[str, Mapping[str, Estimate]], most: int, has_seeds: bool
) -> Table:
    """Methods side by side.

    Args:
        scores: As `score_methods` gives them.
        most: K.
        has_seeds: Whether any method was searched with several seeds.
    """
    images = "over images, with the reader's error"
    how = f"over seeds of the search; where there is one alone, {images}" if has_seeds else images
    return Table(
        name="methods",
        title="Methods side by side",
        reading="All explain the same classifier on the same images. A direction belongs to the "
        f"factor whose reading it moved most, in spreads of the factor. Intervals are {how}.",
        columns=tuple(Column(name, title_of(name)) for name in scores),
        rows=tuple(
            Row(
                name=f"{name}_at_{most}" if "{k}" in title else name,
                title=title.format(k=most),
                reading=reading.format(k=most),
                cells=tuple(found[name] for found in scores.values()),
                unit="seeds" if has_seeds else "images",
                base="reconstruction",
            )
            for name, (title, reading) in _READINGS.items()
        ),
    )


def title_of(method: str) -> str:
    """A method's name as people read it."""
    return _TITLES.get(method, method.replace("_", " "))


def reliance_table(measured: Reliance, least: float) -> Table:
    """What the classifier relies on for one class."""
    known = measured.relied_upon(least)
    return Table(
        name=f"reliance_{measured.target}",
        title=f"What the classifier relies on for {measured.target}",
        reading="Mean change of the class's log odds when the same drawing gets the factor one "
        "spread above its middle instead of one below, in standard deviations of these log odds. "
        f"A factor is relied upon if that exceeds {least:g}, up or down; this was fixed before "
        "any search.",
        columns=(Column("effect", "Effect"), Column("relied_upon", "Relied upon")),
        rows=tuple(
            Row(name, _words(name), "", (effect, "yes" if name in known else "no"), "drawings")
            for name, effect in zip(measured.factors, measured.effects, strict=True)
        ),
    )


def directions_table(arena: Arena, edits: Edits) -> Table:
    """What each direction of one search moved."""
    found = measure_moves(arena, edits)
    profile, effects = found.movement.mean(dim=1), found.effects.mean(dim=1)
    _, relied = arena.truth(edits.target)
    count = len(edits.positions)
    rows = []
    for name, moved, factor, effect in zip(
        edits.names[: arena.most], profile, main_factors(profile).tolist(), effects, strict=True
    ):
        main = arena.reader.factors[factor].name if factor >= 0 else None
        share = float(moved.abs().max() / moved.abs().sum()) if main else None
        cells = (
            _words(main) if main else "none",
            "yes" if main and relied[factor] else "no",
            Estimate(float(moved[factor]) if main else None, count, None),
            Estimate(share, count, None),
            Estimate(float(effect), count, None),
        )
        rows.append(Row(name, name, "", cells, base="reconstruction"))
    return Table(
        name="directions",
        title=f"What the directions of {title_of(edits.method)} moved",
        reading=f"Towards {edits.target}, in the method's order.",
        columns=(
            Column("main_factor", "Main factor", "The factor that moved most."),
            Column("relied_upon", "Relied upon", "Whether the classifier truly relies on it."),
            Column("movement", "Its movement", "Mean change of its reading, in spreads."),
            Column("share", "Its share", "Of the movement of all factors."),
            Column("effect", "Effect", "Mean change of the class's log odds, in logits."),
        ),
        rows=tuple(rows),
    )


def readers_table(arena: Arena) -> Table:
    """How far the readings can be trusted."""
    columns = [Column("held_out", "New drawings"), Column("error", "Its error, in spreads")]
    scored = [arena.reader.held_out]
    if arena.reconstructed:
        columns.insert(1, Column("reconstructions", "Their reconstructions"))
        scored.append(arena.reconstructed)
    rows = []
    for i, factor in enumerate(arena.reader.factors):
        both = [each[i] for each in scored]
        short = any(each.score.value is None or each.score.value < _AIM for each in both)
        what = "Balanced accuracy" if factor.is_binary else "R²"
        reading = f"{what}; misses {_AIM}." if short else f"{what}."
        error = Estimate(float(arena.errors()[i]), both[-1].score.num_images, None)
        cells = (*(each.score for each in both), error)
        rows.append(Row(factor.name, _words(factor.name), reading, cells, "drawings"))
    return Table(
        name="readers",
        title="How well the factors can be read",
        reading="A network reads the factors of edited images; these are its scores where the "
        "truth is known and the factor can be seen. On reconstructions a factor that the model "
        "lost counts, too. The error is the larger of both, and widens intervals over images.",
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
