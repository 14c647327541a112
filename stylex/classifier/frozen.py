"""The classifier under explanation: images in [-1, 1] go in, logits come out, nothing moves.

Networks differ in input size, range and normalisation, in one logit or many, and in what their
outputs mean; all of this is declared here, so that no other part of the framework has to know.
"""

import copy
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.artifacts import digest, read_tensors
from stylex.classifier.randomisation import permute_weights, reinitialise
from stylex.classifier.recording import recorded
from stylex.errors import InputError
from stylex.imaging import resize
from stylex.types import Images, Logits, Probabilities

TORCHSCRIPT_ENDINGS = (".pt", ".ts", ".torchscript")


class Adapter(nn.Module):
    """Brings images in [-1, 1] into the form that a network was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        input_resolution_px: int,
        input_channels: int,
        input_range: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Declares a network's input.

        Args:
            input_resolution_px: Height and width that the network expects; images are resized to
                it.
            input_channels: 1 or 3; images are repeated or averaged over channels to it.
            input_range: Values that black and white have before normalisation, such as (0, 1).
            mean: Subtracted per channel, in units of `input_range`.
            std: Divided by, per channel.

        Raises:
            InputError: If the declaration contradicts itself.
        """
        super().__init__()
        low, high = (float(v) for v in input_range)
        if not low < high:
            raise InputError(
                f"classifier.input_range must be (low, high), got ({low}, {high}); swap them"
            )
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, input_channels):
                raise InputError(
                    f"classifier.{name} must have one value per input channel ({input_channels}), "
                    f"got {len(values)}"
                )
            column = torch.tensor([float(v) for v in values])[:, None, None]
            self.register_buffer(name, column, persistent=False)
        self.input_resolution_px, self.input_channels = input_resolution_px, input_channels
        self.low, self.high = low, high

    def forward(self, images: Images) -> Float[Tensor, "b c2 h2 w2"]:
        """Adapts images; differentiable."""
        return self.normalise(resize(images, self.input_resolution_px))

    def normalise(self, images: Images) -> Float[Tensor, "b c2 h w"]:
        """Adapts channels and values of images of any size, which stays; differentiable."""
        if self.input_channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        elif self.input_channels == 1 and images.shape[1] == 3:
            images = images.mean(dim=1, keepdim=True)
        images = (images + 1) / 2 * (self.high - self.low) + self.low
        return (images - self.mean) / self.std

    def declaration(self) -> str:
        """All settings in one text."""
        fixed = (self.input_resolution_px, self.input_channels, self.low, self.high)
        return repr((fixed, self.mean.tolist(), self.std.tolist()))


class FrozenClassifier(nn.Module):
    """Any image classifier, frozen and in eval mode for good.

    Attributes:
        class_names: Names of the classes, in the order of the logits.
        feature_layers: Names of the sub-modules whose outputs `features` gives.
    """

    def __init__(
        self,
        network: nn.Module,
        adapter: Adapter,
        class_names: Sequence[str],
        feature_layers: Sequence[str],
    ) -> None:
        """Wraps a network.

        Args:
            network: Takes adapted images, returns logits [b k], or [b] / [b 1] in the binary
                one-logit case.
            adapter: Declares what the network takes.
            class_names: One name per class; the one-logit case has two, the logit speaking for the
                second.
            feature_layers: Sub-modules whose outputs are features of a perceptual distance; may be
                empty.

        Raises:
            InputError: If a layer is named that the network lacks or does not let be read.
        """
        super().__init__()
        if feature_layers and isinstance(network, torch.jit.ScriptModule):
            raise InputError(
                "classifier.feature_layers must be empty for a TorchScript network, whose layers "
                f"cannot be read, got {list(feature_layers)}; give training.perceptual=none"
            )
        modules = dict(network.named_modules())
        for layer in feature_layers:
            if layer not in modules:
                known = ", ".join(n for n, _ in network.named_children()) or "none"
                raise InputError(
                    "classifier.feature_layers must name sub-modules of the network, got "
                    f"'{layer}'; "
                    f"its top-level ones are {known}"
                )
        self.network, self.adapter = network, adapter
        self.class_names, self.feature_layers = tuple(class_names), tuple(feature_layers)
        self.requires_grad_(False)
        self.train(False)

    @property
    def num_classes(self) -> int:
        """Number of classes, at least 2."""
        return len(self.class_names)

    def train(self, mode: bool = True) -> "FrozenClassifier":
        """Stays in eval mode, whatever is asked for."""
        return super().train(False)

    def forward(self, images: Images) -> Logits:
        """Logits of images in [-1, 1].

        One logit z becomes the two logits (−z/2, z/2): their softmax is the sigmoid of z, and each
        class has a logit that an edit can move.

        Raises:
            InputError: If the network's output does not fit the class names.
        """
        logits = self.network(self.adapter(images))
        if logits.ndim == 1:
            logits = logits[:, None]
        if logits.shape[1] == 1 and self.num_classes == 2:
            logits = torch.cat((-logits / 2, logits / 2), dim=1)
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise InputError(
                f"the classifier must return one logit per class ({self.num_classes}: "
                f"{', '.join(self.class_names)}), got an output of shape {tuple(logits.shape)}; "
                "give the data that it was trained for"
            )
        return logits

    def probabilities(self, images: Images) -> Probabilities:
        """Softmax of the logits."""
        return self(images).softmax(dim=1)

    def features(self, images: Images) -> tuple[Logits, list[Float[Tensor, "b ..."]]]:
        """Logits and the outputs of `feature_layers`, from one pass."""
        with recorded(self.network, self.feature_layers) as outputs:
            logits = self(images)
        return logits, [outputs[name] for name in self.feature_layers]

    def fingerprint(self) -> str:
        """Hex digest of weights, class names and declared input: equal for equal classifiers."""
        declared = repr(self.class_names) + self.adapter.declaration()
        text = torch.tensor(list(declared.encode()), dtype=torch.uint8)
        return digest({"declaration": text, **self.network.state_dict()})

    def randomised(self, seed: int) -> "FrozenClassifier":
        """The same classifier with random weights of the same scale: a null for its effects.

        The entries of every floating weight of two or more dimensions are permuted within it;
        vectors (biases, normalisation) and buffers stay. This one is left untouched.
        Source: the randomisation test of Adebayo et al. 2018 (arXiv:1810.03292), with a
        permutation in place of new draws.

        Args:
            seed: Of the permutations; equal seeds give equal classifiers.

        Raises:
            InputError: If the network has no such weight, as a frozen TorchScript one.
        """
        null = copy.deepcopy(self)
        permute_weights(null.network, seed)
        return null

    def reinitialised(self, num_layers: int, seed: int) -> "FrozenClassifier":
        """The same classifier with its last layers untrained: a sanity check of its explanation.

        A layer is a module that has a weight of two or more dimensions and initialises itself, as
        convolutions and linear layers do; the last is the one registered last. Normalisation
        layers stay. One more layer leaves the new weights of the others as they were. This
        classifier is left untouched.
        Source: the cascading randomisation of Adebayo et al. 2018 (arXiv:1810.03292).

        Args:
            num_layers: How many, from the last one back; 0 gives a copy.
            seed: Of the new weights; equal seeds give equal classifiers on every device.

        Raises:
            InputError: If the network has fewer such layers.
        """
        copied = copy.deepcopy(self)
        reinitialise(copied.network, num_layers, seed)
        return copied


def build_network(source: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network from `package.module:factory` and its arguments, or from a TorchScript file.

    Args:
        source: Import path, such as `torchvision.models:resnet18`, or a file ending in .pt, .ts or
            .torchscript.
        arguments: Passed to the factory by name; a file takes none.

    Raises:
        InputError: If the file or the factory is not there, or the factory refuses its arguments.
    """
    if source.endswith(TORCHSCRIPT_ENDINGS):
        if not Path(source).is_file():
            raise InputError(
                f"classifier.network must be an existing TorchScript file, got '{source}'"
            )
        try:
            return torch.jit.load(source, map_location="cpu")
        except RuntimeError as error:
            raise InputError(
                f"classifier.network must be a readable TorchScript file, got '{source}'; save "
                "it again"
            ) from error
    module_name, _, factory_name = source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "classifier.network must be package.module:factory or a TorchScript file, got "
            f"'{source}' ({error})"
        ) from error
    try:
        return factory(**arguments)
    except TypeError as error:
        raise InputError(
            f"classifier.arguments must fit {source}, got {dict(arguments)} ({error})"
        ) from error


def build_adapter(spec: Mapping[str, Any]) -> Adapter:
    """The adapter that a configuration declares."""
    declared = ("input_resolution_px", "input_channels", "input_range", "mean", "std")
    return Adapter(**{key: spec[key] for key in declared})


def build_classifier(spec: Mapping[str, Any], class_names: Sequence[str]) -> FrozenClassifier:
    """The frozen classifier that a configuration describes.

    Args:
        spec: `network`, `arguments` (a `num_classes` of none is filled in), `weights` (a
            safetensors file, or none for a network that has its own), `feature_layers`, and the
            declaration of the input.
        class_names: Names in the order of the logits.

    Raises:
        InputError: If a file is missing or does not fit the network.
    """
    arguments = dict(spec["arguments"])
    if "num_classes" in arguments and arguments["num_classes"] is None:
        arguments["num_classes"] = len(class_names)
    network = build_network(spec["network"], arguments)
    if spec["weights"] is not None:
        load_weights(network, Path(spec["weights"]))
    return FrozenClassifier(network, build_adapter(spec), class_names, spec["feature_layers"])


def load_weights(network: nn.Module, path: Path) -> None:
    """Reads a network's weights from a safetensors file.

    Raises:
        InputError: If the file is missing, truncated, or belongs to another network.
    """
    tensors, _ = read_tensors(path, "classifier.weights")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(
            f"classifier.weights must belong to the network of the configuration, got {path} "
            f"({reason}); "
            "check the number of classes and the architecture"
        ) from error
