"""Laws of `stylex.data.permutation`."""

import pytest
import torch

from stylex.data.datasets import FashionMNIST
from stylex.data.permutation import PermutedLabels


@pytest.fixture(scope="module")
def images() -> FashionMNIST:
    return FashionMNIST(split="test", resolution=32, channels=1)


def test_labels_are_in_another_order_and_images_in_their_own(images: FashionMNIST) -> None:
    before = images.labels.clone()
    permuted = PermutedLabels(images, seed=0)
    assert torch.equal(permuted.labels.bincount(), before.bincount())
    agreeing = float((permuted.labels == before).float().mean())
    assert 0.07 < agreeing < 0.13  # one in ten by chance; four standard deviations of 2,000
    positions = [5, 1999, 0]
    seen, labels = permuted.batch(positions)
    assert torch.equal(seen, images.batch(positions)[0])
    assert torch.equal(labels, permuted.labels[positions])
    assert torch.equal(images.labels, before)
    for name in ("class_names", "split", "resolution", "channels"):
        assert getattr(permuted, name) == getattr(images, name)


def test_the_order_depends_on_the_seed_alone_and_so_does_the_fingerprint(
    images: FashionMNIST,
) -> None:
    one, same, other = (PermutedLabels(images, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.labels, other.labels)
    assert one.fingerprint == same.fingerprint
    assert len({images.fingerprint, one.fingerprint, other.fingerprint}) == 3
