"""Style coordinates that are independent of each other, so that one means one thing.

A small judge tells the styles of encoded images from styles whose every coordinate is another
image's. Its logit is the log density ratio of the two, whose mean is the total correlation of the
coordinates; as a penalty it takes two factors apart that share two coordinates, which the crossed
images alone do not. A departure: the paper has no such term.
Source: Kim & Mnih 2018, "Disentangling by Factorising" (arXiv:1802.05983), there for the latents
    of an autoencoder.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.types import Styles

REMEMBERED, COMPARED = 2048, 512  # styles of past images; how many of each kind a step judges
FEWEST = 512  # remembered before the judge says anything
WIDTH = 256
LEARNING_RATE, BETAS = 1e-3, (0.5, 0.99)
NOISE = 0.2  # in standard deviations: a coordinate that others determine has a finite ratio
FLOOR = 0.02  # of the styles' root mean square: a coordinate that hardly varies is not enlarged


class Independence:
    """The judge with its optimiser and the styles that it remembers.

    Attributes:
        judge: Standardised styles → logit that they belong together.
        memory: The last styles, oldest overwritten first.
        seen: Styles that were remembered so far.
    """

    def __init__(self, num_styles: int) -> None:
        self.judge = nn.Sequential(
            nn.Linear(num_styles, WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(WIDTH, WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(WIDTH, 1),
        )
        self.optimiser = torch.optim.Adam(self.judge.parameters(), LEARNING_RATE, betas=BETAS)
        self.memory, self.seen = torch.zeros(REMEMBERED, num_styles), 0

    def to(self, device: torch.device, dtype: torch.dtype) -> "Independence":
        """Moves everything; call it before the first step."""
        self.judge.to(device, dtype)
        self.memory = self.memory.to(device, dtype)
        return self

    def remember(self, styles: Styles) -> None:
        """Takes a batch's styles into the memory; on several processes those of all."""
        places = (torch.arange(len(styles)) + self.seen) % REMEMBERED
        self.memory[places] = styles.detach().to(self.memory.dtype)
        self.seen += len(styles)

    def dependence(self, styles: Styles, normal: Callable[..., Tensor]) -> Float[Tensor, ""]:
        """Estimated total correlation of styles, in nats; 0 while too few were remembered.

        The judge's own weights get no gradient.

        Args:
            styles: Of the batch that was remembered last, or of a part of it.
            normal: Draws standard normal numbers of the shape that it is told.
        """
        if self.seen < FEWEST:
            return styles.new_zeros(())
        weights = {name: value.detach() for name, value in self.judge.named_parameters()}
        seen = self._standardised(styles, normal(*styles.shape))
        return torch.func.functional_call(self.judge, weights, seen).mean()

    def learn(self, random: torch.Generator) -> Float[Tensor, ""]:
        """One step of the judge on what it remembers; its loss."""
        held = self._held
        if self.seen < FEWEST:
            return held.new_zeros(())
        count, num_styles = held.shape
        device = held.device

        def drawn() -> Tensor:
            return torch.randint(count, (COMPARED,), generator=random, device=device)

        def blurred() -> Tensor:
            return torch.randn(COMPARED, num_styles, generator=random, device=device)

        together = held[drawn()]
        apart = torch.stack([held[drawn(), j] for j in range(num_styles)], dim=1)
        with torch.enable_grad():
            real = self.judge(self._standardised(together, blurred()))
            false = self.judge(self._standardised(apart, blurred()))
            loss = F.softplus(-real).mean() + F.softplus(false).mean()
            self.optimiser.zero_grad()
            loss.backward()
        self.optimiser.step()
        return loss.detach()

    @property
    def _held(self) -> Tensor:
        return self.memory[: min(REMEMBERED, self.seen)]

    def _standardised(self, styles: Styles, noise: Styles) -> Styles:
        held = self._held
        spread = held.std(dim=0) + FLOOR * held.square().mean().sqrt()
        return (styles - held.mean(dim=0)) / spread + NOISE * noise

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "judge": self.judge.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "memory": self.memory,
            "seen": self.seen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.judge.load_state_dict(state["judge"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.memory.copy_(state["memory"])
        self.seen = state["seen"]
