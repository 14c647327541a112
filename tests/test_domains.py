"""Experiments of the published domains: composed, built at their true size, trained a little."""

import csv
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from domains import LAYOUTS
from doors import ROOT, compose, run
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stylex.artifacts import read_tensors
from stylex.classifier.frozen import build_classifier
from stylex.classifier.mobilenet import MobileNetV1
from stylex.data import elpv
from stylex.door import image_set
from stylex.model import build_discriminator, build_model

CLASSES = {  # names in the order of the logits
    "afhq_cat_dog": ["cat", "dog"],
    "afhq_wild": ["lion", "cheetah", "leopard", "tiger"],
    "ffhq_age": ["perceived old", "perceived young"],
    "ffhq_gender": ["perceived female", "perceived male"],
    "plant_village": ["healthy", "sick"],
    "retina_dme": ["no oedema", "oedema"],
    "cub_200": [f"{i + 1:03d}.Bird_{i}" for i in range(200)],
    "elpv": ["intact", "defective"],
}
SEARCHED = {"retina_dme": 5952, "elpv": 4736}  # style coordinates; the others have 5,760
README = (ROOT / "README.md").read_text()
QUICK = ["cpu_threads=1", "trainer.accelerator=cpu", "training.num_steps=2"]
NARROW = "{channel_base: 128, channel_max: 8}"


@cache
def experiment(name: str, task: str, *overrides: str) -> DictConfig:
    own = [] if name == "elpv" else ["data.root=IMAGES"]
    return compose("train", [f"task={task}", f"experiment={name}", *own, *overrides])


@cache
def keys_of_training(task: str) -> set[str]:
    return set(compose("train", [f"task={task}"]).training)


def plain(config: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(found, dict)
    return found


# The counts of StyleGAN2's networks, from the widths alone


def widths(resolution: int, base: int) -> list[int]:
    """Channels from 4 px up."""
    return [min(base >> i, 512) for i in range(2, resolution.bit_length())]


def generator_count(width: list[int], latent: int, channels: int) -> int:
    convolutions = [(width[0], width[0])]
    for below, here in pairwise(width):
        convolutions += [(below, here), (here, here)]
    affines = sum(latent * i + i for i in [*(i for i, _ in convolutions), *width])
    kernels = sum(9 * i * o + o + 1 for i, o in convolutions)  # + bias, strength of the noise
    return 16 * width[0] + affines + kernels + sum(i * channels + channels for i in width)


def residual_count(width: list[int], channels: int, outputs: int, deviation: bool) -> int:
    down = list(reversed(width))
    blocks = sum(9 * a * a + a + 9 * a * b + b + a * b for a, b in pairwise(down))
    last = down[-1]
    end = 9 * (last + deviation) * last + last + 16 * last**2 + last + last * outputs + outputs
    return channels * down[0] + down[0] + blocks + end


def coordinates(width: list[int]) -> tuple[int, int]:
    """Of the convolutions, and of ToRGB."""
    return width[0] + sum(below + here for below, here in pairwise(width)), sum(width)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_formulas_give_the_published_totals() -> None:
    # stylegan2-ada-pytorch prints them for 1024 px, config F: 28,794,124 with two mapping layers.
    width = widths(1024, 32768)
    assert generator_count(width, 512, 3) + 2 * (512 * 512 + 512) == 28_794_124
    assert residual_count(width, 3, 1, deviation=True) == 29_012_513
    assert sum(coordinates(width)) == 9088  # Wu et al. 2021
    with torch.device("meta"):  # Keras' summary, 1,000 classes
        assert count(MobileNetV1(1000, 0.2, 6.0, clamp_input=False)) == 4_231_976


@pytest.mark.parametrize("name", CLASSES)
def test_the_networks_of_a_domain_have_their_true_size(name: str) -> None:
    config = plain(experiment(name, "stylex"))
    resolution, channels = config["data"]["resolution"], config["data"]["channels"]
    classes = CLASSES[name]
    with torch.device("meta"):
        classifier = build_classifier({**config["classifier"], "weights": None}, classes)
        model = build_model(config["model"], classifier)
        discriminator = build_discriminator(config["model"], len(classes))
        images = torch.zeros(4, channels, resolution, resolution)
        assert model.reconstruct(images).shape == images.shape
        assert len(classifier.features(images)[1]) == 3  # the perceptual term needs them
        assert discriminator(images, torch.zeros(4, len(classes))).shape[0] == 4
    width = widths(resolution, 16384 if name == "elpv" else 32768)
    layout = model.generator.layout
    assert coordinates(width)[0] == len(layout.searched()) == SEARCHED.get(name, 5760)
    assert sum(coordinates(width)) == layout.num_coordinates
    latent = 512 + len(classes)
    assert count(model.generator) == generator_count(width, latent, channels)
    assert count(model.encoder) == residual_count(width, channels, 512, deviation=False)
    assert count(discriminator) == residual_count(width, channels, len(classes), deviation=True)
    assert count(model.mapping) == 8 * (512 * 512 + 512)
    if name != "elpv":
        assert count(classifier.network) == 4_231_976 - 1025 * (1000 - len(classes))


@pytest.mark.parametrize("name", CLASSES)
def test_both_tasks_of_a_domain_have_the_same_data_and_their_own_settings(name: str) -> None:
    first, second = (experiment(name, task) for task in ("classifier", "stylex"))
    plain(first)
    plain(second)  # nothing is missing
    ours, theirs = dict(first.data), dict(second.data)
    assert ours.pop("batch_size") == 64
    assert theirs.pop("batch_size") == 16  # the authors'
    assert ours == theirs
    assert first.classifier.weights is None
    assert second.classifier.weights == f"runs/{name}-classifier/checkpoints/classifier.safetensors"
    same = {key: first.classifier[key] for key in first.classifier if key != "weights"}
    assert same == {key: second.classifier[key] for key in same}
    for config, task in ((first, "classifier"), (second, "stylex")):
        assert set(config.training) == keys_of_training(task)
    assert first.training.num_steps == first.domain.classifier_steps
    assert second.training.num_steps == 250_000
    assert first.training.flip_share == second.training.flip_share == 0.5
    large = name.startswith("ffhq")
    assert second.training.augment.mode == ("none" if large else "adaptive")
    rule = 0.0002 * second.data.resolution**2 / second.data.batch_size
    assert second.training.weights.r1_gamma == pytest.approx(rule, rel=1e-3)


@pytest.mark.parametrize("name", ["afhq_cat_dog", "cub_200"])
def test_a_domains_recipe_is_the_papers_setting_but_for_what_it_says(name: str) -> None:
    ours = OmegaConf.to_container(experiment(name, "stylex").training, resolve=True)
    paper = OmegaConf.to_container(
        compose("train", ["experiment=paper", "data=folder"]).training, resolve=True
    )
    assert ours["weights"].pop("r1_gamma") < paper["weights"].pop("r1_gamma") == 10
    assert (ours.pop("perceptual"), paper.pop("perceptual")) == ("classifier", "lpips")
    assert (ours["augment"].pop("mode"), paper["augment"].pop("mode")) == ("adaptive", "none")
    assert (ours.pop("flip_share"), paper.pop("flip_share")) == (0.5, 0.0)
    assert ours == paper


def test_a_patients_photographs_lie_in_one_split(tmp_path: Path) -> None:
    LAYOUTS["retina_dme"](tmp_path)
    data = compose("train", ["data=retina_dme", f"data.root={tmp_path}", "data.resolution=32"]).data
    parts = [image_set(data, split).paths for split in ("train", "validation", "test")]
    patients = [{path.partition("_")[0] for path in paths} for paths in parts]
    assert sum(len(found) for found in patients) == len(set.union(*patients)) == 24


@pytest.mark.parametrize("task", ["classifier", "stylex"])
def test_what_is_typed_beats_a_domains_recipe(task: str) -> None:
    config = experiment("afhq_cat_dog", task, "training.num_steps=7", "classifier.weights=FILE")
    assert config.training.num_steps == 7
    assert config.classifier.weights == "FILE"


def test_without_a_domain_no_recipe_is_taken() -> None:
    shipped = compose("train", ["task=classifier"])
    assert "domain" not in shipped
    assert shipped.training.num_steps == 3000
    assert shipped.data.batch_size == 128


@pytest.mark.parametrize("name", CLASSES)
def test_the_head_of_a_domain_says_how_to_run_it_and_what_to_expect(name: str) -> None:
    lines = (ROOT / "configs" / "experiment" / f"{name}.yaml").read_text().splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    for told in ("Layout:", " px", "batch 16", "flips", "classifier:", "Expected time:", "Source"):
        assert told in head
    for task, folder in (("task=classifier ", f"{name}-classifier"), ("", name)):
        assert f"python train.py {task}experiment={name} " in head
        assert f"output_dir=runs/{folder}\n" in head + "\n"
    assert sum(bool(line.strip()) and not line.startswith("#") for line in lines) <= 15
    assert f"| `{name}` |" in README


@pytest.fixture
def pictures(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[str]]:
    """A domain's name, and the arguments that name its layout; the working folder has no runs."""
    name = request.param
    root = tmp_path / "images"
    root.mkdir()
    LAYOUTS[name](root)
    monkeypatch.chdir(tmp_path)
    if name == "elpv":
        monkeypatch.setattr(elpv, "_folder", lambda: root)
        return name, []
    return name, [f"data.root={root}"]


@pytest.mark.parametrize("pictures", CLASSES, indirect=True)
def test_a_domains_layout_gives_its_classes_in_every_split(
    pictures: tuple[str, list[str]],
) -> None:
    name, given = pictures
    config = compose("train", [f"experiment={name}", *given, "data.resolution=32"])
    splits = {split: image_set(config.data, split) for split in ("train", "validation")}
    searched = compose("search", [f"data={name}", *given, "data.resolution=32"]).data
    splits["test"] = image_set(searched, "test")  # other doors know the data by the same name
    for images in splits.values():
        assert list(images.class_names) == CLASSES[name]
        assert set(images.labels.tolist()) == set(range(len(CLASSES[name])))
        assert images.batch([0])[0].shape == (1, config.data.channels, 32, 32)


def write_labels_as_the_readme_does(root: Path) -> None:
    """Runs README's lines in a copy of the working folder; every face must get a label."""
    block = next(b for b in README.split("```") if b.startswith("python") and "labels.csv" in b)
    before = (root / "labels.csv").read_text()
    (Path.cwd() / "FFHQ").symlink_to(root)
    exec(block.removeprefix("python"), {})  # noqa: S102  README's own
    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == [
        f"{i // 10 * 10:05d}/{i:05d}.png" for i in range(24)
    ]
    assert {row["Young"] for row in rows} <= {"-1", "1"}
    (root / "labels.csv").write_text(
        before
    )  # a classifier of two steps may call all faces the same


@pytest.mark.slow
@pytest.mark.parametrize("pictures", CLASSES, indirect=True)
def test_a_domain_trains_its_classifier_and_then_its_model(
    pictures: tuple[str, list[str]], tmp_path: Path
) -> None:
    name, given = pictures
    asked = [f"experiment={name}", *given, "data.resolution=32", "data.batch_size=4", *QUICK]
    run("train", "task=classifier", *asked, f"output_dir=runs/{name}-classifier")
    if name == "ffhq_age":
        write_labels_as_the_readme_does(Path(given[0].partition("=")[2]))
    narrow = [f"model.{network}={NARROW}" for network in ("generator", "encoder", "discriminator")]
    small = ["model.latent_dim=8", "model.mapping_layers=2"]
    run("train", *asked, *narrow, *small, f"output_dir=runs/{name}")
    folder = tmp_path / "runs" / name
    weights, _ = read_tensors(folder / "checkpoints" / "model.safetensors", "model")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert weights["generator.convolutions.0.affine.weight"].shape[1] == 8 + len(CLASSES[name])
    kept = OmegaConf.load(folder / "checkpoints" / "config.yaml")
    assert list(kept.class_names) == CLASSES[name]
    full = compose("train", [f"experiment={name}", *given])
    for key in ("weights", "augment", "flip_share", "perceptual"):
        assert kept.training[key] == plain(full)["training"][key]
