"""Where networks come from: a factory by its import path, a TorchScript file, an ONNX file.

A factory of somebody else's and a TorchScript file are code, which runs when it is loaded: only
what a user typed, or told to trust, comes so far; `runs_code` says which sources are meant.
"""

import hashlib
import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stylex.errors import InputError

log = logging.getLogger(__name__)

TORCHSCRIPT_ENDINGS = (".pt", ".ts", ".torchscript")
ONNX_ENDING = ".onnx"
FILE_ENDINGS = (*TORCHSCRIPT_ENDINGS, ONNX_ENDING)
# Modules whose own networks run no code but this package's, whatever their arguments are.
OWN_MODULES = tuple(
    f"stylex.classifier.{name}" for name in ("backbones", "efficientnet", "libraries", "mobilenet")
)
TORCHVISION = "torchvision.models"
HUGGINGFACE = "stylex.classifier.libraries:huggingface_network"


def build_network(source: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network from `package.module:factory` and its arguments, or from a file.

    Args:
        source: Import path, such as `torchvision.models:resnet18`, or a file ending in .pt, .ts,
            .torchscript (TorchScript) or .onnx.
        arguments: Passed to the factory by name; a file takes none.

    Raises:
        InputError: If the file or the factory is not there, or the factory refuses its arguments.
    """
    if source.endswith(ONNX_ENDING):
        from stylex.classifier.graphs import onnx_network

        return onnx_network(source)
    if source.endswith(TORCHSCRIPT_ENDINGS):
        return _torchscript(source)
    module_name, _, factory_name = source.partition(":")
    if runs_code(source):
        log.info("runs the code of '%s', which classifier.network names", source)
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            "classifier.network must be package.module:factory or a TorchScript or ONNX file, got "
            f"'{source}' ({error})"
        ) from error
    if module_name == TORCHVISION and (arguments.get("weights") or arguments.get("pretrained")):
        raise InputError(
            "nothing is downloaded, so weights must be a file, got classifier.arguments.weights="
            f"{arguments.get('weights')}; give classifier.weights=FILE"
        )
    try:
        network = factory(**arguments)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"classifier.arguments must fit {source}, got {dict(arguments)} ({error})"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            "classifier.network must name what makes a torch.nn.Module, got "
            f"{type(network).__name__} from '{source}'; name the network's class or a function "
            "that returns one"
        )
    return network


def _torchscript(source: str) -> nn.Module:
    if not Path(source).is_file():
        raise InputError(f"classifier.network must be an existing TorchScript file, got '{source}'")
    log.info("runs the code in the TorchScript file '%s', which classifier.network names", source)
    try:
        return torch.jit.load(source, map_location="cpu")
    except RuntimeError as error:
        raise InputError(
            f"classifier.network must be a readable TorchScript file, got '{source}'; save it with "
            "torch.jit.save; a state dict is classifier.weights, beside its network's code with "
            "classifier=module"
        ) from error


def runs_code(source: str) -> bool:
    """Whether a network of this source may run other code than this package's and torchvision's.

    Nothing of somebody else's is imported to tell. An ONNX file holds a graph of known operators;
    a TorchScript file holds code.
    """
    if source.endswith(FILE_ENDINGS):
        return not source.endswith(ONNX_ENDING)
    module_name, _, name = source.partition(":")
    if module_name == TORCHVISION:
        from torchvision import models

        return name not in models.list_models(module=models)
    if module_name not in OWN_MODULES:
        return True
    found = getattr(importlib.import_module(module_name), name, None)
    return getattr(found, "__module__", None) != module_name


def origin(source: str, network: nn.Module) -> str:
    """Digest of a file that holds more of a network than its state dict does; else empty.

    That is ONNX, whose graph has constants, and TorchScript that was frozen.
    """
    is_frozen = source.endswith(TORCHSCRIPT_ENDINGS) and not network.state_dict()
    if not is_frozen and not source.endswith(ONNX_ENDING):
        return ""
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]
