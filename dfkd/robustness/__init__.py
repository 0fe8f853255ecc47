"""Attacks on finished classifiers: texts changed a little so that the prediction flips."""
