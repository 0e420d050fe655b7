"""Scores for readers: report.json, report.html, the table on screen, and tables over several reports."""
