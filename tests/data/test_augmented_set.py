"""Laws of `stylex.data.augmentation`: a folder's images follow the training images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.data.augmentation import AugmentedSet
from stylex.data.datasets import ImageFolder
from stylex.data.faces import Faces
from stylex.errors import InputError
from stylex.imaging import from_uint8, read_image, write_png

SIZE = 32


def faces(split: str = "train", **changed: Any) -> Faces:
    settings = {
        "resolution": SIZE,
        "channels": 3,
        "rule": {"glasses": 1.0},
        "noise": 0.0,
        "planted": None,
        "num_images": {"train": 6, "test": 6},
        "seed": 0,
    }
    return Faces(split=split, **{**settings, **changed})


def fill(folder: Path, *names: str, size: int = SIZE) -> list[Path]:
    """One picture a name, each another noise."""
    for i, name in enumerate(names):
        random = torch.Generator().manual_seed(i)
        pixels = torch.randint(256, (3, size, size), generator=random, dtype=torch.uint8)
        write_png(folder / name, pixels)
    return [folder / name for name in names]


@pytest.fixture
def added(tmp_path: Path) -> list[Path]:
    """The second class is listed first by position on disk; it is written first, too."""
    return fill(tmp_path / "set", "Birch/1-a1.png", "Birch/4-a1.png", "Alder/0-a1.png")


def test_the_folders_images_follow_in_the_order_of_the_classes(
    added: list[Path], tmp_path: Path
) -> None:
    before = faces()
    both = AugmentedSet(before, tmp_path / "set")
    assert (len(both), both.num_added) == (9, 3)
    assert torch.equal(both.labels, torch.cat((before.labels, torch.tensor([0, 1, 1]))))
    images, _ = both.batch(range(9))
    pixels = torch.stack([read_image(added[i], SIZE, 3) for i in (2, 0, 1)])
    assert torch.equal(images, torch.cat((before.batch(range(6))[0], from_uint8(pixels))))


def test_a_batch_keeps_the_order_asked_for_whatever_it_mixes(
    added: list[Path], tmp_path: Path
) -> None:
    both = AugmentedSet(faces(), tmp_path / "set")
    everything, labels = both.batch(range(9))
    for asked in ([8, 0, 7, 7, 3], [5, 1], [6]):
        images, found = both.batch(asked)
        assert torch.equal(images, everything[asked])
        assert torch.equal(found, labels[asked])


def test_the_folders_images_get_the_form_of_the_others(tmp_path: Path) -> None:
    fill(tmp_path / "set", "Alder/0.png", "Birch/0.png", size=50)
    grey = AugmentedSet(faces(channels=1), tmp_path / "set")
    assert grey.batch([7])[0].shape == (1, 1, SIZE, SIZE)


def test_the_fingerprint_covers_the_images_before_and_those_added(
    added: list[Path], tmp_path: Path
) -> None:
    first = AugmentedSet(faces(), tmp_path / "set").fingerprint
    assert AugmentedSet(faces(), tmp_path / "set").fingerprint == first
    assert faces().fingerprint != first
    assert AugmentedSet(faces(seed=1), tmp_path / "set").fingerprint != first
    fill(tmp_path / "set", "Alder/9.png")
    assert AugmentedSet(faces(), tmp_path / "set").fingerprint != first


def test_an_image_folder_can_be_augmented(added: list[Path], tmp_path: Path) -> None:
    fill(tmp_path / "own", *(f"{name}/{i}.png" for name in ("Alder", "Birch") for i in range(5)))
    own = ImageFolder(
        root=tmp_path / "own",
        split="train",
        resolution=SIZE,
        channels=3,
        validation_share=0.2,
        test_share=0.2,
        seed=0,
    )
    assert len(AugmentedSet(own, tmp_path / "set")) == 6 + 3


def test_what_is_judged_on_is_never_augmented(added: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only a train split can be augmented, got test"):
        AugmentedSet(faces("test"), tmp_path / "set")


def test_other_classes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "set", "Alder/0.png", "Cedar/0.png")
    with pytest.raises(InputError, match=r"sub-folders \(Alder, Birch\), got Alder, Cedar"):
        AugmentedSet(faces(), tmp_path / "set")


def test_a_class_without_images_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "set", "Alder/0.png")
    (tmp_path / "set" / "Birch").mkdir()
    with pytest.raises(InputError, match="got none in .*Birch"):
        AugmentedSet(faces(), tmp_path / "set")


def test_a_missing_folder_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.augmentation must be an existing folder"):
        AugmentedSet(faces(), tmp_path / "set")
