"""The model as one data flow, and its round trip through files."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from stylex.artifacts import read_tensors, write_tensors
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.errors import InputError
from stylex.model import (
    CLASSIFIER_FILE,
    CONFIG_FILE,
    DISCRIMINATOR_FILE,
    MODEL_FILE,
    Appended,
    StylEx,
    build_discriminator,
    build_model,
    load,
    load_discriminator,
    model_folder,
)
from stylex.types import Images

# Data flow ---------------------------------------------------------------------------------------


def test_the_latent_is_the_code_followed_by_the_classifiers_softmax(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    latents = tiny_model.encode(tiny_images)

    logits = tiny_model.classifier(tiny_images)
    softmax = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    assert latents.shape == (12, 4 + 3)
    torch.testing.assert_close(latents[:, :4], tiny_model.encoder(tiny_images))
    torch.testing.assert_close(latents[:, 4:], softmax)


@pytest.mark.parametrize("appended", ["uniform", "none"])
def test_without_the_softmax_every_image_gets_equal_probabilities(
    tiny_model: StylEx, tiny_images: Images, appended: Appended
) -> None:
    code = tiny_model.encode(tiny_images)[:, :4]

    tiny_model.appended = appended
    latents = tiny_model.encode(tiny_images)

    assert torch.equal(latents[:, :4], code)
    torch.testing.assert_close(latents[:, 4:], torch.full((12, 3), 1 / 3))


def test_the_appended_part_can_be_replaced_and_the_latents_stay_as_they_were(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    latents = tiny_model.encode(tiny_images)
    before = latents.clone()
    other = torch.eye(3)[torch.arange(12) % 3]

    replaced = tiny_model.with_probabilities(latents, other)

    assert torch.equal(replaced, torch.cat((before[:, :4], other), dim=1))
    assert torch.equal(latents, before)


def test_rendered_images_are_the_generators_cut_off_at_the_ends_of_a_files_range(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    styles = tiny_model.generator.styles(tiny_model.encode(tiny_images))
    whole = tiny_model.generator.synthesis(styles)
    assert whole.min() < -1 < 1 < whole.max()

    expected = whole.clamp(-1, 1)
    assert torch.equal(tiny_model.render(styles), expected)
    for state in tiny_model.generator.states(styles):
        torch.testing.assert_close(tiny_model.render(styles, state), expected)


def test_a_reconstruction_is_the_rendered_image_of_the_latent_and_forward_its_logits(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    whole = tiny_model.generator(tiny_model.encode(tiny_images))
    expected = whole.clamp(-1, 1)
    assert not torch.allclose(whole, expected)

    torch.testing.assert_close(tiny_model.reconstruct(tiny_images), expected)
    torch.testing.assert_close(tiny_model(tiny_images), tiny_model.classifier(expected))


def test_the_model_knows_its_classes_resolution_and_channels(
    tiny_config: dict[str, Any], tiny_classifier: FrozenClassifier
) -> None:
    spec = {**tiny_config["model"], "channels": 3, "resolution_px": 32}

    model = build_model(spec, tiny_classifier)

    assert model.class_names == ("circle", "square", "star")
    assert (model.resolution_px, model.channels) == (32, 3)


def test_the_parts_are_built_as_the_configuration_says(
    tiny_config: dict[str, Any], tiny_classifier: FrozenClassifier
) -> None:
    spec = tiny_config["model"]

    model = build_model(spec, tiny_classifier)
    discriminator = build_discriminator(spec, 3)

    assert len(model.mapping.layers) == 2
    assert model.mapping.latent_dim == 4
    assert model.encoder.out.weight.shape[0] == 4
    assert model.generator.convolutions[0].affine.weight.shape[1] == 4 + 3
    assert model.encoder.minibatch_group is None
    assert discriminator.minibatch_group == 2
    assert discriminator.out.weight.shape[0] == 3


# Round trip --------------------------------------------------------------------------------------


def test_a_loaded_model_reconstructs_and_judges_as_the_saved_one_did(
    tiny_model: StylEx, tiny_checkpoint: Path, tiny_images: Images
) -> None:
    loaded = load(tiny_checkpoint)

    assert torch.equal(loaded.reconstruct(tiny_images), tiny_model.reconstruct(tiny_images))
    assert torch.equal(loaded(tiny_images), tiny_model(tiny_images))
    z = torch.randn(2, 4)
    assert torch.equal(loaded.mapping(z), tiny_model.mapping(z))
    assert loaded.class_names == tiny_model.class_names
    assert loaded.classifier.fingerprint() == tiny_model.classifier.fingerprint()


def test_a_loaded_model_is_in_eval_mode_without_gradients(tiny_checkpoint: Path) -> None:
    loaded = load(str(tiny_checkpoint))

    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_model_keeps_how_it_appends(
    tiny_config: dict[str, Any], tiny_classifier: FrozenClassifier, tmp_path: Path
) -> None:
    tiny_config["model"]["appended"] = "uniform"

    build_model(tiny_config["model"], tiny_classifier).save(tmp_path, tiny_config)

    assert load(tmp_path).appended == "uniform"


def test_a_model_is_found_by_its_folder_by_a_file_in_it_and_by_the_folder_of_its_run(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(tiny_checkpoint / CONFIG_FILE, run / CONFIG_FILE)  # as a training run leaves it
    tiny_checkpoint = tiny_checkpoint.rename(run / "checkpoints")

    for path in (tiny_checkpoint, tiny_checkpoint / MODEL_FILE, run, run / CONFIG_FILE):
        assert model_folder(path) == tiny_checkpoint
        assert load(path).class_names == ("circle", "square", "star")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_model_around_a_torchscript_classifier_survives_the_round_trip(
    tiny_config: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    torch.jit.trace(network, tiny_images).save(tmp_path / "net.pt")
    own = {"network": str(tmp_path / "net.pt"), "arguments": {}, "feature_layers": []}
    spec = {**tiny_config["classifier"], **own}
    model = build_model(tiny_config["model"], build_classifier(spec, tiny_config["class_names"]))

    model.save(tmp_path / "model", {**tiny_config, "classifier": spec})

    loaded = load(tmp_path / "model", trust=True)
    torch.testing.assert_close(loaded(tiny_images), model(tiny_images))


def test_the_models_weights_do_not_contain_the_classifiers(tiny_checkpoint: Path) -> None:
    tensors, _ = read_tensors(tiny_checkpoint / MODEL_FILE, "checkpoint")

    assert tensors
    assert not [name for name in tensors if name.startswith("classifier")]


def test_saving_changes_neither_the_model_nor_the_configuration(
    tiny_model: StylEx, tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    config = yaml.safe_dump(tiny_config)

    tiny_model.save(tmp_path, tiny_config)

    assert yaml.safe_dump(tiny_config) == config
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items())


def test_an_unknown_appended_part_is_refused(
    tiny_config: dict[str, Any], tiny_classifier: FrozenClassifier
) -> None:
    spec = {**tiny_config["model"], "appended": "logits"}

    with pytest.raises(InputError, match="appended must be softmax, uniform or none, got 'logits'"):
        build_model(spec, tiny_classifier)


# What can be got wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [MODEL_FILE, CONFIG_FILE])
def test_a_folder_without_a_model_is_refused(tiny_checkpoint: Path, missing: str) -> None:
    (tiny_checkpoint / missing).unlink()

    with pytest.raises(InputError, match=f"checkpoint must be a folder with .*{missing}.*, got '"):
        load(tiny_checkpoint)


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint must be a folder with .*, got '.*nowhere'"):
        load(tmp_path / "nowhere")


def test_a_model_without_its_classifier_is_refused(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / CLASSIFIER_FILE).unlink()

    with pytest.raises(InputError, match="classifier.weights must be an existing safetensors file"):
        load(tiny_checkpoint)


@pytest.mark.parametrize(
    ("name", "what"), [(MODEL_FILE, "checkpoint"), (CLASSIFIER_FILE, "classifier.weights")]
)
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    tiny_checkpoint: Path, name: str, what: str, kept: float
) -> None:
    content = (tiny_checkpoint / name).read_bytes()
    (tiny_checkpoint / name).write_bytes(content[: int(kept * len(content))])

    with pytest.raises(InputError, match=f"{what} must be a whole safetensors file, got '.*{name}"):
        load(tiny_checkpoint)


def test_a_model_of_another_shape_than_its_configuration_says_is_refused(
    tiny_checkpoint: Path,
) -> None:
    file = tiny_checkpoint / CONFIG_FILE
    config = yaml.safe_load(file.read_text())
    config["model"]["resolution_px"] = 32
    file.write_text(yaml.safe_dump(config))

    with pytest.raises(InputError, match=r"must fit its config.yaml \(resolution 32, 3 classes\)"):
        load(tiny_checkpoint)


def test_a_model_that_lacks_a_tensor_is_refused(tiny_checkpoint: Path) -> None:
    tensors, metadata = read_tensors(tiny_checkpoint / MODEL_FILE, "checkpoint")
    del tensors["generator.const"]
    write_tensors(tiny_checkpoint / MODEL_FILE, tensors, metadata)

    with pytest.raises(InputError, match=f"{MODEL_FILE} must fit its {CONFIG_FILE}"):
        load(tiny_checkpoint)


def test_a_model_with_another_classifier_than_its_own_is_refused(tiny_checkpoint: Path) -> None:
    file = tiny_checkpoint / CLASSIFIER_FILE
    tensors, _ = read_tensors(file, "classifier")
    write_tensors(file, {**tensors, "head.bias": tensors["head.bias"] + 1})

    with pytest.raises(InputError, match=f"{CLASSIFIER_FILE} must be the one that its model was"):
        load(tiny_checkpoint)


def test_a_classifier_with_another_number_of_classes_is_refused(tiny_checkpoint: Path) -> None:
    file = tiny_checkpoint / CONFIG_FILE
    config = yaml.safe_load(file.read_text())
    config["class_names"].append("hexagon")
    file.write_text(yaml.safe_dump(config))

    with pytest.raises(InputError, match="classifier.weights must belong to the network"):
        load(tiny_checkpoint)


@pytest.mark.parametrize("text", ["a: [1", "model: {}\n\t- x", "\x00"])
def test_a_configuration_that_is_no_yaml_is_refused(tiny_checkpoint: Path, text: str) -> None:
    (tiny_checkpoint / CONFIG_FILE).write_text(text)

    with pytest.raises(InputError, match=f"a checkpoint's {CONFIG_FILE} must be YAML, got '"):
        load(tiny_checkpoint)


def test_a_configuration_that_is_no_text_is_refused(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / CONFIG_FILE).write_bytes(b"\xff\xfe\xfa")

    with pytest.raises(InputError, match=f"a checkpoint's {CONFIG_FILE} must be YAML, got '"):
        load(tiny_checkpoint)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("model"),
        lambda config: config.pop("class_names"),
        lambda config: config.clear(),
    ],
)
def test_a_configuration_without_what_rebuilds_a_model_is_refused(
    tiny_checkpoint: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    file = tiny_checkpoint / CONFIG_FILE
    config = yaml.safe_load(file.read_text())
    change(config)
    file.write_text(yaml.safe_dump(config))

    with pytest.raises(InputError, match="must have model, classifier and class_names, got '"):
        load(tiny_checkpoint)


def test_a_configuration_cut_anywhere_is_refused(tiny_checkpoint: Path) -> None:
    file = tiny_checkpoint / CONFIG_FILE
    text = file.read_text()

    for end in range(0, len(text) - 1, 7):
        file.write_text(text[:end])
        with pytest.raises(InputError, match="checkpoint's|classifier.weights"):
            load(tiny_checkpoint)


# The discriminator beside a model ----------------------------------------------------------------

ABOUT = {"data": {}, "training": {}, "seed": 0}


@pytest.fixture
def judged_checkpoint(tiny_checkpoint: Path, tiny_config: dict[str, Any]) -> Path:
    """The folder of `tiny_model` with a discriminator in it."""
    save_with_discriminator(tiny_checkpoint, tiny_config, 3, seed=5)
    return tiny_checkpoint


def save_with_discriminator(
    folder: Path, config: dict[str, Any], num_classes: int, seed: int
) -> None:
    torch.manual_seed(seed)
    judge = build_discriminator(config["model"], num_classes)
    load(folder).save(folder, {**ABOUT, **config}, judge)


def discriminator_file(folder: Path) -> Path:
    (path,) = folder.glob("discriminator*.safetensors")
    return path


def test_a_loaded_discriminator_judges_each_image_as_the_saved_one_judges_it_alone(
    judged_checkpoint: Path, tiny_config: dict[str, Any], tiny_images: Images
) -> None:
    torch.manual_seed(5)
    saved = build_discriminator(tiny_config["model"], 3)
    probabilities = torch.rand(12, 3).softmax(dim=1)

    for path in (judged_checkpoint, str(judged_checkpoint / MODEL_FILE)):
        loaded = load_discriminator(path)
        assert not any(module.training for module in loaded.modules())
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        alone = [
            saved(tiny_images[i : i + 1], probabilities[i : i + 1]) for i in range(len(tiny_images))
        ]
        torch.testing.assert_close(loaded(tiny_images, probabilities), torch.cat(alone))


def test_a_model_without_a_discriminator_loads_and_says_what_its_filter_lacks(
    tiny_checkpoint: Path,
) -> None:
    load(tiny_checkpoint)

    with pytest.raises(InputError, match=f"needs {DISCRIMINATOR_FILE} .*, got none in .*; switch"):
        load_discriminator(tiny_checkpoint)


def test_a_discriminator_of_another_shape_than_the_configuration_says_is_refused(
    judged_checkpoint: Path, tiny_config: dict[str, Any]
) -> None:
    save_with_discriminator(judged_checkpoint, tiny_config, 4, seed=5)

    with pytest.raises(InputError, match=f"{DISCRIMINATOR_FILE} must fit its {CONFIG_FILE}"):
        load_discriminator(judged_checkpoint)


def test_a_discriminator_without_a_name_of_its_own_is_read_as_before(
    judged_checkpoint: Path, tiny_model: StylEx, tiny_config: dict[str, Any]
) -> None:
    named = load_discriminator(judged_checkpoint).state_dict()
    content = discriminator_file(judged_checkpoint).read_bytes()
    tiny_model.save(judged_checkpoint, {**ABOUT, **tiny_config})
    assert not list(judged_checkpoint.glob("discriminator-*"))
    (judged_checkpoint / DISCRIMINATOR_FILE).write_bytes(content)

    plain = load_discriminator(judged_checkpoint).state_dict()

    assert all(torch.equal(plain[name], value) for name, value in named.items())


def test_a_saving_that_is_killed_anywhere_leaves_a_model_with_its_own_discriminator(
    judged_checkpoint: Path, tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pair() -> tuple[bytes, bytes]:
        judge = load_discriminator(judged_checkpoint).state_dict()
        model = load(judged_checkpoint).generator.const
        return bytes(model.numpy().tobytes()), b"".join(v.numpy().tobytes() for v in judge.values())

    old, real = pair(), Path.replace
    for killed_at in range(1, 5):

        def replace(path: Path, target: Path, calls: list[Path] = [], at: int = killed_at) -> Path:  # noqa: B006
            calls.append(path)
            if len(calls) == at:
                raise KeyboardInterrupt
            return real(path, target)

        model = load(judged_checkpoint)
        model.generator.const.add_(1.0)
        torch.manual_seed(6)
        judge = build_discriminator(tiny_config["model"], 3)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                model.save(judged_checkpoint, {**ABOUT, **tiny_config}, judge)
        assert pair() == old
    model.save(judged_checkpoint, {**ABOUT, **tiny_config}, judge)
    assert all(new != before for new, before in zip(pair(), old, strict=True))
    discriminator_file(judged_checkpoint)  # there is one alone


def test_a_discriminators_name_is_no_path(judged_checkpoint: Path) -> None:
    tensors, about = read_tensors(judged_checkpoint / MODEL_FILE, "model")
    about |= {"discriminator": "../../../elsewhere"}
    write_tensors(judged_checkpoint / MODEL_FILE, tensors, about)

    with pytest.raises(InputError, match=f"needs {DISCRIMINATOR_FILE} .*, got none"):
        load_discriminator(judged_checkpoint)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_discriminator_is_refused(judged_checkpoint: Path, kept: float) -> None:
    path = discriminator_file(judged_checkpoint)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])

    with pytest.raises(InputError, match="discriminator must be a whole safetensors file, got '"):
        load_discriminator(judged_checkpoint)
