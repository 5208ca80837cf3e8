"""The committed tables are what the commands make of the committed rows."""

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
