"""The leaderboard: every format says the same, every number leads to its rows."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from bench import cli
from bench.errors import UserError
from bench.records.expected import complete
from bench.records.store import Store
from bench.records.summary import summarise
from bench.records.table import render as render_table
from bench.report import leaderboard
from tests import synthetic

HOSTILE = (
    '<script>alert("x")</script>',
    "a|b c",
    "`code` *bold* [link](http://x) ~~gone~~ __init__ $x$ &lt; \\input{x} 50% #1 ^~",
    "模型 ünïcödé",
)
REVERSED = "\u202ereversed"
FORMATS = ("md", "csv", "html", "latex")
INSTRUMENTS = {
    "activation_bytes": 3 * 2**20,
    "infer_peak_bytes": 2**20,
    "memory_method": "malloc-counter",
    "longest_train_length": 4096,
    "longest_train_length_ends": "memory",
    "longest_infer_length": 65536,
    "longest_infer_length_ends": "time",
    "stream_us_p50_at_1": 50.0,
    "stream_us_p50_at_1000": 51.5,
    "stream_us_p50_at_20000": None,
    "stream_state_bytes_at_1": 1024,
    "stream_state_bytes_at_1000": 1024,
    "stream_state_verdict": "flat",
    "reach_input_init_decay_tokens": 9.5,
    "reach_input_init_decay_tokens_low": 9.1,
    "reach_input_init_decay_tokens_high": 9.9,
    "reach_input_init_verdict": "vanishing",
    "reach_input_trained_verdict": "flat",
    "clipped_share": 0.125,
    "energy_train_joules_per_token": 0.002,
    "energy_train_joules_per_token_low": 0.0019,
    "energy_train_joules_per_token_high": 0.0021,
    "train_mfu": 0.31,
}


def filled(folder, **changes):
    runs, store = synthetic.runs(**{**synthetic.SMALL, **changes}), Store(folder)
    synthetic.fill(store, runs)
    return synthetic.study(runs, folder), store


def one_cell(folder, *rows):
    store = Store(folder)
    for row in rows:
        store.write(row)
    runs = [synthetic.parse_run(row.run) for row in rows]
    return synthetic.study(runs, folder), store


def text_of(study, store, format_="md"):
    (content, *_) = leaderboard.render(study, store, [format_]).values()
    return content.decode()


def measured(**metrics):
    run = synthetic.measuring()
    row = synthetic.row(run)
    return row.model_copy(update={"metrics": {**row.metrics, **metrics}})


class Tables(HTMLParser):
    """The cells of every line of every table, and the names of all elements."""

    def __init__(self):
        super().__init__()
        self.lines, self.names = [], set()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        if tag == "tr":
            self.lines.append(0)
        elif tag in ("td", "th"):
            self.lines[-1] += 1


def test_every_format_has_the_same_cells(tmp_path):
    study, store = filled(tmp_path)
    found = {name: text_of(study, store, name) for name in FORMATS}
    assert found["md"].startswith("# Seven architectures")
    assert found["html"].startswith("<!doctype html>")
    assert r"\begin{tabular}" in found["latex"]
    lines = csv.DictReader(io.StringIO(found["csv"]))
    scores = [f"{float(line['score']):.4f}" for line in lines if line["score"]]
    assert len(scores) > 5
    for score in scores:
        assert all(score in found[name] for name in ("md", "html", "latex"))


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_rows_are_the_same_bytes_live_and_packed(tmp_path, format_):
    study, store = filled(tmp_path)
    first = leaderboard.render(study, store, [format_])
    store.pack()
    assert leaderboard.render(study, store, [format_]) == first


def test_each_score_leads_to_the_line_with_the_ids_of_its_rows(tmp_path):
    study, store = filled(tmp_path)
    markdown = text_of(study, store)
    lines = text_of(study, store, "csv").splitlines()
    frame = complete(study, store)
    links = re.findall(r"\[(\d+)(?: \+ 1)?\]\(leaderboard\.csv#L(\d+)\)", markdown)
    assert len(links) == 10
    by_id = {row["id"]: row for row in frame.to_dict("records")}
    for n_scored, line in links:
        (record,) = csv.DictReader([lines[0], lines[int(line) - 1]])
        ids = record["score_rows"].split()
        assert len(ids) == int(n_scored)
        for id_ in [*ids, *filter(None, [record["measured_id"]])]:
            found = by_id[id_]
            place = (found["task"], str(found["length"]), found["architecture"])
            assert place == (record["task"], record["length"], record["architecture"])
        scores = [by_id[id_]["test_score"] for id_ in ids]
        if scores:
            assert float(record["score"]) == pytest.approx(sum(scores) / len(scores))


def test_links_are_right_where_texts_have_lines(tmp_path):
    """A line break in a name of a kernel takes two lines of the CSV file."""
    rows = [
        synthetic.row(synthetic.run(name, seed=seed), kernel=f"k\r\n{name}")
        for name in ("lstm", "gru", "rnn")
        for seed in (0, 1)
    ]
    study, store = one_cell(tmp_path, *rows)
    lines = text_of(study, store, "csv").split("\n")
    for name in ("lstm", "gru", "rnn"):
        (line,) = (line for line in text_of(study, store).splitlines() if f"k  {name}" in line)
        (number,) = re.findall(r"csv#L(\d+)", line)
        assert f",{name}," in lines[int(number) - 1]


def test_chance_and_a_trivial_rule_stand_where_they_belong(tmp_path):
    scored = synthetic.TASKS["mqar"].model_copy(
        update={"chance": 0.1, "baseline": 0.5, "baseline_rule": "the symbol just read"}
    )
    rows = [
        synthetic.row(
            synthetic.run(name, seed=seed),
            scored=scored,
            metrics={"test_score": score, "val_score": score},
        )
        for name, score in (("rnn", 0.05), ("lstm", 0.4), ("gru", 0.6))
        for seed in (0, 1)
    ]
    text = text_of(*one_cell(tmp_path, *rows))
    lines = [line for line in text.splitlines() if line.startswith("|") and "0." in line]
    order = [re.split(r" *\| *", line)[2] for line in lines[-5:]]
    assert order == ["gru", "*baseline: the symbol just read*", "lstm", "*chance*", "rnn"]
    assert "0.5000" in lines[-4]


def test_a_baseline_below_chance_is_after_it_where_lower_is_better(tmp_path):
    scored = synthetic.TASKS["adding"].model_copy(update={"baseline": 0.08})
    rows = [
        synthetic.row(synthetic.run(task="adding", seed=seed), scored=scored) for seed in (0, 1)
    ]
    text = text_of(*one_cell(tmp_path, *rows))
    assert text.index("*baseline*") < text.index("*chance*")


def test_rows_without_a_baseline_have_no_line_and_keep_their_bytes(tmp_path):
    row = synthetic.row(synthetic.run())
    study, store = one_cell(tmp_path, row)
    assert "*baseline" not in text_of(study, store)
    assert "baseline" not in (store.folder / "rows" / f"{row.id}.json").read_text()


def test_one_seed_says_so(tmp_path):
    text = text_of(*one_cell(tmp_path, synthetic.row(synthetic.run())))
    assert " (one seed)" in text
    assert re.search(r"\| +– \| lstm", text)
    html = text_of(*one_cell(tmp_path, synthetic.row(synthetic.run())), "html")
    assert "(one seed)" in html


def test_what_the_instruments_found_is_a_table_of_its_own(tmp_path):
    study, store = one_cell(tmp_path, synthetic.row(synthetic.run()), measured(**INSTRUMENTS))
    text = text_of(study, store)
    header = next(line for line in text.splitlines() if "longest to train" in line)
    (line,) = (line for line in text.splitlines() if "51.5 after 1,000" in line)
    names, values = (re.split(r" *\| *", one)[1:-1] for one in (header, line))
    assert dict(zip(names, values, strict=True)) == {
        "architecture": "lstm",
        "activations MiB": "3.00",
        "infer peak MiB": "1.00",
        "memory by": "malloc-counter",
        "longest to train": "4,096",
        "longest to infer": "≥ 65,536",
        "µs of a token": "51.5 after 1,000",
        "streamed state bytes": "flat, 1,024",
        "gradient decay at first, tokens": "9.50 [9.10, 9.90]",
        "gradient decay trained, tokens": "flat",
        "clipped steps": "12.5%",
        "J/token": "0.00200 [0.00190, 0.00210]",
        "train MFU": "31.0%",
    }
    table = render_table(complete(study, store), "md").decode()
    assert all(value in table for value in values[1:])
    record = next(csv.DictReader(io.StringIO(text_of(study, store, "csv"))))
    assert float(record["stream_us_p50"]) == 51.5
    assert float(record["stream_position"]) == 1000
    assert "infer_mfu" not in record


def test_a_study_that_only_streams_is_shown(tmp_path):
    row = measured()
    metrics = {name: INSTRUMENTS[name] for name in ("stream_us_p50_at_1", "stream_state_verdict")}
    study, store = one_cell(tmp_path, row.model_copy(update={"metrics": metrics}))
    (cell,) = summarise(complete(study, store)).to_dict("records")
    assert (cell["stream_us_p50"], cell["stream_position"]) == (50.0, 1)
    assert cell["measured_id"] == row.id
    assert "50.0 after 1" in text_of(study, store)


def test_without_instruments_there_is_no_table_of_them(tmp_path):
    assert "activations" not in text_of(*filled(tmp_path))


def hostile(folder):
    store, runs = Store(folder), []
    for index, name in enumerate(HOSTILE):
        for seed in range(2):
            run = synthetic.run(
                {"name": "lstm", "label": name, "layers": index + 1},
                {"name": "mqar", "label": HOSTILE[-1 - index], "pairs": index + 1},
                seed=seed,
            )
            scored = synthetic.Scored(
                metric=f"{name}\r\n{name}",
                unit=name,
                higher_is_better=True,
                chance=0.1,
                baseline=0.2,
                baseline_rule=name,
            )
            store.write(synthetic.row(run, scored=scored, kernel=f"{name} {REVERSED}"))
            runs.append(run)
            run = synthetic.measuring(run.architecture.model_dump(), run.task.model_dump())
            if seed == 0:
                row = synthetic.row(run, kernel=name)
                metrics = {**row.metrics, "stream_state_verdict": name, "memory_method": name}
                store.write(row.model_copy(update={"metrics": metrics}))
                runs.append(run)
    return synthetic.study(runs, folder, title=HOSTILE[2], question=HOSTILE[0])


def test_hostile_names_stay_text_in_markdown(tmp_path):
    text = text_of(hostile(tmp_path), Store(tmp_path))
    assert "<script>" not in text.replace("\\<script>", "")
    assert "\u202e" not in text
    assert "\r" not in text
    assert r"\[link](http" in text
    assert r"\~~gone" in text
    assert r"\$x\$" in text
    assert r"\&lt;" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):  # no cell was split
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_hostile_names_stay_text_in_html(tmp_path):
    study = hostile(tmp_path)
    tables = Tables()
    tables.feed(text_of(study, Store(tmp_path), "html"))
    assert "script" not in tables.names
    assert "td" in tables.names
    assert len(set(tables.lines)) <= 4  # overall, rankings, instruments


def test_hostile_names_stay_text_in_latex(tmp_path):
    text = text_of(hostile(tmp_path), Store(tmp_path), "latex")
    assert r"\input{" not in text.partition("\n")[2]
    assert r"\textbackslash{}input\{x\} 50\% \#1 \textasciicircum{}\textasciitilde{}" in text
    for body in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line != r"\midrule"]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1
        assert all(line.endswith(r" \\") for line in lines)


def test_no_rows_are_a_leaderboard_that_says_so(tmp_path):
    study, store = synthetic.study(synthetic.runs(**synthetic.SMALL), tmp_path), Store(tmp_path)
    for format_ in FORMATS:
        text_of(study, store, format_)
    assert "no rows yet" in text_of(study, store)
    assert "is not in the study" not in text_of(study, store)


def test_an_unknown_format_names_the_choices(tmp_path):
    study, store = filled(tmp_path, lengths=(128,))
    with pytest.raises(UserError, match="did you mean 'latex'"):
        leaderboard.render(study, store, ["latx"])


def test_other_formats_are_checked_where_they_are(tmp_path):
    study, store = filled(tmp_path, lengths=(128,))
    leaderboard.write(study, store)
    assert not (tmp_path / "leaderboard.html").exists()
    assert leaderboard.check(study, store) == []
    leaderboard.write(study, store, ["html", "latex"])
    assert leaderboard.check(study, store) == []
    (tmp_path / "leaderboard.html").write_text("old")
    assert leaderboard.check(study, store) == [tmp_path / "leaderboard.html"]
    assert leaderboard.check(study, store, ["latex"]) == []


def test_the_command_writes_the_formats_that_are_asked_for(tmp_path, capsys, monkeypatch):
    study, store = filled(tmp_path, lengths=(128,))
    monkeypatch.setattr(cli, "open_study", lambda folder: (study, store))
    cli.app(["leaderboard", str(tmp_path), "-f", "html", "-f", "latex"], standalone_mode=False)
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"leaderboard.html", "leaderboard.tex"}
    assert "leaderboard.tex" in capsys.readouterr().out
