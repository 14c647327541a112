"""Effects against one synthesis per image, coordinate and direction; the resumed store."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search import effects as effects_module
from stylex.search.effects import edit_effects, effects_on_disk, quiet
from stylex.search.statistics import Statistics
from stylex.types import Effects

ROWS = [2, 0, 5, 7, 1]


@torch.no_grad()
def slow_effects(
    model: StylEx, found: Statistics, rows: list[int], coordinates: list[int], strength: float
) -> Tensor:
    """One image, one coordinate, one direction at a time, from the constant to the pixels."""
    effects = torch.empty(len(rows), 2, len(coordinates), found.base_logits.shape[1])
    for i, row in enumerate(rows):
        for direction in (0, 1):
            for position, coordinate in enumerate(coordinates):
                styles = found.styles[row : row + 1].clone()
                step = found.extremes[direction, coordinate] - styles[0, coordinate]
                styles[0, coordinate] += strength * step
                logits = model.classifier(model.generator.synthesis(styles))[0]
                effects[i, direction, position] = logits - found.base_logits[row]
    return effects


def fast_effects(
    model: StylEx,
    found: Statistics,
    rows: list[int],
    coordinates: list[int],
    strength: float = 1.0,
    batch_size: int = 50,
) -> Tensor:
    return edit_effects(
        model,
        found.styles[rows],
        found.base_logits[rows],
        found.extremes,
        coordinates,
        strength,
        batch_size,
    )


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_effects_equal_one_whole_synthesis_each(
    tiny_model: StylEx, statistics: Statistics, strength: float
) -> None:
    coordinates = tiny_model.generator.layout.searched(torgb=True)
    assert coordinates == list(range(tiny_model.generator.layout.num_coordinates))
    found = fast_effects(tiny_model, statistics, [3, 8], coordinates, strength)
    expected = slow_effects(tiny_model, statistics, [3, 8], coordinates, strength)
    assert (expected.abs().amax(dim=(0, 1, 3)) > 1e-3).all()  # each coordinate does something
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_effects_come_in_the_order_of_the_coordinates_asked_for(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    coordinates = [54, 3, 40, 17, 4]
    found = fast_effects(tiny_model, statistics, [0, 1], coordinates)
    expected = slow_effects(tiny_model, statistics, [0, 1], coordinates, 1.0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 10_000])
def test_effects_do_not_depend_on_the_batch_size(
    tiny_model: StylEx, statistics: Statistics, batch_size: int
) -> None:
    coordinates = [0, 9, 33, 55]
    expected = fast_effects(tiny_model, statistics, [4, 1, 6], coordinates, batch_size=5)
    found = fast_effects(tiny_model, statistics, [4, 1, 6], coordinates, batch_size=batch_size)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_effects_leave_model_and_styles_untouched(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    weights = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    styles, extremes = statistics.styles.clone(), statistics.extremes.clone()
    fast_effects(tiny_model, statistics, [0, 1], [0, 20, 50], strength=2.0)
    assert torch.equal(statistics.styles, styles)
    assert torch.equal(statistics.extremes, extremes)
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_an_image_at_its_extreme_has_no_effect(tiny_model: StylEx, statistics: Statistics) -> None:
    coordinates = tiny_model.generator.layout.searched(torgb=True)
    highest, lowest = statistics.styles.argmax(dim=0), statistics.styles.argmin(dim=0)
    found = fast_effects(tiny_model, statistics, list(range(12)), coordinates, batch_size=256)
    for coordinate in coordinates:
        assert found[lowest[coordinate], 0, coordinate].abs().max() < 1e-4
        assert found[highest[coordinate], 1, coordinate].abs().max() < 1e-4
        assert found[highest[coordinate], 0, coordinate].abs().max() > 1e-4


# The store


def stored(model: StylEx, path: Path, found: Statistics, **changes: Any) -> Effects:  # noqa: ANN401
    given = {
        "rows": ROWS,
        "coordinates": model.generator.layout.searched(),
        "strength": 1.0,
        "batch_size": 64,
        "made_by": {"classifier": "a"},
        "progress": quiet,
        **changes,
    }
    return effects_on_disk(path, model, found, **given)


def stopping_after(count: int) -> Callable[[Iterable[Any], str], Iterator[Any]]:
    def progress(items: Iterable[Any], _what: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if i == count:
                raise KeyboardInterrupt
            yield item

    return progress


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images of every computation of effects, in order."""
    images: list[int] = []
    compute = edit_effects

    def spy(model: StylEx, styles: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401
        images.append(len(styles))
        return compute(model, styles, *rest)

    monkeypatch.setattr(effects_module, "edit_effects", spy)
    return images


def test_the_store_gives_the_exact_effects_of_the_rows_asked_for(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path
) -> None:
    coordinates = tiny_model.generator.layout.searched()
    found = stored(tiny_model, tmp_path / "effects.zarr", statistics)
    expected = fast_effects(tiny_model, statistics, ROWS, coordinates)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_stopped_run_goes_on_with_the_images_left_and_ends_the_same(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path, computed: list[int]
) -> None:
    whole = stored(tiny_model, tmp_path / "whole.zarr", statistics)
    assert len(computed) == 5
    path = tmp_path / "effects.zarr"
    with pytest.raises(KeyboardInterrupt):
        stored(tiny_model, path, statistics, progress=stopping_after(2))
    assert len(computed) == 5 + 2
    resumed = stored(tiny_model, path, statistics)
    assert len(computed) == 5 + 2 + 3
    assert torch.equal(resumed, whole)
    assert torch.equal(stored(tiny_model, path, statistics), whole)
    assert len(computed) == 5 + 2 + 3  # a finished one is only read


def test_an_image_whose_effects_were_not_marked_done_is_computed_again(
    tiny_model: StylEx,
    statistics: Statistics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = stored(tiny_model, tmp_path / "whole.zarr", statistics)
    count = 0

    def failing(*arguments: Any) -> Tensor:  # noqa: ANN401
        nonlocal count
        count += 1
        if count == 4:
            raise RuntimeError("out of memory")
        return edit_effects(*arguments)

    monkeypatch.setattr(effects_module, "edit_effects", failing)
    path = tmp_path / "effects.zarr"
    with pytest.raises(RuntimeError, match="out of memory"):
        stored(tiny_model, path, statistics)
    assert torch.equal(stored(tiny_model, path, statistics), whole)
    assert count == 4 + 2


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("classifier", {"made_by": {"classifier": "b"}}),
        ("strength", {"strength": 2.0}),
        ("images", {"rows": [2, 0, 5, 7, 3]}),
        ("images", {"rows": [2, 0, 5, 7]}),
        ("coordinates", {"coordinates": list(range(56))}),
    ],
)
def test_effects_of_another_search_are_refused(
    tiny_model: StylEx,
    statistics: Statistics,
    tmp_path: Path,
    fact: str,
    changes: dict[str, Any],
) -> None:
    path = tmp_path / "effects.zarr"
    first = stored(tiny_model, path, statistics)
    message = (
        f"output_dir must be new or hold the same search, got another '{fact}' in '{tmp_path}'; "
        "give another output_dir"
    )
    with pytest.raises(InputError, match=message):
        stored(tiny_model, path, statistics, **changes)
    assert torch.equal(stored(tiny_model, path, statistics), first)  # and left as they were


@pytest.mark.parametrize("field", ["extremes", "styles"])
def test_the_last_bits_of_styles_and_extremes_do_not_matter(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path, field: str
) -> None:
    # Another number of threads or another batch size changes them. 1.0005 is where a rounding to
    # thousandths turns over: whatever is rounded has such values among its thousands.
    path = tmp_path / "effects.zarr"
    values = getattr(statistics, field).clone()
    values[0] = 1.0005
    first = stored(tiny_model, path, replace(statistics, **{field: values}), rows=[0, 1])
    again = replace(statistics, **{field: values * (1 + 5e-7)})
    assert torch.equal(stored(tiny_model, path, again, rows=[0, 1]), first)


@pytest.mark.parametrize("name", ["zarr.json", "effects/zarr.json", "done/zarr.json"])
def test_a_store_with_a_truncated_description_is_refused(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "effects.zarr"
    stored(tiny_model, path, statistics, rows=[0])
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"must be a readable zarr group, got a broken one at"):
        stored(tiny_model, path, statistics, rows=[0])


@pytest.mark.parametrize("array", ["effects", "done"])
def test_a_store_with_a_truncated_chunk_is_refused_or_made_whole(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path, array: str
) -> None:
    path = tmp_path / "effects.zarr"
    whole = stored(tiny_model, path, statistics, rows=[0, 1])
    chunk = next(file for file in sorted((path / array / "c").rglob("*")) if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:3])
    try:
        found = stored(tiny_model, path, statistics, rows=[0, 1])
    except InputError:
        with pytest.raises(InputError, match="delete it"):
            stored(tiny_model, path, statistics, rows=[0, 1])
    else:
        assert torch.equal(found, whole)


@pytest.mark.parametrize("missing", ["zarr.json", "effects", "done"])
def test_a_store_stopped_while_it_was_made_begins_again(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path, missing: str
) -> None:
    path = tmp_path / "effects.zarr"
    whole = stored(tiny_model, path, statistics, rows=[0, 1])
    if missing == "zarr.json":
        (path / missing).write_text('{"zarr_format": 3, "node_type": "group"}')
    else:
        shutil.rmtree(path / missing)
    assert torch.equal(stored(tiny_model, path, statistics, rows=[0, 1]), whole)


def test_quiet_gives_the_items_as_they_are() -> None:
    assert list(quiet([3, 1, 2], "anything")) == [3, 1, 2]
