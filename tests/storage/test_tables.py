"""CSV files that a spreadsheet may open."""

import csv
import io

import pandas as pd
import pytest

from dr_tfx.storage import tables


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝"])
def test_no_text_is_run_as_a_formula(start):
    text = tables.csv_text(pd.DataFrame({"id": [f"{start}1+1", "a=1"], "score": [-0.5, 1.0]}))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [["id", "score"], [f"'{start}1+1", "-0.5"], ["a=1", "1.0"]]


def test_a_character_that_is_not_seen_ends_no_row_and_turns_no_text():
    text = tables.csv_text(pd.DataFrame({"id": ["a\rb", "c\nd", "\r=1", "\x1b[2J", "\u202egpj"]}))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    told = ["a\\u000db", "c\\u000ad", "\\u000d=1", "\\u001b[2J", "\\u202egpj"]
    assert rows == [["id"], *([text] for text in told)]
    assert tables.csv_text(pd.DataFrame({"id": ["a"]}), header=False) == "a\n"


def test_everything_else_is_as_pandas_writes_it():
    table = pd.DataFrame(
        {
            "id": pd.array(["007", "a,b", 'say "ah"', None], "string"),
            "split": pd.Categorical(["train", "test", "train", "test"]),
            "n": pd.array([1, -2, None, 3], "Int64"),
            "x": [0.1, float("nan"), -1e-9, 2.0],
            "flag": [True, False, True, False],
        },
        index=[7, 8, 9, 3],
    )
    assert tables.csv_text(table) == table.to_csv(index=False, lineterminator="\n")
    assert tables.csv_text(table.iloc[:0]) == "id,split,n,x,flag\n"
