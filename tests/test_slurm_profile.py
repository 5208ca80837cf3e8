"""Profiles: every value that could harm a script is refused, in one line that tells how to mend."""

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.launch.slurm import profile as profiles
from bench.launch.slurm.profile import Profile, seconds

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "slurm").glob("*.yaml"))


def a_profile(folder: Path, text: str) -> Profile:
    file = folder / "p.yaml"
    file.write_text(text)
    return profiles.load(str(file))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_profile(path):
    assert profiles.load(str(path)).time_s > 0


def test_the_readme_explains_every_key():
    text = (EXAMPLES[0].parent / "README.md").read_text()
    assert not [key for key in Profile.model_fields if f"| `{key}` |" not in text]


def test_names_are_looked_up_here_and_in_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert profiles.load("gpu").gpus == "any"
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "gpu.yaml").write_text("gpus: a100\n")
    assert profiles.load("gpu").gpus == "a100"
    with pytest.raises(UserError, match=r"no profile 'gpuu'; did you mean 'gpu'\?"):
        profiles.load("gpuu")
    with pytest.raises(UserError, match="no such file"):
        profiles.load("./gpu.yml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin: cpu", r"no key 'partitoin'; did you mean 'partition'\?"),
        ("[]", "has to be a mapping"),
        ("partition: 'a b'", "partition: may have no space"),
        ("partition: 'a;b'", "may have no space"),
        ("partition: $(reboot)", "may have no space"),
        ('account: "a\'b"', "may have no space"),
        ('account: "a\\n#SBATCH --array=1"', "has a line break"),
        ("constraint: 'a#b'", "may have no space"),
        ("constraint: HetJob", "ends sbatch's reading"),
        ('environment: {A: "x\\ny"}', "has a line break"),
        ("environment: {'A B': x}", "no name of a variable"),
        ('setup: ["a\\nb"]', "has a line break"),
        ("time: soon", "hours:minutes:seconds"),
        ("time: 0", "no time at all"),
        ("{time: 1, warning_s: 60}", "warning_s 60 must be less than time, 60 seconds"),
        ("memory: lots", "has to be a size"),
        ("memory: 4", "greater than or equal to 1048576"),
        ("gpus: 'gpu:2'", "the type alone"),
        ("{gpus: any, gres: 'gpu:1'}", "both ask for GPUs"),
        ("flags: [--array=1-2]", "--array is the launcher's own"),
        ("flags: [--partition=x]", "--partition has a key: partition"),
        ("flags: [-p x]", "long option"),
        ("flags: [reboot]", "long option"),
        ('flags: ["--comment=a\\nb"]', "has a line break"),
        ("max_requeues: -1", "greater than or equal to 0"),
    ],
)
def test_a_bad_value_is_named(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as caught:
        a_profile(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_values_that_yaml_reads_as_numbers_are_words(tmp_path):
    found = a_profile(
        tmp_path,
        "{account: 12, time: 90, environment: {N: 4}, container: apptainer exec 'a b.sif'}",
    )
    assert (found.account, found.time_s, found.environment) == ("12", 5400, {"N": "4"})
    assert found.container == ("apptainer", "exec", "a b.sif")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("04:00:00", 14_400),
        ("2-12", 216_000),
        ("2-12:30", 217_800),
        ("1-00:00:01", 86_401),
    ],
)
def test_times_are_read_as_slurm_reads_them(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("4GiB", 2**32), ("4G", 2**32), ("500M", 500 * 2**20), ("1.5T", 1.5 * 2**40)],
)
def test_sizes_are_powers_of_1024(tmp_path, text, n_bytes):
    assert a_profile(tmp_path, f"memory: {text}").memory == n_bytes
