"""Pictures of finished runs: results in, matplotlib figures out."""
