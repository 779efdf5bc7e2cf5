"""Files are written whole or not at all, and JSON is compact."""

import json

import pytest

from rllib_distill.errors import DistillError
from rllib_distill.files import json_text, write_all_atomically, write_atomically


def test_that_a_file_is_written_whole_or_not_at_all(tmp_path, fill_disk):
    path = tmp_path / "scores.json"
    write_atomically(path, b"old")
    fill_disk()
    with pytest.raises(DistillError, match=r"scores\.json: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_that_files_that_belong_together_are_written_all_or_none(tmp_path, fill_disk):
    paths = [tmp_path / "new" / "a.json", tmp_path / "new" / "b.json"]
    write_all_atomically({path: b"old" for path in paths})
    fill_disk(after=1)
    with pytest.raises(DistillError, match=r"b\.json: No space left"):
        write_all_atomically({path: b"new" for path in paths})
    assert [path.read_bytes() for path in paths] == [b"old", b"old"]
    assert sorted((tmp_path / "new").iterdir()) == paths


def test_that_a_folder_in_the_way_changes_nothing(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(DistillError, match=r"Cannot write .*b: b is a folder"):
        write_all_atomically({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_that_json_is_compact_and_says_the_same():
    value = {
        "returns": [1.0, 2.5],
        "lr": [[0, 0.1], [5, 0.2]],
        "none": {},
        "deep": {"a": [{"b": None}]},
        "e": [],
    }
    text = json_text(value)
    assert json.loads(text) == value
    assert '  "returns": [1.0, 2.5],\n  "lr": [\n    [0, 0.1],\n    [5, 0.2]\n  ],\n' in text
