"""The exchange layout: what is written is read, bit by bit, and foreign folders are judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stylex.errors import InputError
from stylex.evaluation.edits import Edits
from stylex.evaluation.layout import read_layout, write_layout
from stylex.imaging import Picture, write_png

CLASSES = ("cat", "dog", "fox")
POSITIONS = torch.tensor([12, 3, 1234567, 40])


def random_pixels(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def some_edits(channels: int) -> Edits:
    images, base, one, two = (random_pixels(4, channels, 8, 8, seed=i) for i in range(4))
    return Edits(
        method="stylex",
        names=("a", "b"),
        source="cat",
        target="dog",
        class_names=CLASSES,
        strength=1.0,
        positions=POSITIONS,
        images=images,
        reconstructions=base,
        edited=(one, two),
        together=(one, two),
    )


def certain(classes: list[int]) -> Tensor:
    return 0.1 + 0.7 * torch.eye(3)[classes]


def written(folder: Path, edits: Edits) -> Path:
    """Originals: right, right, wrong, wrong; counterfactuals: dog, cat, dog, fox."""
    labels = torch.tensor([0, 0, 0, 0])
    write_layout(edits, labels, certain([0, 0, 2, 1]), certain([1, 0, 1, 2]), folder, "ours")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_bit_by_bit(tmp_path: Path, channels: int) -> None:
    edits = some_edits(channels)
    found = read_layout(written(tmp_path, edits), "ours", CLASSES, "dog")
    order = POSITIONS.argsort()
    assert torch.equal(found.edits.positions, POSITIONS[order])
    assert torch.equal(found.edits.images, edits.images[order])
    assert torch.equal(found.edits.together[0], edits.together[-1][order])
    assert torch.equal(found.edits.edited[0], edits.together[-1][order])
    assert torch.equal(found.edits.reconstructions, edits.images[order])
    assert (found.edits.target, found.edits.class_names) == ("dog", CLASSES)
    assert found.is_correct.tolist() == [True, True, False, False]  # positions 3, 12, 40, 1234567
    assert found.is_flipped.tolist() == [False, True, False, True]


def test_files_lie_where_the_scripts_look_for_them(tmp_path: Path) -> None:
    written(tmp_path, some_edits(3))
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    expected = {
        ("CC", "Correct"): {("CCF", "0000012"), ("ICF", "0000003")},
        ("IC", "Incorrect"): {("CCF", "1234567"), ("ICF", "0000040")},
    }
    named = set()
    for (correct, original), pairs in expected.items():
        for outcome, name in pairs:
            place = f"Results/ours/{correct}/{outcome}"
            named |= {f"{place}/{part}/{name}.png" for part in ("CF", "SM")}
            named |= {f"{place}/Info/{name}.txt", f"Original/{original}/{name}.png"}
    assert files == named


def test_every_folder_is_there_even_if_empty(tmp_path: Path) -> None:
    edits = some_edits(3)
    write_layout(edits, torch.zeros(4).long(), certain([0] * 4), certain([1] * 4), tmp_path, "a")
    for part in ("CC/CCF", "CC/ICF", "IC/CCF", "IC/ICF"):
        assert (tmp_path / "Results/a" / part / "CF").is_dir()


def test_the_info_says_what_was_decided(tmp_path: Path) -> None:
    edits = some_edits(3)
    written(tmp_path, edits)
    text = (tmp_path / "Results/ours/IC/ICF/Info/0000040.txt").read_text()
    facts = dict(line.split(": ") for line in text.splitlines())
    change = (edits.together[-1][3].double() - edits.images[3].double()).abs() / 255
    assert [facts[k] for k in ("label", "pred", "target", "cf pred")] == ["0", "1", "1", "2"]
    assert float(facts["l_1"]) == pytest.approx(float(change.mean()))
    assert float(facts["l_inf"]) == pytest.approx(float(change.max()))
    assert facts["probabilities"] == "0.100000 0.800000 0.100000"


def test_the_map_is_the_change_relative_to_its_largest_and_black_without_any(
    tmp_path: Path,
) -> None:
    edits = some_edits(3)
    changed = edits.images.clone()
    changed[0, :, 2, 3] = edits.images[0, :, 2, 3] // 2
    changed[0, 0, 5, 5] = edits.images[0, 0, 5, 5] ^ 1  # by one level
    written(tmp_path, replace(edits, together=(changed,)))
    place = tmp_path / "Results/ours/CC"
    with Image.open(place / "CCF/SM/0000012.png") as file:
        found = torch.from_numpy(np.array(file.convert("L")))
    assert int(found[2, 3]) == 255
    total = int((edits.images[0, :, 2, 3].int() - changed[0, :, 2, 3].int()).abs().sum())
    assert int(found[5, 5]) == 255 // total
    assert int((found > 0).sum()) <= 2
    with Image.open(place / "ICF/SM/0000003.png") as file:
        assert file.convert("L").getextrema() == (0, 0)


def foreign(folder: Path, name: str, picture: Picture, info: str | None) -> None:
    """An image as another program leaves it, correct and flipped."""
    place = folder / "Results/exp/explanation/CC/CCF"
    write_png(folder / "Original/Correct" / f"{name}.png", picture)
    write_png(place / "CF" / f"{name}.png", 255 - picture)
    if info is not None:
        (place / "Info").mkdir(parents=True, exist_ok=True)
        (place / "Info" / f"{name}.txt").write_text(info)


def test_foreign_results_are_read_towards_the_class_asked_for(tmp_path: Path) -> None:
    pictures = random_pixels(3, 3, 8, 8, seed=7)
    foreign(tmp_path, "0000001", pictures[0], "label: 0\npred: 0\ntarget: 1\ncf pred: 1\nBKL: 0.1")
    foreign(tmp_path, "0000002", pictures[1], "label: 1\npred: 1\ntarget: 2\ncf pred: 2")
    foreign(tmp_path, "0000003", pictures[2], None)
    found = read_layout(tmp_path, "exp/explanation", CLASSES, "dog")
    assert found.edits.positions.tolist() == [1, 3]
    assert torch.equal(found.edits.images, pictures[[0, 2]])
    assert torch.equal(found.edits.together[0], 255 - pictures[[0, 2]])


def test_mistakes_in_a_folder_are_named(tmp_path: Path) -> None:
    pictures = random_pixels(2, 3, 8, 8, seed=7)
    foreign(tmp_path, "0000001", pictures[0], "target: 1")

    def read(target: str = "dog") -> None:
        read_layout(tmp_path, "exp/explanation", CLASSES, target)

    with pytest.raises(InputError, match="target must be one of cat, dog, fox, got 'cow'"):
        read("cow")
    with pytest.raises(InputError, match="counterfactuals towards 'fox', got none"):
        read("fox")
    foreign(tmp_path, "0000002", pictures[1][:, :4, :4], "target: 1")
    with pytest.raises(InputError, match=r"must have one size, got \(3, 8, 8\)"):
        read()
    foreign(tmp_path, "0000002", pictures[1][:, :4], "target: 1")
    with pytest.raises(InputError, match="must be square, got 8x4 px"):
        read()
    foreign(tmp_path, "0000002", pictures[1], "target: dog")
    with pytest.raises(InputError, match="must have the line 'target: NUMBER', got dog"):
        read()
    foreign(tmp_path, "0000002", pictures[1], "target: 1")
    (tmp_path / "Original/Correct/0000002.png").unlink()
    with pytest.raises(InputError, match="its original must be a readable picture"):
        read()


@pytest.mark.parametrize("name", ["cat-1", "00000001"])
def test_names_must_be_numbers_each_once(tmp_path: Path, name: str) -> None:
    picture = random_pixels(3, 8, 8, seed=7)
    foreign(tmp_path, "0000001", picture, None)
    foreign(tmp_path, name, picture, None)
    with pytest.raises(InputError, match="named by the number of their image, each once"):
        read_layout(tmp_path, "exp/explanation", CLASSES, "dog")


def test_an_experiment_is_never_written_over_and_needs_an_edit(tmp_path: Path) -> None:
    edits = some_edits(3)
    written(tmp_path, edits)
    with pytest.raises(InputError, match="the experiment must be a new one"):
        written(tmp_path, edits)
    with pytest.raises(InputError, match="got no edit of 'stylex'"):
        written(tmp_path, replace(edits, together=()))
