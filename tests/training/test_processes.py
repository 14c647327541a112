"""Processes that train together end with the weights of one that takes the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from stylex.classifier.frozen import build_classifier
from stylex.errors import InputError
from stylex.model import build_discriminator, build_model
from stylex.processes import Share, check_alike, of_one_fate, share
from stylex.training.module import StylExModule

BATCH, STEPS = 16, 20
EVERYTHING = {  # every term that looks at more than one image
    "style_deviation": 1.0,
    "crossed": 1.0,
    "style_cycle": 1.0,
    "independence": 0.3,
    "classifier_kl": 1.0,
    "r1_gamma": 10.0,
}
AUGMENTED = {"mode": "adaptive", "p": 0.5, "target": 0.6, "adjustment_kimg": 1}


def train(
    rank: int, size: int, folder: Path, spec: dict[str, Any], settings: dict[str, Any], dtype: str
) -> None:
    """Trains one of some processes and writes its weights."""
    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    if size > 1:
        store = f"file://{folder / f'store-{size}-{dtype}'}"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    torch.manual_seed(0)
    classifier = build_classifier(spec["classifier"], spec["class_names"])
    model = build_model(spec["model"], classifier)
    judge = build_discriminator(spec["model"], classifier.num_classes)
    module = StylExModule(model, judge, settings, spec["ops"], 0)
    if module.independence is not None:  # it speaks after 512 images
        module.independence.seen = 2048
        module.independence.memory = torch.randn(module.independence.memory.shape)
    optimisers = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer: optimisers
    module.manual_backward = lambda loss: loss.backward()
    module.share = share(BATCH, settings["accumulation"], judge.minibatch_group or 1)
    images = torch.rand(STEPS, BATCH, 1, 16, 16) * 2 - 1
    for step in range(STEPS):
        mine = torch.stack(module.share.of_batch(list(images[step])))
        terms = module.training_step((mine, torch.zeros(len(mine))), step)
    kept = {name: value for name, value in module.state_dict().items() if "lassifier" not in name}
    torch.save(
        {**kept, **{f"term {k}": v for k, v in terms.items()}}, folder / f"{size}-{rank}-{dtype}"
    )
    if size > 1:
        distributed.destroy_process_group()


@pytest.fixture
def spec(tiny_config: dict[str, Any]) -> dict[str, Any]:
    ops = {"fused_adam": False, "compile": None, "impl": "auto"}
    judge = {**tiny_config["model"]["discriminator"], "minibatch_group": 4}
    return {**tiny_config, "model": {**tiny_config["model"], "discriminator": judge}, "ops": ops}


def trained(
    folder: Path, size: int, spec: dict[str, Any], settings: dict[str, Any], dtype: str = "float64"
) -> list[dict[str, Tensor]]:
    """Weights and last terms of each of some processes."""
    multiprocessing.spawn(train, (size, folder, spec, settings, dtype), nprocs=size)
    return [torch.load(folder / f"{size}-{rank}-{dtype}") for rank in range(size)]


def furthest(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert some.keys() == others.keys()
    return max(float((value - others[name]).abs().max()) for name, value in some.items())


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_train_to_the_weights_of_one_with_twice_the_batch(
    tmp_path: Path, spec: dict[str, Any], settings: dict[str, Any], accumulation: int
) -> None:
    weights = {**settings["weights"], **EVERYTHING}
    changed = {
        **{**settings, "weights": weights, "accumulation": accumulation, "r1_interval": 4},
        **{"flip_share": 0.5, "augment": AUGMENTED},
    }

    (alone,) = trained(tmp_path, 1, spec, changed)
    first, second = trained(tmp_path, 2, spec, changed)

    assert furthest(first, second) == 0.0
    assert furthest(alone, first) < 1e-5
    assert all(f"term {name}" in alone for name in ("independence", "style_cycle", "crossed"))
    assert float(alone["path_mean"]) > 0
    assert float(alone["augment.p"]) != 0.5


@pytest.mark.parametrize(("size", "count", "columns"), [(2, 8, 2), (4, 4, 1), (3, 6, 6), (2, 3, 1)])
def test_the_shares_of_all_processes_are_the_whole(size: int, count: int, columns: int) -> None:
    rows = [Share(rank, size, columns).rows(count) for rank in range(size)]

    assert torch.cat(rows).sort().values.tolist() == list(range(size * count))


@pytest.mark.parametrize("size", [2, 4])
def test_a_process_holds_whole_groups_of_the_minibatch_deviation(size: int) -> None:
    group, count = 4, 8
    whole = torch.arange(size * count) % (size * count // group)  # the group of every image
    for rank in range(size):
        held = Share(rank, size, count // group)
        mine = whole[held.rows(count)]
        assert torch.equal(mine, mine[: count // group].repeat(group))  # as a process counts them


def test_half_of_a_processes_images_are_its_share_of_half_of_all() -> None:
    for rank in range(2):
        held = Share(rank, 2, 2)
        assert torch.equal(held.rows(8)[:4], held.rows(4))


def test_the_parts_of_a_batch_are_shared_one_by_one() -> None:
    first, second = (Share(rank, 2, 1, parts=2).of_batch(list("abcdefgh")) for rank in range(2))

    assert sorted(first[:2] + second[:2]) == list("abcd")
    assert sorted(first[2:] + second[2:]) == list("efgh")


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(InputError, match=r"data.batch_size must be a multiple .* got 10 for 1 x 4"):
        share(10, parts=4)


def meet(rank: int, folder: Path) -> None:
    """One of two processes that found different states."""
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    check_alike("their number", 7)
    try:
        check_alike("their step", 20 * rank)
    except InputError as error:
        (folder / str(rank)).write_text(str(error))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_that_found_different_states_all_say_so(tmp_path: Path) -> None:
    multiprocessing.spawn(meet, (tmp_path,), nprocs=2)

    said = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert "must agree in their step, got [0, 20]" in said[0]


def test_a_process_alone_agrees_with_itself() -> None:
    check_alike("anything", 1)


def test_another_process_that_has_ended_is_one_sentence_and_other_faults_stay() -> None:
    with pytest.raises(InputError, match="must all go on, got one that has ended"), of_one_fate():
        raise RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:31")
    with pytest.raises(RuntimeError, match="out of memory"), of_one_fate():
        raise RuntimeError("out of memory")
