"""The report stage: a self-contained HTML file that compares runs."""

from frostline.pipeline.studies.html_report.page import ReportResult, write_report

__all__ = ["ReportResult", "write_report"]
