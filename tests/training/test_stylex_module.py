"""The recipe: which path a step takes, what it trains, what it leaves alone, how it averages."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.training import losses
from stylex.training.module import OPTIMISERS, StylExModule
from stylex.types import Images

MakeModule = Callable[..., StylExModule]
Batch = tuple[Images, Tensor]

NOISE_TERMS = {"adversarial"}
ENCODER_TERMS = {
    "adversarial_encoder",
    "image_l1",
    "perceptual",
    "latent_l1",
    "classifier_kl",
    "style_deviation",
    "agreement",
}
ALWAYS = {"replaced_gradients", "discriminator", "real_score"}


def take_steps(module: StylExModule, batches: list[Batch]) -> list[dict[str, Tensor]]:
    return [module.training_step(batch, i) for i, batch in enumerate(batches)]


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def unchanged(network: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def recorded_latents(module: StylExModule) -> list[Tensor]:
    """All latents that the generator turns into styles from now on."""
    found: list[Tensor] = []
    styles = module.model.generator.styles

    def spy(latents: Tensor) -> Tensor:
        found.append(latents.detach())
        return styles(latents)

    module.model.generator.styles = spy
    return found


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_even_steps_take_the_noise_path_and_odd_ones_the_encoder_path_however_a_batch_is_divided(
    make_trainee: MakeModule, batches: list[Batch], accumulation: int
) -> None:
    module = make_trainee(accumulation=accumulation)

    terms = take_steps(module, batches[:6])

    for step, found in enumerate(terms):
        expected, other = (ENCODER_TERMS, NOISE_TERMS) if step % 2 else (NOISE_TERMS, ENCODER_TERMS)
        assert expected <= set(found)
        assert not other & set(found)
    assert module.step == 6


def test_a_noise_step_has_the_adversarial_term_and_at_multiples_of_4_path_length_and_of_16_r1(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()

    terms = take_steps(module, batches[:18])

    for step, found in enumerate(terms):
        expected = ALWAYS | (ENCODER_TERMS if step % 2 else NOISE_TERMS)
        expected = expected | ({"path_length", "path_mean"} if step % 4 == 0 else set())
        assert set(found) == expected | ({"r1"} if step % 16 == 0 else set())


def test_without_a_noise_path_every_step_takes_the_encoder_path(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    terms = take_steps(make_trainee(noise_path=False), batches[:4])

    assert [set(found) - {"r1"} for found in terms] == [ALWAYS | ENCODER_TERMS] * 4


def test_a_noise_step_trains_mapping_generator_and_discriminator_but_not_the_encoder(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()
    model = module.model
    before = {n: weights_of(n) for n in (model.encoder, *_trained_by_noise(module))}

    take_steps(module, batches[:1])

    assert unchanged(model.encoder, before[model.encoder])
    assert not any(unchanged(network, before[network]) for network in _trained_by_noise(module))


def test_an_encoder_step_trains_encoder_generator_and_discriminator_but_not_the_mapping(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()
    take_steps(module, batches[:1])
    model = module.model
    trained = (model.encoder, model.generator, module.discriminator)
    before = {n: weights_of(n) for n in (model.mapping, *trained)}

    take_steps(module, batches[1:2])

    assert unchanged(model.mapping, before[model.mapping])
    assert not any(unchanged(network, before[network]) for network in trained)


def _trained_by_noise(module: StylExModule) -> tuple[nn.Module, ...]:
    return (module.model.mapping, module.model.generator, module.discriminator)


@pytest.mark.parametrize("step", [0, 1])
def test_what_the_discriminator_learns_from_leaves_the_other_networks_alone(
    make_trainee: MakeModule, batches: list[Batch], step: int
) -> None:
    plain, strict = (make_trainee(weights={"r1_gamma": g}, r1_interval=1) for g in (0.1, 50.0))
    for module in (plain, strict):
        module.step = step
        take_steps(module, batches[:1])

    assert unchanged(plain.model, weights_of(strict.model))
    assert not unchanged(plain.discriminator, weights_of(strict.discriminator))


@pytest.mark.parametrize(
    ("step", "learning"),
    [(0, {"generator", "mapping"}), (1, {"generator", "mapping", "encoder"})],
)
def test_gradients_are_computed_only_for_the_networks_of_a_phase(
    make_trainee: MakeModule, batches: list[Batch], step: int, learning: set[str]
) -> None:
    module = make_trainee()
    module.step = step
    networks = {name: getattr(module.model, name) for name in ("generator", "mapping", "encoder")}
    networks["discriminator"] = module.discriminator
    seen: list[set[str]] = []

    def note(*_: object) -> None:
        seen.append(
            {k for k, n in networks.items() if any(p.requires_grad for p in n.parameters())}
        )

    module.discriminator.register_forward_hook(note)
    take_steps(module, batches[:1])

    assert seen[0] == learning
    assert seen[1:]
    assert all(found == {"discriminator"} for found in seen[1:])


def test_the_classifier_never_changes_and_gets_no_gradient(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()
    classifier = module.model.classifier
    before = classifier.fingerprint()

    module.train()
    take_steps(module, batches[:4])

    assert classifier.fingerprint() == before
    assert not classifier.network.training
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())


def test_every_learning_parameter_but_the_classifiers_has_just_one_optimiser(
    make_trainee: MakeModule,
) -> None:
    module = make_trainee()
    model = module.model

    found = {
        name: [id(p) for group in optimiser.param_groups for p in group["params"]]
        for name, optimiser in zip(OPTIMISERS, module.configure_optimizers(), strict=True)
    }

    assert found == {
        "generator": [id(p) for n in (model.generator, model.mapping) for p in n.parameters()],
        "encoder": [id(p) for p in model.encoder.parameters()],
        "discriminator": [id(p) for p in module.discriminator.parameters()],
    }


def test_adam_is_corrected_for_the_updates_that_lazy_phases_add(make_trainee: MakeModule) -> None:
    module = make_trainee(
        learning_rate=0.01,
        betas=[0.5, 0.99],
        path_length_interval=4,
        r1_interval=16,
        encoder_rate_factor=0.3,
    )

    generator, encoder, discriminator = (o.defaults for o in module.configure_optimizers())

    for found, ratio in ((generator, 4 / 5), (discriminator, 16 / 17)):
        assert found["lr"] == pytest.approx(0.01 * ratio)
        assert found["betas"] == pytest.approx((0.5**ratio, 0.99**ratio))
    assert encoder["lr"] == pytest.approx(0.003)
    assert encoder["betas"] == pytest.approx((0.5, 0.99))
    assert {o["eps"] for o in (generator, encoder, discriminator)} == {1e-8}


def test_a_first_moment_of_zero_stays_zero_under_the_correction(make_trainee: MakeModule) -> None:
    optimisers = make_trainee(betas=[0.0, 0.99]).configure_optimizers()

    assert [o.defaults["betas"][0] for o in optimisers] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("ramp", "half_lives"),
    [(100.0, [10, 10, 10, 10, 10]), (0.8, [3.2, 6.4, 9.6, 10, 10])],
)
def test_the_average_forgets_by_a_half_life_of_images_that_grows_with_those_seen(
    make_trainee: MakeModule, batches: list[Batch], ramp: float, half_lives: list[float]
) -> None:
    module = make_trainee(average_half_life_kimg=0.01, average_ramp=ramp)
    networks = ("encoder", "mapping", "generator")
    expected = {name: weights_of(getattr(module.model, name)) for name in networks}
    for network in networks:
        assert unchanged(getattr(module.average, network), expected[network])

    for batch, half_life in zip(batches[:5], half_lives, strict=True):
        take_steps(module, [batch])
        kept = 0.5 ** (4 / half_life)
        for network in networks:
            for name, value in getattr(module.model, network).named_parameters():
                old = expected[network][name]
                expected[network][name] = kept * old + (1 - kept) * value.detach()

    for network in networks:
        for name, value in getattr(module.average, network).named_parameters():
            torch.testing.assert_close(value, expected[network][name], rtol=1e-5, atol=1e-6)


def test_the_average_does_not_learn_and_shares_the_classifier(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()

    take_steps(module, batches[:2])

    assert module.average.classifier is module.model.classifier
    assert not any(p.requires_grad for p in module.average.parameters())
    stored = {id(p) for p in module.model.generator.parameters()}
    assert not stored & {id(p) for p in module.average.generator.parameters()}


def test_an_unknown_way_of_hiding_is_refused(make_module: MakeModule) -> None:
    with pytest.raises(InputError, match="hidden_by must be others or uniform, got 'softmax'"):
        make_module(hidden_by="softmax")


@pytest.mark.parametrize("hidden_by", ["uniform", "others"])
def test_a_share_of_0_tells_the_generator_the_true_probabilities(
    make_trainee: MakeModule, batches: list[Batch], hidden_by: str
) -> None:
    module = make_trainee(hidden_share=0.0, hidden_by=hidden_by)
    module.step = 1
    found = recorded_latents(module)

    take_steps(module, batches[:1])

    p = module.model.classifier.probabilities(batches[0][0])
    assert torch.equal(found[0][:, -3:], p)


def test_a_share_of_1_hidden_by_uniform_makes_the_generators_input_independent_of_the_classifier(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(hidden_share=1.0, hidden_by="uniform")
    module.step = 1
    found = recorded_latents(module)

    take_steps(module, batches[:1])

    assert torch.equal(found[0][:, -3:], torch.full((4, 3), 1 / 3))


def test_without_appended_probabilities_no_network_hears_of_the_classifier(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(
        hidden_share=0.5, perceptual="none", weights={"classifier_kl": 0.0, "perceptual": 0.0}
    )
    module.model.appended = "none"
    told, judged = recorded_latents(module), []
    module.discriminator.register_forward_pre_hook(lambda _, given: judged.append(given[1]))

    take_steps(module, batches[:2])  # one on each path

    equal = torch.full((3,), 1 / 3)
    assert all(torch.equal(p, equal.expand_as(p)) for p in judged)
    assert all((latents[..., -3:] == equal).all() for latents in told)
    assert len(judged) >= 4


def test_a_share_of_1_hidden_by_others_tells_every_image_another_ones_probabilities(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(hidden_share=1.0, hidden_by="others")
    module.step = 1
    found = recorded_latents(module)

    take_steps(module, batches[:1])

    p = module.model.classifier.probabilities(batches[0][0]).tolist()
    told = found[0][:, -3:].tolist()
    assert sorted(told) == sorted(p)
    assert all(mine != real for mine, real in zip(told, p, strict=True))


@pytest.mark.parametrize("hidden_by", ["uniform", "others"])
def test_a_share_between_hides_about_as_many_and_tells_the_rest_the_truth(
    make_trainee: MakeModule, batches: list[Batch], hidden_by: str
) -> None:
    module = make_trainee(hidden_share=0.25, hidden_by=hidden_by, noise_path=False)
    found = recorded_latents(module)

    take_steps(module, batches)

    hidden = 0
    for latents, (images, _) in zip(found, batches, strict=True):
        p = module.model.classifier.probabilities(images)
        told = latents[:, -3:]
        hidden += int((told != p).any(dim=1).sum())
        if hidden_by == "others":
            assert {tuple(row) for row in told.tolist()} <= {tuple(row) for row in p.tolist()}
        else:
            assert bool((((told == p) | (told == 1 / 3)).all(dim=1)).all())
    # 80 images: the binomial's standard deviation is 3.9.
    assert abs(hidden - 20) < 4 * math.sqrt(80 * 0.25 * 0.75)


def test_the_noise_path_tells_generator_and_discriminator_the_real_images_probabilities(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(hidden_share=1.0)
    latents = recorded_latents(module)

    take_steps(module, batches[:1])

    p = module.model.classifier.probabilities(batches[0][0])
    noise_path, path_length = latents
    assert noise_path.shape == (4, 6, 7)
    assert torch.equal(noise_path[:, :, -3:], p[:, None].expand(-1, 6, -1))
    assert torch.equal(path_length[:, :, -3:], p[:2, None].expand(-1, 6, -1))


@pytest.mark.parametrize("step", [0, 1])
def test_the_discriminator_always_hears_the_true_probabilities(
    make_trainee: MakeModule, batches: list[Batch], step: int
) -> None:
    module = make_trainee(hidden_share=1.0, r1_interval=1)
    module.step = step
    heard: list[Tensor] = []
    module.discriminator.register_forward_pre_hook(lambda _, given: heard.append(given[1]))

    take_steps(module, batches[:1])

    p = module.model.classifier.probabilities(batches[0][0])
    assert len(heard) == 4  # generator's phase, real, fake, R1
    assert all(torch.equal(told, p) for told in heard)


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_style_mixing_changes_the_latent_at_one_layer_between_the_first_and_the_last(
    make_trainee: MakeModule, batches: list[Batch], mixing: float
) -> None:
    module = make_trainee(style_mixing=mixing)
    found = recorded_latents(module)

    take_steps(module, batches[:1])

    for latents in found[0]:
        changes = [not torch.equal(latents[j], latents[j + 1]) for j in range(5)]
        assert sum(changes) == mixing


def test_steps_with_the_same_seed_are_equal_and_with_another_seed_are_not(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    first, again, other = (make_trainee(seed=seed) for seed in (0, 0, 1))

    terms = [take_steps(module, batches[:2]) for module in (first, again, other)]

    assert terms[0] == terms[1]
    assert terms[0][0]["adversarial"] != terms[2][0]["adversarial"]
    assert unchanged(first.model, weights_of(again.model))


def test_steps_neither_draw_from_nor_change_the_global_random_numbers(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()
    before = torch.get_rng_state()

    take_steps(module, batches[:2])

    assert torch.equal(torch.get_rng_state(), before)


def test_dividing_a_batch_changes_neither_reconstruction_terms_nor_their_gradients(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    # Without adversary, deviation, hiding and noise (its strength starts at 0) images do not mix.
    gradients, terms = [], []
    weights = {"adversarial": 0.0, "style_deviation": 0.0}
    for accumulation in (1, 2, 4):
        module = make_trainee(accumulation=accumulation, hidden_share=0.0, weights=weights)
        module.step = 1
        seen = _gradients_at_first_step(module, "encoder")
        terms.append(take_steps(module, batches[:1])[0])
        gradients.append(seen)

    for name in ("image_l1", "perceptual", "latent_l1", "classifier_kl", "agreement"):
        for other in terms[1:]:
            torch.testing.assert_close(other[name], terms[0][name], rtol=1e-4, atol=1e-5)
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-3, atol=1e-5)
    assert max(float(g.abs().max()) for g in gradients[0]) > 1e-3


def _gradients_at_first_step(module: StylExModule, name: str) -> list[Tensor]:
    """A list that gets the gradients with which an optimiser makes its next step."""
    optimiser = module.optimizers(use_pl_optimizer=False)[OPTIMISERS.index(name)]
    seen: list[Tensor] = []
    step = optimiser.step

    def spy() -> None:
        seen.extend(p.grad.clone() for group in optimiser.param_groups for p in group["params"])
        step()

    optimiser.step = spy
    return seen


def test_the_encoders_gradient_is_that_of_the_weighted_sum_of_the_documented_terms(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    weights = {
        "adversarial": 0.7,
        "image_l1": 1.3,
        "perceptual": 0.4,
        "latent_l1": 0.6,
        "classifier_kl": 1.9,
        "style_deviation": 0.5,
    }
    module = make_trainee(weights=weights, hidden_share=0.0)
    module.step = 1
    images = batches[0][0]
    model = module.model
    code, p = model.encoder(images), model.classifier.probabilities(images)
    styles = model.generator.styles(torch.cat((code, p), dim=1))
    fake = model.generator.synthesis(styles)  # noise strengths start at 0
    q = model.classifier.probabilities(fake)
    parts = {
        "adversarial": -module.discriminator(fake, p).sigmoid().log().mean(),
        "image_l1": (images - fake).abs().mean(),
        "perceptual": _unit_distance(
            model.classifier.features(images)[1], model.classifier.features(fake)[1]
        ),
        "latent_l1": (code - model.encoder(fake)).abs().mean(),
        "classifier_kl": (p * (p.log() - q.log())).sum(dim=1).mean(),
        "style_deviation": _deviation(styles, model.generator.layout.sizes),
    }
    total = sum(weights[name] * value for name, value in parts.items())
    expected = list(torch.autograd.grad(total, list(model.encoder.parameters())))

    seen = _gradients_at_first_step(module, "encoder")
    terms = take_steps(module, batches[:1])[0]

    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-5)
    for name, value in parts.items():
        reported = terms["adversarial_encoder" if name == "adversarial" else name]
        torch.testing.assert_close(reported, value.detach(), rtol=1e-4, atol=1e-5)
    decisions = (p.argmax(dim=1) == q.argmax(dim=1)).float().mean()
    assert torch.equal(terms["agreement"], decisions)


def test_a_stages_weights_replace_the_earlier_ones_from_its_step_on(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    later = {"from_step": 3, "weights": {"classifier_kl": 3.0}}
    gradients = {}
    for step in (1, 3):
        for name, change in (
            ("changing", {"weights": {"classifier_kl": 1.0}, "stages": [later]}),
            ("early", {"weights": {"classifier_kl": 1.0}}),
            ("late", {"weights": {"classifier_kl": 3.0}}),
        ):
            module = make_trainee(**{"stages": [], **change})
            module.step = step
            gradients[name, step] = _gradients_at_first_step(module, "encoder")
            take_steps(module, batches[:1])

    assert_close = torch.testing.assert_close
    assert_close(gradients["changing", 1], gradients["early", 1])
    assert_close(gradients["changing", 3], gradients["late", 3])
    assert not torch.allclose(gradients["early", 3][0], gradients["late", 3][0])


def test_stages_add_up_and_leave_what_they_do_not_name(make_module: MakeModule) -> None:
    stages = [
        {"from_step": 3, "weights": {"classifier_kl": 3.0}},
        {"from_step": 5, "hidden_share": 0.25},
    ]
    module = make_module(stages=stages, hidden_share=0.75)
    expected = {2: (1.0, 0.75), 3: (3.0, 0.75), 4: (3.0, 0.75), 5: (3.0, 0.25), 9: (3.0, 0.25)}
    before = {**module.settings["weights"], "classifier_kl": 1.0}
    module.settings["weights"]["classifier_kl"] = 1.0

    for step, (weight, share) in expected.items():
        module.step = step
        assert module.schedule.at(module.step)["weights"] == {**before, "classifier_kl": weight}
        assert module.schedule.at(module.step)["hidden_share"] == share


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ({"from_step": 1, "weights": {"clasifier_kl": 1.0}}, "clasifier_kl"),
        ({"from_step": 1, "batch_size": 2}, "batch_size"),
        ({"hidden_share": 0.1}, "no from_step"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(
    make_module: MakeModule, stage: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=f"a stage of training.stages .* got {named}"):
        make_module(stages=[stage])


def test_learning_rates_fall_in_a_straight_line_and_stay(make_module: MakeModule) -> None:
    decay = {"from_step": 4, "to_step": 8, "to_factor": 0.2}
    module = make_module(stages=[], learning_rate_decay=decay)
    factors = []
    for step in (0, 4, 5, 6, 8, 20):
        module.step = step
        factors.append(module.schedule.learning_rate_factor(module.step))

    assert factors == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.2, 0.2])


def _unit_distance(original: list[Tensor], generated: list[Tensor]) -> Tensor:
    total = torch.zeros(())
    for a, b in zip(original, generated, strict=True):
        unit_a, unit_b = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-8) for x in (a, b))
        total = total + (unit_a - unit_b).square().sum(dim=1).mean()
    return total


def _deviation(styles: Tensor, sizes: list[int]) -> Tensor:
    total = torch.zeros(())
    for layer in styles.split(sizes, dim=1):
        scale = (layer.square().mean() + 1e-8).sqrt()
        total = total + ((layer - layer.mean(dim=0)).abs() / scale).sum()
    return total / styles.numel()


@pytest.mark.parametrize(("name", "weight"), [("path_length", 2.0), ("r1", 0.1)])
def test_a_lazy_phase_is_weighted_by_its_interval(
    make_trainee: MakeModule, batches: list[Batch], name: str, weight: float
) -> None:
    interval = {"path_length": "path_length_interval", "r1": "r1_interval"}[name]
    key = {"path_length": "path_length", "r1": "r1_gamma"}[name]
    network = {"path_length": "generator", "r1": "discriminator"}[name]
    gradients = []
    for change in (
        {interval: 8, "weights": {key: weight}},
        {interval: 2, "weights": {key: 4 * weight}},
    ):
        module = make_trainee(**change, learning_rate=0.0)
        seen = _gradients_of_every_step(module, network)
        take_steps(module, batches[:1])
        gradients.append(seen[-1])

    assert len(seen) == 2  # the main phase, then the lazy one
    torch.testing.assert_close(gradients[1], gradients[0])
    assert max(float(g.abs().max()) for g in gradients[0]) > 1e-6


def _gradients_of_every_step(module: StylExModule, name: str) -> list[list[Tensor]]:
    optimiser = module.optimizers(use_pl_optimizer=False)[OPTIMISERS.index(name)]
    seen: list[list[Tensor]] = []

    def spy() -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])

    optimiser.step = spy
    return seen


def test_the_running_mean_of_path_lengths_moves_by_its_decay_towards_the_batchs_mean(
    make_trainee: MakeModule, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_trainee(path_length_decay=0.25)
    module.path_mean.fill_(2.0)
    lengths = torch.tensor([1.0, 5.0], requires_grad=True)
    monkeypatch.setattr("stylex.training.losses.path_lengths", lambda *_: lengths * 1)

    terms = take_steps(module, batches[:1])[0]

    assert float(module.path_mean) == pytest.approx(2.0 + 0.25 * (3.0 - 2.0))
    assert float(terms["path_length"]) == pytest.approx(((1 - 2.25) ** 2 + (5 - 2.25) ** 2) / 2)


def test_a_term_without_weight_is_reported_and_not_learned_from(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(weights={"perceptual": 0.0})
    module.step = 1
    module.distance.forward = lambda _, fake, *__: (math.nan * fake).sum()
    seen = _gradients_at_first_step(module, "encoder")

    terms = take_steps(module, batches[:1])[0]

    assert set(terms) == ALWAYS | ENCODER_TERMS
    assert math.isnan(float(terms["perceptual"]))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in seen)
    assert max(float(gradient.abs().max()) for gradient in seen) > 0


def test_a_gradient_that_is_not_finite_is_replaced_and_counted(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee()
    module.step = 1
    bias = module.model.encoder.out.bias
    bias.register_hook(lambda gradient: torch.full_like(gradient, math.inf))

    terms = take_steps(module, batches[:1])[0]

    assert float(terms["replaced_gradients"]) == 1
    assert bool(torch.isfinite(bias).all())


def test_a_penalty_that_does_not_reach_the_weights_is_refused_before_the_first_step(
    make_trainee: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_trainee()
    module.on_fit_start()

    true_penalty = losses.r1_penalty
    monkeypatch.setattr(losses, "r1_penalty", lambda *given: true_penalty(*given).detach())
    with pytest.raises(InputError, match="R1 penalty must reach the network's weights, got no"):
        module.on_fit_start()

    monkeypatch.setattr(losses, "r1_penalty", true_penalty)
    true_lengths = losses.path_lengths
    monkeypatch.setattr(losses, "path_lengths", lambda *given: true_lengths(*given).detach())
    with pytest.raises(InputError, match="path length penalty must reach"):
        module.on_fit_start()


def test_what_a_run_does_at_its_start_changes_nothing_of_its_steps(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    plain, started = make_trainee(), make_trainee()
    started.ops = {**started.ops, "channels_last": False}  # which rounds elsewhere
    started.on_fit_start()

    for one, other in zip(
        take_steps(plain, batches[:2]), take_steps(started, batches[:2]), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_unknown_way_to_compile_is_refused(make_trainee: MakeModule) -> None:
    module = make_trainee()
    module.ops = {**module.ops, "compile": "quickly"}

    with pytest.raises(
        InputError, match="ops.compile must be null or one of default, .*got 'quickly'"
    ):
        module.on_fit_start()


AUGMENT = {"mode": "adaptive", "p": 0.5, "target": 0.6, "adjustment_kimg": 1.0}


def test_the_judge_alone_sees_augmented_images_real_and_fake(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(augment={**AUGMENT, "mode": "fixed", "p": 1.0})
    judged, classified = list[Tensor](), list[Tensor]()
    judge, classifier = module.discriminator, module.model.classifier
    forward, features = judge.forward, classifier.features
    judge.forward = lambda x, told: (judged.append(x.detach()), forward(x, told))[1]
    classifier.features = lambda x: (classified.append(x.detach()), features(x))[1]

    take_steps(module, batches[:2])

    real = batches[1][0]
    assert any(torch.equal(x, real) for x in classified)
    assert len(judged) == 7  # in each step a fake, then real and fake; in the first, R1's real
    assert not any(torch.equal(x, y) for x in judged for y in (*classified, batches[0][0]))


@pytest.mark.parametrize(("target", "direction"), [(-0.99, 1), (0.99, -1)])
def test_an_adaptive_augmentation_moves_p_every_fourth_step_by_the_images_shown(
    make_trainee: MakeModule, batches: list[Batch], target: float, direction: int
) -> None:
    module = make_trainee(augment={**AUGMENT, "target": target}, batch_size=4)

    terms = take_steps(module, batches[:5])

    assert [float(found["augment_p"]) for found in terms[:4]] == [0.5] * 4
    assert float(terms[4]["augment_p"]) == pytest.approx(0.5 + direction * 16 / 1000)


def test_the_state_carries_the_augmentation(make_trainee: MakeModule, batches: list[Batch]) -> None:
    first, second = (make_trainee(augment=AUGMENT, init_seed=seed) for seed in (0, 1))
    take_steps(first, batches[:6])
    second.load_training_state(copy.deepcopy(first.training_state()))  # as through a file

    for module in (first, second):
        take_steps(module, batches[6:10])

    assert first.augment is not None
    assert second.augment is not None
    assert torch.equal(first.augment.p, second.augment.p)
    assert torch.equal(first.model.generator.const, second.model.generator.const)


def test_real_images_are_mirrored_before_anything_sees_them(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(flip_share=1.0)
    seen = list[Tensor]()
    features = module.model.classifier.features
    module.model.classifier.features = lambda x: (seen.append(x.detach()), features(x))[1]

    take_steps(module, batches[:2])

    assert torch.equal(seen[0], batches[1][0].flip(3))
