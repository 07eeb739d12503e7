"""Reports: what was done and what it cost, rendered."""
