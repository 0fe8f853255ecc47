"""Teachers, students and what they share: loading, the split at the embedding block, devices."""
