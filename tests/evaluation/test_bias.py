"""Laws of the tables before and after a repair, on classifiers that decide by one pixel each."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from augmenting import Held
from torch import Tensor, nn

from stylex.classifier.frozen import FrozenClassifier, build_adapter
from stylex.data.augmentation import AugmentedSet
from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.evaluation.attributes import Attribute
from stylex.evaluation.bias import accuracy_table, bias_section, judge, reliance_table
from stylex.evaluation.edits import Edits
from stylex.evaluation.effects import Edited, effect_table, rendered_edits, saved_edits
from stylex.evaluation.groups import Groups
from stylex.evaluation.reliance import Reliance
from stylex.evaluation.tables import Row, Table, write_sections
from stylex.imaging import to_uint8, write_png
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.types import Images

CLASSES, SIZE = ("day", "night"), 8
SIDES = ("without cue", "with cue")


class Pixel(nn.Module):
    """Logit of the second class: one pixel of the first row, times a factor."""

    def __init__(self, column: int, factor: float) -> None:
        super().__init__()
        self.column, self.factor = column, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images[:, 0, 0, self.column]


def classifier(
    network: nn.Module, class_names: tuple[str, ...] = CLASSES, size: int = SIZE
) -> FrozenClassifier:
    adapter = build_adapter(
        {
            "input_resolution_px": size,
            "input_channels": 1,
            "input_range": [-1, 1],
            "mean": [0],
            "std": [1],
        }
    )
    return FrozenClassifier(network, adapter, class_names, [])


def scenes(counts: dict[tuple[int, int], int], split: str = "test") -> tuple[Held, Groups]:
    """So many images of each class with and without the cue: pixel 0 is the class, 1 the cue."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    images = torch.zeros(len(kinds), 1, SIZE, SIZE)
    for i, (label, cue) in enumerate(kinds):
        images[i, 0, 0, 0], images[i, 0, 0, 1] = 2 * label - 1, 2 * cue - 1
    data = Held(images, [label for label, _ in kinds], split, CLASSES)
    return data, Groups("cue", "the cue", SIDES, tuple(cue for _, cue in kinds))


COUNTS = {(0, 0): 30, (0, 1): 12, (1, 0): 15, (1, 1): 40}
BY_CUE, BY_CLASS = classifier(Pixel(1, 4.0)), classifier(Pixel(0, 4.0))


def rows_of(table: Table) -> dict[str, Row]:
    return {row.name: row for row in table.rows}


def value(row: Row, column: int) -> float:
    cell = row.cells[column]
    assert isinstance(cell, Estimate)
    assert cell.value is not None
    return cell.value


def test_accuracy_by_group_tells_a_cue_from_a_class() -> None:
    data, groups = scenes(COUNTS)
    table = accuracy_table(judge(BY_CUE, BY_CLASS, data, quiet), groups)
    rows = rows_of(table)
    assert [value(rows["all"], i) for i in (0, 1)] == [pytest.approx(70 / 97), 1.0]
    for (label, cue), count in COUNTS.items():
        row = rows[f"{CLASSES[label]}: {SIDES[cue]}"]
        right = label == cue
        assert row.cells[0] == share(torch.full((count,), right))
        assert row.cells[1] == share(torch.ones(count, dtype=torch.bool))
        assert value(row, 2) == 1 - right
    worst = rows["worst_group"]
    assert (value(worst, 0), value(worst, 1)) == (0.0, 1.0)
    assert worst.cells[2] == "+100.0 points"
    assert "Before: day, with cue" in worst.reading


def test_the_change_is_paired() -> None:
    data, groups = scenes(COUNTS)
    same = rows_of(accuracy_table(judge(BY_CUE, BY_CUE, data, quiet), groups))
    assert same["all"].cells[2] == Estimate(0.0, 97, (0.0, 0.0))  # unpaired it would have a width
    assert same["worst_group"].cells[2] == "+0.0 points"


def test_a_group_of_fewer_than_ten_is_shown_but_never_the_worst() -> None:
    data, groups = scenes({(0, 0): 30, (0, 1): 9, (1, 1): 30})
    table = accuracy_table(judge(BY_CUE, BY_CLASS, data, quiet), groups)
    rows = rows_of(table)
    few, empty = rows["day: with cue"], rows["night: without cue"]
    assert value(few, 0) == 0.0
    assert few.reading == "Fewer than 10 images: never called the worst."
    assert empty.cells[0] == Estimate(None, 0, None)
    assert value(rows["worst_group"], 0) == 1.0
    assert "fewer than 10 images" in table.reading


def test_in_the_mean_of_the_groups_each_counts_the_same() -> None:
    data, groups = scenes({**COUNTS, (0, 1): 200})
    rows = rows_of(accuracy_table(judge(BY_CUE, BY_CLASS, data, quiet), groups))
    mean = rows["mean_of_groups"]
    assert [value(mean, i) for i in range(3)] == [0.5, 1.0, 0.5]
    assert value(rows["all"], 0) == pytest.approx(70 / 285)


def test_the_interval_of_the_mean_of_the_groups_is_that_of_independent_groups() -> None:
    data, groups = scenes({(0, 0): 20, (1, 1): 80})
    judged = judge(BY_CUE, BY_CUE, data, quiet)
    flags = torch.tensor([i % 4 > 0 for i in range(100)])  # three quarters right in either group
    rows = rows_of(accuracy_table(replace(judged, before=flags), groups))
    cell = rows["mean_of_groups"].cells[0]
    assert isinstance(cell, Estimate)
    assert cell.interval is not None
    half = 1.96 / 2 * math.sqrt(0.75 * 0.25 / 19 + 0.75 * 0.25 / 79)  # divided by n − 1
    assert cell.interval == pytest.approx((0.75 - half, 0.75 + half), abs=1e-4)


def test_without_a_large_group_none_is_the_worst() -> None:
    data, groups = scenes({(0, 0): 9, (1, 1): 9})
    rows = rows_of(accuracy_table(judge(BY_CUE, BY_CLASS, data, quiet), groups))
    assert rows["worst_group"].cells == (None, None, None)


def test_classifiers_of_other_classes_are_refused() -> None:
    data, _ = scenes(COUNTS)
    other = classifier(Pixel(0, 1.0), ("night", "day"))
    with pytest.raises(InputError, match="the data's classes in the same order"):
        judge(BY_CUE, other, data, quiet)


def test_groups_of_other_images_are_refused() -> None:
    data, _ = scenes(COUNTS)
    _, fewer = scenes({(0, 0): 3})
    with pytest.raises(ValueError, match="groups must be of the images judged, got 3 of 97"):
        accuracy_table(judge(BY_CUE, BY_CLASS, data, quiet), fewer)


# Effects


def cue_toggled(data: Held) -> Edited:
    """The cue put where it is missing."""
    changed = data.held.clone()
    changed[:, 0, 0, 1] = 1.0
    return Edited("cue", to_uint8(data.held), to_uint8(changed))


def test_the_effect_of_an_edit_is_the_mean_change_of_the_log_odds() -> None:
    data, groups = scenes(COUNTS)
    table = effect_table([cue_toggled(data)], BY_CUE, BY_CLASS, "night")
    (row,) = table.rows
    without = 1 - sum(groups.members) / 97
    assert value(row, 0) == pytest.approx(8.0 * without, rel=1e-5)  # the logit goes from −4 to 4
    assert (value(row, 1), value(row, 2)) == (0.0, pytest.approx(-8.0 * without, rel=1e-5))
    own = torch.tensor(groups.members).double() * 8 - 4
    assert value(row, 3) == pytest.approx(8.0 * without / float(own.std()), rel=1e-5)
    assert row.base == "reconstruction"


def test_in_standard_deviations_a_less_sure_classifier_has_the_same_effect() -> None:
    data, _ = scenes(COUNTS)
    unsure = classifier(Pixel(1, 0.5))
    (row,) = effect_table([cue_toggled(data)], BY_CUE, unsure, "night").rows
    assert value(row, 1) == pytest.approx(value(row, 0) / 8, rel=1e-5)
    assert value(row, 4) == pytest.approx(value(row, 3), rel=1e-5)


def test_an_effect_on_the_other_class_is_the_opposite() -> None:
    data, _ = scenes(COUNTS)
    night, day = (
        effect_table([cue_toggled(data)], BY_CUE, BY_CLASS, name).rows[0]
        for name in ("night", "day")
    )
    assert value(night, 0) == pytest.approx(-value(day, 0))
    with pytest.raises(InputError, match="target must be one of day, night, got 'dusk'"):
        effect_table([cue_toggled(data)], BY_CUE, BY_CLASS, "dusk")


def test_a_classifier_that_says_the_same_of_all_has_no_standard_deviation() -> None:
    data, _ = scenes(COUNTS)
    (row,) = effect_table([cue_toggled(data)], BY_CUE, classifier(Pixel(5, 1.0)), "night").rows
    assert row.cells[4] is None


def test_saved_edits_are_those_of_the_file_one_by_one() -> None:
    pixels = torch.randint(256, (4, 3, 1, SIZE, SIZE), dtype=torch.uint8)
    edits = Edits(
        "stylex",
        ("a", "b"),
        None,
        "night",
        CLASSES,
        1.0,
        torch.arange(3),
        pixels[0],
        pixels[1],
        (pixels[2], pixels[3]),
        (pixels[2], pixels[3]),
    )
    first, second = saved_edits(edits)
    assert (first.name, second.name) == ("a", "b")
    assert torch.equal(first.plain, pixels[1])
    assert torch.equal(second.changed, pixels[3])


def test_rendered_edits_move_to_the_searchs_extreme(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    styles = tiny_model.generator.styles(tiny_model.encode(tiny_images))
    extremes = torch.stack((styles.amin(dim=0), styles.amax(dim=0)))
    attributes = [Attribute(1, 3, "a", "largest"), Attribute(2, 7, "b", "smallest")]
    found = rendered_edits(tiny_model, tiny_images, attributes, extremes, 1.0, quiet)
    for edit, column, goal in zip(found, (3, 7), (extremes[1, 3], extremes[0, 7]), strict=True):
        moved = styles.clone()
        moved[:, column] = goal
        wanted = to_uint8(tiny_model.render(moved)).int()
        assert (edit.changed.int() - wanted).abs().max() <= 1
        assert torch.equal(edit.plain, found[0].plain)


# The section


def test_reliance_stands_factor_by_factor() -> None:
    figures = [Estimate(v, 50, (v - 0.1, v + 0.1)) for v in (0.9, 0.1, 0.2, 0.6)]
    before = Reliance("night", ("cue", "class"), (figures[0], figures[1]), 1.0)
    after = Reliance("night", ("class", "cue"), (figures[3], figures[2]), 2.0)
    rows = rows_of(reliance_table(before, after))
    assert rows["cue"].cells == (figures[0], figures[2])
    assert rows["class"].cells == (figures[1], figures[3])


def test_the_section_is_written_with_a_table_for_each_division(tmp_path: Path) -> None:
    data, groups = scenes(COUNTS)
    everybody = Groups("listed", "a table", ("all",), (0,) * 97)
    effects = effect_table([cue_toggled(data)], BY_CUE, BY_CLASS, "night")
    judged = judge(BY_CUE, BY_CLASS, data, quiet)
    section = bias_section(judged, [groups, everybody], effects, None)
    assert section.name == "bias"
    names = [table.name for table in section.tables]
    assert names == ["accuracy_by_cue", "accuracy_by_listed", "attribute_effects"]
    for table in section.tables:
        for row in table.rows:
            assert len(row.cells) == len(table.columns)
            numbers = [c.value for c in row.cells if isinstance(c, Estimate)]
            assert all(v is None or math.isfinite(v) for v in numbers)
    write_sections(tmp_path / "evaluation.json", [section], {})


# The repair


def planted(split: str, count: int, with_class: float, seed: int) -> tuple[Held, Groups]:
    """A faint class in pixel 0, hidden in noise; a clear cue in pixel 1 that goes along with it."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=random)
    agrees = torch.rand(count, generator=random) < with_class
    cue = torch.where(agrees, labels, 1 - labels)
    images = torch.zeros(count, 1, SIZE, SIZE)
    noise = 0.15 * torch.randn(count, generator=random)
    images[:, 0, 0, 0] = 0.25 * (2 * labels - 1) + noise
    images[:, 0, 0, 1] = 0.8 * (2 * cue - 1)
    data = Held(images.clamp(-1, 1), labels.tolist(), split, CLASSES)
    return data, Groups("cue", "the cue", SIDES, tuple(cue.tolist()))


def trained(data: Held | AugmentedSet) -> FrozenClassifier:
    """A linear classifier of two pixels, as training leaves it."""
    images, labels = data.batch(range(len(data)))
    inputs, weights = images[:, 0, 0, :2].double(), torch.zeros(2, dtype=torch.float64)
    weights.requires_grad_()
    optimiser = torch.optim.Adam([weights], 0.1)
    for _ in range(200):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(inputs @ weights, labels.double())
        loss.backward()
        optimiser.step()
    network = nn.Linear(2, 1, bias=False)
    network.weight.data = weights.detach()[None].float()
    return classifier(nn.Sequential(_TwoPixels(), network))


class _TwoPixels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :2]


def test_training_on_counterfactuals_removes_a_planted_cue(tmp_path: Path) -> None:
    training, groups = planted("train", 600, 0.97, 0)
    for i, label in enumerate(training.labels.tolist()):  # an editor that knows the cue
        turned = training.held[i].clone()
        turned[0, 0, 1] = -turned[0, 0, 1]
        write_png(tmp_path / CLASSES[label] / f"{i}-a1.png", to_uint8(turned[None])[0])
    before, after = trained(training), trained(AugmentedSet(training, tmp_path))
    testing, groups = planted("test", 800, 0.5, 1)
    rows = rows_of(accuracy_table(judge(before, after, testing, quiet), groups))
    assert value(rows["worst_group"], 0) < 0.6
    assert value(rows["worst_group"], 1) > value(rows["worst_group"], 0) + 0.2
    (effect,) = effect_table([cue_toggled(testing)], before, after, "night").rows
    assert abs(value(effect, 4)) < 0.1 < value(effect, 3)
