"""Laws of `stylex.data.datasets`."""

import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictured_folders import SPLITS, folder, many, paths, write

import stylex.data
from stylex.data.datasets import FashionMNIST
from stylex.errors import InputError
from stylex.imaging import from_uint8, read_image

ASSET = Path(stylex.data.__file__).parent / "assets" / "fashion_mnist"


@pytest.fixture(scope="module")
def fashion() -> dict[str, FashionMNIST]:
    return {split: FashionMNIST(split=split, resolution=32, channels=1) for split in SPLITS}


@pytest.mark.parametrize(("part", "splits"), [("train", SPLITS[:2]), ("test", SPLITS[2:])])
def test_the_splits_are_consecutive_pieces_of_the_embedded_files(
    part: str, splits: tuple[str, ...], fashion: dict[str, FashionMNIST]
) -> None:
    content = lzma.decompress((ASSET / f"{part}-images-idx3-ubyte.xz").read_bytes())
    pixels = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    images = torch.cat([fashion[split].batch(range(len(fashion[split])))[0] for split in splits])
    assert torch.equal(images[:, :, 2:-2, 2:-2], from_uint8(torch.from_numpy(pixels.copy())))
    border = images.clone()
    border[:, :, 2:-2, 2:-2] = -1
    assert (border == -1).all()


def test_every_prefix_is_balanced(fashion: dict[str, FashionMNIST]) -> None:
    assert [len(fashion[split]) for split in SPLITS] == [18_000, 2_000, 2_000]
    for images in fashion.values():
        assert torch.equal(images.labels, torch.arange(len(images)) % 10)


def test_the_labels_belong_to_the_images(fashion: dict[str, FashionMNIST]) -> None:
    train, labels = fashion["train"].batch(range(5_000))
    means = torch.stack([train[labels == k].mean(0) for k in range(10)]).flatten(1)
    for split in ("validation", "test"):
        images, labels = fashion[split].batch(range(2_000))
        nearest = torch.cdist(images.flatten(1), means).argmin(1)
        assert (nearest == labels).float().mean() > 0.6  # guessing finds 0.1


def test_fashion_classes_have_their_names_in_the_standard_order(
    fashion: dict[str, FashionMNIST],
) -> None:
    names = ", ".join(fashion["test"].class_names)
    assert names == (
        "T-shirt, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
    )


def test_three_channels_repeat_the_grey_value(fashion: dict[str, FashionMNIST]) -> None:
    colour, _ = FashionMNIST(split="test", resolution=32, channels=3).batch(range(8))
    grey, _ = fashion["test"].batch(range(8))
    assert torch.equal(colour, grey.expand(8, 3, 32, 32))


def test_other_resolutions_show_the_same_images(fashion: dict[str, FashionMNIST]) -> None:
    large, labels = FashionMNIST(split="test", resolution=128, channels=1).batch(range(8))
    small, expected = fashion["test"].batch(range(8))
    assert large.shape == (8, 1, 128, 128)
    assert torch.equal(labels, expected)
    assert large.abs().max() <= 1
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (shrunk - small).abs().mean() < 0.05


def test_the_embedded_files_stay_small_and_carry_their_licence() -> None:
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 10_000_000
    licence = (ASSET / "LICENSE").read_text()
    assert "Zalando" in licence
    assert "Permission is hereby granted, free of charge" in licence


def test_an_item_is_a_batch_of_one(fashion: dict[str, FashionMNIST]) -> None:
    images, labels = fashion["test"].batch([13])
    image, label = fashion["test"][13]
    assert torch.equal(image, images[0])
    assert label == labels[0] == 3


def test_batches_keep_order_and_repetition(fashion: dict[str, FashionMNIST]) -> None:
    images, labels = fashion["test"].batch([7, 3, 7])
    assert labels.tolist() == [7, 3, 7]
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])


def test_positions_outside_the_set_are_refused(fashion: dict[str, FashionMNIST]) -> None:
    with pytest.raises(IndexError, match="out of bounds|out of range"):
        fashion["test"].batch([0, 2_000])


def test_fingerprints_tell_splits_and_forms_apart(fashion: dict[str, FashionMNIST]) -> None:
    others = [
        FashionMNIST(split="test", resolution=64, channels=1),
        FashionMNIST(split="test", resolution=32, channels=3),
    ]
    prints = [images.fingerprint for images in (*fashion.values(), *others)]
    assert len(set(prints)) == 5
    again = FashionMNIST(split="test", resolution=32, channels=1)
    assert again.fingerprint == fashion["test"].fingerprint
    assert len(again.fingerprint) == 64


# Folders


def test_every_image_is_in_exactly_one_split_of_about_its_share(tmp_path: Path) -> None:
    names = many(40, "cat", "dog")
    write(tmp_path, names)
    parts = {split: paths(tmp_path, split=split) for split in SPLITS}
    assert sorted(sum(parts.values(), [])) == sorted(names)
    for name in ("cat", "dog"):
        counts = [sum(path.startswith(name) for path in parts[split]) for split in SPLITS]
        assert counts == [28, 4, 8]


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.5, 0.49), (0.01, 0.98), (0.98, 0.01)])
@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_three_images_reach_every_split_whatever_the_shares(
    count: int, shares: tuple[float, float], tmp_path: Path
) -> None:
    write(tmp_path, many(count, "a", "b"))
    for split in SPLITS:
        part = folder(tmp_path, split=split, validation_share=shares[0], test_share=shares[1])
        assert set(part.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_one_or_two_images_is_trained_on(count: int, tmp_path: Path) -> None:
    write(tmp_path, [*many(count, "few"), *many(5, "more")])
    part = folder(tmp_path, validation_share=0.6, test_share=0.3)
    assert set(part.labels.tolist()) == {0, 1}


def test_the_split_follows_from_seed_and_relative_path_alone(tmp_path: Path) -> None:
    names = many(20, "a", "b")
    one, other = write(tmp_path / "one", names), write(tmp_path / "other", reversed(names))
    for split in SPLITS:
        assert paths(one, split=split) == paths(other, split=split)
        assert paths(one, split=split) != paths(one, split=split, seed=1)


def test_a_new_image_of_one_class_does_not_move_images_of_another(tmp_path: Path) -> None:
    write(tmp_path, many(20, "a", "b"))
    before = [path for path in paths(tmp_path) if path.startswith("b")]
    write(tmp_path, ["a/new.png"])
    assert [path for path in paths(tmp_path) if path.startswith("b")] == before


def test_classes_are_the_sorted_folders_and_labels_their_positions(tmp_path: Path) -> None:
    write(tmp_path, many(4, "zebra", "ant", "Bee"))
    part = folder(tmp_path)
    assert part.class_names == ("Bee", "ant", "zebra")
    for path, label in zip(part.paths, part.labels.tolist(), strict=True):
        assert path.split("/")[0] == part.class_names[label]


def test_nested_files_of_all_suffixes_count_and_hidden_or_other_ones_do_not(
    tmp_path: Path,
) -> None:
    seen = ["a/1.PNG", "a/deep/2.jpg", "a/deep/er/3.JPEG", "a/4.webp", "b/5.png"]
    hidden = ["a/.6.png", "a/.cache/7.png", ".git/8.png", "9.png"]
    write(tmp_path, seen + hidden)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "folder.png").mkdir()
    (tmp_path / "readme.md").write_text("no class")
    found = sum((paths(tmp_path, split=split) for split in SPLITS), [])
    assert sorted(found) == sorted(seen)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_holds_the_files_as_read_image_reads_them(channels: int, tmp_path: Path) -> None:
    write(tmp_path, many(6, "a", "b"))
    part = folder(tmp_path, channels=channels)
    images, labels = part.batch([5, 0])
    files = [tmp_path / part.paths[i] for i in (5, 0)]
    expected = torch.stack([read_image(file, 32, channels) for file in files])
    assert torch.equal(images, from_uint8(expected))
    assert torch.equal(labels, part.labels[[5, 0]])
    assert (part.resolution, part.channels, len(part)) == (32, channels, len(part.paths))


def test_folder_fingerprints_follow_the_files_and_not_their_place(tmp_path: Path) -> None:
    one = write(tmp_path / "one", many(9, "a", "b"))
    other = write(tmp_path / "other", many(9, "a", "b"))
    before = folder(one).fingerprint
    assert folder(other).fingerprint == before
    changes: list[dict[str, Any]] = [
        {"split": "test"},
        {"resolution": 64},
        {"channels": 3},
        {"seed": 1},
        {"test_share": 0.4},
    ]
    prints = [folder(one, **change).fingerprint for change in changes]
    changed = other / paths(other)[0]
    changed.write_bytes(changed.read_bytes() + b" ")
    prints += [before, folder(other).fingerprint]
    assert len(set(prints)) == 7


def test_a_folder_set_can_be_sent_to_a_loading_process(tmp_path: Path) -> None:
    part = folder(write(tmp_path, many(6, "a", "b")))
    copy = pickle.loads(pickle.dumps(part))
    assert torch.equal(copy.batch([1])[0], part.batch([1])[0])


def test_broken_images_are_named_in_every_split_or_left_out_of_theirs_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = many(12, "a", "b")
    write(tmp_path, names)
    before = {split: paths(tmp_path, split=split) for split in SPLITS}
    for name in (before["train"][2], before["test"][0]):
        (tmp_path / name).write_bytes(b"broken")
    for split in SPLITS:
        with pytest.raises(InputError, match="or give data.on_error=skip") as caught:
            folder(tmp_path, split=split)
        assert f"{tmp_path / before['train'][2]} (its content cannot be" in str(caught.value)
        assert str(tmp_path / before["test"][0]) in str(caught.value)
    with caplog.at_level("INFO", "stylex"):
        after = {split: paths(tmp_path, split=split, on_error="skip") for split in SPLITS}
    assert after["validation"] == before["validation"]
    assert after["train"] == [*before["train"][:2], *before["train"][3:]]
    assert after["test"] == before["test"][1:]
    said = [text for text in caplog.messages if "are left out" in text]
    assert len(said) == 3  # one of each set
    assert before["train"][2] in said[0]


def test_many_broken_images_are_counted(tmp_path: Path) -> None:
    write(tmp_path, many(9, "a", "b"))
    for i in range(8):
        (tmp_path / "a" / f"{i:03}.png").write_bytes(b"broken")
    with pytest.raises(
        InputError, match=r"a/004.png \([a-z ]*\) and 3 more: replace or remove them"
    ):
        folder(tmp_path)
    with pytest.raises(InputError, match="on_error must be refuse or skip, got 'ignore'"):
        folder(tmp_path, on_error="ignore")


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"existing folder, got .*nowhere: correct the path"):
        folder(tmp_path / "nowhere")


@pytest.mark.parametrize("classes", [[], ["only"]])
def test_fewer_than_two_class_folders_are_refused(classes: list[str], tmp_path: Path) -> None:
    write(tmp_path, [*many(3, *classes), "loose.png"])
    law = rf"at least two sub-folders, one a class, got {len(classes)} in .*: sort the images"
    with pytest.raises(InputError, match=law):
        folder(tmp_path)


def test_a_class_folder_without_images_is_named(tmp_path: Path) -> None:
    write(tmp_path, many(3, "a", "b"))
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match=r"got none in .*/c: add images or remove the folder"):
        folder(tmp_path)


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    write(tmp_path, many(2, "a", "b"))
    law = "each split needs images, got none for validation from .*: give each class three"
    with pytest.raises(InputError, match=law):
        folder(tmp_path, split="validation")


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.1, 0.0), (-0.1, 0.2), (0.5, 0.5), (0.9, 0.3)])
def test_shares_out_of_range_are_refused(shares: tuple[float, float], tmp_path: Path) -> None:
    law = f"above 0 and their sum below 1, got {shares[0]} and {shares[1]}"
    with pytest.raises(InputError, match=law):
        folder(tmp_path, validation_share=shares[0], test_share=shares[1])


@pytest.mark.parametrize(
    ("name", "value", "law"),
    [
        ("split", "val", "split must be train, validation or test, got val"),
        ("resolution", 48, "resolution must be a power of two from 32 to 1024, got 48"),
        ("channels", 4, r"channels must be 1 \(grey\) or 3 \(colour\), got 4"),
    ],
)
def test_both_sets_refuse_the_same_forms(
    name: str, value: object, law: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=law):
        FashionMNIST(**{"split": "test", "resolution": 32, "channels": 1, name: value})
    with pytest.raises(InputError, match=law):
        folder(tmp_path, **{name: value})
