"""Laws of the counterfactual training set, and of the attributes that it turns over."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from augmenting import CLASSES, Held
from torch import Tensor

from stylex.artifacts import write_json, write_tensors
from stylex.data.augmentation import AugmentedSet
from stylex.data.datasets import ImageFolder, ImageSet
from stylex.errors import InputError
from stylex.evaluation.attributes import (
    Attribute,
    is_above,
    moved_towards,
    read_attributes,
    read_extremes,
    turned_over,
)
from stylex.evaluation.augmentation import Making, write_augmentation
from stylex.imaging import from_uint8, read_image, to_uint8, write_png
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.types import Images, Styles

FIRST, SECOND = Attribute(1, 3, "4px conv1 #3", "largest"), Attribute(4, 7, "other", "smallest")
LABELS = [0, 1, 2] * 4


@pytest.fixture
def data(tiny_images: Images) -> Held:
    return Held(tiny_images, LABELS)


@pytest.fixture
def styles(tiny_model: StylEx, tiny_images: Images) -> Styles:
    return tiny_model.generator.styles(tiny_model.encode(tiny_images))


@pytest.fixture
def extremes(styles: Styles) -> Tensor:
    return torch.stack((styles.amin(dim=0), styles.amax(dim=0)))


def write(
    model: StylEx,
    data: ImageSet,
    extremes: Tensor,
    folder: Path,
    making: Making | None = None,
    attributes: tuple[Attribute, ...] = (FIRST,),
    progress: Any = quiet,
) -> dict[str, Any]:
    making = making or Making(batch_size=5)
    return write_augmentation(
        model, data, attributes, extremes, folder, making, {"search": "found"}, progress
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# What is moved


def test_every_image_goes_to_the_extreme_farther_from_its_own_value() -> None:
    extremes = torch.tensor([[0.0, -1.0], [0.0, 3.0]])
    styles = torch.tensor([[5.0, -0.9], [5.0, 0.9], [5.0, 1.1], [5.0, 4.0]])
    attribute = Attribute(1, 1, "", "largest")
    moved = turned_over(styles, attribute, extremes, 1.0)
    assert moved[:, 1].tolist() == pytest.approx([3.0, 3.0, -1.0, -1.0])
    assert torch.equal(moved[:, 0], styles[:, 0])
    assert torch.equal(is_above(moved, attribute, extremes), ~is_above(styles, attribute, extremes))
    half = turned_over(styles, attribute, extremes, 0.5)
    assert torch.allclose(half, (styles + moved) / 2)


@pytest.mark.parametrize(("direction", "goal"), [("smallest", -1.0), ("largest", 3.0)])
def test_the_searchs_direction_is_the_same_for_all_images(direction: str, goal: float) -> None:
    extremes = torch.tensor([[-1.0], [3.0]])
    styles = torch.tensor([[-1.0], [2.0]])
    moved = moved_towards(styles, Attribute(1, 0, "", direction), extremes, 1.0)
    assert moved[:, 0].tolist() == [goal, goal]
    assert styles[:, 0].tolist() == [-1.0, 2.0]


# What is written


def test_the_set_holds_every_image_with_its_attribute_turned_over_and_its_label_kept(
    tiny_model: StylEx, data: Held, styles: Styles, extremes: Tensor, tmp_path: Path
) -> None:
    write(tiny_model, data, extremes, tmp_path / "set")
    assert len(list((tmp_path / "set").rglob("*.png"))) == 12
    for i in range(12):
        own, smallest, largest = float(styles[i, 3]), float(extremes[0, 3]), float(extremes[1, 3])
        edited = styles[i : i + 1].clone()
        edited[0, 3] = smallest if own - smallest > largest - own else largest
        rendered = to_uint8(tiny_model.render(edited))[0].int()
        file = tmp_path / "set" / CLASSES[LABELS[i]] / f"{i}-a1.png"
        assert (read_image(file, 16, 1).int() - rendered).abs().max() <= 1  # batches may round


def test_groups_say_the_side_of_every_image_before_and_after(
    tiny_model: StylEx, data: Held, styles: Styles, extremes: Tensor, tmp_path: Path
) -> None:
    facts = write(tiny_model, data, extremes, tmp_path / "set", attributes=(FIRST, SECOND))
    with (tmp_path / "set" / "groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == facts["num_written"] == 24
    assert facts["num_images"] == 12
    for row in rows:
        attribute = FIRST if row["attribute"] == FIRST.name else SECOND
        position = int(Path(row["file"]).stem.split("-")[0])
        assert row["file"] == f"{row['class']}/{position}-a{attribute.rank}.png"
        assert (tmp_path / "set" / row["file"]).is_file()
        assert row["class"] == CLASSES[LABELS[position]]
        above = bool(is_above(styles, attribute, extremes)[position])
        assert row["side_before"] == ("above" if above else "below")
        assert row["side_after"] == ("below" if above else "above")
    for name in (FIRST.name, SECOND.name):
        for class_name, sides in facts["groups"][name].items():
            wanted = [
                r["side_before"] for r in rows if (r["attribute"], r["class"]) == (name, class_name)
            ]
            assert sides == {side: wanted.count(side) for side in ("below", "above")}


def test_several_attributes_are_turned_over_one_at_a_time(
    tiny_model: StylEx, data: Held, extremes: Tensor, tmp_path: Path
) -> None:
    for name, attributes in (("one", (FIRST,)), ("other", (SECOND,)), ("both", (FIRST, SECOND))):
        write(tiny_model, data, extremes, tmp_path / name, attributes=attributes)
    one, other, both = (
        {k: v for k, v in contents(tmp_path / name).items() if k.endswith(".png")}
        for name in ("one", "other", "both")
    )
    assert both == one | other


def test_on_the_original_what_the_model_cannot_draw_is_kept(
    tiny_model: StylEx, data: Held, styles: Styles, extremes: Tensor, tmp_path: Path
) -> None:
    write(tiny_model, data, extremes, tmp_path / "set", Making(base="original"))
    render = tiny_model.render
    change = render(turned_over(styles, FIRST, extremes, 1.0)) - render(styles)
    wanted = to_uint8(data.held + change)
    for i in range(12):
        file = tmp_path / "set" / CLASSES[LABELS[i]] / f"{i}-a1.png"
        assert (read_image(file, 16, 1).int() - wanted[i].int()).abs().max() <= 1


def test_the_set_joins_the_images_it_was_made_of(
    tiny_model: StylEx, data: Held, extremes: Tensor, tmp_path: Path
) -> None:
    write(tiny_model, data, extremes, tmp_path / "set")
    both = AugmentedSet(data, tmp_path / "set")
    assert len(both) == 24
    assert both.labels.bincount().tolist() == [8, 8, 8]
    images, labels = both.batch([12])
    file = sorted((tmp_path / "set" / "circle").iterdir())[0]
    assert torch.equal(images[0], from_uint8(read_image(file, 16, 1)[None])[0])
    assert labels.tolist() == [0]


# How much


def test_share_and_most_say_how_many_images_and_the_seed_which() -> None:
    assert Making().positions(7) == list(range(7))
    assert len(Making(share=0.3).positions(20)) == 6
    assert len(Making(share=0.3, most_images=4).positions(20)) == 4
    assert Making(share=1e-6).positions(20) != []
    drawn = [tuple(Making(share=0.5, seed=seed).positions(20)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert list(drawn[0]) == sorted(set(drawn[0]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"share": 0.0}, "share must be above 0 and at most 1, got 0"),
        ({"share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        ({"strength": 0.0}, "strength must be above 0"),
        ({"most_images": 0}, "most_images must be at least 1, got 0"),
        ({"base": "copy"}, "base must be reconstruction or original, got 'copy'"),
    ],
)
def test_what_cannot_be_made_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(Making(), **given)


# Stopping and going on


class StoppedError(Exception):
    pass


def stopped_after_one(items: Iterable[Any], _what: str) -> Iterator[Any]:
    yield next(iter(items))
    raise StoppedError


def test_a_stopped_run_leaves_no_set_and_the_same_call_ends_it_without_drawing_twice(
    tiny_model: StylEx, data: Held, extremes: Tensor, tmp_path: Path
) -> None:
    write(tiny_model, data, extremes, tmp_path / "whole")
    with pytest.raises(StoppedError):
        write(tiny_model, data, extremes, tmp_path / "set", progress=stopped_after_one)
    assert not (tmp_path / "set").exists()
    (partial,) = tmp_path.glob(".set.*.partial")
    drawn = {path: path.stat().st_mtime_ns for path in partial.rglob("*.png")}
    assert len(drawn) == 5
    write(tiny_model, data, extremes, tmp_path / "set")
    assert not partial.exists()
    for path, time in drawn.items():
        assert (tmp_path / "set" / path.relative_to(partial)).stat().st_mtime_ns == time
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_another_request_does_not_go_on_with_a_stopped_one(
    tiny_model: StylEx, data: Held, extremes: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        write(tiny_model, data, extremes, tmp_path / "set", progress=stopped_after_one)
    stronger = Making(strength=2.0, batch_size=5)
    write(tiny_model, data, extremes, tmp_path / "set", stronger)
    write(tiny_model, data, extremes, tmp_path / "whole", stronger)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_the_same_call_again_finds_its_set_and_another_is_refused(
    tiny_model: StylEx, data: Held, extremes: Tensor, tmp_path: Path
) -> None:
    first = write(tiny_model, data, extremes, tmp_path / "set")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")}
    assert write(tiny_model, data, extremes, tmp_path / "set") == first
    assert json.loads((tmp_path / "set" / "augmentation.json").read_text()) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")} == before
    with pytest.raises(InputError, match="a folder of its own, got .*set"):
        write(tiny_model, data, extremes, tmp_path / "set", Making(strength=2.0))


def test_a_folder_with_something_else_is_left_alone(
    tiny_model: StylEx, data: Held, extremes: Tensor, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="a folder of its own"):
        write(tiny_model, data, extremes, tmp_path / "set")
    assert contents(tmp_path / "set") == {"letter.txt": b"mine"}


# Refusals


def test_a_set_inside_the_datas_folder_would_be_a_class_and_is_refused(
    tiny_model: StylEx, extremes: Tensor, tmp_path: Path
) -> None:
    for name in CLASSES:
        write_png(tmp_path / "data" / name / "0.png", torch.zeros(1, 32, 32, dtype=torch.uint8))
    shares = {"validation_share": 0.1, "test_share": 0.1, "seed": 0}
    data = ImageFolder(root=tmp_path / "data", split="train", resolution=32, channels=1, **shares)
    data.resolution = 16
    with pytest.raises(InputError, match="must lie outside the data's folder"):
        write(tiny_model, data, extremes, tmp_path / "data" / "set")


def test_what_is_judged_on_is_not_made_into_training_images(
    tiny_model: StylEx, tiny_images: Images, extremes: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="made of the train split, got 'test'"):
        write(tiny_model, Held(tiny_images, LABELS, "test"), extremes, tmp_path / "set")


def test_data_of_other_classes_or_size_is_refused(
    tiny_model: StylEx, tiny_images: Images, extremes: Tensor, tmp_path: Path
) -> None:
    other = Held(tiny_images, LABELS, class_names=("a", "b", "c"))
    with pytest.raises(InputError, match="classes circle, square, star.*got .*classes a, b, c"):
        write(tiny_model, other, extremes, tmp_path / "set")
    small = Held(tiny_images[:, :, ::2, ::2], LABELS)
    with pytest.raises(InputError, match="16 px, 1 channels.*got 8 px"):
        write(tiny_model, small, extremes, tmp_path / "set")


@pytest.mark.parametrize("name", ["", ".hidden", "ends.", " a", "a/b", "a\\b", "a:b"])
def test_a_class_name_that_no_folder_can_have_is_refused(
    name: str, tiny_model: StylEx, tiny_images: Images, extremes: Tensor, tmp_path: Path
) -> None:
    names = ("circle", "square", name)
    tiny_model.classifier.class_names = names
    with pytest.raises(InputError, match="a name that a folder can have, got"):
        write(tiny_model, Held(tiny_images, LABELS, class_names=names), extremes, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


# A search's files


@pytest.fixture
def search(tmp_path: Path) -> Path:
    entries = [
        {"rank": r, "coordinate": 10 * r, "name": f"n{r}", "direction": "largest", "layer": 0}
        for r in (1, 2, 3)
    ]
    write_json(tmp_path / "attributes.json", {"attributes": entries})
    return tmp_path


def test_attributes_are_read_in_the_order_asked_for(search: Path) -> None:
    found = read_attributes(search, [3, 1])
    assert found == (Attribute(3, 30, "n3", "largest"), Attribute(1, 10, "n1", "largest"))


@pytest.mark.parametrize("ranks", [[], [4], [0], [1, 1]])
def test_ranks_that_the_search_has_not_are_refused(ranks: list[int], search: Path) -> None:
    with pytest.raises(InputError, match="different ranks of the search, 1 to 3, got"):
        read_attributes(search, ranks)


def test_extremes_are_those_of_the_searchs_statistics(search: Path, tmp_path: Path) -> None:
    write_tensors(search / "statistics.safetensors", {"extremes": torch.arange(6.0).view(2, 3)})
    assert torch.equal(read_extremes(search), torch.arange(6.0).view(2, 3))
    write_tensors(search / "statistics.safetensors", {"styles": torch.zeros(2, 3)})
    with pytest.raises(InputError, match="must hold extremes"):
        read_extremes(search)


def test_a_folder_without_a_finished_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no attributes\.json in"):
        read_attributes(tmp_path, [1])
    with pytest.raises(InputError, match="the search's statistics must be an existing"):
        read_extremes(tmp_path)
