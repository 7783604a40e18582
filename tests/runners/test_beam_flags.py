"""Beam's runners as the jobs use them."""

import sys
import types

import apache_beam as beam
import pytest
from apache_beam import pipeline as beam_pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils import interactive_utils

from beam_jobs.runners import beam_flags


def test_a_job_runs_in_a_notebook(monkeypatch, tmp_path):
    """Beam asks IPython whether this is a notebook, and then loads what pandas 3 breaks."""
    shell = types.SimpleNamespace(execution_count=1, config={"IPKernelApp": {}})
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    for module in (beam_pipeline, interactive_utils):
        monkeypatch.setattr(module, "is_in_ipython", module.is_in_ipython)  # Restored at the end.
    options = beam_flags.options([])
    with beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline:
        numbers = pipeline | "numbers" >> beam.Create([1, 2])
        numbers | beam.io.WriteToText(str(tmp_path / "numbers"), shard_name_template="")
        (label,) = pipeline.transforms_stack[0].parts[0].full_label.splitlines()
    assert label == "numbers"  # And not "[1]: numbers", after the cell.
    assert sorted((tmp_path / "numbers").read_text().split()) == ["1", "2"]


def test_dataflow_is_given_no_place_of_this_machine():
    options = PipelineOptions(["--runner=DataflowRunner"])
    beam_flags.check_folders(options, image_dir="gs://b/one,gs://b/two.zip")
    with pytest.raises(ValueError, match="do not see this one's disk, but got --image_dir=raw;"):
        beam_flags.check_folders(options, image_dir="gs://b/one,raw")
