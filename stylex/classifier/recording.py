"""What a network's layers give while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stylex.errors import InputError

LISTED = 40  # names in a message


def layer_names(network: nn.Module, kind: type[nn.Module] = nn.Module) -> list[str]:
    """Names of the layers of a kind, in the order of registration."""
    return [name for name, module in network.named_modules() if name and isinstance(module, kind)]


def check_layer(network: nn.Module, name: str, setting: str) -> nn.Module:
    """The layer of that name.

    Args:
        network: Where to look.
        name: With dots, as `named_modules` gives it.
        setting: What the name was given for, as the user wrote it.

    Raises:
        InputError: If the network has no such layer, or is TorchScript, whose layers cannot be
            read.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise InputError(
            f"{setting} needs a network whose layers can be read, got TorchScript; give the "
            "network's code, classifier=module"
        )
    known = layer_names(network)
    if name not in known:
        more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
        listed = ", ".join(known[:LISTED]) or "none"
        raise InputError(
            f"{setting} must name a layer of the network ({listed}{more}), got '{name}'"
        )
    return network.get_submodule(name)


@contextmanager
def recorded(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of layers, by name, filled while the network runs once inside the block.

    A layer that runs several times leaves its first output, as it stands before what follows can
    change it in place. The hooks are gone after the block, whatever happened in it.
    """
    outputs: dict[str, Tensor] = {}
    changeable = any(getattr(module, "inplace", False) for module in network.modules())

    def keep(name: str) -> Any:  # noqa: ANN401  a hook's signature is torch's
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name not in outputs:
                outputs[name] = output.clone() if changeable else output

        return hook

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def layer_outputs(network: nn.Module, inputs: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of layers for one batch; what comes after the last of them is not computed.

    So a network whose head takes one size gives its features at any other. Differentiable unless
    the caller says otherwise.

    Args:
        network: In the mode that the caller wants.
        inputs: What the network takes: images that its adapter has adapted or normalised.
        layers: At least one name; each checked by `check_layer` before.

    Raises:
        InputError: If a layer is there and never runs.
    """
    missing = set(layers)

    def stop(name: str) -> Any:  # noqa: ANN401  a hook's signature is torch's
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            missing.discard(name)
            if not missing:
                raise _Enough

        return hook

    with recorded(network, layers) as outputs:
        handles = [network.get_submodule(name).register_forward_hook(stop(name)) for name in layers]
        try:
            network(inputs)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
    if missing:
        raise InputError(
            f"a layer must run when the network does, got '{sorted(missing)[0]}', which never "
            "does; name another"
        )
    return outputs


class _Enough(Exception):  # noqa: N818  no error
    """All that was asked for is recorded."""
