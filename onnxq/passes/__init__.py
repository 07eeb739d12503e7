"""Graph passes, one a file: a function `graph -> int` (how many rewrites) that edits in place."""
