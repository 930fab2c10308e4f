"""The drawn data sets: same seed, same bits; same scene at every size; learnable, but not too easily."""

import hashlib

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rosutils import InputError
from rosutils.data import synthetic


CHANNELS = {"dermoscopy": 3, "chest-film": 1}
LESIONS, FINDINGS = (synthetic.MODALITIES[name].classes for name in CHANNELS)
EFFUSION, ATELECTASIS = (FINDINGS.index(name) for name in ("Effusion", "Atelectasis"))
both = pytest.mark.parametrize("modality", CHANNELS)


@pytest.fixture(scope="module")
def films():
    return synthetic.make("chest-film", examples=400, pixels=16, seed=3)


@pytest.fixture(scope="module")
def lesions():
    return synthetic.make("dermoscopy", examples=400, pixels=32, seed=3)


def halves(groups):
    """Every third group held out: rows for fitting, rows for scoring."""
    held_out = groups % 3 == 0
    return ~held_out, held_out


@both
def test_same_seed_gives_the_same_bits_also_as_a_part_of_more_and_another_seed_does_not(modality):
    choices = (12, 5), (12, 5), (30, 5), (12, 6)
    first, again, more, other = (synthetic.make(modality, examples=n, pixels=16, seed=seed) for n, seed in choices)
    for name in ("images", "labels", "groups", "names"):
        assert np.array_equal(first[name], again[name]) and np.array_equal(first[name], more[name][:12])
    assert not np.array_equal(first["images"], other["images"])
    assert first["images"].dtype == np.uint8 and first["images"].shape == (12, CHANNELS[modality], 16, 16)
    assert first["labels"].dtype == (np.float32 if first["multilabel"] else np.int64) and len(first["labels"]) == 12
    assert first["groups"].dtype == np.int64 and len(first["class_names"]) == 8 and len(set(first["names"])) == 12
    for index in (0, 5, 11):
        assert np.array_equal(synthetic.draw(modality, index, pixels=16, seed=5), first["images"][index])


@both
def test_an_image_shows_the_same_scene_at_every_size(modality):
    small = synthetic.make(modality, examples=10, pixels=32, seed=2)["images"].astype(float)
    large = [synthetic.draw(modality, i, pixels=128, seed=2) for i in range(10)]
    shrunk = np.array([image.reshape(-1, 32, 4, 32, 4).mean((2, 4)) for image in large])
    assert np.abs(shrunk - small).mean() < 2
    assert np.abs(np.roll(shrunk, 1, axis=0) - small).mean() > 10  # another image's scene is nowhere near


def test_groups_hold_one_or_two_images_in_a_row_and_those_of_a_lesion_share_its_class_but_not_their_pixels(
    lesions, films
):
    for data in (lesions, films):
        assert np.all(np.diff(data["groups"]) >= 0) and set(np.bincount(data["groups"])[:-1]) == {1, 2}
    same = np.flatnonzero(np.diff(lesions["groups"]) == 0)
    assert np.array_equal(lesions["labels"][same], lesions["labels"][same + 1])
    assert all(not np.array_equal(lesions["images"][i], lesions["images"][i + 1]) for i in same)


def test_films_of_a_patient_share_findings_more_than_films_of_two_patients(films):
    agree = np.all(films["labels"][1:] == films["labels"][:-1], axis=1)
    same = np.diff(films["groups"]) == 0
    assert agree[same].mean() > agree[~same].mean() + 0.2
    assert agree[same].mean() < 1


def test_every_lesion_class_is_there_in_two_hundred_images_with_nevi_most_frequent(lesions):
    for part in (lesions["labels"][:200], lesions["labels"][200:]):
        counts = np.bincount(part, minlength=8)
        assert counts.min() > 0 and counts.argmax() == LESIONS.index("NV")


@both
def test_every_class_is_in_the_first_blocks_whatever_the_seed(modality):
    kind = synthetic.MODALITIES[modality]
    for seed in range(20):
        labels = [image for group in kind.block(np.random.default_rng(seed)) for image in group]
        shown = np.eye(8)[labels] if modality == "dermoscopy" else np.array(labels)
        assert np.all(shown.sum(0) > 0)


def test_findings_have_the_prevalence_and_company_that_films_have(films):
    labels = films["labels"]
    prevalence = labels.mean(0)
    assert np.all((prevalence > 0.06) & (prevalence < 0.24))
    assert 0.35 < np.mean(labels.sum(1) == 0) < 0.55
    together = np.mean(labels[:, EFFUSION] * labels[:, ATELECTASIS])
    assert together / (prevalence[EFFUSION] * prevalence[ATELECTASIS]) > 1.5


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_changes_the_film_it_is_drawn_on(finding):
    def film(label):
        return synthetic._picture(synthetic.MODALITIES["chest-film"], 0, 0, label, 32, 1).astype(float)

    change = np.abs(film(np.float32([name == finding for name in FINDINGS])) - film(np.zeros(8, np.float32)))
    assert change.max() > 25


@both
def test_the_pixels_are_those_that_the_committed_results_were_made_from(modality):
    images = synthetic.make(modality, examples=160, pixels=36, seed=5)["images"]
    known = {"dermoscopy": "1a7036660779", "chest-film": "405733edc226"}
    assert hashlib.sha256(images.tobytes()).hexdigest().startswith(known[modality]), "raise synthetic.FORMAT, too"


def test_lesions_can_be_told_by_colour_and_size_but_not_perfectly(lesions):
    pixels = lesions["images"].reshape(400, 3, -1) / 255
    middle = lesions["images"][:, :, 8:24, 8:24].reshape(400, 3, -1) / 255
    tones = np.quantile(pixels, (0.05, 0.25, 0.5), axis=2)
    features = np.concatenate([*tones, middle.mean(2) / 255, middle.std(2) / 255], 1)
    fit, score = halves(lesions["groups"])
    model = RandomForestClassifier(200, random_state=0).fit(features[fit], lesions["labels"][fit])
    truth = lesions["labels"][score]
    reached = f1_score(truth, model.predict(features[score]), average="weighted")
    chance = f1_score(truth, np.full_like(truth, LESIONS.index("NV")), average="weighted")
    assert chance + 0.25 < reached < 0.95


def test_findings_can_be_told_from_coarse_films_but_not_perfectly(films):
    pixels = films["images"].reshape(400, -1) / 255
    fit, score = halves(films["groups"])
    found = np.zeros_like(films["labels"][score])
    for finding in range(8):
        classifier = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
        model = make_pipeline(StandardScaler(), classifier)
        found[:, finding] = model.fit(pixels[fit], films["labels"][fit, finding]).predict(pixels[score])
    truth = films["labels"][score]
    chance = f1_score(truth, np.ones_like(truth), average="micro")
    assert chance + 0.1 < f1_score(truth, found, average="micro") < 0.9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"modality": "x-ray"}, ("x-ray", "dermoscopy", "chest-film")),
        ({"pixels": 32.5}, ("pixels", "32.5", "whole")),
        ({"examples": 0}, ("examples", "0", "1")),
        ({"examples": True}, ("examples", "True")),
        ({"seed": -1}, ("seed", "-1", "0")),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_what_is_allowed(change, told):
    arguments = {"modality": "dermoscopy", "examples": 3, "pixels": 16, "seed": 0} | change
    with pytest.raises(InputError, match="index is -1"):
        synthetic.draw("chest-film", -1, pixels=16, seed=0)
    with pytest.raises(InputError) as error:
        synthetic.make(arguments.pop("modality"), **arguments)
    assert all(word in str(error.value) for word in told)
