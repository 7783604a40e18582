"""Errors that are told in the words of the command that was given the input."""

import pytest

from dr_tfx.sources import refusals


def test_parameters_have_the_names_of_the_command_and_values_are_left_alone():
    error = refusals.UnusableInput(
        "{place} is no folder: pass {image_dir}={place}", place="/a{b}--image_dir"
    )
    assert isinstance(error, ValueError) and not isinstance(error, OSError)
    assert str(error) == "/a{b}--image_dir is no folder: pass --image_dir=/a{b}--image_dir"
    told = error.told(refusals.BUILD_FLAGS | {"image_dir": "--photos"})
    assert told == "/a{b}--image_dir is no folder: pass --photos=/a{b}--image_dir"


def test_what_is_missing_is_both_kinds_of_error():
    with pytest.raises(FileNotFoundError, match="^x does not exist$") as caught:
        raise refusals.MissingInput("{place} does not exist", place="x")
    assert isinstance(caught.value, refusals.UnusableInput)
    assert caught.value.told(refusals.BUILD_FLAGS) == "x does not exist"
