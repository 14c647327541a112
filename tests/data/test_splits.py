"""Laws of `stylex.data.splits`."""

import hashlib

import numpy as np
import pytest

from stylex.data.splits import draw_groups, draw_images

SHARES = {"validation": 0.15, "test": 0.2}


def test_images_are_drawn_in_the_order_of_a_hash_of_seed_and_path() -> None:
    paths = [f"a/{i}.png" for i in range(40)]
    order = sorted(paths, key=lambda path: hashlib.sha256(f"5 {path}".encode()).digest())
    found = draw_images(paths, SHARES, seed=5)
    assert [found[path] for path in order] == ["validation"] * 6 + ["test"] * 8 + ["train"] * 26


@pytest.mark.parametrize("seed", range(5))
def test_no_drawn_group_could_be_moved_to_bring_the_shares_nearer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"g{g}" for g in rng.integers(40, size=400) ** 2 // 40]
    labels = rng.integers(3, size=400).tolist()
    found = draw_groups(groups, labels, SHARES, seed)
    wanted = {"train": 0.65, **SHARES}

    def distance(splits: dict[str, str]) -> float:
        total = 0.0
        for k in range(3):
            own = [splits[group] for group, label in zip(groups, labels, strict=True) if label == k]
            total += sum(
                (own.count(s) - share * len(own)) ** 2 for s, share in wanted.items()
            ) / len(own)
        return total

    reached = distance(found)
    moved = [distance({**found, group: split}) for group in found for split in wanted]
    assert reached <= min(moved) + 1e-9


def test_a_class_of_as_many_groups_as_splits_reaches_each() -> None:
    groups = ["large"] * 90 + ["x", "y", "z"] + ["u", "v", "w"]
    labels = [0] * 90 + [0] * 3 + [1] * 3
    found = draw_groups(groups, labels, SHARES, seed=0)
    for members in (("x", "y", "z", "large"), ("u", "v", "w")):
        assert {found[group] for group in members} == {"train", "validation", "test"}


def test_drawing_groups_depends_on_their_names_and_not_on_their_order() -> None:
    groups = [f"g{i % 17}" for i in range(100)]
    labels = [i % 2 for i in range(100)]
    one = draw_groups(groups, labels, SHARES, seed=3)
    assert draw_groups(groups[::-1], labels[::-1], SHARES, seed=3) == one
    assert draw_groups(groups, labels, SHARES, seed=4) != one
