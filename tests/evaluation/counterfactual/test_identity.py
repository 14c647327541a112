"""Similarities of embeddings, with an embedding that can be computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.identity import FS, FVA, S3
from stylex.types import Images


def first_two(images: Images) -> Tensor:
    return images.flatten(1)[:, :2]


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings at angles of 0, 45, 90 and 180 degrees."""
    before = torch.tensor([[255, 0], [255, 255], [255, 0], [255, 255]])
    after = torch.tensor([[255, 0], [255, 128], [255, 255], [0, 0]])
    shape = (4, 1, 1, 2)
    return (
        before.byte().reshape(shape),
        after.byte().reshape(shape),
        torch.tensor([True, True, False, False]),
    )


def test_face_similarity_is_the_mean_cosine() -> None:
    for metric in (FS(first_two), S3(first_two)):
        metric.update(*pairs())
        found = metric.scores()
        at_45 = math.cos(math.atan2(128 / 127.5 - 1, 1) - math.pi / 4)
        assert found.over_all.value == pytest.approx((1 + at_45 + 0 - 1) / 4, abs=1e-6)
        assert found.over_valid.value == pytest.approx((1 + at_45) / 2, abs=1e-6)


def test_face_verification_takes_a_cosine_above_one_half_for_one_person() -> None:
    metric = FVA(first_two)
    metric.update(*pairs())
    assert metric.scores().over_all.value == 2 / 4
    assert metric.scores().over_valid.value == 1


def test_an_embeddings_own_threshold_takes_the_place_of_one_half() -> None:
    for same_cosine, expected in ((-1.1, 1), (0.0, 2 / 4), (0.999, 1 / 4)):
        metric = FVA(first_two, same_cosine=same_cosine)
        metric.update(*pairs())
        assert metric.scores().over_all.value == expected


def test_doing_nothing_looks_perfect_so_similarity_alone_proves_nothing() -> None:
    before, _, valid = pairs()
    for metric in (FS(first_two), FVA(first_two), S3(first_two)):
        metric.update(before, before, valid)
        assert metric.scores().over_all.value == pytest.approx(1)
