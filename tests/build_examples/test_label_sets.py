"""Several labels an image: a column for each, and the long form of RSNA's challenge."""

import dataclasses

import pytest

from beam_jobs.build_examples import label_table
from dr_tfx.config import label_sets, specs

KINDS = ("any", "epidural", "subdural")
SPEC = specs.DatasetSpec(
    label_column=",".join(KINDS), label_names=label_sets.names(KINDS), image_column="image"
)


def read(folder, text: str, spec: specs.DatasetSpec = SPEC) -> label_table.LabelTable:
    (folder / "labels.csv").write_text(text)
    return label_table.read(str(folder / "labels.csv"), spec, None)


def names_of(table: label_table.LabelTable) -> dict[str, str]:
    rows = table.rows
    return {i: SPEC.label_names[n] for i, n in zip(rows["id"], rows["label"], strict=True)}


def test_sets_have_names():
    assert label_sets.names(KINDS)[:4] == ("none", "any", "epidural", "any+epidural")
    assert label_sets.columns_of(SPEC.label_column, SPEC.label_names) == KINDS
    assert label_sets.columns_of("level", ("0", "1")) == ()
    assert label_sets.columns_of("a,b", ("a", "b")) == ()


def test_a_column_for_each_label(tmp_path):
    table = read(
        tmp_path, "image,any,epidural,subdural\na,0,0,0\nb,1,0,1\nc,1,1.0,0\nd,1,maybe,0\n"
    )
    assert names_of(table) == {"a": "none", "b": "any+subdural", "c": "any+epidural"}
    (reject,) = table.rejects.to_dict("records")
    assert reject["id"] == "d" and "epidural=maybe" in reject["detail"]


def test_the_long_form_is_read_as_it_is(tmp_path):
    """Rows in any order, one of them twice, one image without a row, one that contradicts."""
    text = (
        "ID,Label\nID_01_epidural,0\nID_01_subdural,1\nID_02_any,0\nID_02_epidural,0\n"
        "ID_01_any,1\nID_02_subdural,0\nID_01_any,1\nID_03_any,1\n"
        "ID_04_any,1\nID_04_any,0\nID_04_epidural,0\nID_04_subdural,0\nID_05,1\n"
    )
    table = read(tmp_path, text, dataclasses.replace(SPEC, image_column="ID"))
    assert names_of(table) == {"ID_01": "any+subdural", "ID_02": "none"}
    details = table.rejects.set_index("id")["detail"].to_dict()
    assert set(details) == {"ID_03", "ID_04", "ID_05"}
    assert "epidural=?" in details["ID_03"] and "any=1 and 0" in details["ID_04"]


def test_a_table_of_two_columns_is_not_long_without_sets(tmp_path):
    spec = specs.DatasetSpec()
    table = read(tmp_path, "image,level\nID_01_any,1\n", spec)
    assert table.rows["id"].tolist() == ["ID_01_any"]
    with pytest.raises(ValueError, match="no column 'image'"):
        read(tmp_path, "ID,Label\nID_01_any,1\n", spec)
