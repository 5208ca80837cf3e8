"""The committed tables are what the commands make of the committed rows."""

import re
import shutil
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[1] / "results"
TABLES = {
    "speed/scaling.md": ("scaling", "--format", "md"),
    "streaming/streams.md": ("streams",),
    "gradient_reach/reach.md": ("reach",),
    "claims/CLAIMS.md": ("claims", "--format", "md"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_committed_table_is_what_its_command_prints(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from bench.cli import app

    monkeypatch.chdir(RESULTS.parent)
    file = RESULTS.relative_to(RESULTS.parent) / name
    command, *options = TABLES[name]
    done = CliRunner().invoke(app, [command, str(file.parent), *options])
    assert done.exit_code == 0, done.output
    assert done.stdout == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("study", sorted({name.partition("/")[0] for name in TABLES} | {"demo"}))
@pytest.mark.parametrize("command", ["table", "report", "claims"])
def test_every_command_reads_every_committed_study(
    command: str, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from bench.cli import app

    copy = tmp_path / study
    copy.mkdir()
    for name in ("study.yaml", "rows.parquet"):
        shutil.copy(RESULTS / study / name, copy)
    done = CliRunner().invoke(app, [command, str(copy)])
    assert done.exit_code == 0, done.output


def lines_of(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of the first table below a heading that holds these words, by first cell."""
    part = text[text.index(heading) :]
    table = re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    return {row[0].strip(): row for row in rows}


def test_the_table_of_the_readme_says_what_the_committed_tables_say() -> None:
    readme = lines_of((RESULTS.parent / "README.md").read_text(), "## What has been measured here")
    scaling = (RESULTS / "speed/scaling.md").read_text()
    streams = lines_of((RESULTS / "streaming/streams.md").read_text(), "one stream")
    train, infer = (
        lines_of(scaling, f"{which} time against") for which in ("training", "inference")
    )
    shown = [name for name in readme if name in train]
    assert len(shown) >= 5
    for name in shown:
        _, *cells = readme[name]
        of_train, of_infer = (f"T^{one[name][1]} {one[name][2]}" for one in (train, infer))
        head = streams["architecture"]
        times = [streams[name][head.index(f"at {at}")] for at in ("1", "10,000", "1,000,000")]
        ms = [float(cell.partition(" ")[0].replace(",", "")) / 1e3 for cell in times if cell]
        assert cells[:2] == [of_train, of_infer], name
        told = [float(one) for one in re.findall(r"[\d.]+", cells[2])]
        assert told == pytest.approx(ms, rel=0.05), name
        assert ("growing" in cells[2]) == (streams[name][head.index("time")] == "growing"), name
        assert ("growing" in cells[3]) == (streams[name][head.index("state")] == "growing"), name
