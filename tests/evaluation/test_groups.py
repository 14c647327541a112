"""Laws of the groups: by the watermark, by a table, by the model's own coordinate."""

from pathlib import Path

import pytest
import torch
from augmenting import Held

from stylex.data.datasets import ImageFolder
from stylex.data.faces import Faces
from stylex.errors import InputError
from stylex.evaluation.attributes import Attribute, is_above
from stylex.evaluation.groups import listed_groups, planted_groups, style_groups
from stylex.imaging import write_png
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.types import Images

LABELS = [0, 1, 2] * 4


def faces(planted: float | None) -> Faces:
    return Faces(
        split="test",
        resolution=32,
        channels=3,
        rule={"glasses": 1.0},
        noise=0.0,
        planted=planted,
        num_images={"test": 300},
        seed=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    for name in ("hen", "owl"):
        for i in range(5):
            path = tmp_path / "data" / name / f"{i}.png"
            write_png(path, torch.zeros(1, 32, 32, dtype=torch.uint8))
    return ImageFolder(
        root=tmp_path / "data",
        split="test",
        resolution=32,
        channels=1,
        validation_share=0.2,
        test_share=0.4,
        seed=0,
    )


def test_the_watermark_divides_drawings_as_it_was_planted() -> None:
    data = faces(0.9)
    found = planted_groups(data)
    members = torch.tensor(found.members)
    assert found.sides == ("without watermark", "with watermark")
    assert torch.equal(members, data.values[:, -1].long())
    assert (members == data.labels).double().mean() == pytest.approx(0.9, abs=0.06)


def test_drawings_without_a_watermark_cannot_be_divided_by_it() -> None:
    with pytest.raises(InputError, match=r"got data\.planted=null"):
        planted_groups(faces(None))


@pytest.mark.parametrize("batch_size", [5, 12])
def test_a_coordinates_sides_are_those_of_the_encoders_styles(
    batch_size: int, tiny_model: StylEx, tiny_images: Images
) -> None:
    styles = tiny_model.generator.styles(tiny_model.encode(tiny_images))
    extremes = torch.stack((styles.amin(dim=0), styles.amax(dim=0)))
    attribute = Attribute(2, 3, "8px conv1 #3", "largest")
    data = Held(tiny_images, LABELS, "test")
    found = style_groups(tiny_model, data, attribute, extremes, batch_size, quiet)
    assert found.members == tuple(is_above(styles, attribute, extremes).long().tolist())
    assert 0 < sum(found.members) < 12
    assert found.name == "attribute_2"


def test_a_table_may_name_positions(tmp_path: Path, tiny_images: Images) -> None:
    data = Held(tiny_images, LABELS, "test")
    lines = [f"{i},{'day' if i % 4 else 'night'}" for i in reversed(range(20))]
    (tmp_path / "g.csv").write_text("position,group\n" + "\n".join(lines) + "\n")
    found = listed_groups(tmp_path / "g.csv", data)
    assert found.sides == ("day", "night")
    assert found.members == tuple(int(i % 4 == 0) for i in range(12))


def test_a_table_may_name_files_of_all_splits(tmp_path: Path, folder: ImageFolder) -> None:
    lines = [f"{name}/{i}.png,{name[0]}{i}" for name in ("hen", "owl") for i in range(5)]
    (tmp_path / "g.csv").write_text(
        "file,note,group\n" + "\n".join(line.replace(",", ",x,") for line in lines)
    )
    found = listed_groups(tmp_path / "g.csv", folder)
    said = [found.sides[member] for member in found.members]
    assert said == [f"{path[0]}{Path(path).stem}" for path in folder.paths]
    assert len(found.sides) == len(folder) == 4


def test_an_image_without_a_row_is_refused(tmp_path: Path, folder: ImageFolder) -> None:
    (tmp_path / "g.csv").write_text(f"file,group\n{folder.paths[0]},a\n{folder.paths[1]},\n")
    with pytest.raises(
        InputError, match=f"none for 3 of 4, the first of them file '{folder.paths[1]}'"
    ):
        listed_groups(tmp_path / "g.csv", folder)


@pytest.mark.parametrize(
    "content", ["", "position,group\n", "group\na\n", "position,side\n0,a\n", "position\n0\n"]
)
def test_a_table_without_its_columns_is_refused(
    content: str, tmp_path: Path, folder: ImageFolder
) -> None:
    (tmp_path / "g.csv").write_text(content)
    with pytest.raises(InputError, match="columns file or position, and group"):
        listed_groups(tmp_path / "g.csv", folder)


def test_a_table_that_is_none_is_refused(tmp_path: Path, folder: ImageFolder) -> None:
    with pytest.raises(InputError, match="an existing CSV file"):
        listed_groups(tmp_path / "none.csv", folder)
    (tmp_path / "g.csv").write_bytes(b"\xff\xfe\x00position")
    with pytest.raises(InputError, match="must be a CSV file"):
        listed_groups(tmp_path / "g.csv", folder)


def test_files_need_a_folder_of_images(tmp_path: Path, tiny_images: Images) -> None:
    (tmp_path / "g.csv").write_text("file,group\na.png,x\n")
    with pytest.raises(InputError, match="give the column position"):
        listed_groups(tmp_path / "g.csv", Held(tiny_images, LABELS, "test"))
