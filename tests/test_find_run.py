"""A run is found by the beginning of its id, and nothing else is."""

from collections import Counter
from pathlib import Path

import pytest

from bench import find_run
from bench.errors import UserError
from bench.find_run import find
from bench.records.store import Store
from tests import synthetic
from tests.test_status import STUDY

ROWS = [synthetic.row(synthetic.run(seed=seed)) for seed in range(12)]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two studies with rows, live and packed, one below another folder, and one that is damaged."""
    monkeypatch.chdir(tmp_path)
    first, second = Store(Path("results/first")), Store(Path("results/local/'second'\n$(x)"))
    for row in ROWS[:6]:
        first.write(row)
    first.pack()
    for row in ROWS[6:]:
        second.write(row)
    damaged = Path("results/damaged")
    damaged.mkdir()
    (damaged / "rows.parquet").write_bytes(b"PAR1")
    (damaged / "study.yaml").write_text("[")
    (tmp_path / "results" / "a file").write_text("")
    return tmp_path / "results"


def beginnings(row_id: str) -> list[str]:
    """The beginnings that no other of the rows has."""
    others = [row.id for row in ROWS if row.id != row_id]
    return [row_id[:n] for n in range(1, 17) if not any(o.startswith(row_id[:n]) for o in others)]


@pytest.mark.usefixtures("results")
def test_every_unique_beginning_finds_its_run():
    for index, row in enumerate(ROWS):
        folder = Path("results/first" if index < 6 else "results/local/'second'\n$(x)")
        for beginning in beginnings(row.id):
            place = find(f" {beginning.upper()} ")
            assert (place.folder, place.run_id) == (folder, row.id)
            assert place.log == folder / "work" / f"{row.id}.log"


@pytest.mark.usefixtures("results")
def test_a_log_or_a_claim_makes_a_run_known(tmp_path):
    work = Path("results/first/work")
    work.mkdir()
    (work / f"{'a' * 15}0.log").write_text("")
    (work / f"{'b' * 15}0.claim").write_text("")
    assert find("aaaaaaaa").run_id == "a" * 15 + "0"
    assert find("bbbbbbbb").run_id == "b" * 15 + "0"


def test_a_run_that_nobody_has_begun_is_found_by_its_study(results):
    study = results / "third"
    study.mkdir()
    (study / "study.yaml").write_text(STUDY)
    run_id = synthetic.run(width=16, seed=3, training={"steps": 300}).id
    assert find(run_id[:12]).folder == Path("results/third")
    assert find(run_id[:12], study / "study.yaml").folder == study


@pytest.mark.usefixtures("results")
def test_several_are_named_with_where_they_are():
    with pytest.raises(UserError, match="beginning of several runs") as caught:
        find(common())
    text = str(caught.value)
    assert "give more digits" in text
    assert text.count(" in results/") >= 2
    Store(Path("results/other")).write(ROWS[0])
    with pytest.raises(UserError, match="say which with --study"):
        find(ROWS[0].id)
    assert find(ROWS[0].id, Path("results/other")).folder == Path("results/other")


def common() -> str:
    """A digit with which several ids begin."""
    ((digit, n),) = Counter(row.id[0] for row in ROWS).most_common(1)
    assert n > 1
    return digit


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    "text", ["", " ", "../../etc/passwd", "abc/..", "xyz", "0" * 17, "a\nb", "*", "$(id)", "-"]
)
def test_what_is_no_beginning_of_an_id_looks_nowhere(text, monkeypatch):
    monkeypatch.setattr(find_run, "_studies", lambda: pytest.fail("looked"))
    with pytest.raises(UserError, match="is no run id: ids are 16 hex digits") as caught:
        find(text)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("results")
def test_a_run_that_is_nowhere_is_said_to_be(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no run eeeeeeee in the studies of .*results"):
        find("eeeeeeee")
    with pytest.raises(UserError, match="no study at none"):
        find("eeeeeeee", Path("none/at/all").parent.parent)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match="no run eeeeeeee"):
        find("eeeeeeee")


@pytest.mark.usefixtures("results")
def test_a_damaged_study_is_in_nobodys_way_unless_it_is_asked_for():
    assert find(ROWS[0].id)
    with pytest.raises(UserError, match=r"rows\.parquet"):
        find(ROWS[0].id, Path("results/damaged"))
