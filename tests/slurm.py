"""Stand-ins for Slurm's commands: jobs run here, at once, each task of a job a process.

`sbatch FILE ARGUMENTS` reads the file's #SBATCH lines, as far as they say how many tasks there are;
an array's jobs run one after another. `scontrol requeue` leaves a note in requeued.txt.
"""

import os
import sys
from pathlib import Path

SBATCH = """
import os, re, subprocess, sys
from pathlib import Path

script = Path(sys.argv[1]).read_text()
def asked(name, default):
    found = re.search(rf"^#SBATCH --{name}=(\\S+)", script, re.M)
    return found[1] if found else default
tasks = int(asked("nodes", 1)) * int(asked("ntasks-per-node", 1))
job = os.environ.get("STAND_IN_JOB", "4242")
first, _, last = asked("array", "0").partition("%")[0].partition("-")
environment = {
    **os.environ, "SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "here", "SLURM_NTASKS": str(tasks),
    "SLURM_NTASKS_PER_NODE": str(tasks), "SLURM_SUBMIT_DIR": os.getcwd(),
    "SLURM_NNODES": "1", "SLURM_JOB_NUM_NODES": "1",
}
print(f"Submitted batch job {job}", flush=True)
if os.fork():
    sys.exit(0)
os.setsid()
quiet = os.open(os.environ["STAND_IN_LOG"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
os.dup2(quiet, 1), os.dup2(quiet, 2)
for number in range(int(first), int(last or first) + 1):
    if "--array" in script:
        environment |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": str(number)}
    subprocess.run(["bash", sys.argv[1], *sys.argv[2:]], env=environment)
(Path(__file__).parent / f"{job}.ended").touch()
"""
SRUN = """
import os, signal, subprocess, sys

arguments = sys.argv[1:]
while arguments[0].startswith("-"):
    if arguments.pop(0) in ("--output", "--error"):
        arguments.pop(0)
tasks = [
    subprocess.Popen(arguments, env={
        **os.environ, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_NODEID": "0",
    })
    for i in range(int(os.environ["SLURM_NTASKS"]))
]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """
import sys
from pathlib import Path

if sys.argv[1:] == ["show", "hostnames", "here"]:
    print("127.0.0.1")
elif sys.argv[1] == "requeue":
    with (Path(__file__).parent / "requeued.txt").open("a") as file:
        print(sys.argv[2], file=file)
else:
    sys.exit(f"scontrol: {sys.argv[1:]}")
"""
SACCT = """
from pathlib import Path

print("JobID|State|NodeList")
for name in ("4242", "4242_0", "4242_1"):
    ended = (Path(__file__).parent / "4242.ended").exists()
    print(f"{name}|{'COMPLETED' if ended else 'RUNNING'}|here")
"""


def stand_ins(folder: Path) -> dict[str, str]:
    """Writes the commands into a folder, if need be; gives the environment that finds them."""
    if not folder.exists():
        folder.mkdir()
        commands = {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL, "sacct": SACCT}
        scripts = {name: f"#!{sys.executable}\n{text}" for name, text in commands.items()}
        scripts["python"] = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
        for name, text in scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "STAND_IN_LOG": str(folder / "log.txt"),
        "OMP_NUM_THREADS": "1",
    }
