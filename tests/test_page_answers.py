"""What the page says in words: claims and verdicts, the reproduction card, published numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.records.row import Scored
from bench.records.store import Store
from bench.report import answers, claim_file, page
from bench.report.side_by_side import joined
from bench.study import Reproduces, Study
from tests import browser, generated_study, synthetic

BAI = "Bai, Kolter, Koltun 2018, arXiv 1803.01271, Table 1"
ACCURACY = Scored(metric="accuracy", unit="fraction", higher_is_better=True, chance=0.1)
SCORES = {"lstm_stack": (0.871, 0.872, 0.873), "gru_stack": (0.5, 0.51, 0.52)}
CLAIM = """\
  - name: {name}
    says: "{says}"
    source: Somebody <b>1999</b>
    evidence:
      - {{metric: test_score, group: {{architecture: {group}}}, above: {above}, min_n: 3}}
"""
NOT_ASKED = CLAIM.format(name="elsewhere", says="Of another study.", group="mamba", above=0)
CLAIMS = "claims:\n" + "".join(
    [
        CLAIM.format(
            name="good", says="The LSTM <script>learns</script>.", group="lstm_stack", above=0.8
        ),
        CLAIM.format(name="bad", says="The GRU learns.", group="gru_stack", above=0.8),
        NOT_ASKED,
    ]
)


def study_of(folder: Path, **changes: Any) -> tuple[Study, Store]:
    """Two architectures on sequential MNIST, three seeds each."""
    store = Store(folder)
    runs = []
    for architecture, scores in SCORES.items():
        for seed, score in enumerate(scores):
            run = synthetic.run(architecture, "smnist", 784, seed=seed)
            metrics = {"test_score": score, "val_score": score, "test_accuracy": score}
            store.write(synthetic.row(run, metrics=metrics, scored=ACCURACY))
            runs.append(run)
    return synthetic.study(runs, folder, **changes), store


def part_of(html: str, anchor: str) -> str:
    """One section of the page; empty if it has none."""
    found = re.search(rf'<section aria-labelledby="{anchor}">(.*?)</section>', html, re.DOTALL)
    return found[1] if found else ""


def verdicts_of(text: str) -> list[str]:
    return re.findall(r'<span class="verdict (\w+)">', text)


def test_a_studys_own_claims_are_all_on_its_page(tmp_path: Path) -> None:
    study, store = study_of(tmp_path)
    (tmp_path / claim_file.FILE).write_text(CLAIMS)
    text = part_of(page.render(study, store), "claims")
    assert verdicts_of(text) == ["supported", "refuted", "undecided"]
    assert "3 claims: 1 supported, 1 refuted, 1 undecided" in text
    assert "0.8720 [0.8693, 0.8747]" in text
    assert study.runs[0].id in text
    assert "{architecture: mamba, seed: 0}" in text  # what would decide
    assert "<script>learns" not in text
    assert "&lt;script&gt;learns" in text
    assert "&lt;b&gt;1999" in text


def test_of_the_claims_of_textbooks_a_page_has_those_that_the_study_asks_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped.yaml"
    for module in (answers, claim_file):
        monkeypatch.setattr(module, "SHIPPED", shipped)
    study, store = study_of(tmp_path / "study")
    shipped.write_text(CLAIMS)
    assert verdicts_of(page.render(study, store)) == ["supported", "refuted"]
    shipped.write_text(f"claims:\n{NOT_ASKED}")
    html = page.render(study, store)
    assert part_of(html, "claims") == ""
    assert 'href="#claims"' not in html
    shipped.unlink()  # installed without it
    assert page.render(study, store) == html


def test_what_a_page_says_does_not_depend_on_where_the_study_lies(tmp_path: Path) -> None:
    pages = []
    for place in ("here", "there/below"):
        study, store = study_of(tmp_path / place / "study", name="study")
        (study.folder / claim_file.FILE).write_text(CLAIMS)
        pages.append(page.render(study, store))
    assert pages[0] == pages[1]
    assert "What would decide" in pages[0]


def test_a_claim_that_names_no_column_stops_the_page_with_one_line(tmp_path: Path) -> None:
    study, store = study_of(tmp_path)
    (tmp_path / claim_file.FILE).write_text(CLAIMS.replace("test_score", "test_scor"))
    with pytest.raises(UserError, match=r"claims\.yaml, line 6: .*'test_scor'") as raised:
        page.render(study, store)
    assert "\n" not in str(raised.value)


def test_studies_side_by_side_have_their_own_verdicts(tmp_path: Path) -> None:
    both = [study_of(tmp_path / name) for name in ("old", "new")]
    (tmp_path / "old" / claim_file.FILE).write_text(CLAIMS)
    (tmp_path / "new" / claim_file.FILE).write_text(CLAIMS.replace("above: 0.8", "above: 0.4"))
    text = part_of(page.render_joined(joined(both)), "claims")
    first = ["supported", "refuted", "undecided"]
    assert verdicts_of(text) == [*first, "supported", "supported", "undecided"]
    assert "old: 3 claims" in text
    assert "new: 3 claims" in text
    assert "lstm_stack · old" not in text


def test_a_study_that_reproduces_has_its_card_on_the_page(tmp_path: Path) -> None:
    reproduces = Reproduces(citation=BAI, tolerance=0.01)
    study, store = study_of(tmp_path / "study", reproduces=reproduces)
    text = part_of(page.render(study, store), "reproduction")
    assert BAI in text
    assert "reproduced within 0.01" in text
    assert "0.8720 [0.8693, 0.8747]" in text
    assert "1 reproduced, 1 not reproduced" in text
    other, other_store = study_of(tmp_path / "other")
    assert part_of(page.render(other, other_store), "reproduction") == ""
    both = page.render_joined(joined([(study, store), (other, other_store)]))
    assert "1 reproduced, 1 not reproduced" in part_of(both, "reproduction")


def test_published_numbers_are_on_the_page_each_once_and_none_in_its_other_tables(
    tmp_path: Path,
) -> None:
    both = [study_of(tmp_path / name) for name in ("old", "new")]
    for html in (page.render(*both[0]), page.render_joined(joined(both))):
        text = part_of(html, "reported")
        for value in ("87.2", "92.88", "98.8"):
            assert text.count(f">{value}<") == 1
            assert f">{value}<" not in html.replace(text, "")
        assert "none of them run here" in text


def test_the_reach_of_gradients_is_a_table_beside_its_picture(tmp_path: Path) -> None:
    study, store = generated_study.generated(
        tmp_path, architectures=("rnn", "lstm"), lengths=generated_study.LENGTHS[:2], seeds=1
    )
    html = page.render(study, store)
    text = part_of(html, "task-1")
    assert "mqar, length 128: norm of dL_t/dx_(t-k) against k" in text
    assert "10.0 [9.00, 11.0]" in text  # before training
    assert "20.0 [18.0, 22.0]" in text  # after it
    assert ">50%<" in text
    assert "largest singular value" in text
    assert "norm of dL_t" not in part_of(html, "task-2")  # where none was measured


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    study, store = study_of(folder, reproduces=Reproduces(citation=BAI, tolerance=0.01))
    (folder / claim_file.FILE).write_text(CLAIMS)
    return page.write(study, store, folder / "report.html")


@pytest.fixture(params=[browser.DESKTOP_PX, browser.PHONE_PX])
def shown(request: pytest.FixtureRequest, file: Path) -> Iterator[browser.Opened]:
    with browser.opened(file, request.param) as found:
        yield found
        assert found.console == []
        assert found.requests == []


@pytest.mark.browser
@browser.NEEDED
def test_words_and_tables_fit_the_screen_and_the_paper(shown: browser.Opened) -> None:
    assert shown.page.locator("#claims, #reproduction, #reported").count() == 3
    assert shown.overflow_px() <= 0
    for region in shown.page.locator(".wide").all():
        assert region.get_attribute("tabindex") == "0"
        assert region.get_attribute("aria-label")
    shown.page.emulate_media(media="print")
    shown.page.set_viewport_size({"width": 700, "height": 900})
    assert shown.overflow_px() <= 0
