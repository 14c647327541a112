"""Laws of `stylex.attribution.retrieval`: against scikit-learn, loops, and closed forms."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from stylex.attribution.retrieval import (
    average_precisions,
    distances_between,
    first_ranks,
    identification,
    measure_retrieval,
    pixel_embedding,
    reidentification,
    retrieval_table,
    sample,
    verification,
    verify,
)
from stylex.errors import InputError


def drawn(num_images: int = 30, num_classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(num_images, 3, generator=generator)
    labels = torch.arange(num_images) % num_classes
    return vectors + 0.7 * labels[:, None], labels


def tied(num_pairs: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of which many have equal distances."""
    generator = torch.Generator().manual_seed(1)
    same = torch.rand(num_pairs, generator=generator) < 0.3
    distances = torch.randint(0, 9, (num_pairs,), generator=generator) + 2.0 * ~same
    return distances.double(), same


def test_distances_are_exact_and_zero_for_equal_vectors() -> None:
    vectors = 100 + torch.randn(40, 5)
    found = distances_between(vectors, vectors)
    one, other = vectors.double().numpy()[:, None], vectors.double().numpy()[None]
    np.testing.assert_allclose(found.numpy(), np.linalg.norm(one - other, axis=2), rtol=1e-12)
    assert (found.diagonal() == 0).all()


# Verification


def test_the_area_is_scikit_learns_with_and_without_ties() -> None:
    for distances, same in (tied(), (torch.rand(99).double(), torch.arange(99) % 3 == 0)):
        expected = roc_auc_score(same.numpy(), -distances.numpy())
        assert verify(distances, same).auc == pytest.approx(expected, abs=1e-12)


def test_the_curve_is_scikit_learns() -> None:
    distances, same = tied()
    found = verify(distances, same)
    false, true, thresholds = roc_curve(same.numpy(), -distances.numpy(), drop_intermediate=False)
    np.testing.assert_allclose(found.thresholds.numpy(), -thresholds[1:])
    np.testing.assert_allclose(found.false_accepts.numpy(), false[1:])
    np.testing.assert_allclose(found.true_accepts.numpy(), true[1:])
    assert found.curve()[-1] == [float(distances.max()), 1.0, 1.0]


def test_at_the_equal_error_threshold_both_errors_are_the_rate_that_is_given() -> None:
    generator = torch.Generator().manual_seed(3)
    same = torch.arange(4000) % 2 == 0
    distances = torch.randn(4000, generator=generator).double() + 1.5 * ~same
    found = verify(distances, same)
    accepted = distances <= found.threshold
    assert float(accepted[~same].double().mean()) == pytest.approx(found.equal_error, abs=1 / 2000)
    assert float((~accepted)[same].double().mean()) == pytest.approx(
        found.equal_error, abs=1 / 2000
    )
    closed_form = 0.5 * math.erfc(0.75 / math.sqrt(2))  # of two normal distributions
    assert found.equal_error == pytest.approx(closed_form, abs=0.02)


def test_equal_errors_of_small_cases() -> None:
    same = torch.tensor([True, True, False, False])
    apart = verify(torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), same)
    assert (apart.equal_error, apart.auc) == (0, 1)
    assert 0.2 <= apart.threshold < 0.3
    crossed = verify(torch.tensor([0.1, 0.3, 0.2, 0.4]).double(), same)
    assert (crossed.equal_error, crossed.auc) == (0.5, 0.75)
    assert 0.19 < crossed.threshold < 0.3
    level = verify(torch.ones(4).double(), same)
    assert (level.equal_error, level.auc, level.threshold) == (0.5, 0.5, 1.0)
    wrong = verify(torch.tensor([0.3, 0.4, 0.1, 0.2]).double(), same)
    assert (wrong.equal_error, wrong.auc) == (1, 0)


def test_verification_counts_every_pair_of_two_images_once() -> None:
    vectors, labels = drawn(12, 3)
    found = verification(vectors, labels)
    assert (found.num_same, found.num_different) == (3 * 6, 66 - 18)
    pairs = [
        (float((vectors[i] - vectors[j]).norm()), bool(labels[i] == labels[j]))
        for i in range(12)
        for j in range(i)
    ]
    expected = roc_auc_score([same for _, same in pairs], [-d for d, _ in pairs])
    assert found.auc == pytest.approx(expected)


def test_pairs_of_one_kind_alone_are_refused() -> None:
    with pytest.raises(InputError, match="pairs of one class and pairs of two, got 3 and 0"):
        verify(torch.rand(3).double(), torch.ones(3, dtype=torch.bool))


# Ranking


def test_average_precision_is_scikit_learns_with_ties_too() -> None:
    generator = torch.Generator().manual_seed(5)
    for distances in (
        torch.rand(20, 15, generator=generator).double(),
        torch.randint(0, 4, (20, 15), generator=generator).double(),
    ):
        matches = torch.rand(20, 15, generator=generator) < 0.4
        matches[:, 0] = True
        expected = [
            average_precision_score(m.numpy(), -d.numpy())
            for d, m in zip(distances, matches, strict=True)
        ]
        np.testing.assert_allclose(average_precisions(distances, matches).numpy(), expected)


def test_ranks_are_those_of_counting_and_a_tie_does_not_help() -> None:
    distances = torch.tensor([[0.1, 0.2, 0.3], [0.2, 0.2, 0.3], [0.1, 0.2, 0.3]])
    matches = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    assert first_ranks(distances, matches).tolist() == [2, 2, 0]
    equal = torch.ones(1, 5)
    assert first_ranks(equal, torch.tensor([[True, False, False, False, False]])).tolist() == [5]


def test_reidentification_is_a_loop_that_leaves_the_query_out() -> None:
    vectors, labels = drawn()
    precision, among = reidentification(vectors, labels)
    expected, ranks = [], []
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if j != i]
        scores = [-float((vectors[i] - vectors[j]).norm()) for j in others]
        right = [bool(labels[j] == labels[i]) for j in others]
        expected.append(average_precision_score(right, scores))
        order = sorted(range(len(others)), key=lambda at: -scores[at])
        ranks.append(1 + [right[at] for at in order].index(True))
    assert precision.value == pytest.approx(np.mean(expected), abs=1e-6)
    for rank, estimate in among.items():
        assert estimate.value == pytest.approx(np.mean([r <= rank for r in ranks]))


def test_an_image_alone_in_its_class_asks_for_nothing() -> None:
    vectors, labels = drawn(9, 3)
    labels[0] = 7
    precision, among = reidentification(vectors, labels)
    assert precision.num_images == among[1].num_images == 8


def test_identification_enrolls_so_many_of_each_class_and_probes_with_the_rest() -> None:
    labels = torch.arange(20) % 4
    perfect = torch.eye(4)[labels]
    assert identification(perfect, labels, 2, 0).value == 1
    assert identification(perfect, labels, 2, 0).num_images == 12
    nothing = torch.ones(20, 4)  # all distances are equal
    assert identification(nothing, labels, 2, 0).value == 0
    with pytest.raises(InputError, match="got 5 where a class has 5 images"):
        identification(perfect, labels, 5, 0)


def test_identification_is_that_of_the_nearest_enrolled_image() -> None:
    vectors, labels = drawn(40, 4, seed=2)
    found = identification(vectors, labels, 3, 11)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(11)).tolist()
    enrolled = [i for k in range(4) for i in [i for i in order if labels[i] == k][:3]]
    right = []
    for i in set(range(40)) - set(enrolled):
        near = min(enrolled, key=lambda j: float((vectors[i] - vectors[j]).norm()))
        right.append(bool(labels[near] == labels[i]))
    assert found.value == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1


def test_the_figures_do_not_depend_on_the_order_of_the_images_but_for_the_gallery() -> None:
    vectors, labels = drawn()
    order = torch.randperm(len(labels))
    one = measure_retrieval(vectors, labels, 3, 0)
    other = measure_retrieval(vectors[order], labels[order], 3, 0)
    assert one.verified.equal_error == pytest.approx(other.verified.equal_error)
    assert one.precision.value == pytest.approx(other.precision.value)
    table = retrieval_table({"one": one})
    assert len(table.rows[0]) == len(table.columns)
    assert table.rows[0][3] == one.figures()["equal_error"]


def test_pixels_at_length_one_and_a_sample_without_repetition() -> None:
    assert torch.allclose(pixel_embedding(torch.randn(3, 1, 4, 4)).norm(dim=1), torch.ones(3))
    assert sample(5, 9, 0) == [0, 1, 2, 3, 4]
    assert len(set(sample(100, 9, 0))) == 9
    assert sample(100, 9, 0) != sample(100, 9, 1)
