"""Laws of an embedding's training: what is mined, that it learns, and that it can go on."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import run
from PIL import Image

from stylex.artifacts import read_json, read_tensors
from stylex.attribution.retrieval import verification
from stylex.classifier.embedding import build_embedding, load_embedding, same_cosine
from stylex.errors import InputError
from stylex.training.embedding import (
    EmbeddingTraining,
    build_loss,
    build_miner,
    choose_device,
)
from stylex.training.objective import check_objective

CLASSES = ("disc", "dot", "line", "ring", "square")


def on_a_line(*places: float) -> torch.Tensor:
    """Points of length 1 whose distances are those of their angles, nearly: angles are small."""
    angles = torch.tensor(places, dtype=torch.float64) / 100
    return torch.stack((angles.cos(), angles.sin()), dim=1)


PLACES = (0.0, 2.0, 3.0, 4.5, 9.2)  # hundredths
LABELS = torch.tensor([0, 0, 1, 1, 1])
MARGIN = 0.02


def triplets(mined: tuple[torch.Tensor, ...]) -> set[tuple[int, ...]]:
    return set(zip(*(part.tolist() for part in mined), strict=True))


def test_semi_hard_triplets_are_those_of_a_table() -> None:
    # Anchor, positive, negative with d(a, p) < d(a, n) < d(a, p) + 2 hundredths, by hand.
    table = {
        (0, 1, 2),  # 2.0 and 3.0; image 3 is at 4.5, too far
        (1, 0, 3),  # 2.0 and 2.5; image 2 is at 1.0, nearer than the positive
        (2, 3, 0),  # 1.5 and 3.0; image 1 is at 1.0
        (3, 2, 1),  # 1.5 and 2.5; image 0 is at 4.5
        (4, 2, 1),  # 6.2 and 7.2; image 0 is at 9.2
    }  # (2, 4) at 6.2 and (3, 4) at 4.7 have only nearer negatives, (4, 3) at 4.7 only too far ones
    assert triplets(build_miner("semi_hard", MARGIN)(on_a_line(*PLACES), LABELS)) == table


def test_hard_triplets_are_the_farthest_of_the_class_and_the_nearest_of_the_others() -> None:
    found = triplets(build_miner("hard", MARGIN)(on_a_line(*PLACES), LABELS))
    assert found == {(0, 1, 2), (1, 0, 2), (2, 4, 1), (3, 4, 1), (4, 2, 1)}


def test_every_semi_hard_triplet_lies_within_the_margin_and_none_is_left_out() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(18, 3, dtype=torch.float64), dim=1)
    labels = torch.arange(18) % 3
    found = triplets(build_miner("semi_hard", 0.2)(vectors, labels))
    expected = {
        (a, p, n)
        for a in range(18)
        for p in range(18)
        for n in range(18)
        if p != a and labels[a] == labels[p] != labels[n]
        if (d := float((vectors[a] - vectors[p]).norm()))
        < float((vectors[a] - vectors[n]).norm())
        <= d + 0.2
    }
    assert found == expected
    assert expected


def loss(name: str) -> torch.nn.Module:
    return build_loss(name, num_classes=2, dim=2, temperature=0.1, margin=0.5, apart=1.0)


def test_the_losses_are_their_formulas() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(6, 2), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    d = (vectors[:, None] - vectors).norm(dim=2)
    same = (labels[:, None] == labels) & ~torch.eye(6, dtype=torch.bool)
    other = labels[:, None] != labels
    near, far = d[same], (1.0 - d[other]).clamp(min=0)
    contrastive = near[near > 0].mean() + far[far > 0].mean()
    assert torch.allclose(loss("contrastive")(vectors, labels), contrastive, atol=1e-5)
    terms = (d[:, :, None] - d[:, None, :] + 0.5).clamp(min=0)[same[:, :, None] & other[:, None, :]]
    triplet = terms[terms > 0].mean()
    assert torch.allclose(loss("triplet")(vectors, labels), triplet, atol=1e-5)
    softmax = loss("cross_entropy")
    directions = torch.nn.functional.normalize(next(softmax.parameters()), dim=0)
    logits = vectors @ directions / 0.1
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert torch.allclose(softmax(vectors, labels), expected, atol=1e-5)


GOOD = {"temperature": 0.1, "margin": 0.1, "apart": 1.0, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("loss_name", "miner", "settings", "sentence"),
    [
        ("arcface", "none", GOOD, "loss must be one of cross_entropy, .* got 'arcface'"),
        ("triplet", "easy", GOOD, "miner must be one of none, hard, semi_hard, got 'easy'"),
        ("cross_entropy", "hard", GOOD, "miner must be none, got 'hard'"),
        ("triplet", "hard", {**GOOD, "margin": 0}, r"training\.margin must be above 0, got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    loss_name: str, miner: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check_objective(loss_name, miner, settings)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylex.training.objective.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'stylex\[attribution\]'"):
        check_objective("triplet", "none", GOOD)


def test_a_plain_loop_has_one_device_at_full_precision() -> None:
    plain = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}
    assert choose_device(plain).type == "cpu"
    for key, value in (("devices", 2), ("precision", "16-mixed"), ("accelerator", "tpu")):
        with pytest.raises(InputError, match=rf"trainer\.{key}.* got '?{value}"):
            choose_device({**plain, key: value})


SETTINGS = {
    **{"num_steps": 30, "learning_rate": 0.01, "weight_decay": 0.0},
    **{"temperature": 0.1, "margin": 0.2, "apart": 1.0, "flip_share": 0.5, "noise_std": 0.1},
}


@pytest.mark.parametrize(
    ("loss_name", "miner"),
    [
        ("cross_entropy", "none"),
        *(("contrastive", miner) for miner in ("none", "hard", "semi_hard")),
        *(("triplet", miner) for miner in ("none", "hard", "semi_hard")),
    ],
)
def test_every_loss_and_miner_brings_classes_together_and_apart(
    loss_name: str, miner: str, tiny_config: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    embedding = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 4)
    training = EmbeddingTraining(
        embedding, SETTINGS, loss=loss_name, miner=miner, num_classes=3, seed=0
    )
    labels = torch.arange(12) % 3
    patterns = torch.randn(3, 1, 16, 16).clamp(-1, 1)[labels]
    for _ in range(30):
        found = training.train_on(patterns + 0.1 * torch.randn(12, 1, 16, 16), labels)
        assert ("mined" in found) == (miner != "none")
    embedding.eval()
    vectors = embedding(patterns + 0.1 * torch.randn(12, 1, 16, 16))
    assert verification(vectors.detach(), labels).auc > 0.95


def test_a_step_leaves_the_global_random_state_and_settings_as_they_were(
    tiny_config: dict[str, Any],
) -> None:
    embedding = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 4)
    before = torch.get_rng_state()
    training = EmbeddingTraining(
        embedding, SETTINGS, loss="triplet", miner="none", num_classes=2, seed=0
    )
    training.train_on(torch.zeros(4, 1, 16, 16), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(RuntimeError):
        training.train_on(torch.zeros(4, 5, 16, 16), torch.tensor([0, 0, 1, 1]))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


# Runs


def draw(root: Path, count: int) -> Path:
    """Pictures of five classes, each of its own colour and noise."""
    random = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        colour = np.array([[50 * k, 250 - 40 * k, 90 * (k % 3)]])
        for i in range(count):
            pixels = (colour + random.integers(-40, 41, (32, 32, 3))).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("embedded") / "pictures", 20)


def asked(pictures: Path, folder: Path, *more: str) -> list[str]:
    return [
        "task=embedding",
        *("data=folder", f"data.root={pictures}", "data.resolution=32"),
        *("data.validation_share=0.3", "data.test_share=0.3"),
        *("classifier=small_cnn", "classifier.arguments.width=4"),
        *("cpu_threads=1", "trainer.accelerator=cpu"),
        *("training.num_steps=6", "training.classes_per_batch=3", "training.images_per_class=4"),
        *("training.log_interval_steps=2", "training.validation_interval_steps=3"),
        *("training.checkpoint_interval_steps=2", "training.embedding_dim=4"),
        *("retrieval.gallery_per_class=2", "held_out.classes=[disc,ring]"),
        f"output_dir={folder}",
        *more,
    ]


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one go."""
    folder = tmp_path_factory.mktemp("embedded") / "whole"
    run("train", *asked(pictures, folder))
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_the_files_of_the_other_tasks(whole: Path) -> None:
    names = {
        re.sub("-[0-9a-f]{16}", "-DIGEST", path.relative_to(whole).as_posix())
        for path in whole.rglob("*")
        if path.is_file()
    }
    assert names == {
        *("config.yaml", "metrics.csv", "neighbours.png"),
        *(f"checkpoints/{name}" for name in ("embedding.safetensors", "config.yaml")),
        *(f"checkpoints/best/{name}" for name in ("embedding.safetensors", "config.yaml")),
        *("checkpoints/best/best.json", "checkpoints/retrieval.json"),
        *(f"checkpoints/000000{step}-DIGEST.ckpt" for step in (4, 6)),
    }
    assert [row["step"] for row in rows(whole) if row["loss"]] == ["0", "2", "4"]
    assert [row["step"] for row in rows(whole) if row["validation_map"]] == ["0", "2", "5"]


def test_a_run_stopped_anywhere_goes_on_bit_for_bit(
    whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stopped"
    train_on = EmbeddingTraining.train_on

    def stopping(self: EmbeddingTraining, *batch: torch.Tensor) -> dict[str, float]:
        if self.step == 3:
            raise KeyboardInterrupt
        return train_on(self, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddingTraining, "train_on", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("train", *asked(pictures, folder))
    assert not (folder / "checkpoints" / "retrieval.json").exists()
    torch.manual_seed(99)  # what is random comes from seed and step alone
    run("train", *asked(pictures, folder))
    one, other = (
        read_tensors(f / "checkpoints/embedding.safetensors", "e")[0] for f in (folder, whole)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert rows(folder) == rows(whole)
    found = (read_json(f / "checkpoints/retrieval.json", "") for f in (folder, whole))
    assert next(found) == next(found)


def test_a_run_goes_on_with_its_settings_alone_and_a_finished_one_says_so(
    whole: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(whole)
    run("train", *asked(pictures, whole))
    assert "has its 6 steps" in capsys.readouterr().out
    for change in ("loss=contrastive", "held_out.classes=[disc,dot]", "training.margin=0.3"):
        with pytest.raises(InputError, match="goes on with the settings it began with, got anoth"):
            run("train", *asked(pictures, whole, change))
    assert rows(whole) == before


def test_the_loaded_embedding_is_frozen_and_gives_unit_vectors_without_the_classes(
    whole: Path,
) -> None:
    found = load_embedding(whole)
    vectors = found(torch.rand(3, 3, 32, 32) * 2 - 1)
    assert vectors.shape == (3, 4)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
    assert not any(p.requires_grad for p in found.parameters())
    assert not found.training
    facts = read_json(whole / "checkpoints" / "retrieval.json", "")
    assert facts["held_out_classes"] == ["disc", "ring"]
    assert same_cosine(whole) == pytest.approx(1 - facts["same_distance"] ** 2 / 2)
    assert [row[0] for row in facts["rows"]] == ["pixels", "untrained", "trained"]


def test_training_never_sees_the_held_out_classes(
    whole: Path, pictures: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    for name in CLASSES:
        (changed / name).mkdir(parents=True)
        for path in (pictures / name).iterdir():
            if name in ("disc", "ring"):
                Image.new("RGB", (32, 32), (3, 200, 3)).save(changed / name / path.name)
            else:
                (changed / name / path.name).write_bytes(path.read_bytes())
    run("train", *asked(changed, tmp_path / "run"))
    folders = (tmp_path / "run", whole)
    one, other = (read_tensors(f / "checkpoints/embedding.safetensors", "e")[0] for f in folders)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["held_out.classes=[disc,moon]"], "held_out.classes must be classes .* got 'moon'"),
        (["held_out.classes=[disc]"], "at least two .* two held out, got 4 and 1 of 5"),
        (["held_out.classes=null", "held_out.share=1.5"], "held_out.share must be at most 1"),
        (["training.classes_per_batch=4"], r"classes_per_batch must be .* \(3\), got 4"),
        (["training.images_per_class=9"], r"images_per_class must be .* \(8\), got 9"),
        (["training.embedding_dim=1"], "embedding_dim must be at least 2, got 1"),
        (["retrieval.gallery_per_class=6"], "gallery_per_class must be at least 1"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_written(
    more: list[str], sentence: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        run("train", *asked(pictures, tmp_path / "run", *more))
    assert not (tmp_path / "run" / "config.yaml").exists()
