"""StylEx: finds, shows and proves the visual attributes that an image classifier decides by.

import stylex
model = stylex.load("pretrained/fashion-32")
result = stylex.explain(model, images, target="Coat", k=5)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylex.model import load
    from stylex.search.explanation import explain

__all__ = ["explain", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  PEP 562: torch is imported when a function is first asked for
    if name == "load":
        from stylex.model import load

        return load
    if name == "explain":
        from stylex.search.explanation import explain

        return explain
    raise AttributeError(f"module 'stylex' has no attribute '{name}'")
