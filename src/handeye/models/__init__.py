"""Model families: one readable file each, found by name in a literal dict."""

FAMILIES = {
    "tiny": "handeye.models.tiny",
    "openvla": "handeye.models.openvla",
    "openvla_oft": "handeye.models.openvla_oft",
    "paligemma": "handeye.models.paligemma",
    "pi05": "handeye.models.pi05",
    "vggt_vla": "handeye.models.vggt_vla",
}
"""Every family there is. A module offers `Config`, `Model` (with `loss` and `sample_actions`), no more is asked."""
