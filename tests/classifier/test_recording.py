"""Reading layers: what is recorded is what ran, and nothing stays behind."""

import pytest
import torch
from torch import nn

from stylex.classifier.recording import check_layer, layer_names, layer_outputs, recorded
from stylex.errors import InputError


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def num_hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in network.modules())


def test_outputs_are_those_of_the_layers(network: nn.Sequential) -> None:
    x = torch.randn(2, 3, 8, 8)
    found = layer_outputs(network, x, ["0", "1"])
    torch.testing.assert_close(found["0"], network[0](x))
    torch.testing.assert_close(found["1"], network[:2](x))


def test_what_comes_after_is_not_computed(network: nn.Sequential) -> None:
    x = torch.randn(1, 3, 20, 20)  # the linear layer would refuse it
    assert layer_outputs(network, x, ["1", "0"])["1"].shape == (1, 4, 18, 18)


def test_a_layer_that_runs_twice_gives_its_first_output_to_both_readers() -> None:
    rectifier = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(1, 2, 1), rectifier, nn.Conv2d(2, 2, 1), rectifier)
    x = torch.randn(1, 1, 4, 4)
    with recorded(network, ["1"]) as whole:
        network(x)
    first = network[1](network[0](x))
    torch.testing.assert_close(whole["1"], first)
    torch.testing.assert_close(layer_outputs(network, x, ["1"])["1"], first)


def test_what_is_recorded_is_not_changed_in_place_later() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1))
    x = torch.randn(1, 1, 4, 4)
    found = layer_outputs(network, x, ["0", "2"])["0"]
    torch.testing.assert_close(found, network[0](x))
    assert found.min() < 0


def test_a_layer_that_never_runs_is_refused() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    with pytest.raises(InputError, match="got 'idle', which never does"):
        layer_outputs(Idle(), torch.zeros(1, 1, 4, 4), ["used", "idle"])


def test_no_hook_is_left_even_after_an_error(network: nn.Sequential) -> None:
    layer_outputs(network, torch.randn(1, 3, 8, 8), ["0"])
    with pytest.raises(RuntimeError):
        layer_outputs(network, torch.randn(1, 1, 8, 8), ["0"])
    with pytest.raises(ZeroDivisionError), recorded(network, ["1"]):
        _ = 1 / 0
    assert num_hooks(network) == 0


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_an_unknown_layer_is_refused_with_those_there_are(network: nn.Sequential) -> None:
    assert check_layer(network, "1", "layer") is network[1]
    with pytest.raises(
        InputError, match=r"must name a layer of the network \(0, 1, 2, 3\), got 'x'"
    ):
        check_layer(network, "x", "layer")
    with pytest.raises(InputError, match="got TorchScript"):
        check_layer(torch.jit.trace(network, torch.randn(1, 3, 8, 8)), "0", "layer")
    assert layer_names(network, nn.Conv2d) == ["0"]
