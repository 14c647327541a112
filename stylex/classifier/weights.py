"""A network's weights from files as people have them; nothing inside a file is run."""

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stylex.artifacts import read_tensors, spoilt
from stylex.errors import InputError

STATE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # what checkpoints keep the weights under
PREFIXES = ("module.", "model.", "_orig_mod.", "network.")  # of DataParallel, Lightning, compile
LISTED = 3  # names in a message


def load_weights(network: nn.Module, path: Path) -> None:
    """Reads a network's weights from a safetensors file or a state dict of `torch.save`.

    Raises:
        InputError: If the file is missing, truncated, holds code, or belongs to another network.
    """
    tensors = read_weights(path)
    own = network.state_dict()
    tensors = _without_prefix(tensors, own)
    faults = _faults(tensors, own)
    if faults:
        raise InputError(
            f"classifier.weights must belong to the network of the configuration, got {path} "
            f"({'; '.join(faults)}); check the number of classes and the architecture"
        )
    network.load_state_dict(tensors)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads named tensors.

    Args:
        path: A safetensors file, or a state dict of `torch.save` (.pt, .pth, .bin, .ckpt), which
            may lie under `state_dict` in a checkpoint.

    Raises:
        InputError: If the file is missing, truncated, or holds anything but tensors and plain
            values.
    """
    if path.suffix not in STATE_ENDINGS:
        return read_tensors(path, "classifier.weights")[0]
    if not path.is_file():
        raise InputError(f"classifier.weights must be an existing file, got '{path}'")
    found = _unpickled(path)
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    is_named = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not is_named or not found or not all(isinstance(x, Tensor) for x in found.values()):
        raise InputError(
            "classifier.weights must be a state dict, tensors by name or under one of "
            f"{', '.join(WRAPPERS)}, got something else in '{path}'; save it with "
            "torch.save(network.state_dict(), FILE)"
        )
    return dict(found)


def _unpickled(path: Path) -> Any:  # noqa: ANN401  whatever is in the file
    if _is_torchscript(path):
        raise InputError(
            f"classifier.weights must be a state dict, got a TorchScript file, '{path}', which is "
            "code; if you trust it, give classifier=torchscript classifier.network=FILE"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"classifier.weights may hold tensors and plain values alone, got other objects in "
            f"'{path}', which would run code when read; save it again with "
            "torch.save(network.state_dict(), FILE)"
        ) from error
    except Exception as error:  # torch.load raises many kinds for a bad file
        raise InputError(
            f"classifier.weights must be a whole file of torch.save, got '{path}' "
            f"({type(error).__name__}); copy it again"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())


def _without_prefix(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what a wrapper put before all their names."""
    while tensors and not tensors.keys() & own.keys():
        found = [p for p in PREFIXES if all(name.startswith(p) for name in tensors)]
        if not found:
            break
        tensors = {name.removeprefix(found[0]): value for name, value in tensors.items()}
    return tensors


def _faults(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being a network's, in words."""
    lacks = [name for name in own if name not in tensors]
    adds = [name for name in tensors if name not in own]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    kinds = (
        *(("without", lacks), ("with the unknown", adds), ("of another shape:", shapes)),
        ("with what is no finite number in", spoilt(tensors, own)),
    )
    return [f"{what} {_few(names)}" for what, names in kinds if names]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
