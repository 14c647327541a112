"""Whether single style coordinates stand for single factors: DCI, SAP and MIG.

DCI's importances are the absolute weights of a lasso of each factor on standardised coordinates,
found by accelerated proximal gradients; only the coordinates that correlate most with the factor
enter. Nothing is random. Sources: Eastwood & Williams 2018 (DCI), Kumar et al. 2018 (SAP), Chen et
al. 2018 (MIG), Beck & Teboulle 2009 (the lasso's solver).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.data.drawn import Factor, Values
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.tables import Column, Row, Table
from stylex.types import Styles

NUM_BINS = 20  # of a histogram, for MIG
LEAST_VARIANCE = 1e-12  # of a coordinate that says anything
SVM_COST = 0.01
_NUM_STEPS = 500  # of the lasso's solver
_NUM_NEWTON_STEPS = 20
_READINGS = {
    "disentanglement": ("Disentanglement", "1: every coordinate matters for one factor alone."),
    "completeness": ("Completeness", "1: every factor hangs on one coordinate alone."),
    "informativeness": (
        "Informativeness",
        "Mean over factors of R², or of the accuracy for binary ones, on images not fitted.",
    ),
    "sap": ("SAP", "Mean lead of a factor's best coordinate over its second best, as predictors."),
    "mig": ("MIG", "The same lead in mutual information, as a share of the factor's entropy."),
}


@dataclass(frozen=True)
class Separation:
    """How far coordinates and factors match one to one; all are at most 1.

    Attributes:
        disentanglement: DCI's D.
        completeness: DCI's C.
        informativeness: DCI's I.
        sap: Separated attribute predictability.
        mig: Mutual information gap.
        num_images: On which they were measured.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    sap: float
    mig: float
    num_images: int


def separation(
    styles: Styles,
    values: Values,
    factors: Sequence[Factor],
    num_screened: int,
    penalty: float,
) -> Separation:
    """Measures a style space against known factors.

    The first half of the images fits the lassos and support vector machines, the second scores
    them.

    Args:
        styles: Of the images, which are in random order.
        values: Of the factors in the same images.
        factors: In the order of the values.
        num_screened: Coordinates with the largest |correlation| that each lasso may use.
        penalty: Of the lasso, as a share of the least one that leaves no coordinate.

    Raises:
        InputError: If there are too few images, coordinates or factors, or factors that do not
            vary.
    """
    num_images, num_styles = styles.shape
    if num_images < 8 or num_styles < 2 or len(factors) < 2:
        raise InputError(
            "separation needs at least 8 images, 2 coordinates and 2 factors, got "
            f"{num_images}, {num_styles} and {len(factors)}; give more"
        )
    styles, values = styles.double().cpu(), values.double()
    half = num_images // 2
    if (values[:half].var(dim=0) <= 0).any() or (values[half:].var(dim=0) <= 0).any():
        raise InputError(
            f"separation needs factors that vary in both halves of the images, got {num_images} "
            "images in which one does not; give more"
        )
    codes, fitted = _standardise(styles, half), values[:half]
    weights = torch.stack(
        [lasso(codes[:half], fitted[:, j], num_screened, penalty) for j in range(len(factors))],
        dim=1,
    )
    binary = torch.tensor([factor.is_binary for factor in factors])
    predicted = fitted.mean(dim=0) + codes[half:] @ weights
    scored = _informativeness(predicted, values[half:], binary)
    importance = weights.abs() / fitted.std(dim=0)  # as if the factors were standardised
    d, c = disentanglement(importance), disentanglement(importance.T)
    return Separation(d, c, scored, sap(codes, values, binary), mig(styles, values), num_images)


def _standardise(styles: Styles, half: int) -> Styles:
    """Coordinates with the mean and deviation of the first half; constant ones become 0."""
    variance = styles[:half].var(dim=0)
    centred = styles - styles[:half].mean(dim=0)
    return torch.where(variance > LEAST_VARIANCE, centred / variance.clamp(min=1e-300).sqrt(), 0.0)


def disentanglement(importance: Float[Tensor, "l k"]) -> float:
    """D of an importance matrix, codes by factors; of its transpose, C.

    Mean over rows, weighted by their share of all importance, of 1 − entropy to the base of the
    number of columns. A matrix of zeros has 0.
    """
    importance = importance.double()
    total = importance.sum()
    if total <= 0:
        return 0.0
    rows = importance.sum(dim=1)
    shares = importance / rows.clamp(min=1e-300)[:, None]
    entropies = -torch.special.xlogy(shares, shares).sum(dim=1)
    entropies = entropies / math.log(importance.shape[1])
    return float((rows / total * (1 - entropies)).sum())


def lasso(
    codes: Float[Tensor, "n s"], factor: Float[Tensor, " n"], num_screened: int, penalty: float
) -> Float[Tensor, " s"]:
    """Weights that minimise half the mean squared error plus a multiple of their absolute sum.

    Args:
        codes: Standardised.
        factor: Its values; their mean is taken off.
        num_screened: Codes with the largest |correlation| that may have a weight.
        penalty: The multiple, as a share of the least one that leaves every weight 0.
    """
    target = factor - factor.mean()
    products = codes.T @ target / len(codes)
    kept = products.abs().topk(min(num_screened, codes.shape[1])).indices
    chosen, linear = codes[:, kept], products[kept]
    gram = chosen.T @ chosen / len(codes)
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp(min=1e-12)
    limit = step * penalty * linear.abs().max()
    weights = momentum = torch.zeros_like(linear)
    pace = 1.0
    for _ in range(_NUM_STEPS):
        moved = momentum - step * (gram @ momentum - linear)
        new = moved.sign() * (moved.abs() - limit).clamp(min=0)
        next_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        momentum = new + (pace - 1) / next_pace * (new - weights)
        weights, pace = new, next_pace
    return torch.zeros(codes.shape[1], dtype=codes.dtype).scatter(0, kept, weights)


def _informativeness(predicted: Values, true: Values, binary: Bool[Tensor, " f"]) -> float:
    variance = (true - true.mean(dim=0)).square().mean(dim=0)
    explained = 1 - (predicted - true).square().mean(dim=0) / variance
    accuracy = ((predicted > 0.5) == (true > 0.5)).double().mean(dim=0)
    return float(torch.where(binary, accuracy, explained.clamp(min=0)).mean())


def sap(codes: Float[Tensor, "n s"], values: Values, binary: Bool[Tensor, " f"]) -> float:
    """Mean over factors of the best coordinate's score less the second best's.

    The score is the squared correlation, or for binary factors the accuracy on the second half of
    a one-coordinate support vector machine fitted to the first, with balanced classes.
    """
    half = len(codes) // 2
    leads = []
    for j, is_binary in enumerate(binary.tolist()):
        factor = values[:, j]
        if is_binary:
            scores = _machine_accuracies(codes[:half], factor[:half], codes[half:], factor[half:])
        else:
            scores = _squared_correlations(codes, factor)
        best = scores.topk(2).values
        leads.append(best[0] - best[1])
    return float(torch.stack(leads).mean())


def _squared_correlations(
    codes: Float[Tensor, "n s"], factor: Float[Tensor, " n"]
) -> Float[Tensor, " s"]:
    centred, target = codes - codes.mean(dim=0), factor - factor.mean()
    variance = centred.square().mean(dim=0)
    covariance = centred.T @ target / len(codes)
    found = covariance.square() / (variance * target.square().mean()).clamp(min=1e-300)
    return torch.where(variance > LEAST_VARIANCE, found, 0.0)


def _machine_accuracies(
    codes: Float[Tensor, "n s"],
    factor: Float[Tensor, " n"],
    new_codes: Float[Tensor, "m s"],
    new_factor: Float[Tensor, " m"],
) -> Float[Tensor, " s"]:
    """Accuracies of one-coordinate linear machines with squared hinge loss, by Newton's method."""
    sign = 2 * factor - 1
    counts = torch.where(factor > 0.5, factor.sum(), (1 - factor).sum())
    cost = (2 * SVM_COST * len(factor) / (2 * counts))[:, None]  # twice the balanced cost
    slope = torch.zeros(codes.shape[1], dtype=codes.dtype)
    offset = torch.zeros_like(slope)
    for _ in range(_NUM_NEWTON_STEPS):
        missing = 1 - sign[:, None] * (codes * slope + offset)
        active = cost * (missing > 0)
        pull = active * missing * sign[:, None]
        a = 1 + (active * codes.square()).sum(dim=0)
        b, d = (active * codes).sum(dim=0), 1 + active.sum(dim=0)
        g, h = slope - (pull * codes).sum(dim=0), offset - pull.sum(dim=0)
        determinant = a * d - b * b
        slope = slope - (d * g - b * h) / determinant
        offset = offset - (a * h - b * g) / determinant
    said = new_codes * slope + offset > 0
    return (said == (new_factor > 0.5)[:, None]).double().mean(dim=0)


def mig(styles: Styles, values: Values) -> float:
    """Mean over factors of the lead in mutual information, as a share of the factor's entropy.

    Coordinates and factors are cut into 20 bins of equal width between their extremes.
    """
    codes, leads = bins(styles), []
    for labels in bins(values).T:
        best = _information(codes, labels).topk(2).values
        leads.append((best[0] - best[1]) / _information(labels[:, None], labels)[0])
    return float(torch.stack(leads).mean())


def bins(values: Float[Tensor, "n s"]) -> Int64[Tensor, "n s"]:
    """Places in a histogram of 20 bins between the extremes of each column."""
    values = values.double()
    low, high = values.amin(dim=0), values.amax(dim=0)
    place = (values - low) / (high - low).clamp(min=1e-300) * NUM_BINS
    return place.long().clamp(max=NUM_BINS - 1)


def _information(codes: Int64[Tensor, "n s"], labels: Int64[Tensor, " n"]) -> Float[Tensor, " s"]:
    """Mutual information of every column with the labels, in nats."""
    num_codes = codes.shape[1]
    cells = (torch.arange(num_codes) * NUM_BINS + codes) * NUM_BINS + labels[:, None]
    counts = torch.bincount(cells.flatten(), minlength=num_codes * NUM_BINS**2)
    joint = counts.double().view(num_codes, NUM_BINS, NUM_BINS) / len(codes)
    alone = joint.sum(dim=2, keepdim=True) * joint.sum(dim=1, keepdim=True)
    ratio = torch.where(joint > 0, joint / alone.clamp(min=1e-300), 1.0)
    return (joint * ratio.log()).sum(dim=(1, 2))


def separation_table(measured: Mapping[str, Separation]) -> Table:
    """Style spaces side by side, by the title of their model."""
    return Table(
        name="separation",
        title="Do single coordinates stand for single factors?",
        reading="Measured on the encoder's styles of drawings with known factors; 1 is best, 0 "
        "worst. These say how the style space is laid out, not whether the classifier relies on "
        "what was found.",
        columns=tuple(Column(name, name) for name in measured),
        rows=tuple(
            Row(
                name,
                title,
                reading,
                tuple(
                    Estimate(asdict(found)[name], found.num_images, None)
                    for found in measured.values()
                ),
            )
            for name, (title, reading) in _READINGS.items()
        ),
    )
