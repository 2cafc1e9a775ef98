"""Model families: one readable file each, found by name in a literal dict."""

FAMILIES = {"tiny": "handeye.models.tiny"}
"""Every family there is. A module offers `Config`, `Model` (with `loss` and `sample_actions`), no more is asked."""
