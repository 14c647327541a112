"""Door: what this computer lacks for the CUDA ops, and what puts each fault right.

`python -m stylex.doctor` only looks. It exits with 0 if the CUDA ops can be used, else with 1.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylex.ops.checkup import Finding

USAGE = "usage: python -m stylex.doctor"


def main(arguments: Sequence[str]) -> int:
    """Prints every finding and what follows from them; gives the exit code."""
    if list(arguments) in (["-h"], ["--help"]):
        print(f"{USAGE}\n\n{__doc__}")
        return 0
    if arguments:
        print(
            f"error: the doctor takes no argument, got '{arguments[0]}'; {USAGE}", file=sys.stderr
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
