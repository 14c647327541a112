"""Small changes of an image that change the classifier's mind: FGSM and PGD.

Images are attacked and judged as 8-bit pixels, so that what is shown is what fooled the classifier.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.attribution.exhibits import Cell, Pictures, Table
from stylex.attribution.layers import check_at_least
from stylex.attribution.perturbation import Attack, Budget
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import LISTED
from stylex.errors import InputError
from stylex.estimates import share
from stylex.imaging import from_uint8, to_uint8
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels, Probabilities

LEAST_LIKELY = "least_likely"


def fgsm(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    toward: str | None,
    epsilon_px: float,
    amplification: float,
    seed: int,
    chunk_size: int,
    progress: Progress = quiet,
) -> tuple[Pictures, Table]:
    """Attacks by one step along the gradient's signs, each value by the whole budget.

    Args:
        classifier: To be fooled.
        images: In [-1, 1]; rounded to 8 bits first.
        targets: The right class of each.
        toward: Where to: none is any other class, or a class's name, or "least_likely".
        epsilon_px: Largest change of a value, in levels of 0 to 255.
        amplification: Of the difference in its picture.
        seed: Of the random change that the attack is compared with.
        chunk_size: Images at once.
        progress: Shows how far it is.

    Returns:
        Of each image the original, the attacked one and their difference; and the success rates.

    Raises:
        InputError: If there is no such class, or a number is none.
    """
    budget = Budget("linf", epsilon_px)
    attack = Attack(f"FGSM, ±{epsilon_px:g}", budget, epsilon_px, 1, False, seed)
    return _exhibits(
        classifier, images, targets, attack, toward, amplification, chunk_size, progress
    )


def pgd(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    toward: str | None,
    norm: str,
    epsilon_px: float,
    step_px: float,
    num_steps: int,
    random_start: bool,
    amplification: float,
    seed: int,
    chunk_size: int,
    progress: Progress = quiet,
) -> tuple[Pictures, Table]:
    """Attacks by many small steps, each followed by the way back into the budget.

    Args:
        classifier: To be fooled.
        images: In [-1, 1]; rounded to 8 bits first.
        targets: The right class of each.
        toward: Where to: none is any other class, or a class's name, or "least_likely".
        norm: "linf" or "l2".
        epsilon_px: Budget in that norm, in levels of 0 to 255.
        step_px: Length of a step in that norm.
        num_steps: At least 1.
        random_start: From a random place within the budget, the same for all images.
        amplification: Of the difference in its picture.
        seed: Of the start, and of the random change that the attack is compared with.
        chunk_size: Images at once.
        progress: Shows how far it is.

    Returns:
        Of each image the original, the attacked one and their difference; and the success rates.

    Raises:
        InputError: If there is no such class or norm, or a number is none.
    """
    check_at_least("num_steps", num_steps, 1)
    if step_px <= 0:
        raise InputError(f"step_px must be above 0, got {step_px}; give the length of a step")
    budget = Budget(norm, epsilon_px)
    limit = f"±{epsilon_px:g}" if norm == "linf" else f"L2 {epsilon_px:g}"
    name = f"PGD, {limit}, {num_steps} steps"
    attack = Attack(name, budget, step_px, num_steps, random_start, seed)
    return _exhibits(
        classifier, images, targets, attack, toward, amplification, chunk_size, progress
    )


def _exhibits(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    attack: Attack,
    toward: str | None,
    amplification: float,
    chunk_size: int,
    progress: Progress,
) -> tuple[Pictures, Table]:
    check_at_least("chunk_size", chunk_size, 1)
    known = None if toward is None else _class(classifier, str(toward))
    pictures: list[Tensor] = []
    captions: list[str] = []
    judged: list[Bool[Tensor, "b 3"]] = []
    for part in progress(torch.arange(len(images)).split(chunk_size), attack.name):
        originals, right = from_uint8(to_uint8(images[part])), targets[part]
        before = _probabilities(classifier, originals)
        goals = None
        if toward is not None:
            goals = before.argmin(dim=1) if known is None else torch.full_like(right, known)
        attacked = attack.attacked(
            classifier, originals, right if goals is None else goals, closer=goals is not None
        )
        after = _probabilities(classifier, attacked)
        chance = _probabilities(classifier, attack.at_random(originals))
        fair = (before.argmax(dim=1) == right) & (True if goals is None else goals != right)
        flags = [fair, _fooled(after, right, goals), _fooled(chance, right, goals)]
        judged.append(torch.stack(flags, dim=1))
        change = (attacked - originals) * amplification
        pictures += torch.stack((originals, attacked, change.clamp(-1, 1)), dim=1).flatten(0, 1)
        for i in range(len(part)):
            size = float(attack.budget.size((attacked - originals)[i : i + 1] * 127.5))
            captions += [
                _said(classifier, before[i]),
                _said(classifier, after[i]),
                _size_said(attack.budget, size, amplification),
            ]
    table = _table(attack, torch.cat(judged).cpu(), toward)
    return Pictures(torch.stack(pictures), tuple(captions), columns=3), table


def _class(classifier: FrozenClassifier, name: str) -> int | None:
    """Position of a class; none for whichever is least likely."""
    names = classifier.class_names
    if name == LEAST_LIKELY:
        return None
    if name not in names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise InputError(
            f"toward must be null, {LEAST_LIKELY} or a class of the classifier "
            f"({', '.join(names[:LISTED])}{more}), got '{name}'"
        )
    return names.index(name)


@torch.no_grad()
def _probabilities(classifier: FrozenClassifier, images: Images) -> Probabilities:
    return classifier.probabilities(images)


def _fooled(probabilities: Probabilities, right: Labels, goals: Labels | None) -> Tensor:
    decided = probabilities.argmax(dim=1)
    return decided != right if goals is None else decided == goals


def _said(classifier: FrozenClassifier, probabilities: Tensor) -> str:
    """The most likely class with its probability."""
    best = int(probabilities.argmax())
    return f"{classifier.class_names[best]} {100 * float(probabilities[best]):.0f} %"


def _size_said(budget: Budget, size: float, amplification: float) -> str:
    """What the picture of a difference shows, and how large the difference is."""
    large = f"at most {size:.0f}" if budget.norm == "linf" else f"L2 norm {size:.0f}"
    return f"difference × {amplification:g}, grey is none; {large} of 255 levels"


def _table(attack: Attack, judged: Bool[Tensor, "n 3"], toward: str | None) -> Table:
    """How often an attack succeeds, where the classifier was right before."""
    fair, *outcomes = judged.unbind(dim=1)
    rows: list[tuple[Cell, ...]] = []
    for name, outcome in zip((attack.name, "random, same budget"), outcomes, strict=True):
        rate = share(outcome[fair])
        low, high = rate.interval or (None, None)
        rows.append((name, rate.value, low, high, rate.num_images))
    aim = {None: "any other class", LEAST_LIKELY: "its least likely class"}.get(toward, toward)
    return Table(
        columns=("attack", "success rate", "95 % from", "to", "images"),
        rows=tuple(rows),
        reading=f"Share of images called {aim} after a change within the budget, in whole 8-bit "
        "levels; of those that it called the class asked about before.",
    )
