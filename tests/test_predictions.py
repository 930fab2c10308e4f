"""What the students answer: confusion matrices and ROC curves against scikit-learn and numbers by hand."""

import numpy as np
import pytest
import rows  # noqa: F401 (the look of figures)
from sklearn.metrics import roc_curve

from rosutils.metrics import evaluate, precision_recall_f1
from rosutils.paper import look, predictions
from rosutils.results import select
from rosutils.settings import COMPARED


NAMES = ["a", "b", "c"]


def sure(answers):
    """Logits of somebody who answers these."""
    return 5.0 * np.eye(3)[answers]


def random_pairs(n=3, several=False, seed=0):
    generator = np.random.default_rng(seed)
    labels = (generator.random((40, 3)) < 0.4).astype(float) if several else None
    return [
        (generator.normal(size=(40, 3)), generator.integers(3, size=40) if labels is None else labels) for _ in range(n)
    ]


def test_a_confusion_matrix_is_the_share_of_answers_among_the_images_of_a_label_over_all_replicates():
    pairs = [(sure([0, 1, 1]), np.array([0, 0, 1])), (sure([0, 2]), np.array([0, 1]))]
    fig = predictions.confusion({"RoS-KD": pairs}, NAMES, "lesion")
    ax = fig.axes[0]
    shares = ax.collections[0].get_array().reshape(3, 3)
    assert shares.tolist() == [[pytest.approx(2 / 3), pytest.approx(1 / 3), 0], [0, 0.5, 0.5], [0, 0, 0]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a (3)", "b (2)", "c (0)"]
    assert ax.get_title(loc="left") == "lesion, RoS-KD: 60% right"


@pytest.mark.parametrize("several", [False, True])
def test_roc_curves_are_scikit_learns_and_their_areas_those_of_the_results(several):
    [pair] = pairs = random_pairs(1, several)
    fig = predictions.roc({"RoS-KD": pairs}, NAMES, "chest")
    about = evaluate(*pair, multilabel=several, class_names=NAMES)
    for place, name in enumerate(NAMES):
        ax = fig.axes[place]
        scores = pair[0] if several else np.exp(pair[0]) / np.exp(pair[0]).sum(1, keepdims=True)
        true = pair[1][:, place] > 0 if several else pair[1] == place
        rate, hits, _ = roc_curve(true, scores[:, place], drop_intermediate=False)
        drawn = ax.lines[1].get_xydata()
        assert drawn[0].tolist() == [0, 0] and np.allclose(drawn[1:, 1], np.interp(drawn[1:, 0], rate, hits))
        area = about.loc[(about["metric"] == "auroc") & (about["class"] == name), "value"].item()
        assert ax.texts[0].get_text() == f"{area:.3f}"
    assert not fig.axes[3].get_visible()


def test_a_class_is_averaged_over_the_replicates_that_have_it_and_one_that_none_has_is_said():
    perfect, wrong = (sure([0, 0, 1]), np.array([0, 0, 1])), (sure([1, 0, 0]), np.array([0, 1, 1]))
    axes = predictions.roc({"Baseline III": [perfect, wrong]}, NAMES, "lesion").axes
    curve = axes[0].lines[1]
    assert curve.get_ydata()[1] == pytest.approx(0.5) and curve.get_color() == look.COLOUR["Baseline III"]
    assert axes[0].texts[0].get_text() == "0.500 ± 0.707"
    assert axes[2].texts[0].get_text() == "no case" and len(axes[2].lines) == 1


def test_of_a_study_they_are_the_logits_that_its_f1_is_made_of(probed):
    found = predictions.answers(probed, "lesion")
    assert list(found) == list(COMPARED)
    for name, pairs in found.items():
        which = {"task": "lesion", "variant": "", "attack": "", "metric": "f1", "average": "weighted"}
        scores = select(probed.results(), setting=name, **which)
        ours = [float(precision_recall_f1(*pair, average="weighted")[2]) for pair in pairs]
        assert scores.sort_values("replicate")["value"].tolist() == pytest.approx(ours)
    assert list(predictions.CONFUSION.figures(probed)) == ["confusion_lesion"]
    assert list(predictions.ROC.figures(probed)) == ["roc_lesion", "roc_chest"]
