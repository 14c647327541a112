"""Images as points on a sphere, near each other where the images are alike.

A classifier's network gives its features: the input of its last linear layer. A linear layer of
its own may follow; the length is always 1, so that a distance d and a cosine c say the same,
c = 1 - d² / 2. Trained by `train.py task=embedding`; needs no class names to be used.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylex.artifacts import read_json, read_tensors, write_tensors, write_yaml
from stylex.classifier.files import CONFIG_FILE, read_folder_config, stored_spec
from stylex.classifier.frozen import Adapter, FrozenClassifier, build_classifier
from stylex.classifier.recording import layer_names, layer_outputs
from stylex.errors import InputError
from stylex.types import Images

EMBEDDING_FILE, RETRIEVAL_FILE = "embedding.safetensors", "retrieval.json"
Embedded = Float[Tensor, "b e"]  # of length 1


class Embedding(nn.Module):
    """Images in [-1, 1] to vectors of length 1."""

    def __init__(self, network: nn.Module, adapter: Adapter, dim: int | None) -> None:
        """Takes over a classifier's network, whose last linear layer is replaced.

        Args:
            network: Changed; what comes after its last linear layer is not computed.
            adapter: Declares what the network takes.
            dim: Length of the vectors, given by a new linear layer; none keeps the features as
                they are.

        Raises:
            InputError: If the network has no linear layer that can be read.
        """
        super().__init__()
        readable = not isinstance(network, torch.jit.ScriptModule)
        linear = layer_names(network, nn.Linear) if readable else []
        if not linear:
            raise InputError(
                "an embedding needs a network whose linear layers can be read, got none in "
                f"{type(network).__name__}; give the code of a network that ends with one"
            )
        last = network.get_submodule(linear[-1])
        assert isinstance(last, nn.Linear)
        new = nn.Identity() if dim is None else nn.Linear(last.in_features, dim)
        network.set_submodule(linear[-1], new)
        self.network, self.adapter, self.last = network, adapter, linear[-1]
        self.dim = last.in_features if dim is None else dim

    def forward(self, images: Images) -> Embedded:
        """Embeds images; differentiable.

        Raises:
            InputError: If the last linear layer gives several vectors an image.
        """
        vectors = layer_outputs(self.network, self.adapter(images), [self.last])[self.last]
        if tuple(vectors.shape) != (len(images), self.dim):
            raise InputError(
                f"an embedding's network must have one vector an image ({self.dim} values) at its "
                f"last linear layer '{self.last}', got shape {tuple(vectors.shape)}; give another "
                "network"
            )
        return F.normalize(vectors, dim=1)

    def save(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Writes the weights and how to build the network.

        Args:
            folder: Where to.
            config: At least `classifier`, as `build_classifier` takes it, and `class_names`.
        """
        write_yaml(folder / CONFIG_FILE, {**config, "embedding_dim": self.dim}, durable=True)
        write_tensors(folder / EMBEDDING_FILE, self.state_dict(), durable=True)


def build_embedding(spec: Mapping[str, Any], class_names: Sequence[str], dim: int) -> Embedding:
    """An embedding on a classifier's network, to be trained.

    Args:
        spec: The network, as `build_classifier` takes it.
        class_names: Of all classes of the data.
        dim: Length of the vectors, at least 2.

    Raises:
        InputError: If the network cannot be built or used, or `dim` is too small.
    """
    if dim < 2:
        raise InputError(f"training.embedding_dim must be at least 2, got {dim}")
    classifier = build_classifier(spec, class_names)
    return Embedding(classifier.network, classifier.adapter, dim).requires_grad_(True).train()


def own_embedding(classifier: FrozenClassifier) -> Embedding:
    """The features that a classifier's logits are linear in, at length 1; it stays as it is.

    Raises:
        InputError: If the network has no linear layer that can be read.
    """
    network = copy.deepcopy(classifier.network)
    return Embedding(network, classifier.adapter, None).requires_grad_(False).eval()


def load_embedding(folder: Path, *, trust: bool = False) -> Embedding:
    """Reads a trained embedding, frozen, in eval mode, on the CPU.

    Args:
        folder: A run of `train.py task=embedding`, or its checkpoints.
        trust: Whether its configuration may name code to run; see `stored_spec`.

    Raises:
        InputError: If there is none, or its files do not belong together.
    """
    place = embedding_folder(folder)
    tensors, _ = read_tensors(place / EMBEDDING_FILE, "embedding")
    config = read_folder_config(place / CONFIG_FILE, "an embedding")
    stored = stored_spec(config["classifier"], place, trust)
    try:
        spec = {**stored, "weights": None, "feature_layers": []}
        found = build_embedding(spec, config["class_names"], config["embedding_dim"])
        found.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"an embedding's {EMBEDDING_FILE} and {CONFIG_FILE} must belong together, got others "
            f"in '{place}' ({type(error).__name__}); copy them again"
        ) from error
    return found.requires_grad_(False).eval()


def same_cosine(folder: Path) -> float:
    """Least cosine at which a trained embedding takes two images for the same class.

    It is that of the equal error rate on held-out classes of the validation split.

    Args:
        folder: As of `load_embedding`.

    Raises:
        InputError: If the run did not end, which is when it is measured.
    """
    path = embedding_folder(folder) / RETRIEVAL_FILE
    if not path.is_file():
        raise InputError(
            f"an embedding needs {RETRIEVAL_FILE}, which the end of its training writes, got none "
            f"in '{path.parent}'; let the training end"
        )
    facts = read_json(path, "train the embedding again")
    try:
        return float(facts["same_cosine"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"'{path}' must say the same_cosine, got none; train the embedding again"
        ) from error


def embedding_folder(folder: Path) -> Path:
    """Where a run's embedding is.

    Raises:
        InputError: If it is nowhere.
    """
    for place in (folder, folder / "checkpoints"):
        if (place / EMBEDDING_FILE).is_file():
            return place
    raise InputError(
        f"an embedding must be a run's folder of train.py task=embedding, got '{folder}' without "
        f"{EMBEDDING_FILE}; correct the path or train one"
    )
