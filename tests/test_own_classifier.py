"""One's own classifier through the doors: refused before anything is written, or explained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import run
from foreign import write_huggingface
from PIL import Image
from torch import nn

from stylex.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

NARROW = [
    f"model.{part}.{key}"
    for part in ("generator", "encoder", "discriminator")
    for key in (
        "channel_base=64",
        "channel_max=8",
    )
]
SHORT = ["training.num_steps=2", "data.batch_size=4", "training.perceptual=none"]
SEARCH = ["search.num_random=0", "search.num_images=16", "search.num_attributes=2"]


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Data of bright and dark noise of 32 px."""
    random = np.random.default_rng(0)
    for name, base in (("bright", 180), ("dark", 60)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(40):
            shade = base + random.normal(0, 30, (32, 32, 3)) + random.normal(0, 40)
            picture = Image.fromarray(shade.clip(0, 255).astype("uint8"))
            picture.save(tmp_path / "pictures" / name / f"{i}.png")
    return ["data=folder", f"data.root={tmp_path / 'pictures'}", "data.resolution=32"]


def script(path: Path, *last: nn.Module) -> list[str]:
    """A TorchScript classifier of two classes that calls all images the first."""
    linear = nn.Linear(3, 2)
    linear.bias.data = torch.tensor([20.0, -20.0])
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear, *last).eval()
    torch.jit.trace(net, torch.zeros(2, 3, 32, 32)).save(path)
    return ["classifier=torchscript", f"classifier.network={path}"]


def test_probabilities_are_refused_before_a_training_writes_anything(
    pictures: list[str], tmp_path: Path
) -> None:
    own = script(tmp_path / "net.pt", nn.Softmax(dim=1))
    with pytest.raises(InputError, match="must return logits, got probabilities"):
        run("train", *pictures, *own, *NARROW, *SHORT, f"output_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_the_training_of_a_classifier_has_all_outputs(pictures: list[str], tmp_path: Path) -> None:
    asked = ["task=classifier", "classifier.output=1", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(InputError, match="trains all outputs, .* got classifier.output=1; leave"):
        run("train", *pictures, "classifier=resnet18", *asked)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_label_of_a_hugging_face_folder_is_explained_from_training_to_page(
    pictures: list[str], tmp_path: Path
) -> None:
    kind = {"problem_type": "multi_label_classification"}
    write_huggingface(tmp_path / "net", ("Dull", "Bright", "Red"), **kind)
    folder = f"classifier.arguments.folder={tmp_path / 'net'}"
    own = ["classifier=huggingface", folder, "classifier.output=Bright"]
    run("train", *pictures, *own, *NARROW, *SHORT, f"output_dir={tmp_path / 'run'}")
    asked = [f"checkpoint={tmp_path / 'run'}", "split=train", f"output_dir={tmp_path / 'found'}"]
    run("search", *pictures, *asked, *SEARCH, "search.unstable_share=1", "target=Bright")
    found = json.loads((tmp_path / "found" / "attributes.json").read_text())["attributes"]
    for attribute in found:
        assert {each["name"] for each in attribute["other_labels"]} == {"Dull", "Red"}
    assert "Other labels" in (tmp_path / "found" / "index.html").read_text()


@pytest.mark.slow
def test_a_model_of_torchscript_is_searched_once_it_is_trusted(
    pictures: list[str], tmp_path: Path
) -> None:
    own = script(tmp_path / "net.pt")
    run("train", *pictures, *own, *NARROW, *SHORT, f"output_dir={tmp_path / 'run'}")
    asked = [f"checkpoint={tmp_path / 'run'}", "split=train", f"output_dir={tmp_path / 'found'}"]
    asked += ["target=dark", *SEARCH, "search.unstable_share=1"]
    with pytest.raises(InputError, match="may run code only if you say so, got '.*net.pt'"):
        run("search", *pictures, *asked)
    assert not (tmp_path / "found").exists()
    run("search", *pictures, *asked, "trust=true")
    assert (tmp_path / "found" / "index.html").is_file()
