"""The paper, item by item: one file each, with the runs it needs, its table, figure and caption; here their list."""

from rosutils.paper import (
    adversarial,
    claims,
    fig1,
    fig2,
    fig3,
    fig4,
    inputs,
    label_noise,
    method_steps,
    predictions,
    readings,
    table1,
    table2,
    table3,
    teachers,
)


# Every table and figure, in the order of the report.
ITEMS = (
    claims.FOREST, claims.TABLE,
    fig1.FIGURE, fig2.FIGURE, fig3.FIGURE, fig4.CONTOURS, fig4.SURFACES, fig4.BASINS, fig4.TABLE, fig4.PLOT, fig4.PATH,
    table1.TABLE, table1.PLOT, table1.COMPARISONS, predictions.CONFUSION, predictions.ROC, teachers.STUDENTS,
    table2.TABLE, table2.PLOT, table2.CURVE, adversarial.FIGURE, table2.CHECKS, table3.TABLE,
    readings.FIGURE, label_noise.F1, label_noise.AUROC, label_noise.AGREEMENT,
    inputs.CLASS_COUNTS, inputs.CHECKS, inputs.NOISE, inputs.OVERLAP,
    teachers.TABLE, teachers.PLOT, teachers.CURVES,
    method_steps.SOFT_TARGETS, method_steps.RELIABILITY, method_steps.WEIGHTS, method_steps.AVERAGING, method_steps.SELECTION,
)  # fmt: skip
