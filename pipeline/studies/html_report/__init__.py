"""The report stage: runs side by side in one HTML file that needs nothing else."""

from frostline.pipeline.studies.html_report.building import ReportResult, write_report

__all__ = ["ReportResult", "write_report"]
