"""The sweeps' variants: one change at a time, at the sweep's scale, the profile's own point among them."""

import pytest

from rosutils import InputError, params
from rosutils.study import variants
from rosutils.study.variants import AS_CHOSEN, Variant


def load(**sections):
    return params.load("smoke", sweeps={"scale": {"training": {"epochs": 3}}, "readings": None, **sections})


def difference(a, b):
    """The dotted names of what differs between two parameters."""
    a, b = (params.flat(each.model_dump()) for each in (a, b))
    return {key for key, value in a.items() if value != b[key]}


@pytest.fixture(scope="module")
def found():
    return variants.variants(load())


def values(found, kind):
    return [variant.value for variant in found if variant.kind == kind]


def test_every_variant_changes_one_thing_at_the_sweeps_scale(found):
    small = found[Variant("students")]
    assert small.training.epochs == 3
    allowed = {
        "overlap": {"subsets.overlap"}, "symmetric": {"noise.kind", "noise.rate"}, "pairflip": {"noise.kind", "noise.rate"},
        "table3": {"seeds.replicates"}, "students": set(),
    }  # fmt: skip
    for variant, there in found.items():
        changed = difference(there, small) - {"noise.false_negatives", "noise.false_positives"}
        if variant.kind != "reading":
            assert changed <= allowed[variant.kind], variant
        elif variant != AS_CHOSEN and "dropped" not in variant.value:
            assert len(changed) == 1, (variant, changed)


def test_what_a_profile_chose_is_no_alternative(found):
    labels, offered = {label for label, _, _ in variants.READINGS}, set(values(found, "reading"))
    assert {"shared core", "weights normalised", "last epoch", "sigmoid per label"} <= labels - offered
    assert {"own-shard", "weights not normalised", "best epoch on validation", "literal softmax"} <= offered
    other = load(scale={"subsets": {"scheme": "own-shard"}})
    offered = values(variants.variants(other), "reading")
    assert "shared core" in offered and "own-shard" not in offered


def test_the_profiles_own_overlap_is_a_point_of_fig_3_and_runs_of_table_iii_are_replicates():
    own = params.load("smoke", subsets={"overlap": 0.25}, sweeps={"overlaps": [0.0, 1.0]})
    assert values(variants.variants(own), "overlap") == ["0", "0.25", "1"]
    there = variants.variants(load(runs=4))[Variant("table3")]
    assert there.seeds.replicates == 4 and there.training.epochs == 3


def test_a_replicate_moves_every_seed_or_the_students_alone():
    for vary, expected in (("all", (2, 2, 2)), ("student", (0, 0, 2))):
        seeds = variants.replicate(params.load("smoke", seeds={"vary": vary}), 2).seeds
        assert (seeds.data, seeds.teachers, seeds.student) == expected


def test_a_task_may_have_sections_of_its_own():
    own = params.load("smoke", by_task={"chest": {"training": {"epochs": 5}}})
    assert variants.of_task(own, "chest").training.epochs == 5
    assert variants.of_task(own, "lesion").training == own.training
    with pytest.raises(InputError, match="by_task.chest holds the section 'data'"):
        variants.of_task(params.load("smoke", by_task={"chest": {"data": {"pixels": 64}}}), "chest")
    with pytest.raises(InputError, match="by_task names 'skin'"):
        params.load("smoke", by_task={"skin": {}})


def test_noise_variants_replace_the_noise_of_the_profile():
    there = variants.variants(load(noise={"pairflip": [0.3]}))[Variant("pairflip", "0.3")].noise
    assert (there.kind, there.rate, there.false_negatives, there.false_positives) == ("pairflip", 0.3, None, None)


def test_some_variants_are_for_several_labels_only():
    several = [Variant("reading", label) for label in ("threshold 0.5", "images without findings dropped")]
    assert all(map(variants.for_multilabel_only, [Variant("table3"), *several]))
    others = [Variant("reading", "own-shard"), variants.OF_BASELINE_III, Variant("students"), Variant()]
    assert not any(map(variants.for_multilabel_only, others))


@pytest.mark.parametrize(
    ("sweeps", "says"),
    [
        ({"scale": {"training": {"epochs": 0}}}, "epochs"),
        ({"scale": {"trainning": {"epochs": 2}}}, "trainning"),
        ({"readings": ["plain"]}, "sweeps.readings holds 'plain'; allowed are shared core"),
        ({"overlaps": [0.1234561, 0.1234562]}, "twice, as it is printed"),
        ({"noise": {"symmetric": [0.2, 0.20000004], "pairflip": []}}, "twice, as it is printed"),
        ({"overlaps": [0.1234561], "scale": {"subsets": {"overlap": 0.1234562}}}, "six digits do not tell apart"),
    ],
)
def test_a_sweep_that_does_not_fit_is_named_and_points_that_print_alike_are_refused(sweeps, says):
    with pytest.raises(InputError, match=says):
        variants.variants(params.load("smoke", sweeps=sweeps))


def test_readings_are_those_asked_for():
    found = variants.variants(params.load("smoke", sweeps={"readings": ["own-shard"]}))
    assert [v for v in found if v.kind == "reading"] == [AS_CHOSEN, Variant("reading", "own-shard")]
