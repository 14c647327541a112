"""A search's folder, written as `search.py` writes it, without a search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stylex.artifacts import read_tensors, write_json, write_tensors
from stylex.estimates import mean, share

WriteFolder = Callable[..., Path]
Find = Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]


def estimate(value: float, num_images: int, *, is_share: bool) -> dict[str, Any]:
    """A figure as attributes.json holds it, with the real intervals."""
    if is_share:
        return share(torch.arange(num_images) < round(value * num_images)).as_json()
    spread = torch.linspace(-0.3, 0.3, num_images) if num_images > 1 else torch.zeros(1)
    return mean(value + spread).as_json()


def evidence(rank: int, num_images: int) -> dict[str, Any]:
    """An attribute's other figures: the first saturates, the second rises, the third peaks."""
    curves = ([1.0, 1.4, 1.45], [1.0, 2.0, 3.0], [1.0, 2.0, 0.5])
    doses = [
        {"strength": strength, "effect": estimate(value, num_images, is_share=False)}
        for strength, value in zip((0.5, 1.0, 2.0), curves[(rank - 1) % 3], strict=True)
    ]
    one = num_images == 1
    return {
        "moved": estimate(0.875, num_images, is_share=True),
        "rank": None if one else {"median": rank, "interval": [rank, rank + 1.0]},
        "dose_response": {"doses": doses, "monotone": rank % 3 != 0, "saturating": rank % 3 == 1},
        "p": None if one else 0.002,
        "q": None if one else (0.004 if rank < 3 else 0.3),
        "significant": None if one else rank < 3,
        "extreme": {"z": 3.1, "near": estimate(0.02, 500, is_share=True)},
    }


def write_pictures(path: Path, num_images: int, channels: int, size_px: int, first: int) -> None:
    """Random images, of which a square in the middle is changed."""
    shape = (num_images, channels, size_px, size_px)
    generator = torch.Generator().manual_seed(first + size_px + channels)
    unchanged = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    changed = unchanged.clone()
    middle = slice(size_px // 4, size_px * 3 // 4)
    changed[..., middle, middle] = torch.randint(
        256, changed[..., middle, middle].shape, generator=generator, dtype=torch.uint8
    )
    before = torch.linspace(0.012, 0.31, num_images)
    write_tensors(
        path,
        {
            "indices": torch.arange(first, first + num_images),
            "unchanged": unchanged,
            "changed": changed,
            "probabilities": torch.stack((before, before + 0.42), dim=1),
        },
    )


def write_sweep(
    path: Path, pictures: Path, classes: tuple[int, int, int], strength: float, num_swept: int
) -> None:
    """A sweep of the first pictures of a file that fades from unchanged to changed.

    Args:
        path: The file.
        pictures: File of `write_pictures`.
        classes: Number of classes, source and target.
        strength: Last position.
        num_swept: Number of pictures.
    """
    tensors, _ = read_tensors(pictures, "pictures")
    positions = torch.tensor([-1.0, -0.5, 0.0, strength / 4, strength / 2, strength])
    tensors = {name: tensor[:num_swept] for name, tensor in tensors.items()}
    frames = [fade(tensors["unchanged"], tensors["changed"], p / strength) for p in positions]
    before, after = tensors["probabilities"].t()
    rise = torch.stack([before + (after - before) * max(0, p / strength) for p in positions], dim=1)
    write_tensors(
        path,
        {
            "indices": tensors["indices"],
            "positions": positions,
            "frames": torch.stack(frames, dim=1),
            "probabilities": spread(rise, *classes),
        },
    )


def fade(unchanged: Tensor, changed: Tensor, share: float) -> Tensor:
    """Pixels between two pictures; below 0 the opposite change."""
    return (unchanged + share * (changed.float() - unchanged)).round().clamp(0, 255).byte()


def spread(probability: Tensor, num_classes: int, source: int, target: int) -> Tensor:
    """Probabilities of all classes, by the target's; the source has most of the rest."""
    found = ((1 - probability) * 0.1 / max(1, num_classes - 2))[..., None].repeat(
        *[1] * probability.ndim, num_classes
    )
    found[..., target] = probability
    found[..., source] = 0
    found[..., source] = 1 - found.sum(dim=-1)
    return found


def write_gallery(
    folder: Path, num_attributes: int, ranks: list[int], classes: tuple[int, int, int]
) -> None:
    """Every attribute on the pictures of `together`, which change more from one to the next."""
    tensors, _ = read_tensors(folder / "together.safetensors", "pictures")
    unchanged, changed = tensors["unchanged"], tensors["changed"]
    positions = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])
    swept = [
        torch.stack([fade(unchanged, changed, p * (a + 1) / 9) for p in positions.tolist()], dim=1)
        for a in range(num_attributes)
    ]
    before, after = tensors["probabilities"].t()
    at = (before + (after - before) * positions[:, None].clamp(0) / 2).t()  # [b t]
    steps = torch.linspace(0, 1, len(ranks) + 1)
    ladder = torch.stack([fade(unchanged, changed, step) for step in steps.tolist()], dim=1)
    climbs = (before + (after - before) * steps[:, None]).t()
    write_tensors(
        folder / "gallery.safetensors",
        {
            "indices": tensors["indices"],
            "images": 255 - unchanged,
            "image_probabilities": spread(before, *classes),
            "positions": positions.repeat(num_attributes, 1),
            "frames": torch.stack(swept, dim=1),
            "probabilities": spread(at, *classes)[:, None].repeat(1, num_attributes, 1, 1),
            "ladder_ranks": torch.tensor(ranks),
            "ladder": ladder,
            "ladder_probabilities": spread(climbs, *classes),
        },
    )
    write_tensors(
        folder / "reconstructions.safetensors",
        {
            "indices": tensors["indices"],
            "images": 255 - unchanged,
            "reconstructions": unchanged,
            "probabilities": torch.stack((spread(before, *classes), spread(before, *classes)), 1),
        },
    )


@pytest.fixture
def find() -> Find:
    """Finds all places (y, x) of a block of pixels in a larger picture, both [h w 3]."""

    def places(picture: np.ndarray, block: np.ndarray) -> list[tuple[int, int]]:
        picture, block = (p.astype(np.int32) @ (1, 256, 65536) for p in (picture, block))
        height, width = block.shape
        rows, columns = picture.shape[0] - height + 1, picture.shape[1] - width + 1
        fits = np.ones((rows, columns), dtype=bool)
        for y, x in np.random.default_rng(0).integers((height, width), size=(12, 2)):
            fits &= picture[y : y + rows, x : x + columns] == block[y, x]
        return [
            (y, x)
            for y, x in np.argwhere(fits).tolist()
            if np.array_equal(picture[y : y + height, x : x + width], block)
        ]

    return places


@pytest.fixture
def write_folder(tmp_path: Path) -> WriteFolder:
    """Writes a search's folder."""

    def write(
        *,
        num_attributes: int = 3,
        num_shown: int = 3,
        num_swept: int = 2,
        channels: int = 1,
        size_px: int = 32,
        unshown: tuple[int, ...] = (2,),
        strengths: tuple[float, ...] = (2.5,),
        is_one_image: bool = False,
        subset: list[int] | None = None,
        source: str | None = "Pullover",
        target: str = "Coat",
        name: str = "result",
    ) -> Path:
        folder = tmp_path / name
        held = 1 if is_one_image else 24
        first = 7 if is_one_image else 40
        num_shown = 1 if is_one_image else num_shown
        for old in (folder / "counterfactuals").glob("*"):
            old.unlink()
        class_names = ["Sandal", source or "Shirt", target]
        classes = (3, 1, 2)
        attributes = []
        for rank in range(1, num_attributes + 1):
            file = None if rank in unshown else f"counterfactuals/{rank:02d}.safetensors"
            if file is not None:
                first_shown = first if is_one_image else 100 * rank
                write_pictures(folder / file, num_shown, channels, size_px, first_shown)
                sweep = folder / "counterfactuals" / f"{rank:02d}-sweep.safetensors"
                strength = strengths[(rank - 1) % len(strengths)]
                write_sweep(sweep, folder / file, classes, strength, num_swept)
            attributes.append(
                {
                    "rank": rank,
                    "coordinate": 10 * rank,
                    "name": f"16px conv{rank % 2} #{60 + rank}",
                    "layer": 3 + rank % 2,
                    "channel": 60 + rank,
                    "direction": ("smallest", "largest")[rank % 2],
                    "effect": estimate(1.5 - 0.11 * rank, held, is_share=False),
                    "effects": [-0.2, -0.5, 1.5 - 0.11 * rank],
                    "flips": estimate(0.0 if is_one_image else 0.25, held, is_share=True),
                    "evidence": evidence(rank, held),
                    "shown": file,
                    "shown_strength": None
                    if file is None
                    else strengths[(rank - 1) % len(strengths)],
                }
            )
        together = folder / "counterfactuals" / "together.safetensors"
        write_pictures(together, num_shown, channels, size_px, first)
        ranks = subset or list(range(1, num_attributes + 1))
        write_gallery(folder / "counterfactuals", num_attributes, ranks, classes)
        flipped = 1.0 if subset else 0.0 if is_one_image else 0.75
        write_json(
            folder / "attributes.json",
            {
                "checkpoint": "c0ffee00",
                "data": "da7ada7a",
                "classifier": "c1a551f1",
                "source": source,
                "target": target,
                "class_names": class_names,
                "selector": "joint",
                "strength": 1.0,
                "shown_strength": 2.5,
                "num_images": 1 if is_one_image else 48,
                "subset": subset,
                "sufficiency": {
                    str(k): estimate(flipped, held, is_share=True)
                    for k in range(1, num_attributes + 1)
                },
                "attributes": attributes,
                "selection": {
                    "effects": "screened",
                    "passes": 4000,
                    "exhaustive_passes": 32000,
                    "decisions": [{"bound": 0.031}, {"bound": -0.2}],
                    "num_unstable": 0,
                    "rejected": None,
                },
            },
        )
        metrics = {
            name: estimate(value, 500, is_share=name != "reconstruction_l1")
            for name, value in (
                ("classifier_accuracy", 0.91),
                ("agreement", 0.88),
                ("reconstruction_l1", 0.4),
            )
        }
        write_json(folder / "metrics.json", metrics)
        write_json(
            folder / "provenance.json",
            {
                "schema": 1,
                "model": "pretrained/test",
                "checkpoint": "c0ffee00",
                "data": "da7ada7a",
                "classifier": "c1a551f1",
                "seed": 11,
                "config": {"split": "test", "search": {"least_rise": 0.05}},
                "versions": {"python": "3.11", "torch": "2.0"},
                "platform": "a test",
            },
        )
        return folder

    return write
