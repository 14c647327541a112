"""The scorecard on edits made by hand: a good method, bad ones, and what must tell them apart.

Images are dark; the target is `bright`. The explained classifier looks at the mean, or at a
checkerboard; the oracle always at the mean.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.evaluation.counterfactual.measurement import (
    AttributeOracle,
    Identity,
    Judges,
    Settings,
)
from stylex.evaluation.counterfactual.proximity import mean_difference
from stylex.evaluation.counterfactual.scorecard import scorecard
from stylex.evaluation.edits import Edits
from stylex.evaluation.tables import Cell, Section, write_sections
from stylex.types import Images

SETTINGS = Settings(
    changed_threshold=0.15,
    num_transition_steps=8,
    num_splits=2,
    attack_epsilon=8 / 255,
    attack_steps=2,
    jpeg_quality=90,
    noise_std=2 / 255,
    batch_size=5,
    seed=0,
)


def brightness(images: Images) -> Tensor:
    mean = 9 * images.mean(dim=(1, 2, 3))
    return torch.stack([-mean, mean], dim=1)


def checkerboard(images: Images) -> Tensor:
    pattern = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    score = 30 * (images * pattern).mean(dim=(1, 2, 3)) - 1
    return torch.stack([-score, score], dim=1)


def flat(images: Images) -> Tensor:
    return images.flatten(1)


def halves(images: Images) -> Tensor:
    return (
        torch.stack([half.mean(dim=(1, 2, 3)) for half in images.chunk(2, dim=3)], dim=1) / 2 + 0.5
    )


def edits(*levels: int, method: str = "stylex", num_images: int = 7) -> Edits:
    """Edits that add levels to every pixel of the copy, which is 2 levels off the original."""
    generator = torch.Generator().manual_seed(1)
    shape = (num_images, 1, 8, 8)
    images = torch.randint(60, 100, shape, generator=generator, dtype=torch.uint8)
    copies = images + 2
    sums = torch.tensor(levels).cumsum(dim=0).tolist()
    return Edits(
        method=method,
        names=tuple(f"edit {i}" for i in range(len(levels))),
        source="dark",
        target="bright",
        class_names=("dark", "bright"),
        strength=1.0,
        positions=torch.arange(num_images),
        images=images,
        reconstructions=copies,
        edited=tuple(copies + level for level in levels),
        together=tuple(copies + total for total in sums),
    )


def cells(section: Section, table: str, row: str) -> dict[str, Cell]:
    (found,) = [t for t in section.tables if t.name == table]
    (line,) = [r for r in found.rows if r.name == row]
    return {c.name: cell for c, cell in zip(found.columns, line.cells, strict=True)}


def values(section: Section, row: str, table: str = "all") -> dict[str, float | None]:
    return {
        name: cell.value
        for name, cell in cells(section, table, row).items()
        if isinstance(cell, Estimate)
    }


def row_names(section: Section, table: str = "all") -> set[str]:
    return {row.name for t in section.tables if t.name == table for row in t.rows}


def scored(classifier: object = brightness, *levels: int, **more: object) -> Section:
    judges = Judges(classifier, **more)  # type: ignore[arg-type]
    return scorecard({"stylex": edits(*levels)}, judges, SETTINGS)


def test_good_edits_flip_and_doing_nothing_and_the_copy_do_not() -> None:
    found = scored(brightness, 40, 60)
    flips = values(found, "flip_rate")
    assert flips == {"stylex": 1, "identity": 0, "reconstruction": 0, "attack": 0}
    assert cells(found, "all", "flip_rate")["stylex"] == share(torch.ones(7, dtype=torch.bool))
    assert values(found, "score_change")["identity"] == 0
    assert values(found, "cout")["identity"] == 0
    assert values(found, "l1")["identity"] == 0
    assert values(found, "l1")["stylex"] == pytest.approx(102 / 255)
    assert values(found, "l1_reconstruction")["stylex"] == pytest.approx(100 / 255)
    assert values(found, "l1_reconstruction")["reconstruction"] == 0


def test_where_nothing_flips_the_valid_figures_are_none_of_0_images() -> None:
    found = scored(brightness, 5)
    assert values(found, "flip_rate")["stylex"] == 0
    for row in row_names(found, "valid"):
        for cell in cells(found, "valid", row).values():
            assert cell is None or cell == Estimate(None, 0, None), row


def test_an_attack_flips_closest_of_all_but_the_oracle_does_not_follow_and_edits_do() -> None:
    attack = scored(checkerboard, 40, 60, oracle=brightness)
    assert values(attack, "flip_rate")["attack"] == 1
    assert values(attack, "flip_rate_oracle")["attack"] == 0
    assert values(attack, "l1")["attack"] < values(attack, "l1")["stylex"]  # type: ignore[operator]
    assert values(attack, "survives_shift", "valid")["attack"] == 0
    assert values(attack, "flip_rate")["stylex"] == 0  # edits that the classifier does not use
    honest = scored(brightness, 40, 60, oracle=brightness)
    assert values(honest, "flip_rate_oracle")["stylex"] == 1
    for row in ("survives_shift", "survives_jpeg", "survives_noise"):
        assert values(honest, row, "valid")["stylex"] == 1


def test_random_edits_do_not_flip_and_cost_distance() -> None:
    noise = torch.randint(-40, 40, (7, 1, 8, 8), generator=torch.Generator().manual_seed(4))
    good = edits(40, 60)
    random = replace(good, together=((good.reconstructions.int() + noise).clamp(0, 255).byte(),))
    found = scorecard({"stylex": random}, Judges(brightness), SETTINGS)
    assert values(found, "flip_rate")["stylex"] == 0
    assert (values(found, "l1_reconstruction")["stylex"] or 0) > 0.05


def test_sufficiency_counts_flips_by_the_first_edits_and_starts_with_none() -> None:
    found = scored(brightness, 10, 20, 40)
    means = edits(10, 20, 40).images.double().mean(dim=(1, 2, 3))
    for k, added in enumerate((2, 12, 32, 72)):
        flips = means + added > 127.5
        assert cells(found, "sufficiency", f"sufficiency_{k}") == {"classifier": share(flips)}
    assert values(found, "edits_to_flip")["stylex"] == 3
    assert values(found, "edits_to_flip_median")["stylex"] == 3
    assert values(found, "never_flips") == {"stylex": 0}


def test_images_called_the_target_already_are_left_out_and_counted() -> None:
    given = edits(40, 60)
    given.images[2] = 200
    found = scorecard({"stylex": given}, Judges(brightness), SETTINGS)
    assert "1 images are left out" in found.reading
    cell = cells(found, "all", "flip_rate")["stylex"]
    assert isinstance(cell, Estimate)
    assert cell.num_images == 6
    given.images[:] = 200
    with pytest.raises(InputError, match="does not call 'bright', got none among 7"):
        scorecard({"stylex": given}, Judges(brightness), SETTINGS)


def test_figures_whose_network_is_missing_are_absent_and_named() -> None:
    found = scored(brightness, 40, 60)
    needy = {"flip_rate_oracle", "lpips", "fva", "fs", "s3", "mnac", "cd", "fid_split_FD-C"}
    assert not needy & row_names(found)
    for name in ("second one", "LPIPS", "FVA and FS", "S3", "MNAC and CD", "fid_split"):
        assert name in found.reading
    all_given = Judges(
        brightness,
        oracle=brightness,
        lpips=mean_difference,
        identity=Identity(flat, 0.5, "a face network"),
        simsiam=flat,
        attributes=AttributeOracle(halves, 0, torch.tensor([1.0, 0.5])),
        features={"FD-C": brightness},
    )
    found = scorecard({"stylex": edits(40, 60)}, all_given, SETTINGS)
    assert needy <= row_names(found)
    assert "Not computed" not in found.reading
    assert values(found, "mnac") == {"stylex": 2, "identity": 0, "reconstruction": 0, "attack": 0}
    assert values(found, "cd")["identity"] == 1.5


def test_methods_stand_side_by_side_on_the_same_images() -> None:
    methods = {
        "stylex": edits(40, 60),
        "random": edits(5, 5, 5, method="random"),
        "none": edits(method="none"),
    }
    found = scorecard(methods, Judges(brightness), SETTINGS)
    assert values(found, "flip_rate", "methods") == {"stylex": 1, "random": 0, "none": 0}
    assert cells(found, "methods", "num_edits") == {"stylex": "2", "random": "3", "none": "0"}
    assert values(found, "l1_reconstruction", "methods")["none"] == 0
    assert "methods" not in {t.name for t in scored(brightness, 40).tables}


@pytest.mark.parametrize(
    "change", [{"positions": torch.arange(7) + 1}, {"target": "dark"}, {"source": None}]
)
def test_methods_of_other_images_or_classes_are_refused(change: Mapping[str, object]) -> None:
    methods = {"stylex": edits(40), "other": replace(edits(40, method="other"), **change)}
    with pytest.raises(InputError, match="same images towards the same class, got others in 'oth"):
        scorecard(methods, Judges(brightness), SETTINGS)


def test_an_oracle_of_other_classes_is_refused() -> None:
    with pytest.raises(InputError, match="the oracle must tell the 2 classes .* apart, got 64"):
        scored(brightness, 40, oracle=flat)


def test_every_row_says_how_to_read_it_and_the_section_can_be_written(tmp_path: Path) -> None:
    found = scored(brightness, 40, 60, oracle=brightness, features={"FD-C": brightness})
    for table in found.tables:
        assert len({row.name for row in table.rows}) == len(table.rows)
        assert len({row.title for row in table.rows}) == len(table.rows)
        for row in table.rows:
            assert len(row.cells) == len(table.columns)
            assert row.reading or table.name == "sufficiency"
    write_sections(tmp_path / "evaluation.json", [found], {})
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert [t["name"] for t in saved["sections"][0]["tables"]] == ["all", "valid", "sufficiency"]
