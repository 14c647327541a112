"""The recipes that the training benchmark times: phase by phase, without data and a Trainer.

Plain StyleGAN2 is what the published figures are for: Karras et al. 2020 (arXiv:2006.06676), the
released code's `auto` settings, with augmentation where a row says so. StylEx is this project's
training step, without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor

from benchmarks.measurement import Run
from stylex.classifier.frozen import build_classifier
from stylex.gan.compute import precision, require_ops, switch
from stylex.gan.generator import Generator
from stylex.gan.mapping import Mapping as MappingNetwork
from stylex.gan.residual import Discriminator
from stylex.model import build_discriminator, build_model
from stylex.processes import Share
from stylex.training import losses
from stylex.training.augment import PAPER_BEST, Augment
from stylex.training.module import StylExModule
from stylex.training.optimisation import adam, learning

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PATH_LENGTH_INTERVAL, R1_INTERVAL = 4, 16
PATH_LENGTH_WEIGHT, PATH_LENGTH_DECAY, PATH_LENGTH_SHRINK = 2.0, 0.01, 2
ADAM = {"learning_rate": 0.0025, "betas": [0.0, 0.99]}
STYLE_MIXING = 0.9
AUGMENT_P = 0.6  # its cost is the same at any p, as nothing depends on what was drawn


@dataclass(frozen=True)
class Size:
    """What a network and a batch are."""

    resolution_px: int
    channel_base: int
    channel_max: int
    latent_dim: int
    batch_size: int


class Recipe(Protocol):
    """Training, cut into pieces that can be timed one by one."""

    def pieces(self) -> Mapping[str, Run]:
        """What to time, by name."""

    def phases(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Seconds of each phase, from those of the pieces."""

    def seconds_per_kimg(self, seconds: Mapping[str, float]) -> float:
        """Seconds per 1000 real images, from those of the pieces."""

    def penalty_ratios(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Each penalty's time per image over that of its network's main phase."""


def ops_settings(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped `ops` settings, with changes."""
    return {**yaml.safe_load((CONFIGS / "ops" / "default.yaml").read_text()), **changes}


class PlainStyleGAN2:
    """One judge, one generator, latents from a mapping network of two layers."""

    def __init__(
        self, size: Size, ops: Mapping[str, Any], device: torch.device, augmented: bool = False
    ) -> None:
        self.size, self.device = size, device
        side, widths = size.resolution_px, (size.channel_base, size.channel_max)
        self.generator = Generator(side, 3, size.latent_dim, *widths, noise=True).to(device)
        self.mapping = MappingNetwork(size.latent_dim, 2).to(device)
        group = min(4, size.batch_size)
        self.judge = Discriminator(side, 3, *widths, num_classes=1, minibatch_group=group)
        self.judge.to(device)
        require_ops(ops, device)
        for network in (self.generator, self.judge):
            network.set_precision(precision(ops, device))
        mode = ops["compile"]
        self.make: Callable[..., Tensor] = self.generator.synthesis
        self.main_judge: Callable[..., Tensor] = self.judge
        if mode is not None:
            self.make = torch.compile(self.generator.synthesis, mode=mode)
            self.main_judge = torch.compile(self.judge, mode=mode)
        fused = switch(ops["fused_adam"], device.type == "cuda")
        makers = [*self.generator.parameters(), *self.mapping.parameters()]
        self.makers: list[Tensor] = list(makers)
        self.optimisers = {
            "generator": adam(makers, ADAM, 1.0, PATH_LENGTH_INTERVAL, fused),
            "judge": adam(list(self.judge.parameters()), ADAM, 1.0, R1_INTERVAL, fused),
        }
        self.average = [p.detach().clone() for p in makers]
        self.random = torch.Generator(device).manual_seed(0)
        self.real = self._normal(size.batch_size, 3, side, side).clamp(-1, 1)
        self.ones = torch.ones(size.batch_size, 1, device=device)
        self.augment = None
        if augmented:
            self.augment = Augment(3, side, AUGMENT_P, PAPER_BEST, ops["impl"]).to(device)
        self.path_mean = torch.zeros((), device=device)
        self.replaced = torch.zeros((), device=device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random, device=self.device)

    def _latents(self, count: int) -> Tensor:
        """Random latents, one per layer; some change at a random layer (style mixing)."""
        layers = self.generator.num_latents
        first, second = self.mapping(self._normal(2 * count, self.size.latent_dim)).split(count)
        cutoff = torch.randint(1, layers, (count, 1), generator=self.random, device=self.device)
        mixed = torch.rand(count, 1, generator=self.random, device=self.device) < STYLE_MIXING
        from_second = mixed & (torch.arange(layers, device=self.device) >= cutoff)
        return torch.where(from_second[:, :, None], second[:, None], first[:, None])

    def _fakes(self, count: int) -> Tensor:
        styles = self.generator.styles(self._latents(count))
        return self.make(styles, noise=self.generator.noise_maps(count, self.random))

    def _shown(self, images: Tensor) -> Tensor:
        """Images as the judge sees them."""
        if self.augment is None:
            return images
        augmented: Tensor = self.augment(images, self.augment.draw(len(images), self.random))
        return augmented

    def generator_phase(self) -> None:
        """Non-saturating loss."""
        with learning(self.optimisers, ("generator",), 1.0, self.replaced, Share()):
            judged = self.main_judge(self._shown(self._fakes(self.size.batch_size)), self.ones)
            losses.generator_adversarial(judged).backward()

    def path_length_phase(self) -> None:
        """Path length penalty on half a batch."""
        count = max(1, self.size.batch_size // PATH_LENGTH_SHRINK)
        with learning(self.optimisers, ("generator",), 1.0, self.replaced, Share()):
            latents = self._latents(count)
            images = self.generator(latents, self.generator.noise_maps(count, self.random))
            lengths = losses.path_lengths(images, latents, self._normal(*images.shape))
            self.path_mean.lerp_(lengths.detach().mean(), PATH_LENGTH_DECAY)
            penalty = losses.path_length_penalty(lengths, self.path_mean.clone())
            (PATH_LENGTH_WEIGHT * PATH_LENGTH_INTERVAL * penalty).backward()

    def judge_phase(self) -> None:
        """Logistic loss on real images and on fresh fakes."""
        with learning(self.optimisers, ("judge",), 1.0, self.replaced, Share()):
            with torch.no_grad():
                fake = self._fakes(self.size.batch_size)
            judged = [self.main_judge(self._shown(x), self.ones) for x in (self.real, fake)]
            losses.discriminator_adversarial(*judged).backward()

    def r1_phase(self) -> None:
        """R1 with the reference's weight of 0.0002 · resolution² / batch."""
        gamma = 0.0002 * self.size.resolution_px**2 / self.size.batch_size
        with learning(self.optimisers, ("judge",), 1.0, self.replaced, Share()):
            images = self.real.detach().requires_grad_()
            penalty = losses.r1_penalty(self.judge(self._shown(images), self.ones), images)
            (gamma * R1_INTERVAL * penalty).backward()

    def averaging(self) -> None:
        """Moves the running average of the generator."""
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.makers, 0.001)

    def pieces(self) -> Mapping[str, Run]:
        """The four phases, and the running average."""
        return {
            "generator": self.generator_phase,
            "path length": self.path_length_phase,
            "discriminator": self.judge_phase,
            "R1": self.r1_phase,
            "average": self.averaging,
        }

    def phases(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """The pieces are the phases."""
        return dict(seconds)

    def seconds_per_kimg(self, seconds: Mapping[str, float]) -> float:
        """Each penalty counts once per interval."""
        lazy = seconds["path length"] / PATH_LENGTH_INTERVAL + seconds["R1"] / R1_INTERVAL
        main = seconds["generator"] + seconds["discriminator"] + seconds["average"]
        return (main + lazy) / self.size.batch_size * 1000

    def penalty_ratios(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """The path length's batch is smaller."""
        images = max(1, self.size.batch_size // PATH_LENGTH_SHRINK) / self.size.batch_size
        return {
            "path length": seconds["path length"] / images / seconds["generator"],
            "R1": seconds["R1"] / seconds["discriminator"],
        }


class Steps(StylExModule):
    """The training step of StylEx, without a Trainer."""

    own: list[torch.optim.Optimizer]

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:  # noqa: ANN401  Lightning's
        """Those of `configure_optimizers`."""
        return self.own

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Only calls backward."""
        loss.backward()


class StylEx:
    """StylEx around torchvision's ResNet-18 with random weights, whose speed is that of any."""

    def __init__(
        self, size: Size, ops: Mapping[str, Any], device: torch.device, classifier_px: int
    ) -> None:
        settings = yaml.safe_load((CONFIGS / "training" / "stylex.yaml").read_text())
        spec = yaml.safe_load((CONFIGS / "classifier" / "resnet18.yaml").read_text())
        model_spec = yaml.safe_load((CONFIGS / "model" / "paper.yaml").read_text())
        spec["input_resolution_px"] = classifier_px
        classifier = build_classifier(spec, ("first", "second"))
        model_spec |= {"resolution_px": size.resolution_px, "channels": 3}
        model_spec["latent_dim"] = size.latent_dim
        for part in ("generator", "encoder", "discriminator"):
            model_spec[part] |= {
                "channel_base": size.channel_base,
                "channel_max": size.channel_max,
            }
        self.settings = {**settings, "batch_size": size.batch_size, "perceptual": "classifier"}
        model = build_model(model_spec, classifier)
        judge = build_discriminator(model_spec, classifier.num_classes)
        self.module = Steps(model, judge, self.settings, ops, seed=0).to(device)
        self.module.own = self.module.configure_optimizers()
        self.module.on_fit_start()
        random = torch.Generator(device).manual_seed(0)
        shape = (size.batch_size, 3, size.resolution_px, size.resolution_px)
        self.images = torch.randn(shape, generator=random, device=device).clamp(-1, 1)
        self.labels = torch.zeros(size.batch_size, dtype=torch.int64, device=device)

    def _step(self, number: int) -> None:
        self.module.step = number
        self.module.training_step((self.images, self.labels), number)

    def pieces(self) -> Mapping[str, Run]:
        """The four kinds of step: even ones take the noise path, odd ones the encoder path."""
        numbers = {"noise, path length, R1": 0, "encoder": 1, "noise": 2, "noise, path length": 4}
        return {name: partial(self._step, number) for name, number in numbers.items()}

    def phases(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """A penalty's time is what a step takes longer with it."""
        path = seconds["noise, path length"]
        return {
            "noise step": seconds["noise"],
            "encoder step": seconds["encoder"],
            "path length": path - seconds["noise"],
            "R1": seconds["noise, path length, R1"] - path,
        }

    def seconds_per_kimg(self, seconds: Mapping[str, float]) -> float:
        """Over 16 steps, the longest interval: 8 of the encoder path, 8 of the noise path."""
        assert (self.settings["path_length_interval"], self.settings["r1_interval"]) == (4, 16)
        noise = 4 * seconds["noise"] + 3 * seconds["noise, path length"]
        whole = 8 * seconds["encoder"] + noise + seconds["noise, path length, R1"]
        return whole / 16 / len(self.images) * 1000

    def penalty_ratios(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """None: a step's main phases are not timed apart."""
        return {}
