"""A classifier whose rectifiers guided backpropagation can reach.

The rule: a rectifier passes a gradient on times its slope, and only where it is above 0. It has a
meaning for whatever never falls: where a gradient is cut, the neuron would only have spoken against
the output. Where a function falls, as SiLU does below -1.28, the sign of a gradient turns in it,
and the rule would keep what it ought to cut.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.types import Images

RISING = (
    *(nn.ReLU, nn.Hardtanh, nn.Threshold, nn.LeakyReLU, nn.PReLU, nn.RReLU),
    *(nn.ELU, nn.CELU, nn.SELU, nn.Softplus),
)  # ReLU6 is a Hardtanh
FALLING = (nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
# What their calls are named in a graph of gradients.
STEPS = (
    *("Relu", "Hardtanh", "Threshold", "LeakyRelu", "PreluKernel", "RreluWithNoise"),
    *("Elu", "Celu", "Softplus", "Gelu", "Silu", "Mish", "Hardswish"),
)


def guided_copy(classifier: FrozenClassifier, image: Images) -> FrozenClassifier:
    """A copy that computes the same, whose rectifiers are ReLU modules to a library's eyes.

    Args:
        classifier: Stays as it is.
        image: One that it takes, to see what it calls.

    Raises:
        InputError: If the network has no rectifier that is a module, one that falls, or one that is
            called as a function, which no hook reaches.
    """
    found = [m for m in classifier.network.named_modules() if isinstance(m[1], RISING + FALLING)]
    if not found:
        raise InputError(
            "guided backpropagation needs a network with rectifier modules such as nn.ReLU, got "
            f"none in {type(classifier.network).__name__}; use saliency or smoothgrad"
        )
    for name, module in found:
        if _falls(module):
            raise InputError(
                "guided backpropagation needs rectifiers that never fall, as ReLU, got "
                f"{type(module).__name__} in layer '{name}'; use saliency or smoothgrad"
            )
    called = _called_rectifier(_replaced(classifier, lambda _: nn.Identity()), image)
    if called is not None:
        raise InputError(
            "guided backpropagation needs every rectifier to be a module such as nn.ReLU, got "
            f"{called} called as a function; use saliency or smoothgrad"
        )
    return _replaced(classifier, lambda module: nn.Sequential(_Copy(), _Rectifier(module)))


def linear_layers(network: nn.Module) -> list[str]:
    """Names of the layers without parts, but for the rectifiers."""
    return [
        name
        for name, module in network.named_modules()
        if name and not isinstance(module, RISING) and not any(True for _ in module.children())
    ]


class _Copy(nn.Module):
    """Gives a rectifier an input of its own.

    A hook on an input that another branch takes, too, would cut that branch's gradient as well.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class _Rectifier(nn.ReLU):
    """Computes what a rectifier does; is a ReLU by its type, which is what captum looks for."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        # In a tuple, since a ReLU that is a submodule would be hooked a second time.
        self.wrapped = (rectifier,)

    def forward(self, input: Tensor) -> Tensor:
        return self.wrapped[0](input)


def _replaced(
    classifier: FrozenClassifier, make: Callable[[nn.Module], nn.Module]
) -> FrozenClassifier:
    copied = copy.deepcopy(classifier)
    # With every name of a module that is registered under several.
    modules = list(copied.named_modules(remove_duplicate=False))
    made: dict[nn.Module, nn.Module] = {}
    for name, module in modules:
        if not isinstance(module, RISING):
            continue
        if module not in made:
            if hasattr(module, "inplace"):
                module.inplace = False
            made[module] = make(module)
        parent, _, last = name.rpartition(".")
        setattr(copied.get_submodule(parent), last, made[module])
    return copied.train(False)


def _falls(module: nn.Module) -> bool:
    match module:
        case nn.PReLU():
            return bool((module.weight < 0).any())
        case nn.LeakyReLU():
            return module.negative_slope < 0
        case nn.RReLU():
            return module.lower + module.upper < 0
        case nn.ELU() | nn.CELU():
            return module.alpha < 0
        case nn.Threshold():
            return module.value > module.threshold
    return isinstance(module, FALLING)


def _called_rectifier(classifier: FrozenClassifier, image: Images) -> str | None:
    """Name of a rectifier that the logits go through."""
    with torch.enable_grad():
        logits = classifier(image.detach().clone().requires_grad_(True))
    waiting, seen = [logits.grad_fn], {None}
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        kind = step.name().removesuffix("Backward0")
        if kind in STEPS:
            return kind.lower()
        waiting.extend(following for following, _ in step.next_functions)
    return None
