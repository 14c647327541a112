"""`python -m stylex.attribution` as users open it, on drawn faces and a tiny classifier."""

from pathlib import Path
from typing import Any

import pytest
import torch
from doors import code_of, compose, run
from drawings import FEW, SEARCH, write_model
from omegaconf import OmegaConf
from PIL import Image

from stylex.artifacts import read_json, read_tensors
from stylex.attribution.__main__ import attribution
from stylex.errors import InputError
from stylex.report.wing import find_wing, read_wing

TINY = ["data=faces", FEW, "classifier=small_cnn", "classifier.arguments.width=4"]
MAPS = "method=[saliency,gradcam]"


def opened(*typed: object) -> None:
    """Opens the door; what it raises comes out."""
    raw = compose("attribution", ["device=cpu", *(str(each) for each in typed)])
    torch.manual_seed(0)
    attribution(OmegaConf.to_container(raw, resolve=True), raw)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wing")
    opened(*TINY, MAPS, "num_images=2", f"output_dir={folder}")
    return folder


def test_pictures_maps_and_page_are_written(output: Path) -> None:
    wing = read_wing(output)
    assert [method.name for method in wing.methods] == ["saliency", "gradcam"]
    assert [len(method.maps) for method in wing.methods] == [2, 2]
    assert len(wing.images) == 2
    maps, _ = read_tensors(output / "maps.safetensors", "maps")
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "saliency-1": (2, 32, 32),
        "gradcam-1": (2, 32, 32),
    }
    page = (output / "index.html").read_text()
    for text in ("Saliency", "Grad-CAM", "local, white-box, post-hoc, model-specific"):
        assert text in page


def test_the_folder_states_what_made_it(output: Path) -> None:
    facts = read_json(output / "wing.json", "")
    assert facts["config"]["method"]["saliency"]["signed"] is False
    assert len(facts["classifier"]) == 16
    assert {"data", "network", "num_classes"} <= set(facts)


def test_the_same_command_gives_the_same_maps(output: Path, tmp_path: Path) -> None:
    opened(*TINY, MAPS, "num_images=2", f"output_dir={tmp_path}")
    one, other = (read_tensors(each / "maps.safetensors", "maps")[0] for each in (output, tmp_path))
    for name in one:
        assert torch.equal(one[name], other[name])


@pytest.mark.parametrize("given", ["file", "folder"])
def test_images_may_be_files_of_any_size(given: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for i, size in enumerate([(40, 60), (33, 32), (90, 50)]):
        Image.new("RGB", size, (80 * i, 20, 90)).save(own / f"{i}.png")
    images = own / "1.png" if given == "file" else own
    opened(*TINY, MAPS, f"images={images}", "num_images=2", f"output_dir={tmp_path / 'out'}")
    captions = [image.caption for image in read_wing(tmp_path / "out").images]
    names = [caption.split(":")[0] for caption in captions]
    assert names == (["1.png"] if given == "file" else ["0.png", "1.png"])


def test_the_target_may_be_a_class_or_the_label(tmp_path: Path) -> None:
    for target, words in (("Birch", {"Birch"}), ("label", {"Alder", "Birch"})):
        folder = tmp_path / target
        opened(*TINY, MAPS, f"targets={target}", "num_images=8", f"output_dir={folder}")
        said = {image.caption.split()[-2] for image in read_wing(folder).images}
        assert said == words


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        (["images=nowhere"], "images must be demo, positions in the test split"),
        (["images=[0,99]"], "from 0 to 59 in the test split, got '99'"),
        (["images=[]"], "at least one position in the test split, got none"),
        (["targets=Brich"], "got 'Brich'; the nearest of the 2 classes are Birch, Alder"),
        (["num_images=0"], "num_images must be at least 1, got 0"),
        (["folders=[nowhere]"], "takes a finished search's folder, got no folder 'nowhere'"),
        (["folders=[a,b]"], "takes one search's folder, got 2"),
    ],
)
def test_a_mistake_is_one_sentence(typed: list[str], match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        opened(*TINY, MAPS, *typed, f"output_dir={tmp_path}")


def test_a_method_that_cannot_be_is_left_out_with_its_reason_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "method.gradcam.layer=stage9"
    opened(*TINY, MAPS, wrong, f"output_dir={tmp_path}")
    saliency, gradcam = read_wing(tmp_path).methods
    assert len(saliency.maps) == 3
    assert gradcam.maps == ()
    assert "got 'stage9'" in gradcam.refusal
    assert "left out gradcam: " in capsys.readouterr().out
    with pytest.raises(InputError, match=r"must name .*stage1.*got 'stage9'"):
        opened(*TINY, "method=[gradcam]", wrong, f"output_dir={tmp_path}")


def test_an_earlier_runs_pictures_do_not_outlive_it(tmp_path: Path) -> None:
    opened(*TINY, MAPS, "num_images=3", f"output_dir={tmp_path}")
    opened(*TINY, "method=[gradcam]", "num_images=1", f"output_dir={tmp_path}")
    assert {path.name for path in tmp_path.glob("*.png")} == {"image-1.png", "gradcam-1-1.png"}
    with pytest.raises(InputError, match="stage9"):
        opened(*TINY, "method=[gradcam]", "method.gradcam.layer=stage9", f"output_dir={tmp_path}")
    assert not (tmp_path / "wing.json").exists()


def test_a_class_may_be_called_a_number(tmp_path: Path) -> None:
    for name in ("0", "7"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(tmp_path / "data" / name / f"{i}.png")
    data = ["data=folder", f"data.root={tmp_path / 'data'}", "data.resolution=32", *TINY[2:]]
    opened(*data, MAPS, "targets=7", f"output_dir={tmp_path / 'out'}")
    assert all(": 7 " in image.caption for image in read_wing(tmp_path / "out").images)


def test_labels_of_files_are_not_known(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="targets=label needs images with labels, got files"):
        opened(*TINY, MAPS, f"images={tmp_path / 'a.png'}", "targets=label")


def test_an_unknown_method_is_refused_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("attribution", attribution, ["method=salency"]) == 2
    assert "did you mean method=saliency?" in capfd.readouterr().err


def test_a_search_gets_a_tab_of_its_own_images(tmp_path: Path) -> None:
    model, folder = write_model(tmp_path / "model"), tmp_path / "search"
    given: list[Any] = [f"checkpoint={model}", "data=faces", FEW, *SEARCH, "target=Alder"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("stylex.report.report.write_figures", lambda *_: [])
        run("search", *given, f"output_dir={folder}")
    assert "tab-wing" not in (folder / "index.html").read_text()
    opened(MAPS, f"folders=[{folder}]", "num_images=1")
    found = find_wing(folder)
    assert found is not None
    assert len(found.images) == 1
    page = (folder / "index.html").read_text()
    assert "tab-wing" in page
    assert page.count("The same images under every method") == 1


def test_settings_that_no_method_foresaw_are_one_sentence(tmp_path: Path) -> None:
    wrong = "method.occlusion.fill=[a,b]"
    with pytest.raises(InputError, match="method.occlusion's settings must fit the method"):
        opened(*TINY, "method=[occlusion]", wrong, f"output_dir={tmp_path}")


def test_a_map_that_a_network_has_not_is_left_out_of_the_checks(tmp_path: Path) -> None:
    smooth = ["classifier=module", "classifier.network=torchvision.models:efficientnet_b0"]
    given = ["data=faces", FEW, *smooth, "+classifier.arguments={num_classes: 2}"]
    small = ["method.faithfulness.num_steps=2", "method.faithfulness.num_moved=1", "num_images=1"]
    less = ["method.faithfulness.methods.smoothgrad.num_samples=1"]
    opened(*given, "method=[faithfulness]", *small, *less, f"output_dir={tmp_path}")
    (table,) = read_wing(tmp_path).methods[0].tables
    assert "Left out: guided_backprop (" in table.reading
    assert "occlusion" in [row[0] for row in table.rows]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["fashion", "faces"])
def test_every_method_explains_the_shipped_classifiers(family: str, tmp_path: Path) -> None:
    opened(f"data={family}", f"classifier={family}", "num_images=1", f"output_dir={tmp_path}")
    methods = read_wing(tmp_path).methods
    assert len(methods) == 19
    assert [method.refusal for method in methods] == [""] * 19
    assert all(method.maps or method.sheets or method.tables for method in methods)
