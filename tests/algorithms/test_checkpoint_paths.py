from pathlib import Path

import pytest

from rllib_distill.core.algorithm import _local
from rllib_distill.errors import DistillError


@pytest.mark.parametrize("path", ["student", "./student", Path("student")])
def test_that_relative_paths_mean_the_working_directory_which_rllib_refuses(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _local(path) == str(tmp_path / "student")


def test_that_a_file_uri_is_the_path_where_the_replay_memories_lie(tmp_path):
    assert _local(f"file://{tmp_path}") == str(tmp_path)


def test_that_no_path_stays_none_so_that_rllib_chooses_one():
    assert _local(None) is None


def test_that_remote_storage_is_refused_rather_than_written_to_a_folder_of_its_name():
    with pytest.raises(DistillError, match=r"s3://bucket/student.*local or mounted folder"):
        _local("s3://bucket/student")
