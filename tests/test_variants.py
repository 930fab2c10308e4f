"""The sweeps' variants: one change at a time, at the sweep's scale, the profile's own point among them."""

import pytest

from rosutils import InputError, params
from rosutils.study import variants


def load(**sections):
    return params.load("smoke", sweeps={"scale": {"training": {"epochs": 3}}, "readings": None, **sections})


def difference(a, b, prefix=""):
    """The dotted names of what differs between two sections."""
    found = set()
    for key, value in a.items():
        if isinstance(value, dict) and isinstance(b[key], dict):
            found |= difference(value, b[key], f"{prefix}{key}.")
        elif value != b[key]:
            found.add(f"{prefix}{key}")
    return found


@pytest.fixture(scope="module")
def found():
    return variants.variants(load())


def test_every_variant_changes_one_thing_at_the_sweeps_scale(found):
    small = found["students"].model_dump()
    assert small["training"]["epochs"] == 3
    allowed = {
        "overlap": {"subsets.overlap"}, "symmetric": {"noise.kind", "noise.rate"}, "pairflip": {"noise.kind", "noise.rate"},
        "own-shard": {"subsets.scheme"}, "literal": {"distillation.multilabel"},
        "pairwise": {"subsets.scheme"}, "table3": {"seeds.replicates"},
    }  # fmt: skip
    for name, there in found.items():
        changed = difference(there.model_dump(), small) - {"noise.false_negatives", "noise.false_positives"}
        for word, keys in allowed.items():
            if name.removeprefix("reading: ").startswith(word):
                assert changed <= keys, name
        if name.startswith("reading: ") and name != variants.AS_CHOSEN and "dropped" not in name:
            assert len(changed) == 1, (name, changed)


def test_what_a_profile_chose_is_no_alternative(found):
    labels = {label for label, _, _ in variants.READINGS}
    offered = {name.removeprefix("reading: ") for name in found if name.startswith("reading: ")}
    assert {"shared core", "weights normalised", "last epoch", "sigmoid per label"} <= labels - offered
    assert {"own-shard", "weights not normalised", "best epoch on validation", "literal softmax"} <= offered
    other = variants.variants(
        params.load("smoke", sweeps={"scale": {"subsets": {"scheme": "own-shard"}}, "readings": None})
    )
    assert "reading: shared core" in other and "reading: own-shard" not in other


def test_the_profiles_own_overlap_is_a_point_of_fig_3():
    found = variants.variants(params.load("smoke", subsets={"overlap": 0.25}, sweeps={"overlaps": [0.0, 1.0]}))
    assert [name for name in found if name.startswith("overlap")] == ["overlap 0", "overlap 0.25", "overlap 1"]


def test_runs_of_table_iii_are_replicates_at_the_sweeps_scale():
    own = params.load("smoke", sweeps={"runs": 4, "scale": {"training": {"epochs": 3}}})
    there = variants.variants(own)["table3"]
    assert there.seeds.replicates == 4 and there.training.epochs == 3


def test_a_replicate_moves_every_seed_or_the_students_alone():
    every, alone = params.load("smoke"), params.load("smoke", seeds={"vary": "student"})
    seeds = variants.replicate(every, 2).seeds
    assert (seeds.data, seeds.teachers, seeds.student) == (2, 2, 2)
    seeds = variants.replicate(alone, 2).seeds
    assert (seeds.data, seeds.teachers, seeds.student) == (0, 0, 2)


def test_a_task_may_have_sections_of_its_own():
    own = params.load("smoke", by_task={"chest": {"training": {"epochs": 5}}})
    assert variants.of_task(own, "chest").training.epochs == 5 and variants.of_task(own, "lesion") == own
    with pytest.raises(InputError, match="by_task.chest holds the section 'data'"):
        variants.of_task(params.load("smoke", by_task={"chest": {"data": {"pixels": 64}}}), "chest")
    with pytest.raises(InputError, match="by_task names 'skin'"):
        params.load("smoke", by_task={"skin": {}})


def test_noise_variants_replace_the_noise_of_the_profile():
    there = variants.variants(params.load("smoke", sweeps={"noise": {"pairflip": [0.3]}}))["pairflip 0.3"].noise
    assert (there.kind, there.rate, there.false_negatives, there.false_positives) == ("pairflip", 0.3, None, None)


def test_labels_and_tasks_of_variants():
    assert variants.label("overlap 0.4") == "overlap" and variants.label("symmetric 0.3") == "symmetric 0.3"
    assert variants.for_multilabel_only("table3") and variants.for_multilabel_only("reading: threshold 0.5")
    assert variants.for_multilabel_only("reading: images without findings dropped")
    assert not variants.for_multilabel_only("reading: own-shard") and not variants.for_multilabel_only("students")


@pytest.mark.parametrize(
    "scale, word",
    [
        ({"training": {"epochs": 0}}, "epochs"),
        ({"trainning": {"epochs": 2}}, "trainning"),
        ({"data": {"examples": -1}}, "examples"),
    ],
)
def test_a_scale_that_does_not_fit_is_named(scale, word):
    with pytest.raises(InputError, match=word):
        variants.variants(params.load("smoke", sweeps={"scale": scale}))


def test_a_reading_that_nobody_knows_is_named():
    with pytest.raises(InputError, match="sweeps.readings holds 'plain'; allowed are shared core"):
        variants.variants(params.load("smoke", sweeps={"readings": ["plain"]}))
    found = variants.variants(params.load("smoke", sweeps={"readings": ["own-shard"]}))
    assert [name for name in found if name.startswith("reading")] == [variants.AS_CHOSEN, "reading: own-shard"]
