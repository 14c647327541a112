"""The classifier under explanation: images in [-1, 1] go in, logits come out, nothing moves.

Networks differ in input size, range and normalisation, in one logit or many, and in what their
outputs mean; all of this is declared here, so that no other part of the framework has to know.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.artifacts import digest
from stylex.classifier.adapter import DECLARED, Adapter, build_adapter
from stylex.classifier.networks import build_network, origin
from stylex.classifier.randomisation import permute_weights, reinitialise
from stylex.classifier.reading import Reading, check_logits, known_labels, read_as
from stylex.classifier.recording import recorded
from stylex.classifier.weights import load_weights
from stylex.errors import InputError
from stylex.types import Images, Labels, Logits, Probabilities

PLAIN = Reading()
OUTPUT_FAULTS = (RuntimeError, AssertionError, TypeError, ValueError, IndexError)


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
        reading: Reading = PLAIN,
        origin: str = "",
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
            reading: What the outputs mean.
            origin: Digest of what a file says beyond the weights, if there is such.

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
        self.reading, self.origin = reading, origin
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
        """Logits of images in [-1, 1], one per class; see `Reading`.

        Raises:
            InputError: If the network's output does not fit the class names.
        """
        return self.reading.logits(self.outputs(images), self.class_names)

    def outputs(self, images: Images) -> Tensor:
        """What the network itself says, [b o]: of independent labels, the logits of all.

        Raises:
            InputError: If it is no tensor.
        """
        found = self.network(self.adapter(images))
        if not isinstance(found, Tensor):
            raise InputError(
                "the classifier's network must return a tensor of logits, got "
                f"{type(found).__name__}; wrap it in one that does (classifier=module)"
            )
        return found[:, None] if found.ndim == 1 else found

    @torch.no_grad()
    def check(self, images: Images) -> None:
        """Tries a few images: the network must take them and return logits.

        Raises:
            InputError: If it fails, or its outputs fit no classes, or are probabilities.
        """
        try:
            outputs = self.outputs(images)
        except InputError:
            raise
        except OUTPUT_FAULTS as error:
            takes = self.adapter
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"a classifier must take the images declared for it ({takes.input_channels} "
                f"channels, {takes.input_resolution_px} px), got an error from "
                f"{type(self.network).__name__} ({reason}); declare its input in "
                "classifier.input_channels and classifier.input_resolution_px"
            ) from error
        self.reading.logits(outputs, self.class_names)
        check_logits(outputs)

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
        declared += self.reading.declaration() + self.origin
        text = torch.tensor(list(declared.encode()), dtype=torch.uint8)
        return digest({"declaration": text, **self.network.state_dict()})

    def declared(self) -> dict[str, Any]:
        """What a configuration may leave to the network: its input and its labels' names."""
        takes, labels = self.adapter, self.reading.label_names
        values = (
            *(takes.input_resolution_px, takes.input_channels, [takes.low, takes.high]),
            *(x.flatten().tolist() for x in (takes.mean, takes.std)),
        )
        found = dict(zip(DECLARED, values, strict=True))
        return {**found, **({"label_names": list(labels)} if labels else {})}

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


@torch.no_grad()
def judged(classifier: FrozenClassifier, batches: Iterable[tuple[Images, Labels]]) -> str:
    """A line on how often a classifier is right, before anything is trained around it.

    Args:
        classifier: On the CPU.
        batches: Labelled images with its classes, at least one.
    """
    right, seen = 0, torch.zeros(classifier.num_classes, dtype=torch.int64)
    for images, labels in batches:
        right += int((classifier(images).argmax(dim=1) == labels).sum())
        seen += labels.bincount(minlength=len(seen))
    count = int(seen.sum())
    text = f"the classifier is right on {right / count:.3f} of {count} validation images"
    if right > int(seen.max()):
        return text
    return (
        f"{text}: no more than if it always said '{classifier.class_names[int(seen.argmax())]}'; "
        "python -m stylex.doctor classifier=... data=... shows what it is given"
    )


def build_classifier(spec: Mapping[str, Any], class_names: Sequence[str]) -> FrozenClassifier:
    """The frozen classifier that a configuration describes.

    Args:
        spec: `network`, `arguments` (a `num_classes` of none is filled in), `weights` (a file, or
            none for a network that has its own), `feature_layers`, the declaration of the input,
            and `output` and `label_names` of a network of independent labels.
        class_names: Names in the order of the logits.

    Raises:
        InputError: If a file is missing or does not fit the network.
    """
    if not isinstance(spec["network"], str):
        raise InputError(f"classifier.network must be a text, got '{spec['network']}'")
    layers = spec["feature_layers"]
    if not isinstance(layers, list | tuple) or not all(isinstance(x, str) for x in layers):
        raise InputError(f"classifier.feature_layers must be a list of names, got '{layers}'")
    arguments = dict(spec["arguments"])
    if "num_classes" in arguments and arguments["num_classes"] is None:
        arguments["num_classes"] = _num_outputs(spec, class_names)
    network = build_network(spec["network"], arguments)
    if spec["weights"] is not None:
        load_weights(network, Path(spec["weights"]))
    reading, names = read_as(spec, network, class_names)
    adapter = build_adapter(spec, network)
    return FrozenClassifier(
        network, adapter, names, layers, reading, origin(spec["network"], network)
    )


def _num_outputs(spec: Mapping[str, Any], class_names: Sequence[str]) -> int:
    """As many as the data has classes; of independent labels, as many as have names."""
    if spec.get("output") is None:
        return len(class_names)
    labels = known_labels(spec, None)
    if not labels:
        raise InputError(
            "classifier.arguments.num_classes must be the number of all labels where "
            "classifier.output names one, got null; give it, or classifier.label_names"
        )
    return len(labels)
