"""Photographs that are named on a command line."""

import shutil
from pathlib import Path

import pytest

from dr_tfx.sources import given
from tests.helpers.places import archive


@pytest.fixture
def tree(raw, tmp_path, monkeypatch):
    """`photos/10_left.jpeg`, `photos/a/10_right.jpeg` and raw.zip, in the working folder."""
    (tmp_path / "photos" / "a").mkdir(parents=True)
    shutil.copy(raw / "10_left.jpeg", tmp_path / "photos")
    shutil.copy(raw / "10_right.jpeg", tmp_path / "photos" / "a")
    archive(tmp_path / "photos", tmp_path / "raw.zip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_folders_patterns_and_archives_are_named_as_they_were_given(tree):
    found = given.photographs(["photos/a/10_right.jpeg", "photos/", "raw.zip", "gone.png"])
    assert [one.shown for one in found] == [
        *("photos/a/10_right.jpeg", "photos/10_left.jpeg"),
        *("raw.zip/train/10_left.jpeg", "gone.png"),
    ]
    data = (tree / "photos" / "10_left.jpeg").read_bytes()
    assert [one.source.read(one.name) for one in found[1:3]] == [data, data]
    assert [one.shown for one in given.photographs(["photos/*.jpeg"])] == ["photos/10_left.jpeg"]
    inside = given.photographs(["raw.zip/train"])
    assert [one.shown for one in inside] == ["raw.zip/train/10_left.jpeg"]
    with pytest.raises(ValueError, match="empty holds no photographs"):
        Path("empty").mkdir()
        given.photographs(["empty"])


@pytest.mark.parametrize("output_dir", [".", "photos", "photos/a/.."])
def test_results_are_never_written_among_the_photographs(tree, output_dir):
    found = given.photographs(["photos/10_left.jpeg"])
    with pytest.raises(ValueError, match=f"--output_dir={output_dir} holds the photograph photos"):
        given.check_apart(found, output_dir)
    given.check_apart(found, "photos/a")


def test_a_pattern_that_a_shell_has_replaced_is_put_together_again(tree):
    """As zsh and bash replace `--image_dir photos/*.jpeg` without quotes."""
    for name in ("1.jpeg", "2.jpeg", "3.png"):
        shutil.copy("photos/10_left.jpeg", f"photos/{name}")
    first, *others = sorted(map(str, Path("photos").glob("*.jpeg")))
    found = given.unexpanded(first, [*others, "--runner", "Dask"])
    assert found == ("photos/*.jpeg", ["--runner", "Dask"])
    assert given.unexpanded("photos", ["none.jpeg"]) == ("photos", ["none.jpeg"])
    with pytest.raises(ValueError, match="names 2 photographs, photos/1.jpeg .* put in quotes"):
        given.unexpanded("photos/1.jpeg", ["photos/2.jpeg"])
