"""Door: the figures of a model's card. `python -m stylex.evaluation checkpoint=pretrained/fashion-32`."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stylex.door import open_door


def evaluate(config: dict[str, Any], raw: DictConfig) -> None:
    """Computes all scores and writes them."""
    import torch
    from hydra.utils import instantiate
    from rich.progress import track

    from stylex.artifacts import write_json
    from stylex.evaluation.scores import score_model
    from stylex.model import load, model_folder, read_config

    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    folder = model_folder(Path(config["checkpoint"]))
    model = load(folder)
    selecting = instantiate(raw.data, split=config["selection_split"])
    scored = instantiate(raw.data, split=config["scored_split"])
    hidden = read_config(folder)["training"]["hidden_share"]
    scores = score_model(model, selecting, scored, config, hidden, lambda it, what: track(list(it), what))
    path = Path(config["output"]) if config["output"] else folder / "scores.json"
    write_json(path, scores)
    for name, entry in scores.items():
        if isinstance(entry, dict) and "value" in entry:
            print(f"{name:34s} {entry['value']:.4f}  ({entry['num_images']})")
    print(f"wrote {path}")


if __name__ == "__main__":
    open_door("evaluation", evaluate)
