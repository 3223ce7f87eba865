"""The page a run leaves behind: `write_report(workdir)` makes `report.html` out of what the workdir holds."""

from t5like.report.page import write_report

__all__ = ["write_report"]
