"""The batch scripts, as text. Pure: what a cluster is told can be read and tested without one.

No path of the study stands in a script: it is submitted with the submission's folder as its working
directory, and names files there. Further names are quoted for bash.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from bench.launch.entry import REQUEUE
from bench.launch.slurm.profile import Profile
from bench.launch.slurm.shapes import Shape

MEBIBYTE = 2**20
BASE_BYTES = 2**30
"""What a process takes before its run does: the interpreter, torch, its share of the launcher."""
PACK_MINUTES = 60
PEER_WAIT_S = 60
"""How long the other nodes of a cell may take to end after the first has."""

RERUN = 77
"""Exit code of `bench work --settle`: cells are left that can be begun in the same job."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a node calls this package."""

    python: str
    checkout: Path | None = None  # where the package lies, unless it is installed

    def lines(self, profile: Profile) -> list[str]:
        """Bash that sets the environment up and defines the array `bench`."""
        lines = ["export SLURM_EXPORT_ENV=ALL  # steps see what this script sets"]
        for name, value in profile.environment.items():
            lines.append(f"export {name}={shlex.quote(value)}")
        if profile.modules:
            lines.append("command -v module >/dev/null || . /etc/profile")
            lines.append(f"module load {shlex.join(profile.modules)} || exit")
        lines += [f"{line}" for line in profile.setup]
        if self.checkout is not None:
            root = shlex.quote(str(self.checkout))
            lines.append(f'export PYTHONPATH={root}"${{PYTHONPATH:+:$PYTHONPATH}}"')
        words = [*profile.container, profile.python or self.python, "-m", "bench"]
        lines.append(f"bench=({shlex.join(words)})")
        return lines


def element_script(
    profile: Profile, shape: Shape, n_elements: int, plan: str, command: Command
) -> str:
    """The script of a job array; task i of it does element i of the file `plan`."""
    return "\n".join(
        [
            "#!/bin/bash",
            *_directives(profile, shape, n_elements),
            "",
            *command.lines(profile),
            "",
            f"plan={shlex.quote(plan)}",
            _BODY.format(requeue=REQUEUE, rerun=RERUN, nodes=shape.nodes, wait=PEER_WAIT_S),
        ]
    )


def pack_script(profile: Profile, study: Path, command: Command) -> str:
    """The script of the job that packs the rows when the others have ended."""
    options = [
        *_where(profile),
        f"--time={PACK_MINUTES}",
        "--nodes=1",
        "--ntasks=1",
        *map(_quoted, profile.flags),
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "",
            *command.lines(profile),
            "",
            'exec >>"pack_$SLURM_JOB_ID.log" 2>&1',
            f'"${{bench[@]}}" pack {shlex.quote(str(study))}\n',
        ]
    )


def job_name(study: str) -> str:
    """What squeue shows: the study's name in letters that no tool trips over."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", study).strip("-.")[:40]
    return f"seqbench-{plain}" if plain else "seqbench"


def _directives(profile: Profile, shape: Shape, n_elements: int) -> list[str]:
    throttle = f"%{profile.throttle}" if profile.throttle else ""
    exclusive = profile.exclusive or shape.purpose == "measure"
    options = [
        f"--array=0-{n_elements - 1}{throttle}",
        *_where(profile),
        f"--time={profile.time}",
        f"--nodes={shape.nodes}",
        "--ntasks-per-node=1",  # which starts the processes of its node
        f"--cpus-per-task={shape.devices * max(shape.threads, profile.cpus)}",
    ]
    if memory := _memory_mib(profile, shape, exclusive):
        options.append(f"--mem={memory}")
    if gres := _gres(profile, shape):
        options.append(f"--gres={gres}")
    if exclusive:
        options.append("--exclusive")
    options += [
        f"--signal=USR1@{profile.warning_s}",
        "--requeue",
        "--open-mode=append",
        *map(_quoted, profile.flags),
    ]
    return [f"#SBATCH {option}" for option in options]


def _where(profile: Profile) -> list[str]:
    keys = ("partition", "account", "qos", "constraint")
    return [f"--{key}={value}" for key in keys if (value := getattr(profile, key)) is not None]


def _memory_mib(profile: Profile, shape: Shape, exclusive: bool) -> str | None:
    """Of each node: what cells ask for, or the profile; a node of one's own gives all it has."""
    if shape.memory_bytes is not None:
        return f"{-(-shape.devices * (shape.memory_bytes + BASE_BYTES) // MEBIBYTE)}M"
    if profile.memory is not None:
        return f"{-(-profile.memory // MEBIBYTE)}M"
    return "0" if exclusive else None


def _gres(profile: Profile, shape: Shape) -> str:
    parts = [profile.gres] if profile.gres else []
    if profile.gpus and shape.accelerator != "cpu":
        kind = "" if profile.gpus == "any" else f"{profile.gpus}:"
        parts.insert(0, f"gpu:{kind}{shape.devices}")
    return ",".join(parts)


def _quoted(flag: str) -> str:
    """An option as sbatch reads it in a script: in double quotes, unless it is plain."""
    if re.fullmatch(r"[\w=.,:/@%+*&|()\[\]{}!<>^~-]+", flag):
        return flag
    name, equals, value = flag.partition("=")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}{equals}"{escaped}"'


_BODY = """\
index=$SLURM_ARRAY_TASK_ID
if [ ! -r "$plan" ]; then
    printf 'bench: node %s does not see %s/%s: %s\\n' "$(hostname)" "$PWD" "$plan" \\
        'the study has to lie in a folder that all nodes see' >&2
    exit 2
fi
exec >>"${{SLURM_ARRAY_JOB_ID}}_$index.log" 2>&1

task=${{SLURM_ARRAY_JOB_ID}}_$index  # SLURM_JOB_ID of one task is that of the whole array too
taken_away=
trap 'taken_away=yes' TERM
trap : USR1  # is for the steps

# Slurm sends TERM when it takes a job away. If it preempts or requeues it, it starts it again by
# itself; if somebody cancels it, nobody wants it. A time limit alone is left to us.
is_ours() {{
    [ -z "$taken_away" ] || scontrol show job "$task" | grep -q 'Reason=TimeLimit '
}}

go_on_later() {{
    if is_ours; then
        for _ in 1 2 3 4 5; do
            scontrol requeue "$task" && break
            sleep 2 &
            wait "$!"
        done
    fi
    exit {requeue}
}}

while :; do
    srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 \\
        --cpus-per-task="$SLURM_CPUS_PER_TASK" --input=none --kill-on-bad-exit=0 --wait={wait} \\
        "${{bench[@]}}" work "$plan" "$index" &
    step=$!
    while :; do
        wait "$step"  # which a signal interrupts
        code=$?
        kill -0 "$step" 2>/dev/null || break
    done
    case $code in
        0) exit 0 ;;
        {requeue} | 138 | 143) go_on_later ;;  # 138, 143: signalled before it was ready
    esac
    [ -z "$taken_away" ] || go_on_later
    "${{bench[@]}}" work "$plan" "$index" --settle "$code"
    case $? in
        0) exit 0 ;;
        {requeue}) go_on_later ;;
        {rerun}) ;;
        *) exit "$code" ;;
    esac
done
"""
