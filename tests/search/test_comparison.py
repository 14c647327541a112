"""Classifiers compared: the rules of the verdicts, and what a planted change comes to."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stylex.artifacts import write_tensors, write_yaml
from stylex.classifier.files import read_classifier
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.model import StylEx
from stylex.search.comparison import compare
from stylex.search.crew import Crew, Place
from stylex.search.panel import Panel, seated
from stylex.search.results import Settings
from stylex.search.statistics import collect
from stylex.search.verdicts import Comparison, Difference, sign_flip_p, smallest_q, verdict, weigh
from stylex.types import Images

LEAST = 0.2


# The verdicts, on tables made by hand


def weighed(reference: float, other: float, num_images: int = 20, others: int = 0) -> Difference:
    """Of one attribute with these mean effects, beside others that are under both the same."""
    noise = 0.05 * torch.linspace(-1, 1, num_images)
    effects = torch.stack([torch.full((1 + others, num_images), x) for x in (reference, other)])
    effects = effects + noise * torch.tensor([1.0, -1.0])[:, None, None]
    effects[1, 1:] = effects[0, 1:]
    ranks = [[None] * (1 + others)] * 2
    found = weigh(effects, torch.ones(2), ["a", "b"], ranks, LEAST, seed=0)
    return found[0][1][0]


@pytest.mark.parametrize(
    ("reference", "other", "expected"),
    [
        (0.0, 1.0, "appears"),
        (0.0, 0.25, "appears"),
        (0.15, 0.4, "appears"),  # below the least effect counts as none
        (1.0, 0.0, "vanishes"),
        (1.0, -0.1, "vanishes"),  # it lowers the target by less than the least
        (1.0, -1.0, "changes sign"),
        (-0.25, 0.25, "changes sign"),
        (1.0, 1.5, "stronger"),
        (1.5, 1.0, "weaker"),
        (1.0, 1.0, "kept"),
        (1.0, 1.15, "kept"),  # they differ by less than the least
        (0.15, 0.25, "undecided"),
        (0.25, 0.15, "undecided"),
        (0.0, 0.0, "neither"),
        (0.1, 0.15, "neither"),
        (-1.0, 0.0, "neither"),
        (0.0, -1.0, "neither"),
    ],
)
def test_a_verdict_follows_from_two_effects(reference: float, other: float, expected: str) -> None:
    assert weighed(reference, other).verdict == expected


def test_the_verdict_of_the_classifiers_exchanged_is_the_opposite_one() -> None:
    opposite = {"appears": "vanishes", "stronger": "weaker"}
    opposite |= {there: back for back, there in opposite.items()}
    for one, other in itertools.product((-1.0, -0.1, 0.0, 0.25, 0.4, 1.0), repeat=2):
        there, back = weighed(one, other).verdict, weighed(other, one).verdict
        assert back == opposite.get(there, there)


def estimate(value: float, spread: float = 0.01) -> Estimate:
    return Estimate(value, 20, (value - spread, value + spread))


def test_an_effect_whose_interval_holds_0_raises_nothing() -> None:
    sure, unsure = estimate(1.0), estimate(1.0, 1.1)
    difference = estimate(0.5)
    assert verdict(sure, sure, difference, 0.5, LEAST) == "kept"
    assert verdict(unsure, sure, difference, 0.01, LEAST) == "appears"
    assert verdict(sure, unsure, difference, 0.01, LEAST) == "vanishes"
    assert verdict(unsure, unsure, difference, 0.01, LEAST) == "neither"


def test_without_a_significant_difference_nothing_changes() -> None:
    for one, other in itertools.product((-1.0, 0.0, 0.3, 1.0), repeat=2):
        found = verdict(estimate(one), estimate(other), estimate(other - one), 0.051, LEAST)
        assert found in ("kept", "undecided", "neither")
    assert verdict(estimate(0.0), estimate(1.0), estimate(1.0), 0.05, LEAST) == "appears"


def test_effects_are_compared_in_each_classifiers_own_scale() -> None:
    effects = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(1)) + 1.0
    ranks = [[1, 2, 3]] * 2
    plain = weigh(effects, torch.tensor([1.0, 2.0]), ["a", "b"], ranks, LEAST, 0)
    effects[1] *= 8
    scaled = weigh(effects, torch.tensor([1.0, 16.0]), ["a", "b"], ranks, LEAST, 0)
    for (_, one), (under, other) in zip(plain, scaled, strict=True):
        assert (one[0].standardised, one[0].q, one[0].verdict) == (
            other[0].standardised,
            other[0].q,
            other[0].verdict,
        )
        assert one[0].raw != other[0].raw
        raw, standardised = under[1].raw.value, under[1].standardised.value
        assert raw is not None
        assert standardised == pytest.approx(raw / 16)


def test_a_difference_is_paired_by_image() -> None:
    base = torch.randn(20, generator=torch.Generator().manual_seed(1)) * 10
    effects = torch.stack((base, base + 0.5))[:, None]
    ((_, (found,)),) = weigh(effects, torch.ones(2), ["a", "b"], [[1], [1]], LEAST, 0)
    assert found.standardised.value == pytest.approx(0.5)
    low, high = found.standardised.interval or (0.0, 0.0)
    assert high - low < 1e-4  # float32's own
    assert found.p == pytest.approx(1e-4, abs=3e-4)


# p and q


def test_a_p_is_the_share_of_all_patterns_of_signs_with_as_large_a_mean() -> None:
    values = torch.randn(3, 8, generator=torch.Generator().manual_seed(4)).double() + 0.4
    for row, p in zip(values.tolist(), sign_flip_p(values, seed=0), strict=True):
        observed = abs(sum(row))
        signs = list(itertools.product((-1, 1), repeat=8))
        sums = [abs(sum(s * x for s, x in zip(pattern, row, strict=True))) for pattern in signs]
        exact = sum(total >= observed - 1e-12 for total in sums) / len(signs)
        assert p == pytest.approx(exact, abs=0.015)  # three deviations of 9,999 draws


def test_equal_effects_have_p_1_and_a_mirrored_difference_the_same_p() -> None:
    values = torch.randn(1, 30, generator=torch.Generator().manual_seed(4)) + 0.1
    assert sign_flip_p(torch.zeros(2, 30), seed=0) == [1.0, 1.0]
    assert sign_flip_p(values, seed=0) == sign_flip_p(-values, seed=0)


def test_where_no_classifier_differs_a_false_alarm_is_as_rare_as_stated() -> None:
    random = torch.Generator().manual_seed(7)
    alarms, tables = 0, 200
    for _ in range(tables):
        effects = 1 + torch.randn(2, 10, 12, generator=random)
        found = weigh(effects, torch.ones(2), ["a", "b"], [[None] * 10] * 2, 0.0, seed=0)
        alarms += any(difference.q <= 0.05 for _, (difference,) in found)
    assert alarms / tables <= 0.05 + 2.6 * (0.05 * 0.95 / tables) ** 0.5


def test_the_smallest_q_is_that_of_one_difference_as_clear_as_can_be() -> None:
    for num_images, others in ((4, 0), (6, 3), (9, 9)):
        found = weighed(0.0, 100.0, num_images, others)
        assert found.q == pytest.approx(smallest_q(num_images, 1 + others), rel=0.25, abs=0.02)
    assert smallest_q(50, 10) == pytest.approx(10 / 10_000)
    assert smallest_q(4, 10) == 1.0


# On a model


@pytest.fixture
def many_images() -> Images:
    """Enough for every class to be called by thirty reconstructions."""
    coarse = torch.rand(240, 1, 4, 4, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return functional.interpolate(coarse, (16, 16), mode="bilinear")


def changed(classifier: FrozenClassifier, rows: list[int], factors: list[float]) -> Any:
    """The same with other rows of its head, multiplied."""
    other = copy.deepcopy(classifier)
    head: Any = other.network.head
    factor = torch.tensor(factors)
    head.weight.copy_(head.weight[rows] * factor[:, None])
    head.bias.copy_(head.bias[rows] * factor)
    return other


def compared(
    model: StylEx, images: Images, others: list[FrozenClassifier], folder: Path, **more: Any
) -> Comparison:
    crew = Crew(Place())
    classifiers = [model.classifier, *others]
    crew.member = Panel(model, images, {"batch_size": 64}, classifiers=classifiers)
    question = {"source": "circle", "target": "square", **more}
    settings = Settings(
        num_attributes=4,
        num_images=question.pop("num_images", 60),
        selector=question.pop("selector", "paper"),
        effects=question.pop("effects", "screened"),
    )
    names = [f"{i}" for i in range(len(classifiers))]
    return compare(
        crew,
        names,
        question["source"],
        question["target"],
        settings,
        folder,
        {"data": "here"},
        None,
        LEAST,
    )


def plain_effects(model: StylEx, images: Images, found: Comparison) -> list[Tensor]:
    """Mean effect of every attribute on all logits of the model's own classifier."""
    statistics = collect(model, [images], list(range(len(images))), quantile=0.0)
    styles = statistics.styles[list(found.held)]
    before, effects = model.classifier(model.render(styles)), []
    for attribute in found.attributes:
        row = ("smallest", "largest").index(attribute.direction)
        moved = styles.clone()
        moved[:, attribute.coordinate] = statistics.extremes[row, attribute.coordinate]
        change = model.classifier(model.render(moved)) - before
        effects.append(change.mean(dim=0))
    return effects


def test_a_classifier_against_itself_keeps_everything(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    twin = copy.deepcopy(tiny_model.classifier)
    found = compared(tiny_model, many_images, [twin], tmp_path)
    assert found.num_changes == 0
    assert found.judges[1].agreement.value == 1.0
    assert found.attributes
    for attribute in found.attributes:
        one, other = attribute.effects
        assert (one.raw, one.standardised, one.rank) == (other.raw, other.standardised, other.rank)
        (difference,) = attribute.differences
        assert (difference.standardised.value, difference.p, difference.q) == (0.0, 1.0, 1.0)
        assert difference.verdict in ("kept", "neither")


@pytest.mark.parametrize("effects", ["screened", "exhaustive"])
def test_a_classifier_whose_classes_are_exchanged_uses_what_the_other_class_used(
    tiny_model: StylEx, many_images: Images, tmp_path: Path, effects: str
) -> None:
    square, star = 1, 2
    other = changed(tiny_model.classifier, [0, star, square], [1.0, 1.0, 1.0])
    found = compared(tiny_model, many_images, [other], tmp_path, effects=effects)
    said = tiny_model(many_images).argmax(dim=1)
    assert set(found.held) | set(found.selecting) == set((said == 0).nonzero()[:60, 0].tolist())
    assert not set(found.held) & set(found.selecting)
    plain = plain_effects(tiny_model, many_images, found)
    for attribute, expected in zip(found.attributes, plain, strict=True):
        for effect, to in zip(attribute.effects, (square, star), strict=True):
            assert effect.raw.value == pytest.approx(float(expected[to]), abs=1e-4)
    verdicts = [attribute.differences[0].verdict for attribute in found.attributes]
    assert found.num_changes == sum(v in ("appears", "vanishes", "changes sign") for v in verdicts)
    assert found.num_changes >= 1


def test_an_attribute_that_the_other_reads_the_other_way_round_changes_sign(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    other = changed(tiny_model.classifier, [0, 1, 2], [1.0, -1.0, 1.0])
    found = compared(tiny_model, many_images, [other], tmp_path)
    reference = [a for a in found.attributes if a.effects[0].rank is not None]
    assert reference
    for attribute in reference:
        one, two = attribute.effects
        assert one.raw.value == pytest.approx(-(two.raw.value or 0.0), abs=1e-5)
    clear = [a for a in found.attributes if abs(a.effects[0].standardised.value or 0.0) > 0.5]
    assert clear
    assert {a.differences[0].verdict for a in clear} == {"changes sign"}


def test_little_noise_in_the_weights_changes_nothing(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    others = []
    for seed in range(3):
        other = copy.deepcopy(tiny_model.classifier)
        random = torch.Generator().manual_seed(seed)
        for weight in other.network.parameters():
            scale = 0.01 * weight.abs().mean()
            weight.add_(scale * torch.randn(weight.shape, generator=random))
        others.append(other)
    found = compared(tiny_model, many_images, others, tmp_path)
    verdicts = {d.verdict for a in found.attributes for d in a.differences}
    assert found.num_changes == 0
    assert verdicts <= {"kept", "neither", "undecided"}
    assert "kept" in verdicts


def test_the_models_own_classifier_is_back_afterwards_and_after_errors(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    own = tiny_model.classifier
    compared(tiny_model, many_images, [copy.deepcopy(own)], tmp_path)
    assert tiny_model.classifier is own
    crew, other = Crew(Place()), copy.deepcopy(own)
    crew.member = Panel(tiny_model, many_images, {"batch_size": 64}, classifiers=[own, other])

    def stopped() -> None:
        with seated(crew, 1):
            assert tiny_model.classifier is other
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert tiny_model.classifier is own


def test_the_same_comparison_again_measures_nothing_anew(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    other = changed(tiny_model.classifier, [0, 2, 1], [1.0, 1.0, 1.0])
    first = compared(tiny_model, many_images, [other], tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert compared(tiny_model, many_images, [other], tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == files
    assert json.loads(json.dumps(first.as_json()))["num_changes"] == first.num_changes


@pytest.mark.parametrize("selector", ["joint", "notebook"])
def test_every_selector_can_be_compared(
    tiny_model: StylEx, many_images: Images, tmp_path: Path, selector: str
) -> None:
    other = changed(tiny_model.classifier, [0, 2, 1], [1.0, 1.0, 1.0])
    found = compared(tiny_model, many_images, [other], tmp_path, selector=selector)
    assert found.attributes


def test_one_vs_all_compares_on_what_no_classifier_calls_the_target(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    other = changed(tiny_model.classifier, [2, 1, 0], [1.0, 1.0, 1.0])
    found = compared(tiny_model, many_images, [other], tmp_path, source=None)
    said = tiny_model(many_images).argmax(dim=1)
    rows = (said != 1).nonzero()[:60, 0].tolist()
    assert sorted((*found.selecting, *found.held)) == rows


def test_without_a_target_the_reference_chooses_it(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    twin = copy.deepcopy(tiny_model.classifier)
    found = compared(tiny_model, many_images, [twin], tmp_path / "a", target=None)
    logits = tiny_model(many_images)
    mine = logits[logits.argmax(dim=1) == 0].softmax(dim=1).mean(dim=0)
    assert found.target == tiny_model.class_names[1 if mine[1] > mine[2] else 2]
    both = compared(tiny_model, many_images, [twin], tmp_path / "b", source=None, target=None)
    assert both.source is not None


# What is refused


def test_too_few_images_that_all_call_the_source_are_refused(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    other = changed(tiny_model.classifier, [1, 0, 2], [1.0, 1.0, 1.0])
    message = "at least 8 images that every classifier calls 'circle', got 0; give more images"
    with pytest.raises(InputError, match=message):
        compared(tiny_model, many_images, [other], tmp_path)
    message = "at least 8 images that every classifier calls anything but 'square', got"
    with pytest.raises(InputError, match=message):
        compared(tiny_model, many_images[:9], [other], tmp_path, source=None)


def test_a_classifier_that_sees_nothing_is_refused(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    other = changed(tiny_model.classifier, [0, 1, 2], [1.0, 0.0, 1.0])
    message = "logits must differ between images, got the same .* times from '1'; compare trained"
    with pytest.raises(InputError, match=message):
        compared(tiny_model, many_images, [other], tmp_path)


def test_two_equal_classes_are_refused(
    tiny_model: StylEx, many_images: Images, tmp_path: Path
) -> None:
    twin = copy.deepcopy(tiny_model.classifier)
    with pytest.raises(InputError, match="must be two classes, got 'circle' twice"):
        compared(tiny_model, many_images, [twin], tmp_path, target="circle")


def test_classifiers_that_nothing_moves_are_refused(
    tiny_model: StylEx, many_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stylex.search.study import Search

    monkeypatch.setattr(Search, "select", lambda *_: ([], None))
    twin = copy.deepcopy(tiny_model.classifier)
    message = "moves any classifier's decision towards 'square' on the .* images selected on"
    with pytest.raises(InputError, match=message):
        compared(tiny_model, many_images, [twin], tmp_path)


# Where classifiers come from


@pytest.fixture
def spec(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """How the tiny model's classifier is built."""
    return tiny_config["classifier"]


def test_every_kind_of_path_gives_its_classifier(
    tiny_classifier: FrozenClassifier, spec: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    other = changed(tiny_classifier, [0, 2, 1], [1.0, 1.0, 1.0])
    weights = other.network.state_dict()
    write_tensors(tmp_path / "plain.safetensors", weights)
    for folder in ("run/checkpoints", "model"):
        write_tensors(tmp_path / folder / "classifier.safetensors", weights)
        write_yaml(tmp_path / folder / "config.yaml", {"classifier": spec})
    one = tiny_images[:1]
    assert read_classifier("checkpoint", tiny_classifier, spec, one) is tiny_classifier
    for name in ("plain.safetensors", "run", "run/checkpoints", "model"):
        found = read_classifier(str(tmp_path / name), tiny_classifier, spec, one)
        assert found.fingerprint() == other.fingerprint()


def traced(num_classes: int, path: Path) -> nn.Module:
    """A network of one channel and 16 px, saved as TorchScript."""
    network = nn.Sequential(nn.Conv2d(1, num_classes, 16), nn.Flatten()).requires_grad_(False)
    torch.jit.trace(network, torch.zeros(1, 1, 16, 16)).save(path)
    return network


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_torchscript_file_is_read_with_the_declared_input(
    tiny_classifier: FrozenClassifier, spec: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    path = tmp_path / "network.pt"
    network = traced(3, path)
    found = read_classifier(str(path), tiny_classifier, spec, tiny_images[:1])
    torch.testing.assert_close(found(tiny_images), network(tiny_images))
    wrong = {**spec, "input_channels": 3}
    message = rf"declared for it \(3 channels, 16 px\), got an error from '{path}'"
    with pytest.raises(InputError, match=message):
        read_classifier(str(path), tiny_classifier, wrong, tiny_images[:1])


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_classifier_of_other_classes_is_refused(
    tiny_classifier: FrozenClassifier, spec: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    def read(name: str) -> None:
        read_classifier(str(tmp_path / name), tiny_classifier, spec, tiny_images[:1])

    network: Any = copy.deepcopy(tiny_classifier.network)
    write_tensors(tmp_path / "run" / "classifier.safetensors", network.state_dict())
    config = {"classifier": spec, "class_names": ["circle", "star", "square"]}
    write_yaml(tmp_path / "run" / "config.yaml", config)
    with pytest.raises(InputError, match="classes .circle, square, star.*, got circle, star, squ"):
        read("run")
    network.head = nn.Linear(network.head.in_features, 4)
    write_tensors(tmp_path / "four.safetensors", network.state_dict())
    with pytest.raises(InputError, match="four.safetensors .*; check the number of classes"):
        read("four.safetensors")
    traced(4, tmp_path / "four.pt")
    with pytest.raises(InputError, match=r"one logit per class \(3: .*got an output of shape"):
        read("four.pt")


def test_a_path_that_is_no_classifier_is_refused(
    tiny_classifier: FrozenClassifier, spec: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    (tmp_path / "weights.npz").write_text("")
    (tmp_path / "empty").mkdir()
    for name in ("gone.safetensors", "gone", "weights.npz", "empty"):
        path = str(tmp_path / name)
        message = (
            f"a classifier must be checkpoint, a run's folder .*, got '{path}'; correct the path"
        )
        with pytest.raises(InputError, match=message):
            read_classifier(path, tiny_classifier, spec, tiny_images[:1])
    write_tensors(tmp_path / "run" / "classifier.safetensors", {})
    for content in (None, "a: [", "data: {}"):
        if content is not None:
            (tmp_path / "run" / "config.yaml").write_text(content)
        with pytest.raises(InputError, match="must have a config.yaml that says how it is built"):
            read_classifier(str(tmp_path / "run"), tiny_classifier, spec, tiny_images[:1])
