"""Fidelity against its definitions, one image at a time."""

import math
from pathlib import Path

import pytest
import torch

from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.fidelity import (
    Reconstructions,
    SavedCopies,
    calibration_error,
    copy_figures,
    fidelity,
    fidelity_section,
    judge_copies,
    reconstruct,
)
from stylex.evaluation.perceptual import ClassifierDistance, Distance
from stylex.evaluation.tables import write_sections
from stylex.imaging import from_uint8, to_uint8
from stylex.model import StylEx
from stylex.types import Images


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def random_reconstructions(num_images: int, num_classes: int) -> Reconstructions:
    generator = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    noise = torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_images,), generator=generator)
    l1 = torch.rand(num_images, generator=generator, dtype=torch.float64)
    return Reconstructions(labels, logits, logits + noise, l1)


def test_figures_equal_their_definitions_one_image_at_a_time() -> None:
    found = random_reconstructions(40, 5)
    correct = agreed = 0
    divergence = 0.0
    for label, before, after in zip(
        found.labels.tolist(),
        found.logits.tolist(),
        found.reconstructed_logits.tolist(),
        strict=True,
    ):
        correct += before.index(max(before)) == label
        agreed += before.index(max(before)) == after.index(max(after))
        p, q = softmax(before), softmax(after)
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    figures = fidelity(found)
    assert 0 < correct < 40
    assert 0 < agreed < 40
    assert figures["classifier_accuracy"].value == pytest.approx(correct / 40)
    assert figures["agreement"].value == pytest.approx(agreed / 40)
    assert figures["reconstruction_l1"].value == pytest.approx(float(found.l1.mean()))
    assert figures["classifier_kl"].value == pytest.approx(divergence / 40)
    assert {figure.num_images for figure in figures.values()} == {40}
    for figure in figures.values():
        assert figure.interval is not None
        assert figure.interval[0] < figure.value < figure.interval[1]


def test_the_divergence_is_that_of_the_original_from_the_reconstruction() -> None:
    # By hand: p = (1/2, 1/2), q = (1/4, 3/4).
    found = Reconstructions(
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 2, dtype=torch.float64),
        torch.tensor([[0.0, math.log(3)]], dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
    )
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert fidelity(found)["classifier_kl"].value == pytest.approx(expected)


def test_a_perfect_reconstruction_agrees_without_divergence() -> None:
    found = random_reconstructions(10, 3)
    perfect = Reconstructions(found.labels, found.logits, found.logits, torch.zeros(10))
    figures = fidelity(perfect)
    assert figures["agreement"].value == 1
    assert figures["classifier_kl"].value == pytest.approx(0, abs=1e-12)
    assert figures["reconstruction_l1"].value == 0


def test_reconstructions_equal_one_image_at_a_time(tiny_model: StylEx, tiny_images: Images) -> None:
    labels = torch.arange(12) % 3
    batches = zip(tiny_images.split(5), labels.split(5), strict=True)
    found = reconstruct(tiny_model, batches)
    assert torch.equal(found.labels, labels)
    for i, image in enumerate(tiny_images):
        made = tiny_model.reconstruct(image[None])
        pixels = [
            abs(float(a) - float(b)) for a, b in zip(made.flatten(), image.flatten(), strict=True)
        ]
        assert float(found.l1[i]) == pytest.approx(sum(pixels) / len(pixels), abs=1e-4)
        for given, expected in (
            (found.logits[i], tiny_model.classifier(image[None])[0]),
            (found.reconstructed_logits[i], tiny_model.classifier(made)[0]),
        ):
            torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)


def saved(model: StylEx, images: Images, distance: Distance | None = None) -> SavedCopies:
    """Judged copies of twelve images, four of every class, whose positions start at 100."""
    labels = torch.arange(12) % 3
    batches = zip(images.split(5), labels.split(5), strict=True)
    return judge_copies(model, batches, range(100, 112), distance)


def test_copies_are_judged_on_saved_pixels(tiny_model: StylEx, tiny_images: Images) -> None:
    found = saved(tiny_model, tiny_images)
    for i, image in enumerate(tiny_images):
        original = to_uint8(image[None])
        made = to_uint8(tiny_model.reconstruct(from_uint8(original)))
        differences = [
            abs(int(a) - int(b)) / 255
            for a, b in zip(original.flatten(), made.flatten(), strict=True)
        ]
        assert torch.equal(found.images[i], original[0])
        assert (found.reconstructions[i].int() - made[0].int()).abs().max() <= 1  # batch size
        assert float(found.l1[i]) == pytest.approx(sum(differences) / 256, abs=1e-4)
        for given, pixels in (
            (found.logits, found.images),
            (found.reconstructed_logits, found.reconstructions),
        ):
            expected = tiny_model.classifier(from_uint8(pixels[i : i + 1]))[0]
            torch.testing.assert_close(given[i], expected, atol=1e-4, rtol=1e-4)


def test_composition_copies_the_copy_as_saved(tiny_model: StylEx, tiny_images: Images) -> None:
    found = saved(tiny_model, tiny_images)
    originals, ends = to_uint8(tiny_images), []
    for copies in originals.split(5):  # in the same batches: ten copies enlarge the last bits
        for _ in range(10):
            copies = to_uint8(tiny_model.reconstruct(from_uint8(copies)))
        ends.append(copies)
    expected = (originals.double() - torch.cat(ends).double()).abs().mean(dim=(1, 2, 3)) / 255
    torch.testing.assert_close(found.l1_after_many.double(), expected, atol=1e-3, rtol=0)
    assert (found.l1_after_many - found.l1).abs().max() > 0.01


def test_images_whose_copy_is_decided_otherwise_are_flagged_by_position(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    found = saved(tiny_model, tiny_images)
    expected = [
        100 + i
        for i in range(12)
        if int(found.logits[i].argmax()) != int(found.reconstructed_logits[i].argmax())
    ]
    assert 0 < len(expected) < 12
    assert found.changed_positions() == expected
    assert copy_figures(found)["changed"].value == pytest.approx(len(expected) / 12)


def test_the_calibration_error_is_the_mean_distance_of_confidence_from_accuracy() -> None:
    # By hand: four images at confidence 0.8, three right; two at 0.6, none right.
    sure, unsure = math.log(0.8 / 0.2), math.log(0.6 / 0.4)
    logits = torch.tensor([[sure, 0.0]] * 4 + [[unsure, 0.0]] * 2)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    found = calibration_error(logits, labels)
    assert found.value == pytest.approx(4 / 6 * 0.05 + 2 / 6 * 0.6, abs=1e-6)
    assert (found.num_images, found.interval) == (6, None)
    assert calibration_error(logits[:0], labels[:0]).value is None


def test_calibration_between_takes_the_decision_on_the_original_for_the_truth(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    found = saved(tiny_model, tiny_images)
    figures = copy_figures(found)
    expected = calibration_error(found.reconstructed_logits, found.logits.argmax(dim=1))
    assert figures["calibration_between"] == expected
    assert figures["calibration_between"] != figures["calibration_reconstruction"]


def test_the_section_has_every_class_with_its_own_figures(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    distance = ClassifierDistance(tiny_model.classifier)
    found = saved(tiny_model, tiny_images, distance)
    section = fidelity_section(found, tiny_model.class_names, distance, None)
    overall, per_class = section.tables
    by_name = {row.name: row.cells[0] for row in overall.rows}
    assert by_name == copy_figures(found)
    assert [row.title for row in overall.rows if row.name == "distance"] == [distance.name]
    assert [row.title for row in per_class.rows] == list(tiny_model.class_names)
    names = [column.name for column in per_class.columns]
    for k, row in enumerate(per_class.rows):
        own = copy_figures(found.select(torch.arange(k, 12, 3)))
        cells = dict(zip(names, row.cells, strict=True))
        assert cells.pop("n") == "4"
        assert cells == {name: own[name] for name in cells}


def test_a_class_without_images_has_no_figures(tiny_model: StylEx, tiny_images: Images) -> None:
    found = saved(tiny_model, tiny_images).select(torch.tensor([0, 1, 3, 4]))
    _, per_class = fidelity_section(found, tiny_model.class_names, None, None).tables
    *figures, count = per_class.rows[2].cells
    assert count == "0"
    assert all(isinstance(f, Estimate) and f.value is None for f in figures)


def test_the_section_is_written_as_the_page_reads_it(
    tiny_model: StylEx, tiny_images: Images, tmp_path: Path
) -> None:
    section = fidelity_section(saved(tiny_model, tiny_images), ("a", "b", "c"), None, None)
    write_sections(tmp_path / "evaluation.json", [section], {})
    assert "NaN" not in (tmp_path / "evaluation.json").read_text()


def test_no_image_is_refused(tiny_model: StylEx) -> None:
    with pytest.raises(InputError, match="at least 1 image, got none"):
        judge_copies(tiny_model, [], [], None)
