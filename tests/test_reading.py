"""Parameter files as people and their editors write them: one line that says what is wrong, never a traceback or a guess."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosutils import InputError, params
from rosutils.params.reading import parse
from rosutils.study import Study


@pytest.mark.parametrize(
    "content, says",
    [
        (b"# M\xfcller\nprofile: x\n", "p.yaml is not UTF-8 text"),
        ("profile: x\n".encode("utf-16"), "p.yaml is not UTF-8 text"),
        (("{a: " * 2000 + "1" + "}" * 2000).encode(), "nested too deeply"),
        (b"profile: 2001-99-99\n", "not valid YAML: month must be in 1..12"),
        (b"profile: 0b_\n", "not valid YAML"),
        (b"profile: " + b"9" * 5000, "not valid YAML"),
        (b'profile: !!int "abc"\n', "not valid YAML"),
        (b"profile: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        (b"a: 1\nb: {c: 1, c: 2}\n", "p.yaml: the key 'c' is there twice in the mapping that begins at line 2"),
        (b"a: 1\na: 1\n", "the key 'a' is there twice"),
        (b"a: &a [*a]\n", "aliases"),
        (b"x" * 2**21, "at most 1,048,576 are read"),
        (b"a: [1, 2\n", "not valid YAML"),
    ],
    ids=range(13),
)
def test_what_is_no_plain_yaml_is_said_in_one_line(content, says):
    with pytest.raises(InputError) as error:
        parse(content, "p.yaml")
    assert says in str(error.value) and str(error.value).startswith("p.yaml") and len(str(error.value)) < 500


def test_aliases_that_explode_are_refused_at_once_and_honest_ones_are_not():
    levels = [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 9)]
    begun = time.perf_counter()
    with pytest.raises(InputError, match="repeats values by aliases"):
        parse("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(levels), "p.yaml")
    assert time.perf_counter() - begun < 30  # seconds; unrolled it takes gigabytes and minutes
    assert parse("a: &a {x: 1}\nb: *a\n", "p.yaml") == {"a": {"x": 1}, "b": {"x": 1}}


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse(b"\xef\xbb\xbfprofile: x\n", "p.yaml") == {"profile": "x"}


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60), st.text("{}[]:,&*!|>-'\"#%@ \n\t?ab1", max_size=80)))
def test_any_text_is_read_or_refused(content):
    try:
        parse(content, "p.yaml")
    except InputError:
        pass


@pytest.mark.parametrize("name", ["a/b", "../../x", "/abs", "", "x" * 300, ".hidden", "a b", "store", "cache"])
def test_a_name_that_would_be_a_path_or_a_folder_of_the_kits_is_refused(name, tmp_path):
    text = (params.FOLDER / "smoke.yaml").read_text(encoding="utf-8")
    path = tmp_path / "p.yaml"
    path.write_text(text.replace("profile: smoke", f'profile: "{name}"'), encoding="utf-8")
    with pytest.raises(InputError, match="profile"):
        params.load(path)


@pytest.mark.parametrize(
    "sections",
    [
        {"sweeps": {"runs": 10**9}}, {"seeds": {"replicates": 10**6}}, {"subsets": {"count": 10**6}},
        {"data": {"sources": {"lesion": {"examples": 10**12}}}}, {"seeds": {"data": 10**20}}, {"engine": {"workers": 10**6}},
        {"training": {"epochs": 10**6}}, {"training": {"batch_size": 10**9}}, {"training": {"augmentation": {"views": 10**6}}},
        {"landscape": {"points": 10**5 + 1}}, {"landscape": {"hessian_samples": 10**6}}, {"attacks": {"steps": 10**5}},
        {"landscape": {"span": 1e300}}, {"attacks": {"step_factor": 1e300}}, {"engine": {"retries": 10**20}},
    ],
)  # fmt: skip
def test_counts_that_would_eat_all_memory_are_refused(sections):
    with pytest.raises(InputError, match="is not allowed"):
        params.load("smoke", **sections)


@pytest.mark.parametrize("place", ["", "a\0b", "x" * 300, "\u00e9" * 200, "d/" * 600])
@pytest.mark.parametrize("section", [{"engine": "store"}, {"data": "root"}])
def test_what_is_no_path_is_refused_before_anybody_opens_it(place, section):
    [(name, key)] = section.items()
    with pytest.raises(InputError, match=f"{name}.{key}: .* is no path"):
        params.load("smoke", **{name: {key: place}})


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(InputError) as error:
        params.load("smoke", noise={"kind": "x" * 100_000, "y" * 100_000: 1})
    assert len(str(error.value)) < 1000 and "noise.kind: 'xxx" in str(error.value)


@pytest.mark.parametrize("name", ["cls", "profile", "self"])
def test_a_section_named_like_an_argument_is_an_unknown_key(name):
    with pytest.raises(InputError, match=f"{name}: unknown key"):
        Study.load("smoke", **{name: 1})
