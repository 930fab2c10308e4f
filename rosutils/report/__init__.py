"""The report: files on disk, side by side, claims, provenance, report.html."""

from rosutils.report.claims import VERDICTS, claims_table, judge
from rosutils.report.gallery import PICTURES, pictures
from rosutils.report.page import write_report
from rosutils.report.provenance import write_provenance
from rosutils.report.verdicts import verdict
from rosutils.tables import differences


__all__ = [
    "PICTURES",
    "VERDICTS",
    "claims_table",
    "differences",
    "judge",
    "pictures",
    "verdict",
    "write_provenance",
    "write_report",
]
