"""Runs and studies: what is refused, what is the same, what a study expands to."""

import hashlib
import json
from pathlib import Path

import pytest

from bench.catalogue import check
from bench.errors import UserError
from bench.spec import Run, parse_run
from bench.study import load, one_run

PLAIN = {"architecture": "lstm", "task": "parity", "length": 32}


def write_study(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return folder


def test_a_run_survives_json_and_its_id_is_stable():
    run = parse_run({**PLAIN, "architecture": {"name": "lstm", "layers": 3}, "params": 1000})
    again = Run.model_validate_json(run.model_dump_json())
    assert again == run
    assert again.id == run.id
    # Written down on purpose: a change of ids orphans every row that users have.
    assert parse_run(PLAIN).id == "3effe594efea4113"


def test_the_order_of_keys_and_the_labels_do_not_change_the_id():
    first = parse_run({**PLAIN, "architecture": {"name": "s4d", "state": 8, "layers": 1}})
    second = parse_run(
        {
            "length": 32,
            "task": {"label": "xor", "name": "parity"},
            "architecture": {"layers": 1, "label": "small", "state": 8, "name": "s4d"},
        }
    )
    assert first.id == second.id
    assert str(second.architecture) == "small"
    assert str(first.architecture) == "s4d(layers=1, state=8)"


@pytest.mark.parametrize(
    "change",
    [
        {"length": 33},
        {"seed": 1},
        {"params": 5000},
        {"architecture": {"name": "lstm", "layers": 3}},
        {"task": "adding"},
        {"training": {"steps": 5}},
        {"resources": {"threads": 2}},
    ],
)
def test_every_change_of_a_run_changes_its_id(change):
    assert parse_run({**PLAIN, **change}).id != parse_run(PLAIN).id


def test_limits_and_keys_at_their_defaults_do_not_change_the_id():
    same = [
        {"seed": 0},
        {"training": {}},
        {"training": {"steps": 1000, "learning_rate": 1e-3}},
        {"resources": {"timeout_s": 60, "memory_bytes": 1 << 30}},
        {"resources": {"checkpoint_s": 1, "hang_s": 60}},
    ]
    assert {parse_run({**PLAIN, **change}).id for change in same} == {parse_run(PLAIN).id}


def test_the_defaults_are_what_they_were():
    """A default is part of every id: one that changes needs a new key, or rows would lie."""
    defaults = parse_run(PLAIN).model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(defaults, sort_keys=True).encode()).hexdigest()
    assert digest[:16] == "a57c83496e731649", json.dumps(defaults, indent=1)


def test_the_setting_is_what_a_researcher_tunes():
    run = parse_run(PLAIN)
    assert parse_run({**PLAIN, "seed": 3, "length": 64}).setting == run.setting
    assert parse_run({**PLAIN, "training": {"learning_rate": 0.1}}).setting != run.setting


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lenght": 3}, "run: no key 'lenght'; did you mean 'length'? choices: architecture,"),
        (
            {"training": {"stepz": 3}},
            "run: training: no key 'stepz'; did you mean 'steps'? choices: batch_size,",
        ),
        ({"training": {"schedule": "cosin"}}, "did you mean 'cosine'? choices: constant, cosine"),
        ({"training": {"steps": "many"}}, "training.steps: input should be a valid integer"),
        ({"training": {"steps": True}}, "training.steps: input should be a valid integer"),
        (
            {"training": {"learning_rate": 0}},
            "learning_rate: input should be greater than 0, not 0",
        ),
        ({"length": 0}, "length: input should be greater than or equal to 1, not 0"),
        ({"seed": 1.5}, "seed: input should be a valid integer"),
        ({"width": 8, "params": 100}, "give width or params, not both"),
        ({"training": {"batch_size": 8, "tokens_per_batch": 64}}, "not both"),
        ({"training": {"steps": 10, "warmup_steps": 10}}, "warmup_steps 10 must be less than"),
        ({"training": {"steps": 0}}, "nothing to do"),
        ({"measure": {"instruments": ["memory"]}}, "a run that measures does not train"),
        ({"task": {"name": "parity", "length": 8}}, "the length is a key of the run"),
        ({"architecture": 7}, "architecture"),
    ],
)
def test_a_wrong_run_is_refused_in_one_line(change, message):
    with pytest.raises(UserError) as caught:
        parse_run({**PLAIN, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_needs_a_length():
    with pytest.raises(UserError, match="length is missing"):
        parse_run({"architecture": "lstm", "task": "parity"})


GRID = """
title: t
base:
  params: 1000
  training: {steps: 5, learning_rate: 1e-3}
grid:
  architecture: [lstm, {name: s4d, state: 8}]
  task: [parity, adding]
  length: [16, 32]
  seed: [0, 1]
"""


BILLION_LAUGHS = "title: t\nbase: &a0 {x: 1}\n" + "".join(
    f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


def test_a_grid_expands_to_every_combination_once(tmp_path):
    runs = load(write_study(tmp_path, GRID)).runs
    assert len(runs) == 16 == len({run.id for run in runs})
    assert {run.training.learning_rate for run in runs} == {1e-3}
    assert {str(run.architecture) for run in runs} == {"lstm", "s4d(state=8)"}


@pytest.mark.parametrize("order", ["seed first", "seed last"])
def test_runs_that_differ_in_their_seed_alone_are_what_parsing_each_makes_of_them(tmp_path, order):
    axes = ["architecture: [lstm, {name: s4d, state: 16}]", "training.steps: [5, 7]"]
    seeds = "seed: [3, 0, 12]"
    axes = [seeds, *axes] if order == "seed first" else [*axes, seeds]
    text = f"title: T\nbase: {{task: parity, length: 8}}\ngrid: {{{', '.join(axes)}}}\n"
    runs = load(write_study(tmp_path, text)).runs
    assert len(runs) == len({run.id for run in runs}) == 12
    assert [run.seed for run in runs[:4]] == ([3] * 4 if order == "seed first" else [3, 0, 12, 3])
    for run in runs:
        again = parse_run(run.model_dump(mode="json"))
        assert (again, again.id, again.setting) == (run, run.id, run.setting)


def test_a_seed_that_no_run_can_have_is_refused_wherever_it_stands(tmp_path):
    grid = "{architecture: [lstm, gru], seed: [0, 1, -1]}"
    text = f"title: T\nbase: {{task: parity, length: 8}}\ngrid: {grid}\n"
    with pytest.raises(UserError, match="seed"):
        load(write_study(tmp_path, text))


def test_the_study_is_named_after_its_folder_and_found_by_file_too(tmp_path):
    folder = write_study(tmp_path / "mine", GRID)
    assert load(folder).name == load(folder / "study.yaml").name == "mine"
    assert load(folder / "study.yaml").folder == folder


def test_exclude_leaves_out_what_matches_every_key(tmp_path):
    text = GRID + "exclude:\n  - {architecture: s4d, length: 32}\n  - {task: adding, seed: [1]}\n"
    runs = load(write_study(tmp_path, text)).runs
    assert not any(r.architecture.name == "s4d" and r.length == 32 for r in runs)
    assert not any(r.task.name == "adding" and r.seed == 1 for r in runs)
    assert len(runs) == 16 - 4 - 4 + 1  # one run matches both


def test_include_adds_runs_over_the_base(tmp_path):
    text = GRID + "include:\n  - {architecture: gru, task: parity, length: 8, training.steps: 7}\n"
    added = load(write_study(tmp_path, text)).runs[-1]
    assert (added.architecture.name, added.training.steps, added.params) == ("gru", 7, 1000)
    assert added.training.learning_rate == 1e-3


def test_several_grids_stand_side_by_side(tmp_path):
    text = """
title: t
base: {seed: 1}
grid:
  - {architecture: [gru], task: [parity], length: [8, 16]}
  - {architecture: [rnn, gru], task: [adding], length: [32]}
measure: {instruments: [memory]}
"""
    runs = load(write_study(tmp_path, text)).runs
    trained = [(r.architecture.name, r.task.name, r.length) for r in runs if r.purpose == "train"]
    assert trained == [
        ("gru", "parity", 8),
        ("gru", "parity", 16),
        ("rnn", "adding", 32),
        ("gru", "adding", 32),
    ]
    assert sum(r.purpose == "measure" for r in runs) == 2 * 2 * 3


def test_dotted_grid_keys_reach_inside(tmp_path):
    text = """
title: t
base: {task: parity, length: 8, architecture: {name: s4d, layers: 1}}
grid:
  training.learning_rate: [1e-3, 1e-2]
  architecture.state: [4, 8]
"""
    runs = load(write_study(tmp_path, text)).runs
    assert [run.training.learning_rate for run in runs] == [1e-3, 1e-3, 1e-2, 1e-2]
    assert [run.architecture.options["state"] for run in runs] == [4, 8, 4, 8]
    assert all(run.architecture.options["layers"] == 1 for run in runs)


def test_measuring_runs_are_one_per_architecture_task_and_length(tmp_path):
    text = GRID + "measure:\n  instruments: [throughput]\n  task: parity\n  length: [16, 64]\n"
    runs = [r for r in load(write_study(tmp_path, text)).runs if r.purpose == "measure"]
    assert len(runs) == 4
    assert {(r.training.steps, r.seed, r.task.name) for r in runs} == {(0, 0, "parity")}
    assert all(r.measure.instruments == ("throughput",) for r in runs)


@pytest.mark.parametrize(
    ("trained", "measured", "sizes"),
    [
        ("batch_size: 16", "training.tokens_per_batch: 128", {16: 8, 64: 2}),
        ("tokens_per_batch: 4096", "training.batch_size: 3", {16: 3, 64: 3}),
        ("tokens_per_batch: 4096", "training.learning_rate: 0.1", {16: 256, 64: 64}),
    ],
)
def test_measuring_fixes_the_batch_or_its_tokens_whatever_training_does(
    tmp_path, trained, measured, sizes
):
    text = (
        f"title: t\nbase: {{training: {{{trained}}}}}\n"
        "grid: {architecture: [lstm], task: [parity], length: [16, 64]}\n"
        f"measure: {{instruments: [throughput], {measured}}}\n"
    )
    runs = [r for r in load(write_study(tmp_path, text)).runs if r.purpose == "measure"]
    assert {r.length: r.training.sequences(r.length) for r in runs} == sizes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\ngrid: {architecture: []}\n", "grid: architecture is an empty list"),
        ("title: t\n", "the grid is empty"),
        ("grid: {}\n", "title is missing"),
        ("title: t\ngird: {}\n", "no key 'gird'; did you mean 'grid'?"),
        (GRID.replace("seed:", "sede:"), "no key 'sede'; did you mean 'seed'?"),
        (GRID.replace("  seed:", "  trainning.steps:"), "did you mean 'training'?"),
        (GRID + "exclude: [{}]\n", "an empty pattern"),
        (GRID + "exclude: [{architectur: lstm}]\n", "did you mean 'architecture'?"),
        (GRID + "measure: {instrument: [memory]}\n", "did you mean 'instruments'?"),
        (GRID + "measure: {instruments: [memroy]}\n", "did you mean 'memory'?"),
        (GRID + "measure: {instruments: [memory], length: []}\n", "nothing to measure"),
        ("title: [unclosed\n", "is not YAML"),
        (f"title: {'[' * 5000}\n", "nested too deeply"),
        (f"title: t\nbase: {{seed: {'9' * 5000}}}\n", "is not YAML"),
        ("? [a, b]\n: 1\n", "a key has to be a word"),
        ('title: "\\ud800"\n', "unable to parse raw data as a unicode string"),
        ('title: "\\e[31mred"\n', "cannot be printed"),
        (BILLION_LAUGHS, "more than a million parts"),
        (GRID.replace("1e-3", ".inf"), "should be a finite number"),
        (GRID.replace("[0, 1]", "[10000000000000000000000000]"), "less than"),
        (GRID.replace("1000", "1e400"), "should be a finite number"),
        (GRID.replace("[16, 32]", "[1000000000000]"), "less than or equal to"),
        (
            GRID.replace("{steps: 5, learning_rate: 1e-3}\ngrid:", "3\ngrid:\n  training.steps: 3"),
            "training has to be a mapping",
        ),
        (GRID.replace("state: 8", "state: 8, label: lstm"), "names two different architectures"),
        (GRID.replace("state: 8", "state: 8, label: ''"), "label"),
        (GRID.replace("[lstm,", "[lstm, {name: lstm, label: b},"), "has two labels"),
        (GRID.replace("[lstm,", "[3,"), "has to be a name, or a mapping with a name, not 3"),
        (
            GRID.replace("state: 8}", "state: 8, options: {state: 4}}"),
            "option 'state' is given twice",
        ),
        (GRID.replace("params: 1000", "task: {name: parity, n_val: 8}"), "would drop the options"),
        (GRID + "exclude: [{architecture: grru}]\n", "no run matches {'architecture': 'grru'}"),
        (GRID + "exclude: [{seed: true}]\n", "no run matches"),
        (GRID + "exclude: [{training: {steps: 3}}]\n", "training is a section"),
        (GRID + "exclude: [{architecture: 3}]\n", "no run matches"),
        (GRID + "measure: {instruments: [memory], resources.devices: 2}\n", "has one device"),
        ("- a\n- b\n", "has to be a mapping"),
        ("title: t\ntitle: u\n", "stands twice"),
        (GRID.replace("1000", "2020-01-01"), "params"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        load(write_study(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_order_of_keys_in_a_study_means_nothing(tmp_path):
    first = "title: t\nbase: {task: parity, length: 8}\n"
    dotted, plain = "  architecture.layers: [1, 3]\n", "  architecture: [gru, lstm]\n"
    one = load(write_study(tmp_path / "a", f"{first}grid:\n{dotted}{plain}")).runs
    two = load(write_study(tmp_path / "b", f"{first}grid:\n{plain}{dotted}")).runs
    assert {run.id for run in one} == {run.id for run in two}
    assert len(one) == 4


def test_dotted_keys_work_everywhere_and_a_scalar_is_a_list_of_one(tmp_path):
    text = (
        "title: t\nbase: {training.steps: 7}\ngrid: {architecture: gru, task: parity, length: 8}\n"
    )
    (run,) = load(write_study(tmp_path, text)).runs
    assert (run.training.steps, run.architecture.name) == (7, "gru")


def test_yaml_words_are_words(tmp_path):
    text = "title: on\ngrid: {architecture: gru, task: parity, length: 1:30}\n"
    with pytest.raises(UserError, match="length: input should be a valid integer"):
        load(write_study(tmp_path, text))


def test_runs_that_differ_in_their_resources_are_no_repeats_of_each_other():
    """Else one architecture on 1 and on 2 threads would count as two seeds."""
    assert parse_run({**PLAIN, "resources": {"threads": 2}}).setting != parse_run(PLAIN).setting


def test_whole_floats_in_options_are_integers_to_the_id():
    ids = {
        parse_run({**PLAIN, "architecture": {"name": "lstm", "dropout": value}}).id
        for value in (0, 0.0, -0.0)
    }
    assert len(ids) == 1


def test_a_missing_study_names_its_neighbours(tmp_path):
    write_study(tmp_path / "demo", GRID)
    with pytest.raises(UserError, match="studies beside it: demo"):
        load(tmp_path / "dmeo")


def test_yaml_cannot_run_code(tmp_path):
    with pytest.raises(UserError, match="is not YAML"):
        load(write_study(tmp_path, "title: !!python/object/apply:os.system ['true']\n"))


def test_settings_of_a_single_run_are_yaml():
    run = one_run("lstm", "parity", 8, 1, ["training.learning_rate=1e-2", "architecture.layers=3"])
    assert run.training.learning_rate == 1e-2
    assert run.architecture.options == {"layers": 3}
    with pytest.raises(UserError, match="did you mean 'steps'"):
        one_run("lstm", "parity", 8, 1, ["training.step=3"])
    with pytest.raises(UserError, match="KEY=VALUE"):
        one_run("lstm", "parity", 8, 1, ["training.steps"])


def test_a_row_s_run_is_read_back_as_the_same_run(tmp_path):
    run = load(write_study(tmp_path, GRID)).runs[3]
    assert parse_run(json.loads(run.model_dump_json())).id == run.id


def test_what_an_architecture_does_not_support_does_not_refuse_the_study():
    check([parse_run({**PLAIN, "architecture": {"name": "hf", "model_type": "xlnet"}})])
    with pytest.raises(UserError, match="no decoder 'gpt22'; did you mean 'gpt2'"):
        check([parse_run({**PLAIN, "architecture": {"name": "hf", "model_type": "gpt22"}})])


def test_more_layers_than_can_be_trained_are_refused_before_they_are_built():
    layers = 10**9  # built one by one, these would take days
    with pytest.raises(UserError, match="more than 10,000 parameter tensors: lower the number"):
        check([parse_run({**PLAIN, "architecture": {"name": "lstm_stack", "layers": layers}})])
