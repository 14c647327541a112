"""How images are split into train, validation and test: by shares, by class or by group."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
PASSES = 10  # over all groups, that better a drawn split


def draw_images(paths: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Draws the splits of one class; a class of three or more reaches each, train is never empty.

    The paths and the seed decide, nothing else.

    Args:
        paths: Of the images of the class.
        shares: Of each split other than train.
        seed: Another seed gives another draw.

    Returns:
        Of every path its split.
    """
    ranked = sorted(paths, key=lambda path: _rank(seed, path))
    fewest = 1 if len(ranked) > len(shares) else 0
    counts = {split: max(round(len(ranked) * share), fewest) for split, share in shares.items()}
    # Rounding up twice must leave an image to train on: the larger share gives it back.
    while sum(counts.values()) >= len(ranked) and ranked:
        counts[max(counts, key=lambda split: counts[split])] -= 1
    drawn = [split for split, count in counts.items() for _ in range(count)]
    drawn += ["train"] * (len(ranked) - len(drawn))
    return dict(zip(ranked, drawn, strict=True))


def draw_groups(
    groups: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Draws the splits of whole groups, as near to the shares of every class as they allow.

    Groups take their turn by a hash of seed and name; each goes where its classes are most lacked,
    and is moved as long as that brings the shares nearer. A class of as many groups as there are
    splits is in each of them where that is possible.

    Args:
        groups: Of every image.
        labels: Of every image.
        shares: Of each split other than train.
        seed: Another seed gives another draw.

    Returns:
        Of every group its split.
    """
    splits = ["train", *shares]
    order = sorted(set(groups), key=lambda group: _rank(seed, group))
    rows = {group: row for row, group in enumerate(order)}
    counts = np.zeros((len(order), max(labels, default=0) + 1))  # [groups k]
    np.add.at(counts, ([rows[group] for group in groups], list(labels)), 1)
    totals = counts.sum(0)
    wanted = np.outer([1 - sum(shares.values()), *shares.values()], totals)
    weights = 1 / np.maximum(totals, 1)
    lacking, chosen = wanted.copy(), np.full(len(order), -1)
    for _ in range(PASSES):
        before = chosen.copy()
        for row, own in enumerate(counts):
            if chosen[row] >= 0:
                lacking[chosen[row]] += own
            chosen[row] = int((lacking @ (own * weights)).argmax())
            lacking[chosen[row]] -= own
        if (chosen == before).all():
            break
    _fill(chosen, counts, len(splits))
    return {group: splits[split] for group, split in zip(order, chosen.tolist(), strict=True)}


def _fill(chosen: np.ndarray, counts: np.ndarray, num_splits: int) -> None:
    """Moves the smallest group that can be spared to where a class has none; changes `chosen`."""
    for k in range(counts.shape[1]):
        having = counts[:, k] > 0
        if having.sum() < num_splits:
            continue
        for split in range(num_splits):
            held = np.bincount(chosen[having], minlength=num_splits)
            if held[split] == 0:
                spare = np.flatnonzero(having & (held[chosen] > 1))
                chosen[spare[counts[spare].sum(1).argmin()]] = split


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
