"""`bench list tasks --long`: every task with its kind, chance and data."""

from bench.details import HEADER, as_text, task_table
from tasks import TASKS


def test_every_task_has_a_row_that_says_what_it_is() -> None:
    header, *rows = task_table()
    assert header == HEADER
    by_name = {row[0]: row for row in rows}
    assert set(by_name) == set(TASKS)
    assert by_name["parity"][1:5] == ("per_step", "64", "accuracy (higher is better)", "0.5")
    assert by_name["python_bytes"][6] == "standard_library: package"
    assert by_name["parity"][6] == "generated"
    assert all(row[1] == TASKS[row[0]].kind for row in rows if len(row[1]) < 20)


def test_the_table_is_in_columns() -> None:
    text = as_text([("a", "bb"), ("ccc", "d")])
    assert text == "a    bb\nccc  d"
