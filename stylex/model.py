"""StylEx: encoder, generator and frozen classifier as one data flow; build, save, load.

Source: Lang et al. 2021, "Explaining in Style" (arXiv:2104.13369), figure 2.
"""

import re
from collections.abc import Mapping as Spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from torch import nn

from stylex.artifacts import digest, read_tensors, spoilt, write_tensors, write_yaml
from stylex.classifier.files import CLASSIFIER_FILE, CONFIG_FILE, stored_spec
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.classifier.mobilenet import mobilenet_table
from stylex.errors import InputError
from stylex.gan.generator import Generator, SynthesisState
from stylex.gan.mapping import Mapping
from stylex.gan.residual import Discriminator, Encoder
from stylex.gan.tensorflow import (
    discriminator_table,
    encoder_table,
    generator_table,
    mapping_table,
    released_spec,
)
from stylex.ranges import MODEL, check_ranges
from stylex.types import Images, Latents, Logits, Probabilities, Styles
from stylex.variables import convert_variables, read_variables

MODEL_FILE = "model.safetensors"
DISCRIMINATOR_FILE = "discriminator.safetensors"  # optional: only the search's filter asks for it
AGE_CLASSES = ("old", "young")  # of the released age model
Appended = Literal["softmax", "uniform", "none"]


class StylEx(nn.Module):
    """The model that an explanation works on.

    Attributes:
        encoder: Images → the latent's first part.
        mapping: Normal deviates → the same part, for samples.
        generator: Latents → styles → images.
        classifier: The frozen classifier under explanation.
        appended: What `encode` appends: the classifier's softmax (the paper), or equal
            probabilities, so that the styles alone must carry the class: `uniform` at explanation
            alone, `none` in training, too.
    """

    def __init__(
        self,
        encoder: Encoder,
        mapping: Mapping,
        generator: Generator,
        classifier: FrozenClassifier,
        appended: Appended,
    ) -> None:
        super().__init__()
        self.encoder, self.mapping, self.generator = encoder, mapping, generator
        self.classifier, self.appended = classifier, appended

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.classifier.class_names

    @property
    def resolution_px(self) -> int:
        """Height and width of the images."""
        return self.generator.layout.layers[-1].resolution_px

    @property
    def channels(self) -> int:
        """Channels of the images, 1 or 3."""
        return self.encoder.from_rgb.weight.shape[1]

    def hidden(self, probabilities: Probabilities) -> Probabilities:
        """Equal probabilities in the shape of the given ones: they say nothing of the class."""
        return torch.full_like(probabilities, 1 / probabilities.shape[1])

    def encode(self, images: Images) -> Latents:
        """Latents w = concat(E(x), p), where p is what `appended` says."""
        probabilities = self.classifier.probabilities(images)
        if self.appended != "softmax":
            probabilities = self.hidden(probabilities)
        return torch.cat((self.encoder(images), probabilities), dim=1)

    def with_probabilities(self, latents: Latents, probabilities: Probabilities) -> Latents:
        """The same latents with another appended part."""
        return torch.cat((latents[:, : -probabilities.shape[1]], probabilities), dim=1)

    def render(self, styles: Styles, start: SynthesisState | None = None) -> Images:
        """Images of styles with the stored noise, clamped to [-1, 1]: the range that a file holds.

        Whatever is explained goes through here, so that a decision is that on the image which
        people see; the generator alone goes beyond the range. `start` is that of its `synthesis`.
        """
        return self.generator.synthesis(styles, start=start).clamp(-1, 1)

    def reconstruct(self, images: Images) -> Images:
        """The rendered G(w) of images."""
        return self.render(self.generator.styles(self.encode(images)))

    def forward(self, images: Images) -> Logits:
        """The classifier's logits of the reconstructions."""
        return self.classifier(self.reconstruct(images))

    def save(
        self, folder: Path, config: Spec[str, Any], discriminator: Discriminator | None = None
    ) -> None:
        """Writes weights, the classifier's weights, and the configuration that rebuilds both.

        The model's file comes last and names its discriminator's: whenever the process is killed,
        the files that belong together are of one saving.

        Args:
            folder: Where to.
            config: At least `model`, `classifier` and `training`.
            discriminator: The model's, for the search's filter.
        """
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("classifier.")}
        about = {"classifier": self.classifier.fingerprint()}
        keep = []
        if discriminator is not None:
            about["discriminator"] = digest(discriminator.state_dict())
            keep = [folder / _discriminator_file(about["discriminator"])]
            write_tensors(keep[0], discriminator.state_dict(), durable=True)
        write_tensors(folder / CLASSIFIER_FILE, self.classifier.network.state_dict(), durable=True)
        spec = dict(config["classifier"])
        spec |= {k: v for k, v in self.classifier.declared().items() if spec.get(k) is None}
        rebuilding = {**config, "classifier": spec, "class_names": list(self.class_names)}
        write_yaml(folder / CONFIG_FILE, rebuilding, durable=True)
        write_tensors(folder / MODEL_FILE, own, about, durable=True)
        for path in set(folder.glob(_discriminator_file("*"))) - set(keep):
            path.unlink()


def _discriminator_file(digest: str) -> str:
    return DISCRIMINATOR_FILE.replace(".", f"-{digest}.")


def build_model(spec: Spec[str, Any], classifier: FrozenClassifier) -> StylEx:
    """An untrained model.

    Args:
        spec: `resolution_px`, `channels`, `latent_dim`, `mapping_layers`, `appended`, and under
            `generator` and `encoder` the widths (`channel_base`, `channel_max`) and the
            generator's `noise`.
        classifier: The classifier to explain; its classes lengthen the latent.

    Raises:
        InputError: If `appended` is unknown.
    """
    if spec["appended"] not in get_args(Appended):
        raise InputError(
            f"model.appended must be softmax, uniform or none, got '{spec['appended']}'"
        )
    size = {"resolution_px": spec["resolution_px"], "image_channels": spec["channels"]}
    latent_dim = spec["latent_dim"]
    return StylEx(
        Encoder(**size, **spec["encoder"], latent_dim=latent_dim),
        Mapping(latent_dim, spec["mapping_layers"]),
        Generator(**size, **spec["generator"], latent_dim=latent_dim + classifier.num_classes),
        classifier,
        spec["appended"],
    )


def build_discriminator(spec: Spec[str, Any], num_classes: int) -> Discriminator:
    """An untrained discriminator; `spec` is the model's, with widths under `discriminator`."""
    return Discriminator(
        resolution_px=spec["resolution_px"],
        image_channels=spec["channels"],
        num_classes=num_classes,
        **spec["discriminator"],
    )


def model_folder(path: Path) -> Path:
    """The folder that holds a model: `path` itself, the one around a file, or its `checkpoints`.

    Raises:
        InputError: If there is no model.
    """
    if path.is_file():
        path = path.parent
    for folder in (path, path / "checkpoints"):
        if (folder / MODEL_FILE).is_file() and (folder / CONFIG_FILE).is_file():
            return folder
    raise InputError(
        f"checkpoint must be a folder with {MODEL_FILE} and {CONFIG_FILE} (or a file in it), got "
        f"'{path}'; "
        "train one with `python train.py` or give pretrained/fashion-32"
    )


def read_config(path: Path) -> dict[str, Any]:
    """The configuration that a model was trained with.

    Raises:
        InputError: If it is no configuration.
    """
    file = model_folder(path) / CONFIG_FILE
    try:
        config = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"a checkpoint's {CONFIG_FILE} must be YAML, got '{file}'; copy it again"
        ) from error
    if not isinstance(config, dict) or not _rebuilds_a_model(config):
        raise InputError(
            f"a checkpoint's {CONFIG_FILE} must have model, classifier and class_names, got "
            f"'{file}'"
        )
    return config


def _rebuilds_a_model(config: Spec[str, Any]) -> bool:
    names = config.get("class_names")
    return (
        isinstance(config.get("model"), dict)
        and isinstance(config.get("classifier"), dict)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
    )


def load(path: str | Path, *, trust: bool = False) -> StylEx:
    """Loads a model for explanation, in eval mode and without gradients.

    Args:
        path: A model's folder (`pretrained/fashion-32`, a training run's folder) or a file in it.
        trust: Whether its configuration may name code to run, which is needed for a classifier
            that is a TorchScript file or comes from your own module; else such a one is refused.

    Returns:
        The averaged encoder, mapping and generator, with their classifier.

    Raises:
        InputError: If files are missing, truncated, or do not belong together.
    """
    folder = model_folder(Path(path))
    config = read_config(folder)
    spec = {**stored_spec(config["classifier"], folder, trust), "weights": folder / CLASSIFIER_FILE}
    classifier = build_classifier(spec, config["class_names"])
    check_ranges(config["model"], MODEL, "model.")
    try:
        model = build_model(config["model"], classifier)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"a checkpoint's {CONFIG_FILE} must describe its model, got one that cannot be built "
            f"({reason}) in '{folder}'; copy it again"
        ) from error
    tensors, metadata = read_tensors(folder / MODEL_FILE, "checkpoint")
    expected = {
        k: v.shape for k, v in model.state_dict().items() if not k.startswith("classifier.")
    }
    if {k: v.shape for k, v in tensors.items()} != expected:
        raise InputError(
            f"a checkpoint's {MODEL_FILE} must fit its {CONFIG_FILE} (resolution "
            f"{model.resolution_px}, "
            f"{classifier.num_classes} classes), got other shapes in '{folder}'; copy both from "
            "the same run"
        )
    _check_finite(tensors, model, MODEL_FILE, folder)
    if metadata.get("classifier") != classifier.fingerprint():
        raise InputError(
            f"a checkpoint's {CLASSIFIER_FILE} must be the one that its model was trained with, "
            "got another in "
            f"'{folder}'; copy both from the same run"
        )
    model.load_state_dict(tensors, strict=False)
    return model.eval().requires_grad_(False)


def _check_finite(
    tensors: Spec[str, torch.Tensor], network: nn.Module, name: str, folder: Path
) -> None:
    wrong = spoilt(tensors, network.state_dict())
    if wrong:
        raise InputError(
            f"a checkpoint's {name} must hold finite numbers, got others in '{wrong[0]}' in "
            f"'{folder}'; copy it again, or take an earlier checkpoint"
        )


def load_discriminator(path: str | Path) -> Discriminator:
    """Loads the discriminator beside a model, in eval mode and without gradients.

    It judges every image as a minibatch of one, so that a judgement does not depend on the images
    beside it.

    Args:
        path: As `load` takes it.

    Raises:
        InputError: If there is none, or it does not fit the model's configuration.
    """
    folder = model_folder(Path(path))
    _, about = read_tensors(folder / MODEL_FILE, "checkpoint")
    named = re.fullmatch("[0-9a-f]{16}", about.get("discriminator", ""))
    file = folder / (_discriminator_file(named[0]) if named else DISCRIMINATOR_FILE)
    if not file.is_file():
        raise InputError(
            f"the discriminator filter needs {file.name} beside the model, got none in "
            f"'{folder}'; switch the filter off, or train the model with this version"
        )
    config = read_config(folder)
    spec, num_classes = config["model"], len(config["class_names"])
    discriminator = build_discriminator(spec, num_classes)
    tensors, _ = read_tensors(file, "discriminator")
    expected = {name: value.shape for name, value in discriminator.state_dict().items()}
    if {name: value.shape for name, value in tensors.items()} != expected:
        raise InputError(
            f"a checkpoint's {DISCRIMINATOR_FILE} must fit its {CONFIG_FILE} (resolution "
            f"{spec['resolution_px']}, {num_classes} classes), got other shapes in '{folder}'; "
            "copy both from the same run"
        )
    _check_finite(tensors, discriminator, file.name, folder)
    discriminator.load_state_dict(tensors)
    discriminator.minibatch_group = 1
    return discriminator.eval().requires_grad_(False)


def convert_age_model(variables: str | Path, folder: str | Path) -> StylEx:
    """Writes the released age model as a model's folder: 256 px, old and young.

    The discriminator, which only the search's filter needs, goes into a file of its own.

    Args:
        variables: An npz of the released files' variables; `stylex.variables` says how to make it.
        folder: Where to write; then `python search.py checkpoint=FOLDER data=folder ...` works.

    Returns:
        The model, as `load` gives it.

    Raises:
        InputError: If the npz is not that of the released model.

    Source: Lang et al. 2021; sizes are read off the variables, the classifier's input is the
        official notebook's.
    """
    found, folder = read_variables(Path(variables)), Path(folder)
    spec = released_spec(found)
    resolution = spec["resolution_px"]
    judge = {
        "network": "stylex.classifier.mobilenet:MobileNetV1",
        "arguments": {"num_classes": 2, "dropout": 0.2, "relu_max": 6.0, "clamp_input": True},
        "weights": None,
        "input_resolution_px": resolution,
        "input_channels": 3,
        "input_range": [-1.0, 1.0],
        "mean": [0.0],
        "std": [1.0],
        "feature_layers": [],
    }
    model = build_model(spec, build_classifier(judge, AGE_CLASSES))
    discriminator = build_discriminator(spec, len(AGE_CLASSES))
    for name, table, network in (
        ("generator", mapping_table(spec["mapping_layers"]), model.mapping),
        ("generator", generator_table(resolution), model.generator),
        ("encoder", encoder_table(resolution), model.encoder),
        ("discriminator", discriminator_table(resolution), discriminator),
        ("mobilenet", mobilenet_table(), model.classifier.network),
    ):
        network.load_state_dict(convert_variables(found, name, table, network))
    as_published = {"hidden_share": 0.0, "hidden_by": "others", "stages": []}
    config = {"model": spec, "classifier": judge, "training": as_published}
    model.save(folder, config, discriminator)
    return load(folder)
