"""Pseudo data judged while it is made: diagnostics, and alarms when they go wrong."""
