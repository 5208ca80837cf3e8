"""From missing cells to submitted jobs: one array per shape, and a job that packs the rows."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.launch.slurm import queue, submission
from bench.launch.slurm.folders import why_hidden
from bench.launch.slurm.profile import CHECKOUT, Profile
from bench.launch.slurm.script import Command, element_script, job_name, pack_script
from bench.launch.slurm.shapes import Array, Estimate, arrays
from bench.launch.slurm.submission import PlanHeader, Submission, SubmittedArray
from bench.records import files
from bench.records.row import Row
from bench.spec import Run
from bench.study import Study

MAX_ARRAY_SIZE = 1001
"""Slurm's own default, where the cluster does not say."""
SUBMIT_S = 120.0
"""How long sbatch may take: a controller that is hit by many submissions makes them wait."""


@dataclass(frozen=True)
class Request:
    """What is to be submitted."""

    study: Study
    study_file: Path
    study_digest: str
    profile: Profile
    profile_name: str
    arrays: tuple[Array, ...]
    trackers: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Of the study, as every node is to find it."""
        return self.study.folder.absolute()

    def plan_name(self, n: int) -> str:
        """The file of the n-th array's elements, in the submission's folder."""
        return f"plan-{n}.jsonl"

    def scripts(self) -> list[str]:
        """The script of each array."""
        return [
            element_script(
                self.profile, array.shape, len(array.elements), self.plan_name(n), command()
            )
            for n, array in enumerate(self.arrays)
        ]

    def pack_script(self) -> str:
        """The script of the job that comes after them."""
        return pack_script(self.profile, self.folder, command())


def command() -> Command:
    """How nodes are to call this package: as it was called here."""
    is_checkout = (CHECKOUT / "pyproject.toml").exists()
    return Command(python=sys.executable, checkout=CHECKOUT if is_checkout else None)


def request(
    study: Study,
    study_file: Path,
    profile: Profile,
    profile_name: str,
    runs: Iterable[Run],
    rows: Iterable[Row],
    max_array_size: int | None = None,
    trackers: tuple[str, ...] = (),
) -> Request:
    """Pack runs for a cluster; `rows` tell how long such cells take.

    Raises:
        UserError: a cell asks for what the profile does not have.
    """
    target_s = min(60 * profile.target_minutes, 0.9 * (profile.time_s - profile.warning_s))
    packed = arrays(runs, Estimate(rows), target_s, max_array_size or MAX_ARRAY_SIZE)
    for array in packed:
        _check_devices(array, profile, profile_name)
    return Request(
        study,
        study_file,
        submission.digest(study_file),
        profile,
        profile_name,
        arrays=tuple(packed),
        trackers=trackers,
    )


def check(asked: Request) -> None:
    """Find out whether the cluster would take it; nothing is submitted or written.

    Raises:
        UserError: there is no Slurm here, nodes do not see the folder, or sbatch's own words.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "no sbatch on the PATH: submit on a login node of a Slurm cluster; "
            "`bench sweep` without --slurm runs here, and --dry-run shows the scripts"
        )
    if not asked.profile.shared_folders and (why := why_hidden(asked.folder)):
        raise UserError(
            f"compute nodes do not see {asked.folder}: {why}; move the study to a folder that all "
            "nodes share, or say `shared_folders: true` in the profile if they do"
        )
    for array, script in zip(asked.arrays, asked.scripts(), strict=True):
        # A directory that exists, for sbatch looks at none of the files.
        tried = queue.ask(["sbatch", "--test-only", f"--chdir={asked.folder}"], text=script)
        if tried.problem:
            raise UserError(
                f"profile {asked.profile_name}: jobs of {array.shape}: sbatch says: "
                f"{_words(tried.problem)}"
            )


def submit(asked: Request, say: Callable[[str], None]) -> Submission:
    """Submit everything; `say` is told of what did not work but does no harm.

    Raises:
        UserError: sbatch refused an array; those before it are submitted.
    """
    folder = _new_folder(asked.folder)
    header = PlanHeader(
        study=asked.study.name,
        folder=asked.folder,
        study_file=asked.study_file.absolute(),
        study_digest=asked.study_digest,
        max_requeues=asked.profile.max_requeues,
        trackers=asked.trackers,
    )
    done = Submission(
        study_digest=header.study_digest,
        profile=asked.profile_name,
        submitted_at_unix_s=round(time.time(), 3),
    )
    for n, (array, script) in enumerate(zip(asked.arrays, asked.scripts(), strict=True)):
        runs = [element.runs for element in array.elements]
        submission.write_plan(folder / asked.plan_name(n), header, runs)
        file = folder / f"element-{n}.sbatch"
        files.write_atomically(file, script.encode())
        try:
            job_id = _sbatch(folder, file, "%A_%a.log", job_name(asked.study.name))
        except UserError as error:
            before = f"{n} of {len(asked.arrays)} arrays are submitted; " if n else ""
            raise UserError(f"{before}{error}; the same command goes on") from None
        ids = tuple(tuple(run.id for run in element) for element in runs)
        submitted = SubmittedArray(job_id=job_id, shape=str(array.shape), elements=ids)
        done = done.model_copy(update={"arrays": (*done.arrays, submitted)})
        submission.write(folder, done)
    return _then_pack(asked, folder, done, say)


def _then_pack(
    asked: Request, folder: Path, done: Submission, say: Callable[[str], None]
) -> Submission:
    file = folder / "pack.sbatch"
    files.write_atomically(file, asked.pack_script().encode())
    after = ":".join(str(array.job_id) for array in done.arrays)
    try:
        name = f"{job_name(asked.study.name)}-pack"
        pack_job_id = _sbatch(folder, file, "pack_%j.log", name, f"--dependency=afterany:{after}")
    except UserError as error:
        say(f"the rows will not be packed at the end: {error}; `bench pack` does it")
        return done
    done = done.model_copy(update={"pack_job_id": pack_job_id})
    submission.write(folder, done)
    return done


def _sbatch(folder: Path, script: Path, log_pattern: str, name: str, *options: str) -> int:
    """Submit a script; the answer is the job's id."""
    # Slurm's own words go to the same file as the script's, unless it would read the folder's name
    # as a pattern, which a relative name does not prevent.
    log = "/dev/null" if set(str(folder)) & set("%\\") else log_pattern
    words = ["sbatch", "--parsable", f"--chdir={folder}", f"--output={log}", f"--job-name={name}"]
    answer = queue.ask([*words, *options, str(script)], timeout_s=SUBMIT_S)
    if answer.problem:
        raise UserError(f"sbatch says: {_words(answer.problem)}")
    found = re.findall(r"^(\d+)(?:;.*)?$", answer.output, re.M)
    if not found:
        raise UserError(f"sbatch named no job, but said: {_words(answer.output)}")
    return int(found[-1])


def _new_folder(study_folder: Path) -> Path:
    """An empty folder for what is submitted now."""
    parent, stamp = submission.folder_of(study_folder), time.strftime("%Y%m%d-%H%M%S")
    n = 1
    while True:
        folder = parent / (stamp if n == 1 else f"{stamp}-{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            n += 1
        except OSError as error:
            raise UserError(f"cannot write to {parent}: {error.strerror}") from None
        else:
            return folder


def _check_devices(array: Array, profile: Profile, name: str) -> None:
    shape = array.shape
    held = re.search(r"(?:^|,)(?:gres/)?gpu(?::[\w.-]+?)??(?::(\d+))?(?:,|$)", profile.gres or "")
    if shape.accelerator == "cuda" and not profile.gpus and not held:
        raise UserError(
            f"cells ask for resources.accelerator cuda, and profile {name} has no GPUs; "
            "give it the key gpus: any"
        )
    if held and shape.accelerator != "cpu" and int(held[1] or 1) < shape.devices:
        raise UserError(
            f"cells ask for resources.devices {shape.devices}, and profile {name} for "
            f"gres {profile.gres}; with gpus: any each process gets one"
        )


def _words(problem: str) -> str:
    """What sbatch said, in one line without its own prefix."""
    line = re.sub(r"\bsbatch: (?:error: )?", "", " ".join(problem.split()))
    return line or "nothing"
