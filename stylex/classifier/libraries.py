"""Networks of other libraries: torchvision, timm, Hugging Face folders.

Nothing is downloaded and no code that comes with weights is run: names are architectures, weights
are files. What a library says of a network's input and labels is left in its attributes
`declared_input`, `label_names` and `independent_labels`, which a configuration's nones ask for.
"""

import difflib
import importlib
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from stylex.errors import InputError
from stylex.types import Logits

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # read when the libraries are imported
BYTE = 255  # a processor scales pixel values from 0 to this


def torchvision_network(name: str, num_classes: int) -> nn.Module:
    """An untrained torchvision classifier, any by its name, such as `efficientnet_b0`.

    Raises:
        InputError: If there is no such classifier.
    """
    from torchvision import models

    _check_name("torchvision", name, models.list_models(module=models))
    return models.get_model(name, weights=None, num_classes=num_classes)


def timm_network(name: str, num_classes: int, in_chans: int) -> nn.Module:
    """An untrained timm classifier, any by its name, such as `convnext_tiny` or `vit_tiny...`.

    Its input is declared as timm's `pretrained_cfg` says it, which a name's tag chooses
    (`resnet18.a1_in1k`).

    Args:
        name: Of the architecture, with or without a tag.
        num_classes: Number of logits.
        in_chans: Channels of its images.

    Raises:
        InputError: If timm is not installed or has no such classifier.
    """
    timm = imported("timm", "timm", "a classifier of timm")
    if not timm.is_model(name) or "/" in name or ":" in name:
        _check_name("timm", name, timm.list_models())
    network = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_chans)
    about = network.pretrained_cfg
    return saying(
        network,
        input_resolution_px=about["input_size"][-1],
        input_range=[0.0, 1.0],
        mean=list(about["mean"]),
        std=list(about["std"]),
    )


class LogitsAlone(nn.Module):
    """A Hugging Face classifier that returns its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Logits:
        """Returns logits."""
        return self.network(pixel_values=images).logits


def huggingface_network(folder: str) -> nn.Module:
    """A Hugging Face image classifier from a folder, as `save_pretrained` leaves it.

    Safetensors are read where there are some. Code in the folder is never run. Size, range, mean
    and deviation are those of its image processor, names those of its `id2label`.

    Raises:
        InputError: If transformers is not installed, or the folder holds no whole image classifier.
    """
    place = Path(folder)
    if not (place / "config.json").is_file():
        raise InputError(
            "classifier.arguments.folder must be a local folder of a Hugging Face image classifier "
            f"with config.json, got '{folder}'; download it first, nothing is downloaded here"
        )
    transformers = imported("transformers", "huggingface", "a Hugging Face classifier")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        network, about = transformers.AutoModelForImageClassification.from_pretrained(
            str(place),
            **local,
            use_safetensors=any(place.glob("*.safetensors")),
            weights_only=True,
            output_loading_info=True,
        )
    except pickle.UnpicklingError as error:
        raise InputError(
            "a Hugging Face folder's weights may hold tensors alone, got other objects in "
            f"'{folder}', which would run code when read; save it again with save_pretrained("
            "FOLDER), which writes safetensors"
        ) from error
    except Exception as error:  # it raises many kinds
        raise InputError(
            "a Hugging Face folder must hold a whole image classifier whose code is in "
            f"transformers, got '{folder}' ({first_line(error)}); save it again with "
            "save_pretrained(FOLDER)"
        ) from error
    if about["missing_keys"] or about["mismatched_keys"]:
        lacking = sorted(str(key) for key in (*about["missing_keys"], *about["mismatched_keys"]))
        raise InputError(
            f"a Hugging Face folder must hold all weights of its classifier, got '{folder}' "
            f"without {', '.join(lacking[:3])}; save the trained classifier, not its backbone"
        )
    labels = network.config.id2label
    names = tuple(str(labels[i]) for i in sorted(labels))
    found = saying(LogitsAlone(network.float()), **_processed(transformers, place, local))
    found.label_names = names  # type: ignore[assignment]
    found.independent_labels = network.config.problem_type == "multi_label_classification"
    return found


def _processed(transformers: ModuleType, place: Path, local: Mapping[str, bool]) -> dict[str, Any]:
    """The input that a folder's image processor makes; empty without one."""
    if not (place / "preprocessor_config.json").is_file():
        return {}
    try:
        made = transformers.AutoImageProcessor.from_pretrained(str(place), **local)
    except Exception as error:  # it raises many kinds
        raise InputError(
            "a Hugging Face folder's preprocessor_config.json must be one of transformers' image "
            f"processors, got '{place}' ({first_line(error)}); correct or remove it"
        ) from error
    crops = getattr(made, "do_center_crop", False) and getattr(made, "crop_size", None)
    size = dict((made.crop_size if crops else made.size) or {})
    high = BYTE * made.rescale_factor if made.do_rescale else float(BYTE)
    offset = -1.0 if getattr(made, "rescale_offset", False) else 0.0
    normalises = made.do_normalize and made.image_mean is not None
    return {
        "input_resolution_px": size.get("height") or size.get("shortest_edge"),
        "input_range": [offset, round(high + offset, 6)],
        "mean": list(made.image_mean) if normalises else [0.0],
        "std": list(made.image_std) if normalises else [1.0],
    }


def saying(network: nn.Module, **declared: Any) -> nn.Module:  # noqa: ANN401  any declaration
    """The network with what it says of its input; what is none it does not say."""
    network.declared_input = declared  # type: ignore[assignment]
    return network


def _check_name(library: str, name: str, known: list[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.0)
        raise InputError(
            f"classifier.arguments.name must be a classifier of {library}, got '{name}'; near it "
            f"are {', '.join(near)}"
        )


def imported(package: str, extra: str, what: str) -> Any:  # noqa: ANN401  a module of any kind
    """An optional package, which is told to stay off the network."""
    try:
        with _offline():
            return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{what} needs the package {package}, got none; pip install -e '.[{extra}]'"
        ) from error


@contextmanager
def _offline() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(dict.fromkeys(OFFLINE, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def first_line(error: Exception) -> str:
    """The first line of what an error says; its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
