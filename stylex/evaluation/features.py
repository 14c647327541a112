"""Networks in whose features two sets of images are compared, each with its distance's name.

Only Inception with the published weights makes a Fréchet distance an FID; the explained
classifier makes it FD-C, EfficientNet-Lite0 makes it FD-Lite0, and their figures do not compare.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.classifier.efficientnet import published_network
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError
from stylex.imaging import from_uint8
from stylex.types import Pixels

Kind = Literal["FD-C", "FD-Lite0", "FID"]
LITE_SIZE_PX = 224  # the published input
INCEPTION_FEATURES = "2048"  # the layer of the published FID


@runtime_checkable
class Features(Protocol):
    """Gives one row of features per image."""

    @property
    def name(self) -> str:
        """Name of the Fréchet distance in these features."""
        ...

    def __call__(self, pixels: Pixels) -> Float[Tensor, "b d"]:
        """Features of images, on the network's device."""
        ...


class ClassifierFeatures(nn.Module):
    """The explained classifier's: its last feature layer averaged over places.

    A classifier without feature layers gives the input of its last linear layer.
    """

    name = "FD-C"

    def __init__(self, classifier: FrozenClassifier) -> None:
        """Finds the layer.

        Raises:
            InputError: If the classifier has neither feature layers nor a linear layer that can
                be read.
        """
        super().__init__()
        self.classifier = classifier
        self._last = _linear(classifier)[-1:]  # a list, so that it is registered once
        if not has_features(classifier):
            raise InputError(
                "FD-C needs classifier.feature_layers or a linear layer that can be read, got "
                f"neither in {type(classifier.network).__name__}; name layers or measure FD-Lite0"
            )

    def forward(self, pixels: Pixels) -> Float[Tensor, "b d"]:
        """Features of images."""
        images = from_uint8(pixels).to(self.classifier.adapter.mean.device)
        if self.classifier.feature_layers:
            found = self.classifier.features(images)[1][-1]
        else:
            with _inputs(self._last[0]) as inputs:
                self.classifier(images)
            found = inputs[0]
        return found.flatten(2).mean(dim=2) if found.ndim > 2 else found


def has_features(classifier: FrozenClassifier) -> bool:
    """Whether a classifier has features that can be read; a TorchScript file has none."""
    return bool(classifier.feature_layers or _linear(classifier))


def _linear(classifier: FrozenClassifier) -> list[nn.Linear]:
    network = classifier.network
    if isinstance(network, torch.jit.ScriptModule):
        return []
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


@contextmanager
def _inputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What a layer is given while the block runs."""
    found: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        yield found
    finally:
        handle.remove()


class LiteFeatures(nn.Module):
    """EfficientNet-Lite0's 1280 averaged features, learned on ImageNet."""

    name = "FD-Lite0"

    def __init__(self, weights: Path | None) -> None:
        """Reads the weights.

        Args:
            weights: The published file; none takes the optional package's.

        Raises:
            InputError: If the package is missing or the file is another one.
        """
        super().__init__()
        self.adapter = Adapter(
            input_resolution_px=LITE_SIZE_PX,
            input_channels=3,
            input_range=(0, 255),
            mean=(127,),
            std=(128,),
        )
        self.network = published_network(weights)
        self.requires_grad_(False).eval()

    def forward(self, pixels: Pixels) -> Float[Tensor, "b d"]:
        """Features of images."""
        return self.network.features(self.adapter(from_uint8(pixels).to(self.adapter.mean.device)))


class InceptionFeatures(nn.Module):
    """Inception's 2048 features as the published FID takes them, from a file of its weights."""

    name = "FID"

    def __init__(self, weights: Path) -> None:
        """Reads the weights.

        Args:
            weights: `weights-inception-2015-12-05-6726825d.pth`, as torch-fidelity publishes it.

        Raises:
            InputError: If torch-fidelity or the file is missing, or the file is another one.
        """
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise InputError(
                "FID needs torch-fidelity, got none; pip install 'stylex[fid]' or measure FD-Lite0"
            ) from error
        _read_weights(weights, self.name)  # torch-fidelity would run what is inside
        try:
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat",
                [INCEPTION_FEATURES],
                feature_extractor_weights_path=str(weights),
            )
        except RuntimeError as error:
            raise InputError(
                f"FID's weights must be Inception's as torch-fidelity publishes them, got "
                f"'{weights}'; give that file"
            ) from error

    def forward(self, pixels: Pixels) -> Float[Tensor, "b d"]:
        """Features of images."""
        colour = pixels.to(self.network.fc.weight.device).expand(-1, 3, -1, -1)
        return self.network(colour)[0]


def build_features(
    kind: str, classifier: FrozenClassifier, weights: Path | None
) -> ClassifierFeatures | LiteFeatures | InceptionFeatures:
    """The features of a distance.

    Args:
        kind: `FD-C`, `FD-Lite0` or `FID`.
        classifier: The explained one.
        weights: A file for FD-Lite0 (none takes the package's) or FID; FD-C takes none.

    Raises:
        InputError: If the kind is unknown or its weights are not to be had.
    """
    if kind not in get_args(Kind):
        raise InputError(f"features must be {', '.join(get_args(Kind))}, got '{kind}'")
    if kind == "FD-C":
        return ClassifierFeatures(classifier)
    if kind == "FD-Lite0":
        return LiteFeatures(weights)
    if weights is None:
        raise InputError(
            "FID needs a file of Inception's weights, got none; give the path of "
            "weights-inception-2015-12-05-6726825d.pth or measure FD-Lite0"
        )
    return InceptionFeatures(weights)


def _read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """Tensors of a file; nothing inside it is run."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a bad file
        raise InputError(
            f"{name}'s weights must be a readable file of tensors, got '{path}' "
            f"({type(error).__name__}); give the published file"
        ) from error
