"""The bar of long work: lines of a log, and a bar on a terminal that does not know its size."""

import sys

from dr_tfx.machine import progress
from tests.helpers import terminal


def test_a_log_has_a_line_now_and_then_and_none_of_short_work(capsys, monkeypatch):
    with progress.bar(total=3, unit="image", title="score test") as bar:
        bar.update(3)
        bar.set_postfix(loss=0.5)
        bar.write("a row", file=sys.stdout)
    out, err = capsys.readouterr()
    assert out == "a row\n" and not err.strip()
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0)
    with progress.bar(total=4, unit="image", title="score test", done=1) as bar:
        bar.update(1)
    lines = capsys.readouterr().err.replace("\r", "").splitlines()
    assert any(line.startswith("score test: 2 of 4 images, ") for line in lines)


def test_a_terminal_of_no_columns_has_a_bar():
    code = (
        "from dr_tfx.machine import progress\n"
        "with progress.bar(total=2, unit='image', title='score') as bar: bar.update(2)"
    )
    _, said = terminal.run([sys.executable, "-c", code], size=(0, 0))
    assert b"score: 100%" in said and b"2/2" in said
