"""JSON of strangers: refused in one sentence that names the file."""

import json

import pytest

from dr_tfx.storage import json_files


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[1]", "expected a JSON object"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": 1e999}', "1e999 is not a finite number"),
        ('{"a": ' * 99_999, "nested too deeply"),
        (b"\xff{}", "no JSON"),
        (r'{"a": ["\u001b[2J"]}', "control characters"),
        (r'{"\u202e": 1}', "control characters"),
        (r'{"a": "\ud800"}', "control characters"),
    ],
)
def test_what_is_no_json_object_is_refused_by_name(text, told):
    with pytest.raises(ValueError, match=f"^x/y.json .*{told}") as caught:
        json_files.parse(text, where="x/y.json")
    assert "\n" not in str(caught.value) and str(caught.value).isascii()


def test_other_texts_are_read_as_they_are():
    content = {"눈\u200c": ["a\tb\nc", "\\u202e", "\U0001f441"], "b": {"c": 0.5}}
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False)):
        assert json_files.parse(text, where="x") == content
