"""Tables of the scorecard, from scores that are computed already."""

from collections.abc import Iterable, Mapping, Sequence

from jaxtyping import Bool
from torch import Tensor

from stylex.estimates import Estimate, share
from stylex.evaluation.counterfactual.metric import Scores
from stylex.evaluation.counterfactual.readings import Reading
from stylex.evaluation.edits import Edits
from stylex.evaluation.tables import Cell, Column, Row, Table

NOT_OF_VALID = (  # known beforehand, or not defined
    "flip_rate",
    "flip_rate_untargeted",
    "never_flips",
    "edits_to_flip_median",
)
OF_METHODS = (
    "flip_rate",
    "flip_rate_oracle",
    "score_change",
    "edits_to_flip",
    "never_flips",
    "cout",
    "sparsity_reconstruction",
    "l1",
    "l1_reconstruction",
    "diversity",
    "survives_jpeg",
)


def beside_baselines(
    edits: Edits,
    scores: Mapping[str, Scores],
    baselines: Mapping[str, Mapping[str, Scores]],
    texts: Sequence[Reading],
) -> tuple[Table, Table]:
    """Sets a method beside doing nothing, the copy and an attack.

    Args:
        edits: The method's.
        scores: The method's, by metric.
        baselines: Of `identity`, `reconstruction` and `attack`, in this order.
        texts: Of the rows, in their order.

    Returns:
        The figures over all images, and over those that flip.
    """
    columns = (
        Column(edits.method, edits.method, f"All edits together ({len(edits.together)})."),
        Column("identity", "doing nothing", "The original, unchanged."),
        Column("reconstruction", "copy", "The model's copy, without any edit."),
        Column("attack", "attack (PGD)", "Tiny noise that aims at the target."),
    )
    found = [scores, *baselines.values()]
    return (
        Table(
            "all",
            "All images",
            "A good explanation does better than the columns beside it: doing nothing, the copy, "
            "and an attack. No figure is enough alone.",
            columns,
            _rows(texts, [{name: s.over_all for name, s in one.items()} for one in found]),
        ),
        Table(
            "valid",
            "Only the images that flip",
            "The same figures, only for images that the change turns into the target. Look at the "
            "number of images: good figures of few images say little.",
            columns,
            _rows(
                [text for text in texts if text.name not in NOT_OF_VALID],
                [{name: s.over_valid for name, s in one.items()} for one in found],
            ),
        ),
    )


def sufficiency(flips: Mapping[str, Bool[Tensor, "k b"]]) -> Table:
    """Shares of images that no edit, the first, the first two, and so on flip.

    Args:
        flips: By judge, `classifier` and perhaps `oracle`; row k says whether the first k edits
            together give the target.
    """
    columns = {
        "classifier": Column(
            "classifier", "classifier", "Share that the explained classifier calls the target."
        ),
        "oracle": Column(
            "oracle", "independent classifier", "Share that a second one calls the target."
        ),
    }
    num_rows = len(flips["classifier"])
    return Table(
        "sufficiency",
        "How many edits does a flip take?",
        "Share of images that are called the target when the first edits are made together. The "
        "edits start from the model's copy: the row without any edit is what the copy alone flips.",
        tuple(columns[name] for name in flips),
        tuple(
            Row(
                f"sufficiency_{k}",
                "no edit" if k == 0 else "first edit" if k == 1 else f"first {k} edits",
                "",
                tuple(share(found[k]) for found in flips.values()),
                base="reconstruction",
            )
            for k in range(num_rows)
        ),
    )


def side_by_side(
    methods: Mapping[str, Edits],
    scores: Mapping[str, Mapping[str, Scores]],
    texts: Sequence[Reading],
) -> Table:
    """Sets several methods side by side, over all images.

    Args:
        methods: By name.
        scores: Of each method, by metric.
        texts: Of the rows, in their order.
    """
    number = Row(
        "num_edits",
        "Number of edits",
        "How many edits the method has. A method with fewer has less to flip with.",
        tuple(str(len(edits.together)) for edits in methods.values()),
        unit="edits",
    )
    rows = _rows(
        [text for text in texts if text.name in OF_METHODS],
        [{name: s.over_all for name, s in scores[method].items()} for method in methods],
    )
    return Table(
        "methods",
        "Other ways to choose the edits",
        "Same images, same model; only the choice of the edits differs. All edits of a method are "
        "made together.",
        tuple(Column(name, name) for name in methods),
        (number, *rows),
    )


def _rows(texts: Iterable[Reading], estimates: Sequence[Mapping[str, Estimate]]) -> tuple[Row, ...]:
    """One row a text that any column has a figure for."""
    rows = []
    for text in texts:
        cells: list[Cell] = [column.get(text.name) for column in estimates]
        if any(cell is not None for cell in cells):
            rows.append(Row(text.name, text.title, text.text, tuple(cells), base=text.base))
    return tuple(rows)
