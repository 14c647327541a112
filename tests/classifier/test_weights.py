"""Weights as people have them; what is not tensors is refused and never run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.classifier.weights import load_weights, read_weights
from stylex.errors import InputError


def network(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, outputs))


State = dict[str, Tensor]


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"module." + k: v for k, v in state.items()},
        lambda state: {"state_dict": {"model." + k: v for k, v in state.items()}},
        lambda state: {"model_state_dict": {"_orig_mod.module." + k: v for k, v in state.items()}},
    ],
)
def test_a_state_dict_is_found_in_what_it_is_wrapped_in(
    wrapped: Callable[[State], Any], ending: str, tmp_path: Path
) -> None:
    first, second = network(), network()
    torch.save(wrapped(first.state_dict()), tmp_path / f"net{ending}")
    load_weights(second, tmp_path / f"net{ending}")
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_a_networks_own_names_may_begin_like_a_wrappers(tmp_path: Path) -> None:
    first, second = (nn.ModuleDict({"model": network()}) for _ in range(2))
    torch.save(first.state_dict(), tmp_path / "net.pt")
    load_weights(second, tmp_path / "net.pt")
    assert torch.equal(first["model"][3].weight, second["model"][3].weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: {k: v for k, v in s.items() if "1." not in k},
            "without 1.weight, 1.bias, 1.runn",
        ),
        (lambda s: {**s, "9.weight": s["0.bias"]}, r"with the unknown 9\.weight\)"),
        (lambda s: network(7).state_dict(), r"of another shape: 3\.weight \(7, 8\) for \(3, 8\)"),
        (
            lambda s: {k: v for k, v in s.items() if "1." in k},
            "without 0.weight, 0.bias, 3.weight and 1",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[State], State], said: str, tmp_path: Path
) -> None:
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.save(change(net.state_dict()), tmp_path / "net.pt")
    with pytest.raises(InputError, match=f"must belong to the network .*{said}"):
        load_weights(net, tmp_path / "net.pt")
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, new_format: bool) -> None:
    mark, path = tmp_path / "mark", tmp_path / "net.pth"
    content = {**network().state_dict(), "extra": Malicious(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(InputError, match="tensors and plain values alone, got other objects"):
        read_weights(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # it is malicious
    assert mark.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"save it again with torch\.save\(network\.state_dict"):
        read_weights(tmp_path / "net.pt")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_torchscript_given_as_weights_is_refused_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.jit.trace(network().eval(), torch.zeros(1, 1, 4, 4)).save(tmp_path / "net.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(
        InputError, match="got a TorchScript file, .*which is code; if you trust it"
    ):
        read_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {"a": 3}}, {1: torch.zeros(2)}])
def test_what_is_no_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(InputError, match="must be a state dict, tensors by name or under one of"):
        read_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_file_that_is_none_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    if content is None:
        torch.save(network().state_dict(), path)
        content = path.read_bytes()[:-300]
    path.write_bytes(content)
    with pytest.raises(InputError, match="classifier.weights must be a whole|may hold tensors"):
        read_weights(path)
    with pytest.raises(InputError, match="must be an existing file, got '.*none.pth'"):
        read_weights(tmp_path / "none.pth")
