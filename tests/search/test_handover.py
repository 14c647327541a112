"""Edits handed over to an evaluation, read by it and judged again from their pixels."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pictured import standardise
from torch import Tensor

from stylex.errors import InputError
from stylex.evaluation.edits import Edits, read_edits
from stylex.imaging import from_uint8, to_uint8
from stylex.model import StylEx
from stylex.search import rankers
from stylex.search.explanation import explain
from stylex.search.results import Explanation, Settings
from stylex.types import Images, Logits, Pixels

SMALL: dict[str, Any] = {"k": 3, "num_images": 24, "num_random": 0, "num_shown": 3, "num_swept": 0}
OTHERS = ["stylespace", "sefa", "ganalyze", "random"]

Searched = tuple[Explanation, dict[str, Edits]]


def searched(model: StylEx, images: Images, folder: Path, **settings: Any) -> Searched:
    """A search, and what an evaluation reads of it."""
    given = {"source": "circle", "target": "square", **SMALL, **settings}
    found = explain(model, images, **given, output_dir=folder)
    return found, read_edits(folder)


@pytest.fixture
def compared(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Searched:
    """With all rankers, one of them short."""
    monkeypatch.setattr(rankers, "GANALYZE_STEPS", 4)
    names = ["attfind", *OTHERS]
    return searched(tiny_model, study_images, tmp_path, rankers=names, strength=1.5)


def drawn(model: StylEx, styles: Tensor) -> Pixels:
    """The pixels of each image by itself."""
    with torch.no_grad():
        return torch.cat([to_uint8(model.generator.synthesis(each[None])) for each in styles])


def assert_drawn(pixels: Pixels, expected: Pixels) -> None:
    """Equal, but for rounding: another batch size changes the last bits."""
    assert int((pixels.int() - expected.int()).abs().max()) <= 1


def judged(model: StylEx, pixels: Pixels) -> Logits:
    with torch.no_grad():
        return model.classifier(from_uint8(pixels))


def test_the_search_and_every_other_ranker_have_a_file_with_the_edits_they_have(
    compared: Searched, tmp_path: Path
) -> None:
    found, read = compared
    assert list(read) == ["stylex", *sorted(OTHERS)]
    assert read["stylex"].names == tuple(attribute.name for attribute in found.attributes)
    ranked = {ranking.name: ranking.ranked for ranking in found.rankings}
    assert {name: read[name].names for name in OTHERS} == {name: ranked[name] for name in OTHERS}
    counts = {name: len(edits.names) for name, edits in read.items()}
    assert counts.pop("ganalyze") == 1
    assert counts.pop("sefa") in (1, 2, 3)
    assert set(counts.values()) == {3}
    for edits in read.values():
        assert len(edits.edited) == len(edits.together) == len(edits.names)
        assert (edits.source, edits.target, edits.strength) == ("circle", "square", 1.5)
        assert edits.class_names == found.class_names
        for pixels in (edits.images, edits.reconstructions, *edits.edited, *edits.together):
            assert pixels.shape == (12, 1, 16, 16)
    keys = {"name", "ranked", "effect", "flips", "sufficiency", "passes"}
    written = json.loads((tmp_path / "attributes.json").read_text())
    assert [ranking.keys() for ranking in written["rankings"]] == [keys] * 5


def test_every_method_has_the_images_that_were_not_selected_on(
    compared: Searched, tiny_model: StylEx, study_images: Images
) -> None:
    found, read = compared
    selected_on = set(found.rows) - set(found.held)
    assert len(selected_on) == 12
    for edits in read.values():
        assert edits.positions.tolist() == list(found.held)
        assert not set(edits.positions.tolist()) & selected_on
        assert torch.equal(edits.images, to_uint8(study_images[list(found.held)]))
        unedited = found.statistics.styles[list(found.held)]
        assert_drawn(edits.reconstructions, drawn(tiny_model, unedited))


def test_an_attribute_s_edits_are_those_of_the_search_at_its_strength(
    compared: Searched, tiny_model: StylEx
) -> None:
    found, read = compared
    own = found.statistics.styles[list(found.held)]
    together = own.clone()
    for i, attribute in enumerate(found.attributes):
        coordinate, direction = attribute.pick
        alone, extreme = own.clone(), found.statistics.extremes[direction, coordinate]
        alone[:, coordinate] += 1.5 * (extreme - own[:, coordinate])
        together[:, coordinate] = alone[:, coordinate]
        assert_drawn(read["stylex"].edited[i], drawn(tiny_model, alone))
        assert_drawn(read["stylex"].together[i], drawn(tiny_model, together))


def test_a_ranker_s_edits_are_those_that_its_figures_are_of(
    compared: Searched, tiny_model: StylEx
) -> None:
    found, read = compared
    for ranking in found.rankings[1:]:
        edits = read[ranking.name]
        for i in range(len(ranking.ranked)):
            assert_drawn(edits.edited[i], drawn(tiny_model, ranking.alone[i]))
            assert_drawn(edits.together[i], drawn(tiny_model, ranking.together[i]))
        assert torch.equal(edits.edited[0], edits.together[0])


def test_saved_edits_flip_as_many_decisions_as_the_search_says(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    """But for one decision in ten, which rounding to 8 bits may turn."""
    standardise(tiny_model.classifier.network.head, tiny_model(study_images), 2.0)
    found, read = searched(
        tiny_model, study_images, tmp_path, source=None, num_images=60, rankers=["random"]
    )
    stated = {"stylex": found.sufficiency, "random": found.rankings[0].sufficiency}
    for method, edits in read.items():
        for count, pixels in enumerate(edits.together, start=1):
            share = float((judged(tiny_model, pixels).argmax(dim=1) == 1).float().mean())
            assert share == pytest.approx(stated[method][count].value, abs=0.1), (method, count)
    assert found.sufficiency[3].value - stated["random"][3].value > 0.2  # no two alike


def test_fewer_images_are_spread_over_those_held_out(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    for count, expected in ((5, [0, 2, 4, 7, 9]), (12, list(range(12))), (13, list(range(12)))):
        found, read = searched(
            tiny_model, study_images, tmp_path, num_edited=count, rankers=["random"]
        )
        for edits in read.values():
            assert edits.positions.tolist() == [found.held[i] for i in expected]
            assert torch.equal(edits.images, to_uint8(study_images[edits.positions]))
        own = found.rankings[0].alone[:, expected]
        assert_drawn(read["random"].edited[1], drawn(tiny_model, own[1]))


def test_none_are_written_for_0_images_and_those_of_an_earlier_selection_go(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    _, read = searched(tiny_model, study_images, tmp_path, rankers=["random", "stylespace"])
    assert list(read) == ["stylex", "random", "stylespace"]
    _, read = searched(tiny_model, study_images, tmp_path, rankers=["random"])
    assert list(read) == ["stylex", "random"]
    with pytest.raises(InputError, match="got none in .*; run search.py with search.num_edited"):
        searched(tiny_model, study_images, tmp_path, num_edited=0)
    assert list((tmp_path / "edits").iterdir()) == []
    explain(
        tiny_model,
        study_images,
        "square",
        "circle",
        **SMALL,
        num_edited=0,
        output_dir=tmp_path / "new",
    )
    assert not (tmp_path / "new" / "edits").exists()


def test_an_image_explained_alone_is_the_one_image(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    found = explain(tiny_model, study_images, image=7, **SMALL, output_dir=tmp_path)
    edits = read_edits(tmp_path)["stylex"]
    assert edits.positions.tolist() == [7]
    assert len(edits.together) == len(edits.names) == len(found.attributes)
    assert (edits.source, edits.target) == (found.source, found.target)
    assert torch.equal(edits.images, to_uint8(study_images[7:8]))


def test_all_other_classes_are_no_source(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    _, read = searched(tiny_model, study_images, tmp_path, source=None)
    assert read["stylex"].source is None


def test_the_same_search_writes_the_same_bytes(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    written = []
    for _ in range(2):
        searched(tiny_model, study_images, tmp_path, rankers=["sefa"])
        written.append({p.name: p.read_bytes() for p in (tmp_path / "edits").iterdir()})
    assert written[0] == written[1]


def test_fewer_than_0_images_are_refused() -> None:
    with pytest.raises(InputError, match="num_edited must be at least 0, got -1"):
        Settings.of({"num_edited": -1})
