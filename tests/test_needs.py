"""Which runs a table or a figure needs: prerequisites before what needs them, probes of the right weights."""

import pytest

from rosutils.settings import COMPARED, SAME_TEACHERS, STATES
from rosutils.study import Study
from rosutils.study.experiment import bank_of
from rosutils.study.needs import ARTEFACTS, with_prerequisites
from rosutils.study.variants import Variant


@pytest.fixture(scope="module")
def demo() -> Study:
    return Study.load("demo")


def test_prerequisites_come_first_and_once(demo):
    probe = next(s for s in demo.runs("table2") if s.role == "attack" and s.of.weighting == "exponential")
    found = with_prerequisites([probe, probe.of, probe])
    k = len(probe.of.teachers)
    assert len(found) == len(set(found)) == 2 * k + 2
    place = {spec: number for number, spec in enumerate(found)}
    assert place[probe] > place[probe.of]
    for teacher in probe.of.teachers:
        assert place[teacher] < place[bank_of(teacher)] < place[probe.of]


def test_a_probe_of_ros_kd_is_of_the_averaged_weights_and_any_other_of_the_last(demo):
    curves = [s for s in demo.runs("table2") if s.role == "curve" and s.task == "lesion" and s.replicate == 0]
    for name, states in (("RoS-KD", {"averaged", "weights"}), ("Baseline II", {"weights"})):
        assert {spec.state for spec in curves if spec.of == demo.student("lesion", name)} == states


@pytest.mark.parametrize("role", ["chance", "pixels", "teacher", "student"])
def test_every_replicate_has_its_own_chance_teachers_and_students(demo, role):
    found = {(demo.key(spec), spec.replicate) for spec in demo.runs("table1") if spec.role == role}
    assert {replicate for _, replicate in found} == set(range(demo.parameters.seeds.replicates))
    assert len({key for key, _ in found}) == len(found)


def test_the_line_and_the_checks_are_set_against_the_student_they_need(demo):
    lines = [spec for spec in demo.runs("fig4") if spec.role == "path"]
    assert {spec.against == demo.at(spec).student(spec.task, "Baseline III") for spec in lines} == {True}
    checks = [spec for spec in demo.runs("table2") if spec.role == "checks"]
    assert {spec.against for spec in checks} == {demo.student(task, "Baseline I") for task in ("lesion", "chest")}


def test_table_ii_attacks_two_students_of_exactly_the_same_teachers(demo):
    by_case = {}
    for spec in (spec for spec in demo.runs("table2") if spec.role == "attack"):
        by_case.setdefault((spec.task, spec.replicate), []).append(spec.of)
    for students in by_case.values():
        assert {student.weighting for student in students} == {"uniform", "exponential"}
        assert len({student.teachers for student in students}) == 1 and len(students) == len(SAME_TEACHERS)


def test_fig_4_walks_the_same_directions_around_every_model_of_a_task(demo):
    around = {}
    for spec in (spec for spec in demo.runs("fig4") if spec.role == "surface"):
        around.setdefault((spec.task, spec.of, spec.state), []).append(spec.seed)
    assert {tuple(seeds) for seeds in around.values()} == {tuple(demo.parameters.landscape.directions)}
    assert {state for _, _, state in around} == set(STATES)
    assert len(around) == len(demo.parameters.tasks) * (len(COMPARED) + 1) * demo.parameters.seeds.replicates


def test_the_noise_study_trains_and_asks_at_every_rate(demo):
    runs = demo.runs("noise")
    rates = {Variant(kind, f"{rate:g}") for kind, rates in demo.parameters.sweeps.noise.items() for rate in rates}
    for role in ("teacher", "student", "agreement"):
        assert {spec.variant for spec in runs if spec.role == role} == rates


def test_no_artefact_is_without_runs_and_only_table_iii_leaves_the_single_label_task_out(demo):
    for name in ARTEFACTS:
        runs, tasks = demo.runs(name), {"table3": {"chest"}, "noise": {"lesion"}}  # as demo.yaml asks
        assert "teacher" in {spec.role for spec in runs}, name
        assert {spec.task for spec in runs} == tasks.get(name, {"lesion", "chest"}), name
