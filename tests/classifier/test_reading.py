"""What outputs mean: one label of many, names in another order, and no probabilities."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.classifier.adapter import Adapter
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.classifier.reading import Reading, check_logits, kind_of_outputs, read_as
from stylex.errors import InputError

LABELS = ("Young", "Smiling", "Eyeglasses")
FORM = {"input_resolution_px": 8, "input_channels": 1, "input_range": [-1, 1]}


def frozen(reading: Reading, names: tuple[str, ...], last: nn.Module | None = None) -> Any:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), last or nn.Identity())
    return FrozenClassifier(net, Adapter(**FORM, mean=[0], std=[1]), names, [], reading)


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def read(names: tuple[str, ...], **spec: Any) -> Any:
    return read_as(spec, nn.Identity(), names)


@pytest.mark.parametrize("output", [1, "Smiling", "smiling"])
def test_one_label_of_many_is_a_decision_of_two_classes(output: int | str) -> None:
    reading, names = read(("0", "1"), output=output, label_names=list(LABELS))
    assert names == ("not Smiling", "Smiling")
    judge, x = frozen(reading, names), images()
    z = judge.outputs(x)[:, 1]
    torch.testing.assert_close(judge(x), torch.stack((-z / 2, z / 2), dim=1))
    torch.testing.assert_close(judge.probabilities(x)[:, 1], z.sigmoid())
    assert judge.outputs(x).shape == (4, 3)


def test_a_label_without_a_name_goes_by_its_number() -> None:
    reading, names = read(("0", "1"), output=2)
    assert names == ("not output 2", "output 2")
    assert reading.names_of(3) == ("output 0", "output 1", "output 2")


@pytest.mark.parametrize(
    ("output", "labels", "said"),
    [
        ("Smilling", LABELS, r"must be a label \(0 to 2, or a name\), got 'Smilling'; .*'Smiling'"),
        (3, LABELS, r"must be a label \(0 to 2, or a name\), got '3'"),
        (-1, LABELS, "got '-1'"),
        (True, LABELS, "got 'True'"),
        ("Smiling", None, "must be a number from 0 as long as no names are known, got 'Smiling'"),
        (0, "Young", "classifier.label_names must be a list of names, got 'Young'"),
    ],
)
def test_a_label_that_is_not_there_is_refused(output: Any, labels: Any, said: str) -> None:
    labels = list(labels) if isinstance(labels, tuple) else labels
    with pytest.raises(InputError, match=said):
        read(("0", "1"), output=output, label_names=labels)


def test_a_label_needs_data_of_two_classes() -> None:
    with pytest.raises(InputError, match="between two classes, got data of 3"):
        read(("a", "b", "c"), output=0)


@pytest.mark.parametrize("reading", [Reading(7), Reading(1, ("one", "two"))])
def test_a_label_that_the_network_has_not_is_refused_when_it_runs(reading: Reading) -> None:
    with pytest.raises(InputError, match=r"one of the network's labels, got \d of \d names"):
        frozen(reading, ("not x", "x"))(images())


def test_the_datas_classes_are_found_among_the_networks_names() -> None:
    reading, names = read(("cat", "dog", "wild_boar"), label_names=["Wild boar", "cat", "dog"])
    assert names == ("cat", "dog", "wild_boar")
    judge, x = frozen(reading, names), images()
    torch.testing.assert_close(judge(x), judge.outputs(x)[:, [1, 2, 0]])


@pytest.mark.parametrize("labels", [None, ["cat", "dog", "cow"], ["a", "b", "c"], ["cat", "dog"]])
def test_names_in_order_or_of_something_else_leave_the_outputs_as_they_are(labels: Any) -> None:
    reading, _ = read(("cat", "dog", "cow"), label_names=labels)
    assert reading.order is None


def test_another_reading_is_another_classifier_and_the_plain_one_is_as_before() -> None:
    names = ("not x", "x")
    plain = frozen(Reading(), names)
    assert plain.fingerprint() == frozen(Reading(None, LABELS), names).fingerprint()
    seen = {frozen(Reading(k), names).fingerprint() for k in range(3)}
    seen |= {frozen(Reading(None, (), (1, 0)), names).fingerprint(), plain.fingerprint()}
    assert len(seen) == 5


def test_a_configuration_of_before_is_read_as_it_was(tiny_config: dict[str, Any]) -> None:
    spec = tiny_config["classifier"]
    assert not {"output", "label_names"} & spec.keys()
    assert build_classifier(spec, ["a", "b", "c"]).reading == Reading()


def test_as_many_outputs_are_built_as_there_are_labels(tiny_config: dict[str, Any]) -> None:
    spec = {**tiny_config["classifier"], "output": 1}
    with pytest.raises(InputError, match="num_classes must be the number of all labels"):
        build_classifier(spec, ["0", "1"])
    judge = build_classifier({**spec, "label_names": list(LABELS)}, ["0", "1"])
    assert judge.network.head.out_features == 3


# Probabilities -----------------------------------------------------------------------------------


def test_probabilities_are_told_from_logits() -> None:
    logits = torch.randn(16, 5)
    assert kind_of_outputs(logits) == "logits"
    assert kind_of_outputs(logits.log_softmax(dim=1)) == "logits"
    assert kind_of_outputs(logits.softmax(dim=1)) == "softmax"
    assert kind_of_outputs(logits.softmax(dim=1).half()) == "softmax"
    assert kind_of_outputs(logits.sigmoid()) == "sigmoid"
    assert kind_of_outputs(logits[:, :1].sigmoid()) == "sigmoid"
    assert kind_of_outputs(torch.zeros(4, 3)) == "logits"


def test_a_softmax_is_refused_and_a_few_logits_that_lie_like_sigmoids_are_not() -> None:
    judge = frozen(Reading(), ("a", "b", "c"), nn.Softmax(dim=1))
    with pytest.raises(InputError, match="must return logits, got probabilities .*cut the last so"):
        judge.check(images())
    frozen(Reading(), ("a", "b", "c")).check(images())
    check_logits(torch.full((4, 3), 0.2))
    check_logits(torch.tensor([[0.4, 0.6]]))  # of one image, by chance


def test_a_network_that_cannot_take_the_images_is_refused_in_a_sentence() -> None:
    judge = frozen(Reading(), ("a", "b", "c"))
    judge.adapter.input_resolution_px = 16
    with pytest.raises(
        InputError, match=r"declared for it \(1 channels, 16 px\), got an error fro"
    ):
        judge.check(images())
