"""Classifiers of other libraries: what they compute, what they say of themselves, what they run."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import GRAPH, SIDE, small_network, write_huggingface, write_onnx
from torch import nn

from stylex.artifacts import write_tensors
from stylex.classifier import libraries
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.classifier.networks import build_network
from stylex.errors import InputError
from stylex.types import Images

LIBRARIES = "stylex.classifier.libraries"
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
UNSAID: dict[str, Any] = {
    "weights": None,
    "input_resolution_px": None,
    "input_channels": 3,
    "input_range": None,
    "mean": None,
    "std": None,
    "feature_layers": [],
}
SAID = {**UNSAID, "input_range": [0, 1], "mean": [0.5], "std": [0.25]}


def build(network: str, arguments: dict[str, Any], form: dict[str, Any] = UNSAID) -> Any:
    return build_classifier(
        {**form, "network": network, "arguments": arguments}, ["cat", "dog", "cow"]
    )


def images(count: int = 4, side: int = SIDE) -> Images:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def check_gradient(frozen: FrozenClassifier) -> None:
    """The gradient along a random direction equals a central difference, in float64."""
    frozen.double()
    x = images(1).double().requires_grad_()
    random = torch.Generator().manual_seed(2)
    direction = torch.randn(x.shape, generator=random, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(frozen(x)[0, 1], x)
    step = 1e-6
    with torch.no_grad():
        ends = [float(frozen(x + sign * step * direction)[0, 1]) for sign in (1, -1)]
    found = float((gradient * direction).sum())
    assert abs(found) > 1e-6
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


# torchvision and timm ----------------------------------------------------------------------------


def test_torchvision_gives_any_classifier_by_its_name() -> None:
    form = {**SAID, "input_resolution_px": 32}
    arguments = {"name": "squeezenet1_1", "num_classes": None}
    frozen = build(f"{LIBRARIES}:torchvision_network", arguments, form)
    assert type(frozen.network).__name__ == "SqueezeNet"
    assert frozen(images()).shape == (4, 3)


def test_timm_gives_any_classifier_by_its_name_with_the_input_that_its_tag_says() -> None:
    network = f"{LIBRARIES}:timm_network"
    frozen = build(network, {"name": "resnet10t.c3_in1k", "num_classes": None, "in_chans": 3})
    assert frozen(images()).shape == (4, 3)
    adapter = frozen.adapter
    assert (adapter.input_resolution_px, adapter.low, adapter.high) == (176, 0.0, 1.0)
    for found, expected in zip((adapter.mean, adapter.std), IMAGENET, strict=True):
        torch.testing.assert_close(found.flatten(), torch.tensor(expected))


def test_what_a_configuration_declares_is_kept() -> None:
    form = {**SAID, "input_resolution_px": 64}
    arguments = {"name": "resnet10t", "num_classes": None, "in_chans": 3}
    adapter = build(f"{LIBRARIES}:timm_network", arguments, form).adapter
    assert adapter.input_resolution_px == 64
    assert adapter.mean.tolist() == [[[0.5]]]


def test_weights_of_timm_are_a_file(tmp_path: Path) -> None:
    arguments = {"name": "resnet10t", "num_classes": None, "in_chans": 3}
    first = build(f"{LIBRARIES}:timm_network", arguments)
    torch.save({"state_dict": first.network.state_dict()}, tmp_path / "model.pth")
    given = {**UNSAID, "weights": str(tmp_path / "model.pth")}
    second = build(f"{LIBRARIES}:timm_network", arguments, given)
    assert second.fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    ("library", "name"),
    [("torchvision", "resnet19"), ("torchvision", "fcn_resnet50"), ("timm", "resnet19")]
    + [("timm", "hf-hub:timm/resnet18"), ("timm", "local-dir:/tmp"), ("timm", "a/b")],
)
def test_a_name_that_a_library_has_not_is_refused_with_those_near_it(
    library: str, name: str
) -> None:
    more = {"in_chans": 3} if library == "timm" else {}
    with pytest.raises(InputError, match=f"a classifier of {library}, got '{name}'; near it are "):
        build(f"{LIBRARIES}:{library}_network", {"name": name, "num_classes": 3, **more})


@pytest.mark.parametrize("asked", [{"weights": "DEFAULT"}, {"pretrained": True}])
def test_torchvisions_own_weights_are_not_downloaded(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="nothing is downloaded, so weights must be a file"):
        build_network("torchvision.models:resnet18", asked)


# Hugging Face ------------------------------------------------------------------------------------


def test_a_hugging_face_folder_gives_logits_input_and_names(tmp_path: Path) -> None:
    own = write_huggingface(tmp_path / "mine", ("cat", "dog", "cow"))
    frozen = build(f"{LIBRARIES}:huggingface_network", {"folder": str(tmp_path / "mine")})
    x = images()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    torch.testing.assert_close(frozen(x), own(pixel_values=((x + 1) / 2 - mean) / std).logits)
    assert frozen.adapter.input_resolution_px == SIDE
    assert frozen.reading.label_names == ("cat", "dog", "cow")
    check_gradient(frozen)


def test_names_of_the_folder_in_another_order_are_put_in_the_datas(tmp_path: Path) -> None:
    own = write_huggingface(tmp_path, ("Cow", "cat", "dog"))
    frozen = build(f"{LIBRARIES}:huggingface_network", {"folder": str(tmp_path)})
    x = images()
    logits = own(pixel_values=frozen.adapter(x)).logits
    torch.testing.assert_close(frozen(x), logits[:, [1, 2, 0]])


def test_a_folder_of_independent_labels_asks_for_one(tmp_path: Path) -> None:
    kind = {"problem_type": "multi_label_classification"}
    write_huggingface(tmp_path, ("young", "smiling"), **kind)
    spec = {**UNSAID, "network": f"{LIBRARIES}:huggingface_network"}
    spec["arguments"] = {"folder": str(tmp_path)}
    with pytest.raises(InputError, match=r"one label at a time, got .*give one of young, smiling"):
        build_classifier(spec, ["a", "b"])
    frozen = build_classifier({**spec, "output": "Smiling"}, ["a", "b"])
    assert frozen.class_names == ("not smiling", "smiling")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"do_rescale": False}, ([0.0, 255.0], [0.4, 0.5, 0.6])),
        ({"rescale_factor": 2 / 255, "rescale_offset": True}, ([-1.0, 1.0], [0.4, 0.5, 0.6])),
        ({"do_normalize": False}, ([0.0, 1.0], [0.0])),
    ],
)
def test_the_range_is_the_image_processors(
    tmp_path: Path, form: dict[str, Any], expected: tuple[list[float], list[float]]
) -> None:
    write_huggingface(tmp_path, ("cat", "dog", "cow"))
    file = tmp_path / "preprocessor_config.json"
    kind = "EfficientNetImageProcessor" if "rescale_offset" in form else "ViTImageProcessor"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), **form, "image_processor_type": kind})
    )
    network = libraries.huggingface_network(str(tmp_path))
    assert (network.declared_input["input_range"], network.declared_input["mean"]) == expected


def test_a_folder_without_an_image_processor_leaves_the_input_to_the_configuration(
    tmp_path: Path,
) -> None:
    write_huggingface(tmp_path, ("cat", "dog", "cow"))
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="classifier.input_resolution_px must be given, got null"):
        build(f"{LIBRARIES}:huggingface_network", {"folder": str(tmp_path)})


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_hugging_face_folder_is_never_run(tmp_path: Path) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "folder"
    write_huggingface(folder, ("cat", "dog", "cow"))
    (folder / "model.safetensors").rename(tmp_path / "whole")
    torch.save({"x": Malicious(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="may hold tensors alone, got other objects"):
        libraries.huggingface_network(str(folder))

    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"}
    (folder / "own.py").write_text(f"import os; os.mkdir({str(mark)!r})")
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "own", "auto_map": code})
    )
    with pytest.raises(InputError, match="whole image classifier whose code is in transformers"):
        libraries.huggingface_network(str(folder))
    assert not mark.exists()


def test_a_folder_without_the_classifiers_head_is_refused(tmp_path: Path) -> None:
    own = write_huggingface(tmp_path, ("cat", "dog", "cow"))
    body = {k: v for k, v in own.state_dict().items() if not k.startswith("classifier")}
    write_tensors(tmp_path / "model.safetensors", body, {"format": "pt"})
    with pytest.raises(InputError, match=r"all weights .* without classifier\.1\.bias, class"):
        libraries.huggingface_network(str(tmp_path))


def test_a_name_of_the_hub_is_no_folder() -> None:
    with pytest.raises(InputError, match="local folder .*, got 'google/vit-base'; download it"):
        libraries.huggingface_network("google/vit-base")


# ONNX --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["b", 1])
def test_an_onnx_file_computes_what_its_network_did_and_has_its_gradients(
    tmp_path: Path, batch: int | str
) -> None:
    own = small_network()
    write_onnx(tmp_path / "net.onnx", own, batch=batch)
    frozen = build(str(tmp_path / "net.onnx"), {}, {**SAID, "input_channels": None})
    x = images().requires_grad_()
    expected = own(((x + 1) / 2 - 0.5) / 0.25)
    torch.testing.assert_close(frozen(x), expected)
    assert (frozen.adapter.input_resolution_px, frozen.adapter.input_channels) == (SIDE, 3)
    gradients = [torch.autograd.grad(y[:, 2].sum(), x)[0] for y in (frozen(x), expected)]
    torch.testing.assert_close(*gradients)
    check_gradient(frozen)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporters'
@pytest.mark.parametrize("new_exporter", [True, False])
def test_a_network_that_torch_exports_comes_back_with_its_gradients(
    tmp_path: Path, new_exporter: bool
) -> None:
    from torchvision.models import resnet18

    own, x, path = resnet18(num_classes=3).eval(), images(), str(tmp_path / "net.onnx")
    if new_exporter:
        shapes = ({0: torch.export.Dim("b")},)
        torch.onnx.export(own, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    else:
        names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "b"}}}
        torch.onnx.export(own, (x,), path, dynamo=False, **names)
    frozen = build(path, {}, {**SAID, "input_range": [-1, 1], "mean": [0], "std": [1]})
    more = images(5).requires_grad_()
    torch.testing.assert_close(frozen(more), own(more))
    gradients = [torch.autograd.grad(y[:, 2].sum(), more)[0] for y in (frozen(more), own(more))]
    torch.testing.assert_close(*gradients)


def test_an_onnx_classifier_can_be_randomised_and_a_changed_file_is_another(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx", small_network())
    frozen = build(str(tmp_path / "net.onnx"), {}, SAID)
    assert frozen.randomised(0).fingerprint() != frozen.fingerprint()
    write_onnx(tmp_path / "net.onnx", small_network(), operator="Sigmoid")  # the same weights
    assert build(str(tmp_path / "net.onnx"), {}, SAID).fingerprint() != frozen.fingerprint()


def test_names_in_an_onnx_file_are_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = 'a") if getattr(__import__("os"), "mkdir")("mark") else getattr(self, "rectifier'
    names = [GRAPH[0], evil, *GRAPH[2:]]
    write_onnx(tmp_path / "net.onnx", small_network(), names=names)
    build(str(tmp_path / "net.onnx"), {}, SAID)(images())
    assert not (tmp_path / "mark").exists()


def test_an_onnx_file_that_is_none_or_of_unknown_operators_or_a_fixed_batch_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match="an existing ONNX file, got"):
        build_network(str(path), {})
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="ONNX file of operators that onnx2torch knows, got"):
        build_network(str(path), {})
    write_onnx(path, small_network(), operator="Acosh")
    with pytest.raises(InputError, match="ONNX file of operators that onnx2torch knows, got"):
        build_network(str(path), {})
    write_onnx(path, small_network(), batch=4)
    with pytest.raises(InputError, match="any number of images, got a batch of 4"):
        build_network(str(path), {})


# Optional packages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "extra"),
    [("timm", "timm"), ("transformers", "huggingface"), ("onnx2torch", "onnx")],
)
def test_a_package_that_is_not_installed_is_named_with_how_to_install_it(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "net.onnx"):
        (tmp_path / name).touch()
    asked = {
        "timm": (f"{LIBRARIES}:timm_network", {"name": "x", "num_classes": 3, "in_chans": 3}),
        "transformers": (f"{LIBRARIES}:huggingface_network", {"folder": str(tmp_path)}),
        "onnx2torch": (str(tmp_path / "net.onnx"), {}),
    }
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"package {package}, got none; pip install .*\[{extra}]"):
        build_network(*asked[package])


def test_libraries_are_imported_offline_and_the_environment_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    seen = []
    monkeypatch.setattr(
        libraries.importlib,
        "import_module",
        lambda name: seen.append([os.environ[key] for key in libraries.OFFLINE]),
    )
    libraries.imported("anything", "extra", "this")
    assert seen == [["1", "1"]]
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert "TRANSFORMERS_OFFLINE" not in os.environ


def test_a_factory_must_make_a_network() -> None:
    with pytest.raises(InputError, match="must name what makes a torch.nn.Module, got dict from"):
        build_network("builtins:dict", {})


def test_a_network_of_no_tensor_is_refused_in_a_sentence() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    frozen = build_classifier(
        {**SAID, "input_resolution_px": 8, "network": "torch.nn:Flatten", "arguments": {}},
        ["cat", "dog", "cow"],
    )
    frozen.network = Pair()
    with pytest.raises(InputError, match="must return a tensor of logits, got tuple; wrap it"):
        frozen(images())
