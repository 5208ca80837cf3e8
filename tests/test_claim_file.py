"""A file of claims that says what no claim can be is one line that says where."""

import pytest

from bench.errors import UserError
from bench.plain_yaml import line_of, parse
from bench.records.expected import complete
from bench.records.store import Store
from bench.report.claim_file import flat, read
from tests import synthetic

HEAD = "# a comment\nclaims:\n  - name: one\n    says: It is so.\n    evidence:\n"


def problem_of(tmp_path, evidence, *, rows=True, head=HEAD):
    store, runs = Store(tmp_path), [synthetic.run(), synthetic.measuring()]
    if rows:
        synthetic.fill(store, runs)
    path = tmp_path / "claims.yaml"
    path.write_text(head + evidence)
    with pytest.raises(UserError) as raised:
        read(path, complete(synthetic.study(runs, tmp_path), store))
    message = str(raised.value)
    assert "\n" not in message
    return message


def of(**changes):
    parts = {"metric": "test_score", "group": "{architecture: lstm}", "above": "0", **changes}
    inner = ", ".join(f"{key}: {value}" for key, value in parts.items() if value is not None)
    return f"      - {{{inner}}}\n"


@pytest.mark.parametrize(
    ("metric", "near", "rows"),
    [
        ("test_scroe", "test_score", True),  # without rows nobody knows what its task scores
        ("peak_byte", "peak_bytes", True),
        ("peak_byte", "peak_bytes", False),
        ("train_tokens_per_second", "train_tokens_per_s", False),
    ],
)
def test_an_unknown_column_names_the_nearest_and_the_line(tmp_path, metric, near, rows):
    message = problem_of(tmp_path, of() + of(metric=metric), rows=rows)
    assert "claims.yaml, line 7: no column" in message
    assert f"did you mean {near!r}" in message


@pytest.mark.parametrize(
    ("evidence", "line", "problem"),
    [
        (of(group="{architecure: lstm}"), 6, "did you mean 'architecture'"),
        (of(group="{training.clip: 1}"), 6, "did you mean 'clip_norm'"),
        (of(group="{trainig.steps: 1}"), 6, "did you mean 'training'"),
        (of(against="{sead: 1}"), 6, "did you mean 'seed'"),
        (of(each="{lenght: [1]}"), 6, "did you mean 'length'"),
        (of(group="{}"), 6, "group"),
        (of(metric=None), 6, "give metric or exponent"),
        (of(exponent="train"), 6, "give metric or exponent"),
        (of(metric=None, exponent="speed"), 6, "choices: infer, memory, train"),
        (of(above=None), 6, "give one of above, below, between"),
        (of(below="1"), 6, "give one of above, below, between"),
        (of(above=None, between="[2, 1]"), 6, "a low and a high end"),
        (of(by="ratio"), 6, "against something"),
        (of(share_of="x", by="ratio", against="{seed: 1}"), 6, "compared by difference"),
        (of(abov="1"), 6, "did you mean 'above'"),
        (of(min_n="0"), 6, "min_n"),
        (of() + "  - name: one\n    says: So.\n    evidence:\n" + of(), 7, "stands twice"),
        ("      []\n", 5, "evidence"),
    ],
)
def test_what_no_claim_can_be_is_one_line_with_its_place(tmp_path, evidence, line, problem):
    message = problem_of(tmp_path, evidence)
    assert f"claims.yaml, line {line}: " in message
    assert problem in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has to be a mapping"),
        ("- a\n", "has to be a mapping"),
        ("claims: []\n", "claims"),
        ("claim: []\n", "claims is missing"),
        ("claims: []\nclaim: []\n", "line"),
        ("claims: [\n", "is not YAML"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, text, problem):
    assert problem in problem_of(tmp_path, text, head="")


def test_a_file_that_is_missing_is_named(tmp_path):
    frame = complete(synthetic.study([synthetic.run()], tmp_path), Store(tmp_path))
    with pytest.raises(UserError, match="no claims at"):
        read(tmp_path / "none.yaml", frame)


@pytest.mark.parametrize(
    "metric",
    ["stream_us_p50_at_1000", "reach_input_init_effective_tokens", "streaming_missing", "rounds"],
)
def test_what_an_instrument_writes_is_known_before_it_has_run(tmp_path, metric):
    study = synthetic.study([synthetic.run()], tmp_path)
    path = tmp_path / "claims.yaml"
    path.write_text(HEAD + of(metric=metric))
    (claim,) = read(path, complete(study, Store(tmp_path)))
    assert claim.evidence[0].instrument is not None


@pytest.mark.parametrize(
    "value",
    [
        {"architecture": {"name": "rnn", "init": "identity"}, "length": [1, 2]},
        {"a": None, "b": True, "c": 0.5, "d": "null", "e": "1e3", "f": 'so "it" is', "g": "x: y"},
        {"<script>|": "{", "h": "", "i": "off", "j": "é\t"},
    ],
)
def test_a_snippet_is_yaml_of_the_same_value(value):
    assert parse(flat(value), "test") == value


def test_a_line_is_that_of_the_last_part_that_there_is():
    text = "a:\n  - b: 1\n    c:\n      d: 2\n"
    assert line_of(text, ["a", 0, "c", "d"]) == 4
    assert line_of(text, ["a", 0, "missing"]) == 2
    assert line_of(text, []) == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"group": "{architecture: lstmm}"}, "no architecture 'lstmm'; did you mean 'lstm'?"),
        ({"group": "{architecture: {name: grru}}"}, "did you mean 'gru'?"),
        ({"each": "{architecture: [lstm, mambo]}"}, "did you mean 'mamba'?"),
        ({"against": "{task: mqarr}"}, "no task 'mqarr'; did you mean 'mqar'?"),
    ],
)
def test_an_unknown_architecture_names_the_nearest(tmp_path, changes, problem):
    assert problem in problem_of(tmp_path, of(**changes))


def test_a_bomb_of_comparisons_is_refused(tmp_path):
    numbers = list(range(50))
    each = f"{{length: {numbers}, seed: {numbers}, width: {numbers}}}"
    assert "more than 10000 comparisons" in problem_of(tmp_path, of(each=each))
