"""Learning curves: which columns are drawn, and what is said of the best epoch."""

import pandas as pd
import pytest

from dr_tfx.reports.learning_curves import learning_curves, words_of

CURVES = {"loss": "loss", "auc": "AUC"}
HISTORY = pd.DataFrame({"epoch": [3, 4], "loss": [0.5, 0.4], "val_loss": [0.6, 0.7]})


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("val_loss", "best epoch 3, validation loss 0.6000."),
        ("loss", "best epoch 4, loss 0.4000."),
        ("val_auc", "no epoch is marked."),
    ],
)
def test_the_best_epoch_is_said(rule, said):
    assert learning_curves(HISTORY, rule, CURVES).alt.endswith(f"2 epochs; {said}")


def test_columns_that_are_missing_have_no_panel():
    one = learning_curves(HISTORY, "val_loss", CURVES)
    two = learning_curves(HISTORY.assign(val_auc=[0.6, 0.7]), "val_loss", CURVES)
    assert two.height > one.height
    assert "AUC" in two.svg and "AUC" not in one.svg


def test_a_column_without_words_goes_by_its_name():
    assert words_of("val_auc", CURVES) == "validation AUC"
    assert words_of("val_kappa", CURVES) == "val_kappa"
    assert words_of("auc", CURVES) == "auc"
