"""How true the reconstructions are: to the image, and to the classifier's decision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.evaluation.perceptual import Distance
from stylex.evaluation.tables import VALUE, Column, Row, Section, Table
from stylex.imaging import from_uint8, to_uint8
from stylex.model import StylEx
from stylex.types import Images, Labels, Logits, Pixels

NUM_NULL_EDITS = 10  # of composition@10
NUM_BINS = 15  # of the confidence, in a calibration error
# Name, title, reading and base of the rows over all images; the distance has its own title.
OVERALL = (
    ("accuracy_original", "Accuracy on originals", "Share called by their label.", ""),
    ("accuracy_reconstruction", "Accuracy on copies", "Share of copies so called.", ""),
    ("agreement", "Agreement", "Share of copies decided as their original; 1 is best.", "original"),
    ("changed", "Flagged", "Share whose copy is decided otherwise; distrust these.", "original"),
    ("kl", "KL(C(x) ‖ C(x̂))", "Nats lost of the probabilities; 0 is best.", "original"),
    ("l1", "L1 (composition@1)", "Mean change of a pixel, in units of [0, 1].", "original"),
    (
        "composition",
        f"Composition@{NUM_NULL_EDITS}",
        "L1 after copying the copy and so on, saved each time; growth means that copies drift.",
        "original",
    ),
    ("distance", "", "How unlike image and copy look; 0 is best.", "original"),
    (
        "calibration_original",
        "Calibration error, originals",
        f"Distance of confidence from accuracy in {NUM_BINS} bins; 0 is best, few images raise it.",
        "",
    ),
    ("calibration_reconstruction", "Calibration error, copies", "The same on copies.", ""),
    (
        "calibration_between",
        "Calibration error, C(x̂) against C(x)",
        "Distance of the confidence on copies from the share decided as their original.",
        "original",
    ),
)


@dataclass(frozen=True)
class Reconstructions:
    """What a model made of a set of images, image by image.

    Attributes:
        labels: The data's classes.
        logits: The classifier's, of the originals.
        reconstructed_logits: The classifier's, of the reconstructions.
        l1: Mean absolute difference of original and reconstruction, in units of [-1, 1].
    """

    labels: Labels
    logits: Logits
    reconstructed_logits: Logits
    l1: Float[Tensor, " b"]


@torch.no_grad()
def reconstruct(model: StylEx, batches: Iterable[tuple[Images, Labels]]) -> Reconstructions:
    """Runs all batches through the model."""
    parts = []
    for images, labels in batches:
        made = model.reconstruct(images)
        difference = (made - images).abs().mean(dim=(1, 2, 3))
        parts.append((labels, model.classifier(images), model.classifier(made), difference))
    return Reconstructions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def fidelity(found: Reconstructions) -> dict[str, Estimate]:
    """Agreement, reconstruction L1, classifier KL and classifier accuracy over all images."""
    original, made = found.logits, found.reconstructed_logits
    return {
        "classifier_accuracy": share(original.argmax(dim=1) == found.labels),
        "agreement": share(original.argmax(dim=1) == made.argmax(dim=1)),
        "reconstruction_l1": mean(found.l1),
        "classifier_kl": mean(_divergences(original, made)),
    }


def _divergences(original: Logits, made: Logits) -> Float[Tensor, " b"]:
    """KL(C(x) ‖ C(x̂)) in nats."""
    log_p, log_q = original.log_softmax(dim=1), made.log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


@dataclass(frozen=True)
class SavedCopies:
    """What a model made of a set of images, judged on the 8-bit pixels that a file would hold.

    Attributes:
        positions: Of the images, in their split of the data.
        labels: The data's classes.
        images: Originals.
        reconstructions: Their copies.
        logits: The classifier's, of the originals.
        reconstructed_logits: The classifier's, of the copies.
        l1: Mean absolute difference of original and copy, in units of [0, 1].
        l1_after_many: The same after ten null edits, each saved and opened again.
        distance: Perceptual distance of original and copy, if one is in use.
    """

    positions: Int64[Tensor, " n"]
    labels: Labels
    images: Pixels
    reconstructions: Pixels
    logits: Logits
    reconstructed_logits: Logits
    l1: Float[Tensor, " n"]
    l1_after_many: Float[Tensor, " n"]
    distance: Float[Tensor, " n"] | None

    def select(self, rows: Tensor) -> "SavedCopies":
        """Some of the images, by indices or by a mask."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v[rows] for k, v in values.items() if v is not None})

    def changed_positions(self) -> list[int]:
        """Positions of the images whose copy the classifier decides otherwise: to be flagged."""
        changed = self.logits.argmax(dim=1) != self.reconstructed_logits.argmax(dim=1)
        return self.positions[changed].tolist()


@torch.no_grad()
def judge_copies(
    model: StylEx,
    batches: Iterable[tuple[Images, Labels]],
    positions: Sequence[int],
    distance: Distance | None,
) -> SavedCopies:
    """Reconstructs all batches and judges what would be saved.

    Args:
        model: The model.
        batches: Images as the data gives them, on the model's device, with their labels.
        positions: Of all the images, in their split of the data.
        distance: The perceptual distance in use, if any.

    Raises:
        InputError: If there is no image.
    """
    parts = []
    for images, labels in batches:
        original = to_uint8(images)
        first = copy = _copied(model, original)
        for _ in range(NUM_NULL_EDITS - 1):
            copy = _copied(model, copy)
        before, after = from_uint8(original), from_uint8(first)
        part = {
            "labels": labels,
            "images": original,
            "reconstructions": first,
            "logits": model.classifier(before),
            "reconstructed_logits": model.classifier(after),
            "l1": _l1(original, first),
            "l1_after_many": _l1(original, copy),
        }
        if distance is not None:
            part["distance"] = distance(before, after)
        parts.append(part)
    if not parts:
        raise InputError("fidelity needs at least 1 image, got none; give a split with images")
    columns: dict[str, Any] = {k: torch.cat([p[k] for p in parts]).cpu() for k in parts[0]}
    return SavedCopies(positions=torch.tensor(list(positions)), **{"distance": None, **columns})


def _copied(model: StylEx, pixels: Pixels) -> Pixels:
    """A null edit: encoded, generated, saved."""
    return to_uint8(model.reconstruct(from_uint8(pixels)))


def _l1(one: Pixels, other: Pixels) -> Float[Tensor, " b"]:
    """Mean absolute difference, in units of [0, 1]."""
    return (one.float() - other.float()).abs().mean(dim=(1, 2, 3)) / 255


def calibration_error(logits: Logits, classes: Labels) -> Estimate:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599), in 15 bins of equal width.

    It is the mean distance of confidence from accuracy, weighted by the images in a bin; few
    images bias it upwards, a bootstrap even more, so it has no interval.

    Args:
        logits: Their highest probability is the confidence.
        classes: What counts as right: labels, or another classifier's decisions.
    """
    if not len(logits):
        return Estimate(None, 0, None)
    from torchmetrics.functional.classification import multiclass_calibration_error

    error = multiclass_calibration_error(
        logits.softmax(dim=1), classes, num_classes=logits.shape[1], n_bins=NUM_BINS
    )
    return Estimate(float(error), len(logits), None)


def copy_figures(found: SavedCopies) -> dict[str, Estimate]:
    """Every figure of fidelity, by name, over the images given."""
    original, made, labels = found.logits, found.reconstructed_logits, found.labels
    said, said_of_copy = original.argmax(dim=1), made.argmax(dim=1)
    figures = {
        "accuracy_original": share(said == labels),
        "accuracy_reconstruction": share(said_of_copy == labels),
        "agreement": share(said == said_of_copy),
        "changed": share(said != said_of_copy),
        "kl": mean(_divergences(original, made)),
        "l1": mean(found.l1),
        "composition": mean(found.l1_after_many),
        "calibration_original": calibration_error(original, labels),
        "calibration_reconstruction": calibration_error(made, labels),
        "calibration_between": calibration_error(made, said),
    }
    return figures if found.distance is None else figures | {"distance": mean(found.distance)}


def fidelity_section(
    found: SavedCopies,
    class_names: Sequence[str],
    distance: Distance | None,
    sets: Table | None,
) -> Section:
    """What the page shows of fidelity.

    Args:
        found: The copies, of at least one image.
        class_names: In the order of the logits.
        distance: The perceptual distance that `found` was judged with.
        sets: Distances between the sets of images, of `distance_table`.
    """
    tables = (_overall(copy_figures(found), distance), _per_class(found, class_names))
    return Section(
        "fidelity",
        "Do the reconstructions keep the image and the decision?",
        "Edits are made on reconstructions, so an explanation speaks of an image only where its "
        "copy is decided alike; all is judged on 8-bit pixels, as saved.",
        (*tables, sets) if sets is not None else tables,
    )


def _overall(figures: dict[str, Estimate], distance: Distance | None) -> Table:
    title = distance.name if distance is not None else ""
    rows = [
        Row(name, given or title, reading, (figures[name],), base=base)
        for name, given, reading, base in OVERALL
        if name in figures
    ]
    return Table("overall", "All images", "Each figure over all images.", VALUE, tuple(rows))


def _per_class(found: SavedCopies, class_names: Sequence[str]) -> Table:
    columns = (
        Column("agreement", "Agreement", "Share of copies decided as their original."),
        Column("kl", "KL", "In nats; 0 is best."),
        Column("l1", "L1", "Mean change of a pixel, in units of [0, 1]."),
        Column("calibration_original", "Calibration error, originals", "Against the labels."),
        Column("calibration_reconstruction", "Calibration error, copies", "Against the labels."),
        Column("calibration_between", "Calibration error, C(x̂) against C(x)"),
        Column("n", "n", "Images of the class."),
    )
    rows = []
    for k, name in enumerate(class_names):
        figures = copy_figures(found.select(found.labels == k))
        cells = tuple(figures[column.name] for column in columns[:-1])
        count = str(figures["agreement"].num_images)
        rows.append(Row(name, name, "", (*cells, count), base="original"))
    reading = "Images by their label; a class far worse than others is one to explain with care."
    return Table("per_class", "Class by class", reading, columns, tuple(rows))
