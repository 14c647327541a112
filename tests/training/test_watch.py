"""Healthy runs of which nothing is said, and broken ones of which one thing is."""

import csv
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import Batch, MakeModule

from stylex.errors import InputError
from stylex.training.watch import STOP_AFTER, Watch

NAN, INF = math.nan, math.inf
Reports = list[tuple[int, dict[str, float]]]
MakeWatch = Callable[..., Watch]

# Of a shipped run with faces: step, agreement, reconstruction L1.
FACES = [
    *((0, 0.52, 0.843), (1999, 0.866, 0.174), (2999, 0.881, 0.155), (7999, 0.918, 0.105)),
    *((13999, 0.936, 0.085), (19999, 0.959, 0.067), (22999, 0.953, 0.079), (25999, 0.955, 0.078)),
]
# Of one without noise path, in which the last stage trades reconstruction for independence.
NO_NOISE_PATH = [
    *((0, 0.52, 0.618), (5999, 0.933, 0.108), (11999, 0.962, 0.079), (17999, 0.971, 0.057)),
    *((21999, 0.967, 0.072), (24999, 0.954, 0.085), (25999, 0.942, 0.086)),
]
# Of the first: step, real score, adversarial loss, path length penalty.
TERMS = [
    *((0, 0.52, 0.67, 0.135), (50, 0.63, 0.95, 0.0541), (100, 0.71, 1.86, 0.0307)),
    *((150, 0.71, 2.07, 0.0207), (200, 0.72, 2.41, 0.0165), (250, 0.79, 2.79, 0.0111)),
    *((300, 0.82, 2.7, 0.006), (350, 0.84, 2.72, 0.0047), (400, 0.81, 2.78, 0.0044)),
    *((3400, 0.72, 2.04, 0.0032), (9400, 0.67, 2.07, 0.0025), (15400, 0.65, 2.0, 0.0035)),
    *((18400, 0.64, 1.73, 0.0044), (21400, 0.65, 1.87, 0.0033), (24400, 0.65, 1.93, 0.0037)),
]


@pytest.fixture
def make_watch(settings: dict[str, Any], tmp_path: Path) -> MakeWatch:
    """Builds a watch over a run of two classes, from the shipped settings and changes to them."""

    def make(say: Callable[[str], None] = lambda line: None, **changes: object) -> Watch:
        augment = {"mode": "adaptive", "p": 0.0, "target": 0.6, "adjustment_kimg": 500}
        given = {**settings, "augment": augment, "learning_rate": 0.002, "stages": [], **changes}
        return Watch(given, 2, say, tmp_path)

    return make


def terms(step: int, **changes: float) -> tuple[int, dict[str, float]]:
    """A healthy report of training at a step."""
    healthy = {"discriminator": 0.9, "real_score": 0.65, "adversarial": 1.9, "path_length": 0.003}
    also = {"path_mean": 0.2, "replaced_gradients": 0.0, "image_l1": 0.1, "augment_p": 0.2}
    return step, {**healthy, **also, **changes}


def series(name: str, values: Iterable[float]) -> Reports:
    """Healthy reports every 50 steps but for one term."""
    return [terms(50 * k, **{name: value}) for k, value in enumerate(values)]


def validations(**columns: Iterable[float]) -> Reports:
    """Validations every 1000 steps."""
    rows = zip(*columns.values(), strict=True)
    return [
        (1000 * k, {f"validation_{n}": v for n, v in zip(columns, row, strict=True)})
        for k, row in enumerate(rows)
    ]


def findings(watch: Watch, reports: Reports) -> list[str]:
    """Names of all findings that were said, in their order."""
    for step, metrics in reports:
        watch.look(step, metrics)
    if not watch.path.is_file():
        return []
    with watch.path.open(newline="") as file:
        return [row["finding"] for row in csv.DictReader(file)]


def texts(watch: Watch, reports: Reports) -> list[str]:
    """All findings in words."""
    return [text for step, metrics in reports for text in watch.look(step, metrics)]


def from_rows(rows: list[tuple[int, float, float]]) -> Reports:
    names = ("validation_agreement", "validation_reconstruction_l1")
    return [(row[0], dict(zip(names, row[1:], strict=True))) for row in rows]


HEALTHY = {
    "faces": from_rows(FACES),
    "without noise path": from_rows(NO_NOISE_PATH),
    "terms": [terms(s, real_score=a, adversarial=b, path_length=c) for s, a, b, c in TERMS],
    "running mean of path lengths": series("path_mean", [0.0, 0.03, 0.08, 0.12, 0.2, 0.25, 0.22]),
    "one overflow": series("replaced_gradients", [0.0, 0.02, 0.02, 0.0, 0.02]),
    "samples": validations(sample_spread=[0.01, 0.4, 0.8, 0.95, 0.9], style_spread=[2.0] * 5),
    "augmentation": series("augment_p", [0.05 * k for k in range(20)] + [1.0] * 10 + [0.8]),
    "sure, and the generator catches up": series("real_score", [0.97] * 9),
    "one bad validation": validations(
        agreement=[0.5, 0.9, 0.75, 0.91], reconstruction_l1=[0.8, 0.1, 0.3, 0.1]
    ),
    "a short run": [(k, {"validation_agreement": 0.5}) for k in range(10)],
}
BROKEN: dict[str, Reports] = {
    "not_finite": series("classifier_kl", [0.3, NAN, NAN]),
    "terms_explode": series("adversarial", [1.0, 5e11]),
    "replaced_gradients": series("replaced_gradients", [0.0, 2.0]),
    "agreement_at_chance": validations(agreement=[0.5, 0.52, 0.49]),
    "agreement_falls": validations(agreement=[0.5, 0.9, 0.92, 0.8, 0.79]),
    "reconstruction_rises": validations(reconstruction_l1=[0.8, 0.2, 0.1, 0.25, 0.4]),
    "reconstruction_stalls": validations(reconstruction_l1=[0.8, 0.79, 0.8, 0.81, 0.78, 0.8]),
    "path_lengths_explode": series("path_length", [0.1, 0.01, *[0.003] * 6, 5.0, 90.0]),
    "path_lengths_vanish": series("path_mean", [0.1, 0.05, 0.01, 5e-4, 1e-4, 1e-5]),
    "discriminator_overpowers": [
        terms(50 * k, real_score=0.99, adversarial=3.0 + k) for k in range(6)
    ],
    "samples_collapse": validations(sample_spread=[0.01, 0.8, 0.9, 0.05]),
    "augmentation_at_one": series("augment_p", [1.0] * 20),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_of_a_healthy_run_nothing_is_said(make_watch: MakeWatch, name: str) -> None:
    watch = make_watch(noise_path=name != "without noise path")
    assert findings(watch, HEALTHY[name]) == []
    assert not watch.path.exists()


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_once_and_nothing_else(make_watch: MakeWatch, name: str) -> None:
    lines: list[str] = []
    watch = make_watch(lines.append)
    assert findings(watch, BROKEN[name]) == [name]
    assert len(lines) == 1
    *_, (step, last) = BROKEN[name]
    for later in range(1, 4):
        assert watch.look(step + later, last) == []
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not_finite", "classifier_kl=nan; begin anew with training.learning_rate=0.001 instead"),
        ("terms_explode", r"adversarial=5e\+11; begin anew with training.learning_rate=0.001"),
        ("replaced_gradients", "2 gradient tensors a step .*ops.precision=float32"),
        ("agreement_at_chance", "decides 0.49 of the copies .*chance is 0.50.*classifier_kl=5 "),
        ("agreement_falls", "fell from 0.92 to 0.79.*learning_rate=0.001"),
        ("reconstruction_rises", "rose from 0.100 to 0.400.*image_l1=10 instead of 5"),
        ("reconstruction_stalls", r"\(0.780\) as at the start \(0.800\).*encoder_rate_factor"),
        ("path_lengths_explode", "penalty is 90, and was 0.003.*learning_rate=0.001"),
        ("path_lengths_vanish", "running mean .*1.0e-05.*path_length=1 instead of 2"),
        ("discriminator_overpowers", "images 0.99 .*rose from 4.00 to 7.00.*r1_gamma=1 "),
        ("samples_collapse", "0.05 of what real images do.*r1_gamma=1 instead of 0.1"),
        ("augmentation_at_one", "stood at 1.00 for 20 reports.*augment.target=0.8 instead of 0.6"),
    ],
)
def test_a_finding_says_the_figures_and_what_to_try(
    make_watch: MakeWatch, name: str, said: str
) -> None:
    (text,) = texts(make_watch(), BROKEN[name])
    assert re.search(said, text), text


def test_what_went_away_and_came_back_is_said_again(make_watch: MakeWatch) -> None:
    watch = make_watch()
    reports = series("classifier_kl", [0.3, INF, INF, 0.3, 0.3, NAN])
    assert findings(watch, reports) == ["not_finite", "not_finite"]


def test_of_a_run_that_has_diverged_no_consequences_are_said(make_watch: MakeWatch) -> None:
    watch = make_watch()
    bad = {"adversarial": NAN, "replaced_gradients": 37.0, "path_length": 1e9}
    reports = [*BROKEN["not_finite"], *(terms(1000 + k, **bad) for k in range(9))]
    reports += [(3000 + k, {"validation_agreement": 0.5}) for k in range(5)]
    assert findings(watch, reports) == ["not_finite"]


def test_a_validation_that_is_finite_does_not_end_a_finding_of_training(
    make_watch: MakeWatch,
) -> None:
    reports = []
    for k in range(4):
        reports += [terms(100 * k, image_l1=NAN), (100 * k, {"validation_agreement": 0.9})]
    assert findings(make_watch(), reports) == ["not_finite"]


def test_a_term_that_is_not_asked_for_is_not_missed(make_watch: MakeWatch) -> None:
    without = {"classifier_kl": 0.0, "path_length": 0.0}
    weights = {**make_watch().settings["weights"], **without}
    watch = make_watch(weights=weights, noise_path=False)
    for name in ("agreement_at_chance", "path_lengths_vanish", "samples_collapse"):
        assert findings(watch, BROKEN[name]) == []
    stages = [{"from_step": 10, "weights": {"classifier_kl": 1.0}}]
    later = make_watch(weights=weights, stages=stages)
    assert findings(later, BROKEN["agreement_at_chance"]) == ["agreement_at_chance"]


def test_a_probability_that_was_set_may_be_one(make_watch: MakeWatch) -> None:
    fixed = {"mode": "fixed", "p": 1.0, "target": 0.6, "adjustment_kimg": 500}
    assert findings(make_watch(augment=fixed), BROKEN["augmentation_at_one"]) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_resumed_watch_goes_on_as_if_it_had_never_stopped(
    make_watch: MakeWatch, name: str
) -> None:
    reports = [*BROKEN[name], *BROKEN[name]]
    reports = [(step + 20_000 * (k >= len(BROKEN[name])), m) for k, (step, m) in enumerate(reports)]
    whole = make_watch()
    expected = [whole.look(step, metrics) for step, metrics in reports]
    written = whole.path.read_text()
    for stop in range(len(reports)):
        whole.path.unlink(missing_ok=True)
        first, second = make_watch(), make_watch()
        found = [first.look(step, metrics) for step, metrics in reports[:stop]]
        state = first.state_dict()
        for step, metrics in reports[stop:]:  # what is lost when it is killed
            first.look(step, metrics)
        second.load_state_dict(state)
        found += [second.look(step, metrics) for step, metrics in reports[stop:]]
        assert found == expected
        assert second.path.read_text() == written


def test_the_file_and_the_line_say_the_same(make_watch: MakeWatch) -> None:
    lines: list[str] = []
    watch = make_watch(lines.append)
    (text,) = texts(watch, BROKEN["samples_collapse"])
    assert lines == [f"step 3000: {text}"]
    with watch.path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "3000", "finding": "samples_collapse", "text": text}
        ]


def test_a_spoilt_file_of_findings_stops_nothing(make_watch: MakeWatch) -> None:
    first = make_watch()
    first.path.write_bytes(b"step,finding,text\n5,old,kept\nx,y\n,,\n7,8,9,10\n\xff\x00,1,2\n")
    assert findings(first, [(50 + step, m) for step, m in BROKEN["terms_explode"]]) == [
        *("old", "terms_explode")
    ]


def test_one_validation_that_is_not_finite_stops_no_run(make_watch: MakeWatch) -> None:
    watch = make_watch(stop_on_collapse=True)
    reports = [(0, {"validation_classifier_kl": INF}), *series("image_l1", [0.1] * 9)]
    assert findings(watch, reports) == ["not_finite"]


@pytest.mark.parametrize(
    "bad", [{"image_l1": NAN}, {"replaced_gradients": 5.0}, {"adversarial": 1e16}]
)
def test_a_run_that_stays_diverged_stops_where_it_is_told_to(
    make_watch: MakeWatch, bad: dict[str, float]
) -> None:
    patient = make_watch(stop_on_collapse=False)
    for k in range(10):
        patient.look(k, terms(k, **bad)[1])
    strict = make_watch(stop_on_collapse=True)
    for k in range(STOP_AFTER - 1):
        strict.look(k, terms(k, **bad)[1])
    strict.look(50, terms(50)[1])  # a spike is over
    for k in range(STOP_AFTER - 1):
        strict.look(100 + k, terms(100, **bad)[1])
        strict.look(100 + k, {"validation_agreement": 0.9})
    with pytest.raises(InputError, match="stop_on_collapse .*got 3 reports in a row.* at step 200"):
        strict.look(200, terms(200, **bad)[1])


@pytest.mark.parametrize(("factor", "expected"), [(1, []), (1000, ["terms_explode"])])
def test_a_training_at_a_thousandfold_rate_is_found_broken(
    make_trainee: MakeModule,
    make_watch: MakeWatch,
    batches: list[Batch],
    factor: int,
    expected: list[str],
) -> None:
    module = make_trainee(batch_size=4, learning_rate=0.002 * factor)
    watch, sums = make_watch(), {}
    for step in range(8):
        for name, value in module.training_step(batches[step], step).items():
            sums.setdefault(name, []).append(float(value))
        if step % 4 == 3:
            watch.look(step, {name: sum(values) / len(values) for name, values in sums.items()})
            sums = {}
    assert watch.active == expected


def test_the_machines_figures_are_no_part_of_the_state(make_watch: MakeWatch) -> None:
    watch = make_watch()
    before = watch.state_dict()
    assert (
        watch.look(50, {"seconds_per_kimg": NAN, "images_per_second": 1.0, "memory_mb": 2.0}) == []
    )
    assert watch.state_dict() == before
