"""Commands of Slurm that only take down how they are called, and answer what a test wants."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROGRAM = """\
#!{python} -SE
import json, os, subprocess, sys, time
from pathlib import Path

folder, name = Path({folder!r}), Path(sys.argv[0]).name
settings = folder / f"{{name}}.json"
answers = json.loads(settings.read_text()) if settings.exists() else []
n = len(list(folder.glob(f"{{name}}.call-*")))
answer = answers[min(n, len(answers) - 1)] if answers else {{}}
given = sys.stdin.read() if name == "sbatch" and not Path(sys.argv[-1]).is_file() else ""
call = {{"arguments": sys.argv[1:], "input": given, "folder": os.getcwd()}}
written = folder / f"{{name}}.writing-{{n:04}}"
written.write_text(json.dumps(call))
written.rename(folder / f"{{name}}.call-{{n:04}}")
if name == "srun" and "code" not in answer:
    words = sys.argv[1:]
    while words[0].startswith("--"):
        words.pop(0)
    step = subprocess.run(words).returncode
    sys.exit(step if step >= 0 else 128 - step)
time.sleep(answer.get("sleep_s", 0))
sys.stdout.write(answer.get("output", f"{{100 + n}}\\n" if name == "sbatch" else ""))
sys.stderr.write(answer.get("error", ""))
sys.exit(answer.get("code", 0))
"""


class FakeSlurm:
    """A folder of such commands, to be put on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "calls"
        self.bin = folder / "bin"
        for made in (self.folder, self.bin):
            made.mkdir(parents=True)

    def add(self, name: str, *answers: dict[str, object]) -> None:
        """Make a command; its n-th call gets the n-th answer, or the last one.

        An answer has `output`, `error`, `code` and `sleep_s`. `srun` runs what it is given unless
        the answer has a code; `sbatch` names jobs from 100 on unless it has an output.
        """
        program = self.bin / name
        program.write_text(PROGRAM.format(python=sys.executable, folder=str(self.folder)))
        program.chmod(0o755)
        (self.folder / f"{name}.json").write_text(json.dumps(answers))

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call so far."""
        return [call["arguments"] for call in self.records(name)]

    def records(self, name: str) -> list[dict[str, object]]:
        """Arguments, standard input and working folder of each call so far."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(f"{name}.call-*"))]
