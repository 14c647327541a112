"""Seconds per 1000 images of plain StyleGAN2 and of StylEx, phase by phase.

    python -m benchmarks.training [--json PATH] [--quick] [--seconds S]

On a GPU the sizes are those of the reference's `auto` settings at 256 px, and phases follow one
another as in training; on a CPU they are small, and what counts is how types, layouts and ops
compare. The first row is measured again at the end: what it differs by is the run's noise. One row
has adaptive discriminator augmentation: its phases over the first row's are what that costs.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.measurement import (
    Clock,
    Row,
    cudnn,
    device,
    facts,
    medians,
    reason,
    release,
    table,
    write,
)
from benchmarks.recipes import PlainStyleGAN2, Recipe, Size, StylEx, ops_settings

LARGE = Size(256, channel_base=16384, channel_max=512, latent_dim=512, batch_size=32)
PAPER = Size(256, channel_base=32768, channel_max=512, latent_dim=512, batch_size=16)
SMALL = Size(64, channel_base=1024, channel_max=64, latent_dim=64, batch_size=8)
QUICK = Size(16, channel_base=64, channel_max=8, latent_dim=8, batch_size=4)
NOTE = "without augmentation"
AUGMENTED = "stylegan2, augmented"
COMPILE_S = 120.0  # that a compiled row needs
ON_CUDA: list[Row] = [
    *({"impl": "reference"}, {"channels_last": False}, {"precision": "float32"}),
    *({"precision": "float16"}, {"tf32": True}, {"low_precision_blocks": 6}),
    *({"compile": "default"}, {"compile": "default", "tf32": True, "low_precision_blocks": 6}),
]
ON_CPU: list[Row] = [
    *({"impl": "reference"}, {"impl": "fused"}, {"channels_last": False}),
    *({"impl": "fused", "channels_last": False}, {"precision": "bfloat16"}),
    {"precision": "bfloat16", "channels_last": False},
]
COLUMNS = {
    **{"recipe": "recipe", "name": "settings", "batch_size": "batch", "seconds_per_kimg": "s/kimg"},
    **{"phases": "ms per phase", "penalties": "penalty / main per image"},
    **{"memory_peak_gib": "peak GiB", "fault": "fault"},
}


@dataclass(frozen=True)
class Setting:
    """A row to measure: which recipe, at which size, with which changes to `ops`."""

    recipe: str
    name: str
    size: Size
    ops: Mapping[str, Any]
    cudnn_benchmark: bool = False


def settings(on_cuda: bool, quick: bool) -> Iterator[Setting]:
    """All rows, the most telling ones first."""
    size = LARGE if on_cuda else QUICK if quick else SMALL
    first = Setting("stylegan2", "auto", size, {})
    yield first
    yield Setting(AUGMENTED, "auto", size, {})
    if on_cuda:
        yield Setting("stylex", "auto", PAPER, {})
        yield Setting("stylegan2", "auto", replace(size, batch_size=16), {})
    for ops in ON_CUDA if on_cuda else ON_CPU[: 1 if quick else None]:
        name = ", ".join(f"{key}={value}" for key, value in ops.items())
        yield Setting("stylegan2", name, size, ops)
    if on_cuda:
        yield Setting("stylegan2", "cudnn.benchmark", size, {}, cudnn_benchmark=True)
    else:
        yield Setting("stylex", "auto", size, {})
    yield replace(first, name="auto, again")


def build(setting: Setting, of: torch.device, on_cuda: bool) -> Recipe:
    """The recipe of a row, with weights and optimisers on the device."""
    torch.manual_seed(0)
    ops = ops_settings(setting.ops)
    if setting.recipe != "stylex":
        return PlainStyleGAN2(setting.size, ops, of, augmented=setting.recipe == AUGMENTED)
    return StylEx(setting.size, ops, of, classifier_px=224 if on_cuda else 32)


def measure(group: Sequence[Setting], clock: Clock, rounds: int, limit_s: float) -> list[Row]:
    """Rows of settings that are timed in turn: seconds per 1000 images, and every phase's."""
    first = group[0]
    with cudnn(tf32=ops_settings(first.ops)["tf32"], search=first.cudnn_benchmark):
        recipes = [build(setting, clock.device, clock.on_cuda) for setting in group]
        if clock.on_cuda:
            torch.cuda.reset_peak_memory_stats()
        runs = [(recipe, name, run) for recipe in recipes for name, run in recipe.pieces().items()]
        named = {f"{id(recipe)} {name}": run for recipe, name, run in runs}
        seconds, faults = medians(named, clock, rounds, limit_s)
    return [
        {**described(setting), **figures(recipe, clock.on_cuda, seconds, faults)}
        for setting, recipe in zip(group, recipes, strict=True)
    ]


def described(setting: Setting) -> Row:
    """What a row is about."""
    size = setting.size
    return {
        **{"recipe": setting.recipe, "name": setting.name},
        "note": "with augmentation" if setting.recipe == AUGMENTED else NOTE,
        **{"ops": ops_settings(setting.ops), "cudnn_benchmark": setting.cudnn_benchmark},
        **{"resolution_px": size.resolution_px, "batch_size": size.batch_size},
    }


def figures(
    recipe: Recipe, on_cuda: bool, seconds: Mapping[str, float], faults: Mapping[str, str]
) -> Row:
    """A row's figures, or why there are none."""
    own = {name: f"{id(recipe)} {name}" for name in recipe.pieces()}
    wrong = [f"{name}: {faults[key]}" for name, key in own.items() if key in faults]
    if wrong:
        return {"fault": "; ".join(wrong)}
    found = {name: seconds[key] for name, key in own.items()}
    return {
        "seconds_per_kimg": recipe.seconds_per_kimg(found),
        "phases_ms": {name: phase * 1000 for name, phase in recipe.phases(found).items()},
        "penalty_ratios": recipe.penalty_ratios(found),
        "memory_peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_cuda else None,
    }


def shown(row: Row) -> Row:
    """A row with its phases and ratios as text."""
    phases, ratios = row.get("phases_ms", {}), row.get("penalty_ratios", {})
    return row | {
        "phases": ", ".join(f"{name} {ms:.1f}" for name, ms in phases.items()) or None,
        "penalties": ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()) or None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all rows, prints the table, writes the file after every row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only proves that it runs")
    parser.add_argument("--seconds", type=float, default=300.0, help="no row begins after them")
    given = parser.parse_args(arguments)

    clock, started = Clock(device(), isolated=False), time.monotonic()
    notes = [f"rows are {NOTE} but where they say so; the published figures have it"]
    result: Row = {"benchmark": "training", **facts(clock.device), "notes": notes, "rows": []}
    rounds, limit_s = (1, 0.0) if given.quick else (10, 8.0 if clock.on_cuda else 80.0)
    listed = list(settings(clock.on_cuda, given.quick))
    # Networks that fill a GPU are measured one after another, small ones in turn.
    for group in [[setting] for setting in listed] if clock.on_cuda else [listed]:
        seconds = time.monotonic() - started
        if seconds + (COMPILE_S if group[0].ops.get("compile") else 0.0) > given.seconds:
            notes.append(f"no time for '{group[0].recipe}, {group[0].name}' after {seconds:.0f} s")
            continue
        try:
            result["rows"] += measure(group, clock, rounds, limit_s)
        except Exception as error:  # one fault must not lose the other figures
            result["rows"] += [described(setting) | {"fault": reason(error)} for setting in group]
        release()
        result["seconds"] = time.monotonic() - started
        write(given.json, result)
    print(f"{result['device']}, {result['threads']} threads, torch {result['torch']}")
    print(table([shown(row) for row in result["rows"]], COLUMNS), *notes, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
