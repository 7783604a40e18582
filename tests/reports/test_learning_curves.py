"""Learning curves: which columns are drawn, and what is said of the best epoch."""

import pandas as pd
import pytest

from dr_tfx.reports.learning_curves import learning_curves, read, words_of

CURVES = {"loss": "loss", "auc": "AUC"}
HISTORY = pd.DataFrame({"epoch": [3, 4], "loss": [0.5, 0.4], "val_loss": [0.6, 0.7]})


@pytest.mark.parametrize(
    ("rule", "best", "said"),
    [
        ("val_loss", "min", "best epoch 3, validation loss 0.6000."),
        ("loss", "min", "best epoch 4, loss 0.4000."),
        ("loss", "max", "best epoch 3, loss 0.5000."),
        ("val_auc", "max", "no epoch is marked."),
    ],
)
def test_the_best_epoch_is_said(rule, best, said):
    assert learning_curves(HISTORY, rule, CURVES, best=best).alt.endswith(f"2 epochs; {said}")


def test_columns_that_are_missing_have_no_panel():
    one = learning_curves(HISTORY, "val_loss", CURVES, best="min")
    two = learning_curves(HISTORY.assign(val_auc=[0.6, 0.7]), "val_loss", CURVES, best="min")
    assert two.height > one.height
    assert "AUC" in two.svg and "AUC" not in one.svg


def test_a_column_without_words_goes_by_its_name():
    assert words_of("val_auc", CURVES) == "validation AUC"
    assert words_of("val_kappa", CURVES) == "val_kappa"
    assert words_of("auc", CURVES) == "auc"


@pytest.mark.parametrize(
    "text", ["", "\x00\x01", "epoch,loss\n1,much\n", "epoch,loss\n", "loss,seconds\n1,2\n", "a,a"]
)
def test_what_is_no_history_gives_no_curves_and_a_word(tmp_path, caplog, text):
    path = tmp_path / "history.csv"
    assert read(path) is None and not caplog.records
    path.write_text(text)
    assert read(path) is None
    assert f"{path} is no history of a training" in caplog.text


def test_a_history_is_read(tmp_path):
    HISTORY.to_csv(tmp_path / "history.csv", index=False)
    pd.testing.assert_frame_equal(read(tmp_path / "history.csv"), HISTORY)
