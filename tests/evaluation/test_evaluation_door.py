"""`python -m stylex.evaluation` as users open it, on tiny searches of drawn faces."""

import html
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from doors import code_of, compose, run
from drawings import FEW, SEARCH, write_model
from omegaconf import OmegaConf

from stylex.artifacts import read_json, write_json
from stylex.classifier.embedding import build_embedding
from stylex.door import image_set, training_set
from stylex.errors import InputError
from stylex.evaluation.__main__ import LISTS, evaluation, with_folders
from stylex.evaluation.edits import read_edits
from stylex.evaluation.readers import load_reader
from stylex.imaging import from_uint8, to_uint8
from stylex.model import load
from stylex.report.evaluation import read_evaluation

READER = [
    *("task=reader", "data=faces", FEW),
    "reading={num_steps: 2, batch_size: 8, learning_rate: 0.01, width: 2, noise: 0.1, "
    "brightness: 0.03, num_scored: 40}",
]
MEASURES = (
    "counterfactual={changed_threshold: 0.15, num_transition_steps: 3, num_splits: 2, "
    "attack_epsilon: 0.03, attack_steps: 2, jpeg_quality: 90, noise_std: 0.01}"
)
SCORES = [MEASURES, "num_images=30", "num_drawings=10", "num_directions=2"]


def opened(*typed: object) -> None:
    """Opens the door; arguments are typed as by users, and what it raises comes out."""
    words = with_folders(["device=cpu", *(str(each) for each in typed)], LISTS)
    raw = compose("evaluation", words)
    evaluation(OmegaConf.to_container(raw, resolve=True), raw)


def search(model: Path, folder: Path, *more: str) -> Path:
    given = [f"checkpoint={model}", "data=faces", FEW, *SEARCH, "target=Alder", *more]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("stylex.report.report.write_figures", lambda *_: [])
        run("search", *given, f"output_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of this module's files are."""
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def model(home: Path) -> Path:
    return write_model(home / "model")


@pytest.fixture(scope="module")
def found(home: Path, model: Path) -> Path:
    """A finished search."""
    return search(model, home / "found", "search.rankers=[random]")


@pytest.fixture(scope="module")
def reader(home: Path) -> Path:
    opened(*READER, f"output={home / 'reader.safetensors'}")
    return home / "reader.safetensors"


@pytest.fixture(scope="module")
def scored(home: Path, model: Path, found: Path, reader: Path) -> Path:
    """The search with another seed's and a destroyed classifier's, measured and exported."""
    folder = home / "scored"
    shutil.copytree(found, folder)
    search(model, folder / "seeds" / "1", "seed=1")
    shutil.copytree(found, folder / "sanity" / "layers-1")  # as if nothing had changed
    given = [*SCORES, f"reader={reader}", f"layout={home / 'layout'}", "distance=classifier"]
    opened(folder, *given)
    return folder


def table(file: Path, section: str, name: str) -> dict[str, dict[str, Any]]:
    """Cells of a table of evaluation.json, by row and column."""
    sections = {each["name"]: each for each in read_json(file, "")["sections"]}
    (found,) = (each for each in sections[section]["tables"] if each["name"] == name)
    columns = [column["name"] for column in found["columns"]]
    return {row["name"]: dict(zip(columns, row["cells"], strict=True)) for row in found["rows"]}


# Scores


def test_scores_are_written_for_the_page_and_drawn_on_it(scored: Path) -> None:
    names = [each["name"] for each in read_json(scored / "evaluation.json", "")["sections"]]
    assert names == ["fidelity", "counterfactuals", "arena", "sanity"]
    read = read_evaluation(scored)
    assert read is not None
    tab = html.unescape((scored / "index.html").read_text()).partition('id="evaluation"')[2]
    assert all(section.title in tab for section in read.sections)


def test_images_whose_copy_is_decided_otherwise_are_flagged_and_no_others(
    scored: Path, model: Path
) -> None:
    facts = read_json(scored / "evaluation.json", "")["facts"]
    assert facts["num_images"] == 30
    explained = load(model)
    images, _ = image_set(compose("train", ["data=faces", FEW]).data, "test").batch(range(60))
    copies = from_uint8(to_uint8(explained.reconstruct(images)))
    said, then = (explained.classifier(each).argmax(dim=1) for each in (images, copies))
    changed = set((said != then).nonzero()[:, 0].tolist())
    flagged = facts["flagged_positions"]
    assert set(flagged) <= changed
    count = table(scored / "evaluation.json", "fidelity", "overall")["changed"]["value"]
    assert 0 < len(flagged) == round(count["value"] * 30) < 30


def test_seeds_in_sub_folders_give_intervals_over_seeds(scored: Path) -> None:
    recovery = table(scored / "evaluation.json", "arena", "methods")["recovery_at_2"]
    assert recovery["stylex"]["num_images"] == 2
    assert recovery["random"]["num_images"] == 1  # the other seed was searched without it
    assert "scored-1" in table(scored / "evaluation.json", "sanity", "stability")


def test_a_destroyed_classifier_that_is_explained_alike_fails_the_test(scored: Path) -> None:
    row = table(scored / "evaluation.json", "sanity", "randomisation")["layers-1"]
    assert row["overlap"]["value"] == 1
    assert row["verdict"].startswith("FAILED")


def test_a_trained_embedding_judges_identity_if_its_training_ended(
    found: Path, model: Path, scored: Path, home: Path
) -> None:
    explained = load(model)
    spec = compose("train", ["data=faces", "classifier=small_cnn"])
    classifier = {**OmegaConf.to_container(spec.classifier, resolve=True), "weights": None}
    names = list(explained.class_names)
    facts = {"classifier": classifier, "class_names": names}
    folder = home / "embedding"
    build_embedding(classifier, names, 4).save(folder, facts)
    with pytest.raises(InputError, match="let the training end"):
        opened(found, *SCORES, f"identity={folder}")
    write_json(folder / "retrieval.json", {"same_cosine": 0.25})
    again = home / "identified"
    shutil.copytree(found, again)
    opened(again, *SCORES, f"identity={folder}")
    rows = table(again / "evaluation.json", "counterfactuals", "all")
    assert rows["fva"]["identity"]["value"] == rows["fs"]["identity"]["value"] == 1
    assert -1 <= rows["fs"]["stylex"]["value"] < 1
    assert "fva" not in table(scored / "evaluation.json", "counterfactuals", "all")


def test_the_perceptual_distance_is_named(scored: Path) -> None:
    fidelity = read_json(scored / "evaluation.json", "")["sections"][0]
    titles = [row["title"] for row in fidelity["tables"][0]["rows"]]
    assert "Feature distance (explained classifier, uncalibrated)" in titles


def test_drawings_without_a_reader_get_a_line_and_no_arena(
    home: Path, found: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "unread"
    shutil.copytree(found, folder)
    opened(folder, *SCORES)
    assert "so the arena is left out; make one" in capsys.readouterr().out
    names = [each["name"] for each in read_json(folder / "evaluation.json", "")["sections"]]
    assert names == ["fidelity", "counterfactuals"]
    assert "distance" not in table(folder / "evaluation.json", "fidelity", "overall")


# The other tasks


def test_an_augmentation_of_a_search_joins_its_training_images(home: Path, found: Path) -> None:
    output = home / "set"
    opened(found, "task=augment", f"output={output}", "making.most_images=4")
    joined = training_set(compose("train", ["data=faces", FEW, f"data.augmentation={output}"]).data)
    assert len(joined) == 12 + 4


def test_the_same_classifier_before_and_after_changes_nothing(found: Path, model: Path) -> None:
    opened(found, "task=bias", f"after={model}", "num_drawings=10")
    accuracy = table(found / "bias.json", "bias", "accuracy_by_attribute_1")
    changes = [
        row["change"]["value"] for row in accuracy.values() if isinstance(row["change"], dict)
    ]
    effects = table(found / "bias.json", "bias", "attribute_effects").values()
    changes += [row["change"]["value"] for row in effects]
    assert {value for value in changes if value is not None} == {0.0}
    assert len(effects) == len(read_edits(found)["stylex"].names)
    for row in table(found / "bias.json", "bias", "reliance").values():
        assert row["before"] == row["after"]


def test_what_a_layout_holds_scores_as_the_search_that_wrote_it(
    home: Path, scored: Path, model: Path
) -> None:
    layout = home / "layout"
    given = [f"layout={layout}", "results=scored", f"checkpoint={model}", "target=Alder"]
    opened("task=foreign", MEASURES, *given)
    read = layout / "Results" / "scored" / "evaluation.json"
    rates = []
    for file in (scored / "evaluation.json", read):
        sections = {each["name"]: each for each in read_json(file, "")["sections"]}
        rows = sections["counterfactuals"]["tables"][0]["rows"]
        rates.append(next(row["cells"][0] for row in rows if row["name"] == "flip_rate"))
    assert rates[0] == rates[1]
    assert rates[0]["num_images"] > 0


def test_a_trained_reader_can_be_loaded(reader: Path) -> None:
    loaded = load_reader(reader)
    assert (loaded.family, loaded.resolution) == ("Faces", 32)
    assert len(loaded.held_out) == len(loaded.factors)


# Mistakes

FOREIGN = ["task=foreign", "layout=x", "results=x", "checkpoint=x", "target=x"]


def refused(match: str, *typed: object) -> None:
    with pytest.raises(InputError, match=re.escape(match)):
        opened(*typed)


def test_a_mistake_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], found: Path
) -> None:
    for typed, match in (
        (["task=score"], "did you mean task=scores?"),
        (["task=bias"], "compares with a retrained classifier, got none; give after=RUN"),
    ):
        assert code_of("evaluation", evaluation, with_folders([str(found), *typed], LISTS)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert match in line


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        ([], "an evaluation is of a search's folder, got none"),
        (["nowhere"], "reads a finished search, got no provenance.json in 'nowhere'"),
        (["nowhere", "task=augment"], "reads a finished search, got no attributes.json in"),
        (["nowhere", "task=classifier"], "task must be one of scores, augment, bias, reader,"),
        (["nowhere", "num_images=0"], "num_images must be at least 1, got 0"),
        (["one", "two", "task=augment"], "task=augment takes one folder, got 2"),
        (["one", "two", "task=bias"], "task=bias takes one folder, got 2"),
        (["one", "task=bias"], "compares with a retrained classifier, got none; give after=RUN"),
        (["task=reader", "output=x"], "got data=none and output=x"),
        (["task=reader", "data=faces"], "got data=given and output=None"),
        ([*FOREIGN, "distance=classifier"], "distance must be null or lpips, got 'classifier'"),
        *(
            ([each for each in FOREIGN if each.partition("=")[0] != key], f"needs {key}, got none")
            for key in ("layout", "results", "checkpoint", "target")
        ),
    ],
)
def test_a_mistake_is_refused_before_anything_is_measured(typed: list[str], match: str) -> None:
    refused(match, *typed)


def test_another_model_is_refused(home: Path, found: Path) -> None:
    other = write_model(home / "other", seed=2)
    refused("needs the model that was searched", found, f"checkpoint={other}")


def test_other_data_are_refused(tmp_path: Path, found: Path) -> None:
    made_by = read_json(found / "provenance.json", "")
    made_by["config"]["data"]["seed"] = 1
    write_json(tmp_path / "provenance.json", made_by)
    refused("needs the images that were searched, got others", tmp_path)


def test_a_classifier_of_other_classes_is_refused(home: Path, found: Path) -> None:
    leaves = write_model(home / "leaves", "leaves")
    for typed in ([f"oracle={leaves}"], ["task=bias", f"after={leaves}"]):
        refused("must have the checkpoint's classes (Alder, Birch)", found, *typed)


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        ("reader=nowhere.safetensors", "reader must be an existing safetensors file"),
        ("oracle=nowhere", "a classifier must be checkpoint, a run's folder of"),
        ("studies=nowhere.csv", "a study must be a readable answers.csv, got 'nowhere.csv'"),
        ("distance=ssim", "distance must be classifier, lpips or null, got 'ssim'"),
    ],
)
def test_a_file_that_is_missing_is_said_before_anything_is_measured(
    found: Path, typed: str, match: str
) -> None:
    refused(match, found, *SCORES, typed)
    assert not (found / "evaluation.json").exists()


def test_a_layout_is_not_written_twice(home: Path, scored: Path) -> None:
    written = (scored / "evaluation.json").read_bytes()
    refused("the experiment must be a new one", scored, f"layout={home / 'layout'}")
    assert (scored / "evaluation.json").read_bytes() == written


def test_the_classes_of_foreign_results_are_the_models(model: Path) -> None:
    typed = [*FOREIGN[:3], f"checkpoint={model}", "target=Oak"]
    refused("target must be one of Alder, Birch, got 'Oak'", *typed)


def test_foreign_results_are_measured_by_lpips_where_its_weights_are(
    home: Path, scored: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(home / "no weights"))
    given = [f"layout={home / 'layout'}", "results=scored", f"checkpoint={model}", "target=Alder"]
    assert scored.is_dir()  # it wrote the layout
    refused("lpips needs torchvision's AlexNet weights", "task=foreign", *given, "distance=lpips")


def test_a_reader_reads_drawings_only() -> None:
    refused(
        "reads factors of drawings, got FashionMNIST", "task=reader", "data=fashion", "output=x"
    )
