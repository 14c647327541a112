"""StylEx from published weights: the same images and logits at first; and back, for an export."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import published
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from published import SIZES, State
from torch import nn

from stylex.errors import InputError
from stylex.gan.convert import to_layout
from stylex.gan.generator import Generator
from stylex.gan.mapping import Mapping
from stylex.gan.residual import Discriminator
from stylex.gan.transfer import collect, start

ROOT = Path(__file__).parents[2]
NUM_CLASSES = 5
Networks = tuple[Generator, Mapping, Discriminator]


def networks(
    latent_dim: int = 10,
    depth: int = 3,
    resolution_px: int = 32,
    channels: int = 3,
    sizes: dict[str, int] = SIZES,
    noise: bool = True,
    num_classes: int = NUM_CLASSES,
) -> Networks:
    """Of a StylEx model, untrained."""
    return (
        Generator(resolution_px, channels, latent_dim + num_classes, **sizes, noise=noise),
        Mapping(latent_dim, depth),
        Discriminator(resolution_px, channels, **sizes, num_classes=num_classes, minibatch_group=2),
    )


def probabilities(count: int) -> torch.Tensor:
    return torch.randn(count, NUM_CLASSES).softmax(dim=1)


def double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Published weights of both networks."""
    path = tmp_path / "weights.pt"
    g, d = published.nvlabs_generator(), published.nvlabs_discriminator()
    torch.save({"G_ema": g, "D": d}, path)
    return path


def contents(file: Path) -> tuple[State, State]:
    found = torch.load(file, weights_only=True)
    return found["G_ema"], found["D"]


def change(file: Path, section: str, tensors: State) -> None:
    """Replaces some of the file's tensors."""
    found = torch.load(file, weights_only=True)
    found[section] |= tensors
    torch.save(found, file)


# The laws ----------------------------------------------------------------------------------------


def test_at_first_the_images_are_the_published_ones_whatever_the_probabilities(file: Path) -> None:
    generator, mapping, discriminator = networks()
    z = torch.randn(3, 10)

    taken = start(file, generator, mapping, discriminator)

    g = double(contents(file)[0])
    latents = published.nvlabs_latents(g, z.double())
    images = published.nvlabs_images(g, latents[:, None].expand(-1, 8, -1))
    for _ in range(2):
        found = generator(torch.cat((mapping(z), probabilities(3)), dim=1))
        torch.testing.assert_close(found.double(), images, atol=1e-4, rtol=0)
    one, other = (torch.cat((mapping(z), p), 1) for p in torch.eye(5)[:2, None].expand(2, 3, 5))
    assert generator(one).equal(generator(other))
    assert taken == "mapping, generator, discriminator (layout nvlabs)"


def test_at_first_a_discriminator_of_one_output_gives_its_logit_for_every_class(file: Path) -> None:
    generator, mapping, discriminator = networks()
    images = torch.randn(4, 3, 32, 32)

    start(file, generator, mapping, discriminator)

    logits = published.nvlabs_logits(double(contents(file)[1]), images.double(), 2)[:, 0]
    for p in (torch.eye(5)[:4], probabilities(4)):
        found = discriminator(images, p).double()
        torch.testing.assert_close(found, logits, atol=1e-4, rtol=0)


def test_a_discriminator_of_as_many_outputs_as_classes_is_taken_as_it_is(tmp_path: Path) -> None:
    d = published.nvlabs_discriminator(NUM_CLASSES)
    torch.save({"D": d}, tmp_path / "d.pt")
    generator, mapping, discriminator = networks()

    start(tmp_path / "d.pt", generator, mapping, discriminator)

    images = torch.randn(4, 3, 32, 32)
    logits = published.nvlabs_logits(double(d), images.double(), 2)
    for k in range(4):
        found = discriminator(images, torch.eye(5)[k].expand(4, -1)).double()
        torch.testing.assert_close(found, logits[:, k], atol=1e-4, rtol=0)


def test_networks_that_the_file_has_not_stay_as_they_were(tmp_path: Path) -> None:
    torch.save(published.rosinality_discriminator(), tmp_path / "d.pt")
    generator, mapping, discriminator = networks()
    before = {k: v.clone() for k, v in generator.state_dict().items()}

    taken = start(tmp_path / "d.pt", generator, mapping, discriminator)

    assert taken == "discriminator (layout rosinality)"
    assert all(v.equal(before[k]) for k, v in generator.state_dict().items())


def test_noise_of_strength_0_is_dropped_where_the_generator_takes_none(file: Path) -> None:
    g, d = contents(file)
    silent = {k: v * 0 if k.endswith("noise_strength") else v for k, v in g.items()}
    torch.save({"G_ema": silent, "D": d}, file)
    (loud, mapping, judge), (quiet, _, _) = networks(), networks(noise=False)
    start(file, loud, mapping, judge)
    start(file, quiet, mapping, judge)

    latents = torch.cat((mapping(torch.randn(2, 10)), probabilities(2)), dim=1)

    torch.testing.assert_close(quiet(latents), loud(latents))


@pytest.mark.parametrize("layout", ["nvlabs", "rosinality"])
def test_an_export_of_a_stylex_model_is_the_model_at_the_given_probabilities(layout: Any) -> None:  # noqa: ANN401
    generator, mapping, discriminator = networks()
    z, p = torch.randn(2, 10), probabilities(1)[0]

    exported = to_layout(collect(generator, mapping, discriminator, p), layout)

    sections = {"nvlabs": ("G_ema.", "D."), "rosinality": ("g_ema.", "d.")}[layout]
    g, d = (
        {k.removeprefix(s): v.double() for k, v in exported.items() if k.startswith(s)}
        for s in sections
    )
    latents = getattr(published, f"{layout}_latents")(g, z.double())
    images = getattr(published, f"{layout}_images")(g, latents[:, None].expand(-1, 8, -1))
    found = generator(torch.cat((mapping(z), p.expand(2, -1)), dim=1))
    torch.testing.assert_close(found.double(), images, atol=1e-4, rtol=0)
    logits = getattr(published, f"{layout}_logits")(d, images, 2)
    found = discriminator(images.float(), p.expand(2, -1)).double()
    torch.testing.assert_close(found, logits[:, 0], atol=1e-4, rtol=0)


def test_an_export_of_a_generator_without_classes_changes_no_bit() -> None:
    parts = networks(num_classes=0)

    weights = collect(parts[0], parts[1], None, torch.zeros(0))

    assert weights.discriminator == {}
    for state, network in zip((weights.generator, weights.mapping), parts[:2], strict=True):
        assert state.keys() == network.state_dict().keys()
        assert all(state[k].equal(v) for k, v in network.state_dict().items())


def test_an_export_leaves_the_networks_as_they_were() -> None:
    parts = networks()
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]

    collect(*parts, probabilities(1)[0])

    for part, state in zip(parts, before, strict=True):
        assert all(v.equal(state[k]) for k, v in part.state_dict().items())


# Refusals ----------------------------------------------------------------------------------------

WIDE = {"channel_base": 256, "channel_max": 12}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": 2}, r"mapping.layers.2.weight of shape \(10, 10\).* None; .*mapping_layers"),
        ({"depth": 4}, r"mapping.layers.3.weight of shape None .* \(10, 10\); .*mapping_layers"),
        ({"latent_dim": 8}, r"mapping.layers.0.weight of shape \(10, 10\) .* \(8, 8\); change mod"),
        (
            {"resolution_px": 16},
            r"generator.convolutions.5.* where the model has None; .*data.reso",
        ),
        (
            {"resolution_px": 64},
            r"generator.convolutions.7.* of shape None .*; change data.resolut",
        ),
        ({"channels": 1}, r"torgbs.0.weight of shape \(3, 12, 1, 1\) .* \(1, .*change data.channe"),
        ({"sizes": WIDE}, r"generator.convolutions.3.weight of shape \(8, .* \(12, .*channel_base"),
    ],
)
def test_networks_of_another_size_are_refused_with_the_key_to_change(
    file: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"must fit the configured networks, got .*{message}"):
        start(file, *networks(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"resolution_px": 16},
            r"discriminator.blocks.2.* where the model has None; .*data.resolu",
        ),
        ({"channels": 1}, r"from_rgb.weight of shape \(4, 3, 1, 1\) .* \(4, 1, .*data.channels"),
        ({"sizes": WIDE}, r"from_rgb.weight of .*; change model.discriminator.channel_base or mod"),
    ],
)
def test_a_discriminator_of_another_size_is_refused_with_the_key_to_change(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    torch.save(published.nvlabs_discriminator(), tmp_path / "d.pt")

    with pytest.raises(InputError, match=f"must fit the configured networks, got .*{message}"):
        start(tmp_path / "d.pt", *networks(**given))


def test_a_discriminator_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    torch.save(published.nvlabs_discriminator(3), tmp_path / "d.pt")

    with pytest.raises(
        InputError, match=r"out.weight of shape \(3, 12\) .*; change the data's cla"
    ):
        start(tmp_path / "d.pt", *networks())


def test_latents_of_another_width_than_the_mappings_are_refused(file: Path) -> None:
    state, _ = contents(file)
    wide = {k: torch.zeros(len(v), 11) for k, v in state.items() if k.endswith("affine.weight")}
    change(file, "G_ema", wide)

    with pytest.raises(
        InputError, match=r"\(12, 16\) where the model has \(12, 15\); .*latent_dim"
    ):
        start(file, *networks())


def test_noise_that_the_generator_does_not_take_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="with noise need .*; give model.generator.noise=true"):
        start(file, *networks(noise=False))


def test_weights_without_noise_are_refused_by_a_generator_that_takes_it(file: Path) -> None:
    state = {k: v for k, v in contents(file)[0].items() if "noise" not in k}
    torch.save(state, file)

    with pytest.raises(InputError, match="without noise need .*; give model.generator.noise=false"):
        start(file, *networks())


def test_nothing_is_taken_from_a_file_of_which_a_part_does_not_fit(file: Path) -> None:
    change(file, "D", {"b4.out.weight": torch.zeros(3, 12), "b4.out.bias": torch.zeros(3)})
    parts = networks()
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]

    with pytest.raises(InputError, match="must fit the configured networks"):
        start(file, *parts)

    for part, state in zip(parts, before, strict=True):
        assert all(v.equal(state[k]) for k, v in part.state_dict().items())


# The door ----------------------------------------------------------------------------------------


def fitted(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> nn.Module:
    """The module that train.py would fit, untrained."""
    spec = importlib.util.spec_from_file_location("door_train", ROOT / "train.py")
    assert spec is not None
    assert spec.loader is not None
    door = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "door_train", door)
    spec.loader.exec_module(door)
    found: list[nn.Module] = []
    monkeypatch.setattr("stylex.training.fit.fit", lambda module, *_: found.append(module))
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = hydra.compose("train", overrides=list(overrides))
    door.train(OmegaConf.to_container(config, resolve=True), config)
    return found[0]


@pytest.fixture
def arguments(tmp_path: Path, file: Path) -> list[str]:
    """Of a training on random pictures of five classes that starts from the file."""
    random = np.random.default_rng(0)
    for name in "abcde":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(8):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    widths = "channel_base: 128, channel_max: 12"
    return [
        "data=folder",
        f"data.root={tmp_path / 'pictures'}",
        "data.resolution=32",
        "classifier=small_cnn",
        "model.latent_dim=10",
        "model.mapping_layers=3",
        f"model.generator={{{widths}, noise: true}}",
        f"model.discriminator={{{widths}, minibatch_group: 2}}",
        f"model.init_from={file}",
        f"output_dir={tmp_path / 'run'}",
    ]


def said_of_weights(capsys: pytest.CaptureFixture[str]) -> str:
    """What a run printed, but for how often its classifier is right."""
    lines = capsys.readouterr().out.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("the classifier is right"))


def test_a_run_starts_from_published_weights_and_says_so(
    arguments: list[str],
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = fitted(monkeypatch, *arguments)

    g, d = contents(file)
    for model in (module.model, module.average):
        assert model.generator.const.equal(g["synthesis.b4.const"])
        assert model.mapping.layers[2].weight.equal(g["mapping.fc2.weight"])
    assert module.discriminator.fc.weight.equal(d["b4.fc.weight"])
    said = f"starts from '{file}': mapping, generator, discriminator (layout nvlabs)\n"
    assert said_of_weights(capsys) == said


def test_a_run_that_goes_on_does_not_need_the_published_weights(
    arguments: list[str],
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / f"0000002-{16 * '0'}.ckpt").write_bytes(b"")
    file.unlink()

    fitted(monkeypatch, *arguments)

    assert said_of_weights(capsys) == ""


def test_a_run_starts_at_random_if_nothing_else_is_said(
    arguments: list[str],
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = fitted(monkeypatch, *arguments, "model.init_from=null")

    assert not module.model.generator.const.equal(contents(file)[0]["synthesis.b4.const"])
    assert said_of_weights(capsys) == ""
