"""Laws of `stylex.data.subset` and of batches of classes."""

import pytest
import torch

from stylex.data.datasets import FashionMNIST
from stylex.data.steps import ClassBatches
from stylex.data.subset import ClassSubset, split_classes
from stylex.errors import InputError

NAMES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def whole() -> FashionMNIST:
    return FashionMNIST(split="test", resolution=32, channels=1)


def test_a_subset_has_exactly_the_images_of_its_classes_with_labels_of_its_own(
    whole: FashionMNIST,
) -> None:
    subset = ClassSubset(whole, ["Bag", "Dress"])
    assert subset.class_names == ("Bag", "Dress")
    positions = [i for i, k in enumerate(whole.labels.tolist()) if k in (3, 8)]
    assert len(subset) == len(positions)
    assert [subset.class_names[k] for k in subset.labels.tolist()] == [
        whole.class_names[k] for k in whole.labels[positions].tolist()
    ]
    images, labels = subset.batch([5, 0])
    assert torch.equal(images, whole.batch([positions[5], positions[0]])[0])
    assert torch.equal(labels, subset.labels[[5, 0]])


def test_fingerprints_tell_subsets_apart(whole: FashionMNIST) -> None:
    names = (["Bag", "Dress"], ["Dress", "Bag"], ["Bag", "Coat"])
    found = {ClassSubset(whole, each).fingerprint for each in names}
    assert len(found | {whole.fingerprint}) == 4
    assert ClassSubset(whole, names[0]).fingerprint in found


def test_held_out_classes_are_those_named_or_a_share_drawn_by_the_seed() -> None:
    assert split_classes(NAMES, ["j", "a"], 0.5, 0) == (tuple("bcdefghi"), ("a", "j"))
    drawn = [split_classes(NAMES, None, 0.4, seed) for seed in range(5)]
    for kept, held in drawn:
        assert len(held) == 4
        assert set(kept) | set(held) == set(NAMES)
        assert sorted(kept) == list(kept)
    assert len(set(drawn)) > 1
    assert split_classes(NAMES, None, 0.4, 3) == drawn[3]


@pytest.mark.parametrize(
    ("named", "share", "sentence"),
    [
        (["a", "z"], 0.4, "must be classes of the data .* got 'z'"),
        (["a"], 0.4, "got 9 and 1 of 10"),
        (list("abcdefghi"), 0.4, "got 1 and 9 of 10"),
        (None, 0.1, "got 9 and 1 of 10"),
        (None, 1.0, "share must be above 0 and below 1, got 1.0"),
    ],
)
def test_a_split_with_nothing_to_tell_apart_is_refused(
    named: list[str] | None, share: float, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        split_classes(NAMES, named, share, 0)


LABELS = torch.tensor([4] * 5 + [7] * 9 + [9] * 6)


def batches(start: int, stop: int, seed: int = 0, num_classes: int = 2) -> list[list[int]]:
    return list(
        ClassBatches(
            LABELS,
            num_classes=num_classes,
            images_per_class=3,
            seed=seed,
            start_step=start,
            stop_step=stop,
        )
    )


def test_a_batch_has_so_many_classes_and_so_many_different_images_of_each() -> None:
    for batch in batches(0, 40):
        assert len(set(batch)) == 6
        _, counts = LABELS[batch].unique(return_counts=True)
        assert counts.tolist() == [3, 3]


def test_a_step_is_the_same_wherever_the_run_began() -> None:
    assert batches(5, 12) == batches(0, 12)[5:]
    assert batches(0, 12) != batches(0, 12, seed=1)


def test_every_class_and_every_image_of_it_is_drawn_equally_often_in_the_long_run() -> None:
    counts = torch.zeros(20)
    for batch in batches(0, 3000):
        counts[batch] += 1
    for label, size in ((4, 5), (7, 9), (9, 6)):
        share = 2 / 3 * 3 / size
        spread = (3000 * share * (1 - share)) ** 0.5
        drawn = counts[LABELS.eq(label)]
        assert ((drawn - 3000 * share).abs() < 4.5 * spread).all()


@pytest.mark.parametrize(("p", "k"), [(1, 3), (4, 3), (2, 1), (2, 6)])
def test_batches_that_do_not_fit_the_data_are_refused(p: int, k: int) -> None:
    name = "classes_per_batch" if p in (1, 4) else "images_per_class"
    with pytest.raises(InputError, match=f"{name} must be at least 2 and at most"):
        ClassBatches(LABELS, num_classes=p, images_per_class=k, seed=0, start_step=0, stop_step=1)
