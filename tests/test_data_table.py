"""The table of data sets: complete, and right about the files that were published."""

from __future__ import annotations

import lzma
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.data.cache import set_folder, verify
from tasks.data.sets import DATA_SETS


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_table_says_all_that_is_needed(name: str) -> None:
    data_set = DATA_SETS[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert data_set.title
    assert data_set.source
    assert data_set.licence
    assert data_set.files or data_set.package
    assert all(file.urls for file in data_set.files) or data_set.note
    names = [file.name for file in data_set.files]
    assert len(set(names)) == len(names)
    for file in data_set.files:
        assert Path(file.name).name == file.name
        assert not file.name.startswith(".")
        assert all(re.match(r"https?://[a-z0-9.-]+/", url) for url in file.urls)
        assert len(set(file.urls)) == len(file.urls)
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
        assert file.bytes is None or file.bytes > 0
        for path, digest in file.members:
            assert file.unpack
            assert not path.startswith("/")
            assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", digest)
        if any(url.startswith("http://") for url in file.urls):
            assert file.sha256 or file.members, "what comes unencrypted is known by its checksum"


REAL = {
    "bible_en_es": "bible_en_es/web_rv1909.tsv.xz",
    "cmudict": "cmudict/cmudict.dict",
    "ett": "ett_small/ETTh1.csv",
    "jsb": "jsb_chorales/*.json",
    "mnist": "mnist/*.gz",
    "shakespeare": "tinyshakespeare/input.txt",
    "ud_english_ewt": "ud_english_ewt/en_ewt-*.conllu.xz",
}


@pytest.mark.parametrize("name", REAL)
def test_the_table_knows_the_real_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = os.environ.get("SEQBENCH_TEST_DATA")
    if not source:
        pytest.skip("SEQBENCH_TEST_DATA names no folder with real data")
    found = sorted(Path(source).glob(REAL[name]))
    if not found:
        pytest.skip(f"there is no {Path(source) / REAL[name]}")
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path))
    # Even where a package that is installed brings the same files.
    monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], package=""))
    (tmp_path / name).mkdir()
    for path in found:
        if name == "ud_english_ewt":
            text = lzma.decompress(path.read_bytes())
            (tmp_path / name / path.stem).write_bytes(text)
        else:
            shutil.copy(path, tmp_path / name)
    assert set_folder(name) == tmp_path / name
    verify(name)
