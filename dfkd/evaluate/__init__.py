"""Judging a finished student: scores, agreement with the teacher, cost."""
