"""Sweeps, gallery and reconstructions, against synthesis of each frame on its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylex.artifacts import read_tensors
from stylex.imaging import to_uint8
from stylex.model import StylEx
from stylex.search import sweeps
from stylex.search.counterfactuals import turn
from stylex.search.explanation import explain
from stylex.search.results import Explanation
from stylex.search.selection import Pick
from stylex.search.sweeps import positions
from stylex.types import Images

SMALL = {"k": 3, "num_images": 24, "num_random": 0, "num_shown": 3, "least_rise": 1e-4}


def read(folder: Path, name: str) -> dict[str, Tensor]:
    return read_tensors(folder / "counterfactuals" / f"{name}.safetensors", "pictures")[0]


def drawn(model: StylEx, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and probabilities of one image."""
    with torch.no_grad():
        image = model.generator.synthesis(styles[None]).clamp(-1, 1)
        return to_uint8(image)[0], model.classifier.probabilities(image)[0]


@pytest.mark.parametrize("strength", [1.0, 1.5, 2.0])
def test_a_knob_has_31_stops_from_the_opposite_extreme_to_the_strength(strength: float) -> None:
    stops = positions(strength)
    assert len(stops) == 31
    assert stops[[0, 10, 30]].tolist() == [-1.0, 0.0, strength]
    assert bool((stops.diff() > 0).all())


@pytest.mark.parametrize("direction", [0, 1])
def test_turning_moves_one_coordinate_to_the_extremes_and_back_to_its_own_value(
    direction: int,
) -> None:
    styles = torch.tensor([[0.5, 3.0], [-0.25, 4.0]], dtype=torch.float64)
    extremes = torch.tensor([[-1.0, 0.0], [2.0, 9.0]], dtype=torch.float64)
    stops = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    pick = Pick(0, direction)
    turned = torch.stack([turn(styles, pick, extremes, p) for p in stops.tolist()], dim=1)
    goal, back = extremes[direction, 0], extremes[1 - direction, 0]
    own = styles[:, 0]
    expected = torch.stack(
        [
            back.expand(2),
            (own + back) / 2,
            own,
            (own + goal) / 2,
            goal.expand(2),
            2 * goal - own,
        ],
        dim=1,
    )
    torch.testing.assert_close(turned[..., 0], expected)
    assert torch.equal(turned[..., 1], styles[:, 1:].expand(2, 6))


@pytest.fixture
def searched(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> tuple[Explanation, StylEx, Path]:
    found = explain(tiny_model, study_images, "square", "circle", output_dir=tmp_path, **SMALL)
    return found, tiny_model, tmp_path


def test_every_frame_of_a_sweep_is_the_synthesis_of_its_styles(
    searched: tuple[Explanation, StylEx, Path],
) -> None:
    found, model, folder = searched
    shown = [a for a in found.attributes if a.shown is not None]
    assert shown
    for attribute in shown:
        assert attribute.shown is not None
        sweep = read(folder, f"{attribute.rank:02d}-sweep")
        stops = positions(attribute.shown.strength)
        assert torch.equal(sweep["positions"], stops)
        assert sweep["indices"].tolist() == attribute.shown.indices[:4].tolist()
        styles = found.statistics.styles[sweep["indices"]]
        for i, t in ((0, 0), (1, 10), (2, 17), (2, 30)):
            extremes, stop = found.statistics.extremes, float(stops[t])
            pixels, probabilities = drawn(
                model, turn(styles[i : i + 1], attribute.pick, extremes, stop)[0]
            )
            assert int((sweep["frames"][i, t].int() - pixels.int()).abs().max()) <= 1
            torch.testing.assert_close(sweep["probabilities"][i, t], probabilities)
        for t, pictures in ((10, attribute.shown.unchanged), (30, attribute.shown.changed)):
            gap = sweep["frames"][:, t].int() - to_uint8(pictures[: len(styles)]).int()
            assert int(gap.abs().max()) <= 1


def test_the_gallery_has_every_attribute_on_held_out_images_and_adds_them_in_order(
    searched: tuple[Explanation, StylEx, Path],
) -> None:
    found, model, folder = searched
    gallery = read(folder, "gallery")
    rows = torch.tensor(found.held[:3])
    assert torch.equal(gallery["indices"], found.statistics.indices[rows])
    assert gallery["frames"].shape[:3] == (3, len(found.attributes), 31)
    assert gallery["ladder_ranks"].tolist() == [a.rank for a in found.attributes]
    torch.testing.assert_close(
        gallery["image_probabilities"], found.statistics.logits[rows].softmax(dim=1)
    )
    for step in range(len(found.attributes) + 1):
        styles = found.statistics.styles[rows[1]].clone()
        for attribute in found.attributes[:step]:
            coordinate, direction = attribute.pick
            styles[coordinate] = found.statistics.extremes[direction, coordinate]
        pixels, probabilities = drawn(model, styles)
        assert int((gallery["ladder"][1, step].int() - pixels.int()).abs().max()) <= 1
        torch.testing.assert_close(gallery["ladder_probabilities"][1, step], probabilities)


def test_the_ladder_of_an_image_adds_its_subset_in_the_subset_s_order(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    for image in range(12):
        found = explain(tiny_model, study_images, image=image, output_dir=tmp_path, **SMALL)
        if found.subset is not None and found.subset != tuple(range(1, len(found.subset) + 1)):
            break
    assert found.subset is not None
    gallery = read(tmp_path, "gallery")
    assert gallery["ladder_ranks"].tolist() == list(found.subset)
    target = tiny_model.class_names.index(found.target)
    decisions = gallery["ladder_probabilities"][0].argmax(dim=1).tolist()
    assert decisions[-1] == target
    assert target not in decisions[:-1]


def test_reconstructions_are_spread_over_the_reference_images(
    searched: tuple[Explanation, StylEx, Path], study_images: Images
) -> None:
    found, model, folder = searched
    spread = read(folder, "reconstructions")
    assert spread["indices"].tolist() == torch.linspace(0, 89, 16).long().tolist()
    assert torch.equal(spread["images"], to_uint8(study_images[spread["indices"]]))
    pixels, probabilities = drawn(model, found.statistics.styles[spread["indices"][3]])
    assert int((spread["reconstructions"][3].int() - pixels.int()).abs().max()) <= 1
    torch.testing.assert_close(spread["probabilities"][3, 1], probabilities)


def test_no_sweeps_are_drawn_of_no_images(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    explain(tiny_model, study_images, "square", "circle", output_dir=tmp_path, num_swept=0, **SMALL)
    names = [path.name for path in (tmp_path / "counterfactuals").iterdir()]
    assert "gallery.safetensors" in names
    assert [name for name in names if "sweep" in name] == []


def test_the_gallery_of_large_images_is_reduced_and_its_ladder_is_not(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "GALLERY_PX", 8)
    explain(tiny_model, study_images, "square", "circle", output_dir=tmp_path, **SMALL)
    gallery = read(tmp_path, "gallery")
    assert gallery["frames"].shape[-2:] == (8, 8)
    assert gallery["ladder"].shape[-2:] == (16, 16)
