"""Whether an explanation depends on what it should: on the classifier, not on the draw of images.

A search of a classifier with re-initialised layers, or trained on permuted labels, must find other
attributes; a search with another seed, or of a model trained with another, should find the same.
Each lies in a sub-folder of the search it is compared with: `sanity/*`, `seeds/*`, `trained/*`.
Source of the test of maps: Adebayo et al. 2018 (arXiv:1810.03292).
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch

from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.evaluation.attributes import ATTRIBUTES_FILE, read_stated
from stylex.evaluation.retraining import FOLDER as TRAINED
from stylex.evaluation.retraining import retraining_table
from stylex.evaluation.tables import Column, Row, Section, Table

Edit = tuple[int, str]  # coordinate and direction


@dataclass(frozen=True)
class Found:
    """What a search found, as its file says it.

    Attributes:
        name: Of its folder.
        edits: Its attributes, best first.
        flipped: Share of images that all of them flip together.
        rank_correlation: Of the attributes' orders on random halves of the images, if stated.
        question: Source and target.
    """

    name: str
    edits: tuple[Edit, ...]
    flipped: float | None
    rank_correlation: float | None
    question: tuple[str | None, str]


def read_found(folder: Path) -> Found:
    """Reads a finished search's attributes.

    Raises:
        InputError: If the folder holds no finished search.
    """
    stated = read_stated(
        folder / ATTRIBUTES_FILE,
        "attributes",
        "sufficiency",
        "rank_correlation",
        "source",
        "target",
    )
    sufficiency = stated["sufficiency"]
    most = max(sufficiency, key=int)
    return Found(
        folder.name,
        tuple((a["coordinate"], a["direction"]) for a in stated["attributes"]),
        sufficiency[most]["value"],
        stated["rank_correlation"],
        (stated["source"], stated["target"]),
    )


def overlap(one: Found, other: Found) -> Estimate:
    """Share of the first's attributes, coordinate and direction, that the second has, too."""
    return share(torch.tensor([edit in other.edits for edit in one.edits], dtype=torch.bool))


def others(folder: Path, kind: str, reference: Found) -> list[Found]:
    """Searches of the same question below a folder, by name.

    Args:
        folder: Of the search that they are compared with.
        kind: Name of the sub-folder: sanity, seeds, trained.
        reference: What that search found.

    Raises:
        InputError: If one of them asks another question.
    """
    found = []
    for file in sorted((folder / kind).glob(f"*/{ATTRIBUTES_FILE}")):
        found.append(read_found(file.parent))
        if found[-1].question != reference.question:
            raise InputError(
                f"searches are compared that ask the same, got {reference.question} in '{folder}' "
                f"and {found[-1].question} in '{file.parent}'; search again with the same source "
                "and target"
            )
    return found


def sanity_section(folder: Path, num_coordinates: int) -> Section | None:
    """Overlaps with randomised classifiers, other seeds, other trainings; whether it is passed.

    Args:
        folder: Of the search.
        num_coordinates: That it searched, each in two directions.

    Returns:
        None if no other search was made.
    """
    reference = read_found(folder)
    randomised = others(folder, "sanity", reference)
    repeated = others(folder, "seeds", reference)
    tables = []
    if repeated:
        tables.append(_stability(reference, repeated))
    trained = [each.name for each in others(folder, TRAINED, reference)]
    retrained = retraining_table(folder, trained)
    if retrained is not None:
        tables.append(retrained)
    if randomised:
        tables.append(_randomisation(reference, randomised, repeated, num_coordinates))
    if not tables:
        return None
    return Section(
        "sanity",
        "Does the answer depend on the classifier, and not on chance?",
        "An explanation of a classifier must change when the classifier is destroyed, and stay "
        "when only the images drawn change. If it does not change, it shows the generator.",
        tuple(tables),
    )


def _stability(reference: Found, repeated: list[Found]) -> Table:
    rows = [
        Row(
            f"{one.name}-{other.name}",
            f"{_seed(one, reference)} and {_seed(other, reference)}",
            "",
            (overlap(one, other),),
            unit="attributes",
        )
        for one, other in combinations([reference, *repeated], 2)
    ]
    correlation = reference.rank_correlation
    if correlation is not None:
        rows.append(
            Row(
                "halves",
                "order of the attributes on halves of the images",
                "Spearman's correlation: 1 is the same order, 0 is none.",
                (f"{correlation:.2f}",),
            )
        )
    return Table(
        "stability",
        "Other seeds of the search",
        "Share of the attributes that are found again when other images select them. "
        "Attributes that do the same in other coordinates count as different here.",
        (Column("overlap", "Found again"),),
        tuple(rows),
    )


def _seed(found: Found, reference: Found) -> str:
    return "this search" if found is reference else f"seed {found.name}"


def _randomisation(
    reference: Found, randomised: list[Found], repeated: list[Found], num_coordinates: int
) -> Table:
    again = [overlap(reference, other).value or 0.0 for other in repeated]
    limit = sum(again) / len(again) if again else 1.0
    rows = []
    for other in randomised:
        common = overlap(reference, other)
        chance = len(other.edits) / (2 * num_coordinates)
        flipped = "–" if other.flipped is None else f"{other.flipped:.0%}"
        rows.append(
            Row(
                other.name,
                other.name.replace("-", " "),
                "",
                (common, f"{chance:.2f}", _verdict(common, limit), flipped),
                unit="attributes",
            )
        )
    limited = (
        f"It is passed below {limit:.2f}, the mean share that other seeds find again."
        if again
        else "It is passed below 1, since no other seed was searched to compare with."
    )
    return Table(
        "randomisation",
        "Destroyed classifiers",
        "Share of the attributes that are found again for a classifier whose layers were "
        f"re-initialised, or which learnt permuted labels. {limited}",
        (
            Column("overlap", "Found again"),
            Column("chance", "By chance", "What as many random edits would find again."),
            Column("verdict", "Test"),
            Column("flipped", "Images that its attributes flip"),
        ),
        tuple(rows),
    )


def _verdict(common: Estimate, limit: float) -> str:
    if common.value is None or limit == 0:
        return "undecided: nothing is found again anyway"
    return "passed" if common.value < limit else "FAILED: the attributes stay"
