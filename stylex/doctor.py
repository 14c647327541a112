"""Door: what this computer lacks for the CUDA ops, or how well a classifier can be explained.

`python -m stylex.doctor` only looks. It exits with 0 if the CUDA ops can be used, else with 1.
`python -m stylex.doctor classifier=... data=...` runs images through a classifier: what it is
given, whether it returns logits, accuracy, calibration, gradients, memory and speed. It exits with
0 if all is well, 1 with warnings, 2 if the classifier cannot be explained like this. Its keys are
those of configs/doctor.yaml: `python -m stylex.doctor classifier=faces --help`.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylex.ops.checkup import Finding

USAGE = "usage: python -m stylex.doctor [classifier=... data=... key=value ...]"


def main(arguments: Sequence[str]) -> int:
    """Prints every finding and what follows from them; gives the exit code."""
    if list(arguments) in (["-h"], ["--help"]):
        print(f"{USAGE}\n\n{__doc__}")
        return 0
    if any("=" in argument for argument in arguments):
        from stylex.door import open_door

        open_door("doctor", examine_classifier)
        return 0
    if arguments:
        print(
            f"error: the doctor takes key=value or nothing, got '{arguments[0]}'; {USAGE}",
            file=sys.stderr,
        )
        return 2
    try:
        from stylex.ops.checkup import examine
    except ImportError as error:
        print(f"missing  torch          it must be importable, got '{error}'")
        print(f"{'':24}remedy: install torch again with pip")
        return 1
    findings = examine()
    print(table(findings))
    print(f"\n{conclusion(findings)}")
    return int(any(finding.mark == "missing" for finding in findings))


def examine_classifier(config: dict[str, Any], raw: Any) -> None:  # noqa: ANN401  Hydra's own
    """Prints what a classifier is given and answers; leaves with 1 if something is to be said."""
    import torch

    from stylex.classifier.consultation import consult
    from stylex.classifier.frozen import build_classifier
    from stylex.door import image_set
    from stylex.errors import InputError
    from stylex.gan.compute import choose_device
    from stylex.ops.checkup import Finding
    from stylex.ranges import COUNT, check_ranges

    check_ranges(config, dict.fromkeys(("num_images", "batch_size", "num_bins"), COUNT))
    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    device = choose_device(config["device"], 0)
    data = image_set(raw.data, config["split"])
    classifier = build_classifier(config["classifier"], data.class_names).to(device)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(config["seed"]))
    parts = order[: config["num_images"]].split(config["batch_size"])
    batches, labels = zip(*(data.batch(part.tolist()) for part in parts), strict=True)
    report = consult(classifier, batches, torch.cat(labels), config["num_bins"])
    print(table([Finding(*line) for line in report.lines]))
    print(report.tables)
    if report.fault:
        raise InputError(report.fault)
    warned = [line[0] for line in report.lines if line[1] == "warning"]
    verdict = f"see {', '.join(warned)}" if warned else "fine"
    print(f"\nThe classifier can be explained; {verdict}.")
    if warned:
        raise SystemExit(1)


def table(findings: "Sequence[Finding]") -> str:
    """One line per finding, and one with the remedy under every fault."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.mark:9}{finding.name:15}{finding.text}")
        if finding.remedy:
            lines.append(f"{'':24}remedy: {finding.remedy}")
    return "\n".join(lines)


def conclusion(findings: "Sequence[Finding]") -> str:
    """Which ops run here, and why."""
    missing = [finding.name for finding in findings if finding.mark == "missing"]
    if not missing:
        return "The fused CUDA ops are used for tensors on a GPU: nothing is missing."
    reason = f"missing for CUDA: {', '.join(missing)}"
    if "GPU" in missing:
        return f"The reference ops are used, plain PyTorch on the CPU; {reason}."
    return (
        f"The fused CUDA ops cannot be used; {reason}. Training on a GPU stops with an error until "
        "that is put right, or runs slower with ops.impl=reference."
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
