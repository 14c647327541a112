"""Statistics of the reference images, against a loop over images and against NumPy's quantiles."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search import statistics as statistics_module
from stylex.search.crew import Crew, Member, Place
from stylex.search.statistics import Statistics, collect, collect_together
from stylex.types import Images


def test_statistics_equal_a_loop_over_images(tiny_model: StylEx, study_images: Images) -> None:
    found = collect(tiny_model, iter(study_images[:6].split(4)), [4, 7, 8, 9, 12, 20], quantile=0.0)
    assert found.indices.tolist() == [4, 7, 8, 9, 12, 20]
    for row, image in enumerate(study_images[:6].split(1)):
        latents = tiny_model.encode(image)
        styles = tiny_model.generator.styles(latents)
        expected = {
            "latents": latents,
            "styles": styles,
            "logits": tiny_model.classifier(image),
            "base_logits": tiny_model.classifier(tiny_model.render(styles)),
        }
        for name, value in expected.items():
            torch.testing.assert_close(
                getattr(found, name)[row : row + 1], value, atol=1e-4, rtol=1e-4
            )


def test_quantile_0_takes_the_smallest_and_the_largest_value_exactly(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = collect(tiny_model, [study_images], list(range(90)), quantile=0.0)
    assert torch.equal(found.extremes[0], found.styles.amin(dim=0))
    assert torch.equal(found.extremes[1], found.styles.amax(dim=0))


def test_quantile_q_takes_the_quantiles_q_and_1_minus_q(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = collect(tiny_model, [study_images], list(range(90)), quantile=0.1)
    expected = np.quantile(found.styles.double().numpy(), [0.1, 0.9], axis=0)
    np.testing.assert_allclose(found.extremes.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quantile", [-0.1, 0.5, 1.0])
def test_a_quantile_that_leaves_no_room_between_is_refused(
    tiny_model: StylEx, study_images: Images, quantile: float
) -> None:
    message = rf"search\.quantile must be in \[0, 0\.5\), got {quantile}"
    with pytest.raises(InputError, match=message):
        collect(tiny_model, [study_images[:2]], [0, 1], quantile)


def test_the_cut_into_batches_does_not_matter(tiny_model: StylEx, study_images: Images) -> None:
    whole = collect(tiny_model, [study_images[:10]], list(range(10)), quantile=0.0)
    parts = collect(tiny_model, iter(study_images[:10].split(3)), list(range(10)), quantile=0.0)
    for field in fields(Statistics):
        torch.testing.assert_close(
            getattr(parts, field.name), getattr(whole, field.name), atol=1e-4, rtol=1e-4
        )


class Part(Crew):
    """One process of several, which does not wait for the others' parts."""

    def merge(self, part: Tensor) -> Tensor:
        return part


@pytest.mark.parametrize("size", [1, 3, 20])
def test_processes_share_the_images_and_their_parts_add_up_to_all(
    tiny_model: StylEx, study_images: Images, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(statistics_module, "BLOCK", 7)
    monkeypatch.setattr(distributed, "broadcast_object_list", lambda _: None)
    parts = []
    for rank in range(size):
        crew = Part(Place(rank, size))
        crew.member = Member(tiny_model, study_images, {})
        parts.append(collect_together(crew, 0.0))
    whole = collect(tiny_model, iter(study_images.split(7)), list(range(90)), quantile=0.0)
    assert torch.equal(parts[0].indices, whole.indices)
    for name in ("latents", "styles", "logits", "base_logits"):
        assert torch.equal(sum(getattr(part, name) for part in parts), getattr(whole, name))
        seen = [set(getattr(part, name).any(dim=1).nonzero()[:, 0].tolist()) for part in parts]
        assert sum(len(rows) for rows in seen) == 90


def test_a_crews_extremes_follow_the_quantile(tiny_model: StylEx, study_images: Images) -> None:
    crew = Crew(Place())
    crew.member = Member(tiny_model, study_images, {})
    found = collect_together(crew, 0.1)
    expected = collect(tiny_model, [study_images], list(range(90)), quantile=0.1)
    torch.testing.assert_close(found.extremes, expected.extremes, atol=1e-5, rtol=1e-5)


def test_statistics_come_back_from_their_file_as_they_were(
    statistics: Statistics, tmp_path: Path
) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics.save(path, {"checkpoint": "abc"})
    again = Statistics.read(path)
    for field in fields(Statistics):
        assert torch.equal(getattr(again, field.name), getattr(statistics, field.name))
    assert read_tensors(path, "statistics")[1]["checkpoint"] == "abc"


def test_the_same_statistics_make_the_same_file(statistics: Statistics, tmp_path: Path) -> None:
    metadata = {f"fact {i}": str(i) for i in range(9)}
    for name in ("one", "other"):
        statistics.save(tmp_path / name, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_truncated_file_of_statistics_is_refused(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics.save(path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="statistics must be a whole safetensors file, got"):
        Statistics.read(path)
