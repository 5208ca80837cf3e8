"""The picture of the gradients' reach: valid, and drawn from whatever the rows hold."""

import json

import pandas as pd
import pytest

from bench.records.tidy import tidy
from bench.report import gradients
from bench.report.palette import looks
from tests import synthetic

HOSTILE = "</script><b>' || \"\\ lstm"


def curves(init, trained=None):
    found = {"k": [1, 2, 4, 8], "init": init}
    return json.dumps(found if trained is None else found | {"trained": trained})


def a_frame(*given):
    rows = []
    for index, (label, text) in enumerate(given):
        choice = {"name": "lstm", "label": label}
        run = synthetic.run(choice, length=128, seed=index)
        metrics = {} if text is None else {"reach_input_json": text}
        rows.append(synthetic.row(run, metrics=metrics))
    return tidy(rows)


def test_each_curve_is_relative_to_its_first_value():
    frame = a_frame(("a", curves([4.0, 2.0, 1.0, 0.5], [3.0, 3.0, 6.0, 9.0])))
    found = {(p["stage"], p["k"]): p["value"] for p in gradients.points(frame)}
    assert found["init", 8] == pytest.approx(0.125)
    assert found["trained", 8] == pytest.approx(3.0)
    assert found["init", 1] == found["trained", 1] == 1.0


def test_no_curve_is_no_picture():
    assert gradients.picture(a_frame(("a", None)), looks(["a"])) is None
    assert gradients.for_page(a_frame(("a", None)), looks(["a"])) == []
    assert gradients.picture(tidy([]), looks(["a"])) is None


def test_what_is_no_number_leaves_a_gap_and_overflow_ends_the_line():
    frame = a_frame(
        ("gap", curves([1.0, None, 0.5, 0.0])),
        ("far", curves([1.0, 1e-3, 1e-200, 1e-3])),
        ("none", curves([None, 1.0, 1.0, 1.0])),
        ("zero", curves([0.0, 1.0, 1.0, 1.0])),
    )
    found = {}
    for point in gradients.points(frame):
        found.setdefault(point["architecture"], []).append(point["k"])
    assert found == {"gap": [1, 4], "far": [1, 2]}


@pytest.mark.parametrize("name", ["lstm", HOSTILE])
def test_the_picture_is_valid_and_is_drawn(name):
    import vl_convert

    frame = a_frame((name, curves([4.0, 2.0, 1.0, 0.5], [4.0, 40.0, 4e3, 4e6])))
    drawn = looks(list(dict.fromkeys(frame["architecture"])))
    spec = gradients.picture(frame, drawn)
    assert [part["title"] for part in spec["hconcat"]] == ["before training", "after training"]
    svg = vl_convert.vegalite_to_svg(json.dumps(spec, allow_nan=False))
    assert svg.count(f'stroke="{drawn[0].colour}" stroke-width="2"') == 2
    assert "<b>" not in svg


def test_both_panels_have_one_scale_and_the_study_s_colours():
    frame = a_frame(
        ("a", curves([1.0, 0.1, 0.01, 1e-3], [1.0, 1.0, 1.0, 50.0])), ("b", curves([1.0] * 4))
    )
    drawn = looks(["z", "a", "b"])
    panels = gradients.for_page(frame, drawn)
    assert [title for title, _, _ in panels] == [
        "Reach of the gradient before training",
        "Reach of the gradient after training",
    ]
    assert {p["architecture"] for p in panels[0][2]["reach"]} == {"a", "b"}
    assert {p["architecture"] for p in panels[1][2]["reach"]} == {"a"}
    lines = [spec["layer"][1]["encoding"] for _, spec, _ in panels]
    assert lines[0]["y"]["scale"]["domain"] == lines[1]["y"]["scale"]["domain"] == [1e-3, 100.0]
    assert lines[0]["color"]["scale"]["domain"] == ["z", "a", "b"]
    assert lines[0]["color"]["scale"]["range"] == [look.colour for look in drawn]


def test_every_task_has_a_picture_of_its_own_name():
    frame = a_frame(("lstm", curves([1.0, 0.5, 0.25, 0.1])))
    both = pd.concat([frame.assign(task="a/b"), frame.assign(task="a b"), frame.assign(task="c")])
    names = [name for name, _ in gradients.images(both, looks(["lstm"]))]
    assert names == ["gradient_reach_a_b", "gradient_reach_a_b_2", "gradient_reach_c"]
