"""One's own image: seen as the reference images are, explained, edited by several knobs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.search.crew import Member
from stylex.search.explanation import explain
from stylex.search.exploration import Exploration, Subject, turned
from stylex.search.results import Explanation, Settings
from stylex.types import Images

SHORT = Settings(num_attributes=3, num_random=0)


@pytest.fixture
def exploration(tiny_model: StylEx, study_images: Images) -> Exploration:
    return Exploration(Member(tiny_model, study_images[:40], {"batch_size": None}), SHORT)


@pytest.fixture
def subject(exploration: Exploration, study_images: Images) -> Subject:
    """Of an image that is no reference image."""
    return exploration.see(study_images[60:61])


@pytest.fixture
def found(exploration: Exploration, subject: Subject, tmp_path: Path) -> Explanation:
    names = exploration.class_names
    return exploration.explain(subject, names[subject.next_class], tmp_path, quiet)


def test_an_image_is_encoded_and_judged_as_the_model_does_it(
    tiny_model: StylEx, subject: Subject, study_images: Images
) -> None:
    image = study_images[60:61]
    copy = tiny_model.reconstruct(image)
    torch.testing.assert_close(subject.given.image, image)
    torch.testing.assert_close(subject.copy.image, copy)
    for view, seen in ((subject.given, image), (subject.copy, copy)):
        expected = tiny_model.classifier.probabilities(seen)[0]
        torch.testing.assert_close(torch.tensor(view.probabilities), expected)
        assert view.decision == int(expected.argmax())
    assert subject.next_class == int(torch.tensor(subject.copy.probabilities).topk(2).indices[1])


def test_the_extremes_stay_those_of_the_reference_images(
    exploration: Exploration, study_images: Images
) -> None:
    outlier = exploration.see(torch.full_like(study_images[:1], -1.0))
    reference = exploration.see(study_images[:1])
    styles = outlier.statistics.styles
    assert torch.equal(outlier.statistics.extremes, reference.statistics.extremes)
    assert torch.equal(outlier.statistics.extremes[0], styles[:-1].amin(dim=0))
    assert (styles[-1] < outlier.statistics.extremes[0]).any()  # so they could have moved
    assert len(styles) == exploration.num_images + 1


def test_one_of_the_reference_images_gets_the_explanation_that_a_search_gives(
    exploration: Exploration, tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    subject = exploration.see(study_images[7:8])
    target = exploration.class_names[subject.next_class]
    here = exploration.explain(subject, target, tmp_path, quiet)
    there = explain(tiny_model, study_images[:40], target, image=7, k=3, num_random=0)
    assert [a.pick for a in here.attributes] == [a.pick for a in there.attributes]
    assert (here.source, here.target, here.subset) == (there.source, there.target, there.subset)
    torch.testing.assert_close(here.effects, there.effects, rtol=1e-4, atol=1e-4)


def test_an_explanation_tells_how_far_it_is_and_leaves_no_file(
    exploration: Exploration, subject: Subject, tmp_path: Path
) -> None:
    told = []

    def progress(items: Iterable[Any], what: str) -> Iterator[Any]:
        for item in items:
            told.append(what)
            yield item

    exploration.explain(subject, exploration.class_names[subject.next_class], tmp_path, progress)
    assert told.count("edits") > 1
    assert list(tmp_path.iterdir()) == []


def test_a_target_must_be_another_class(
    exploration: Exploration, subject: Subject, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="a class must be one of circle, square, star, got 'boat'"):
        exploration.explain(subject, "boat", tmp_path, quiet)
    own = exploration.class_names[subject.copy.decision]
    with pytest.raises(InputError, match="is already called"):
        exploration.explain(subject, own, tmp_path, quiet)


def test_each_knob_moves_its_own_coordinate_as_far_as_it_says(
    found: Explanation, subject: Subject
) -> None:
    styles, extremes = subject.statistics.styles[-1:], subject.statistics.extremes
    positions = (0.5, -1.0, 2.0)
    moved = turned(styles, found.attributes, positions, extremes)
    expected = styles.clone()
    for attribute, position in zip(found.attributes, positions, strict=True):
        coordinate, direction = attribute.pick
        near = extremes[direction if position >= 0 else 1 - direction, coordinate]
        here = styles[0, coordinate]
        expected[0, coordinate] = here + abs(position) * (near - here)
    torch.testing.assert_close(moved, expected)
    assert not torch.equal(moved, styles)


def test_knobs_at_zero_give_the_copy_and_the_order_of_turning_does_not_matter(
    exploration: Exploration, found: Explanation, subject: Subject
) -> None:
    unturned = exploration.edit(subject, found.attributes, (0.0, 0.0, 0.0))
    torch.testing.assert_close(unturned.image, subject.copy.image)
    one = exploration.edit(subject, found.attributes, (1.5, -0.5, 1.0))
    other = exploration.edit(subject, found.attributes[::-1], (1.0, -0.5, 1.5))
    torch.testing.assert_close(one.image, other.image)
    assert one.probabilities == pytest.approx(other.probabilities)
    assert one.image.abs().max() <= 1


def test_a_knob_at_one_has_the_effect_that_was_measured(
    exploration: Exploration, found: Explanation, subject: Subject
) -> None:
    target = exploration.class_names.index(found.target)
    for i in range(3):
        view = exploration.edit(subject, found.attributes[i : i + 1], (1.0,))
        logits = subject.statistics.base_logits[-1] + found.effects[0, i]
        expected = float(logits.softmax(dim=0)[target])
        assert view.probabilities[target] == pytest.approx(expected, abs=1e-5)
