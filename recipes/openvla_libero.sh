#!/usr/bin/env bash
# OpenVLA on one LIBERO suite, from nothing to a page: the published recipe.
#
#   recipes/openvla_libero.sh libero_spatial [OUT]
#
# expected    84.7 / 88.4 / 79.2 / 53.7 % (spatial, object, goal, 10), 3 x 500 episodes each, in the README of openvla; an
#             independent repetition gave 86.6 / 86.6 / 79.0 / 52.8.
# hardware    the authors used 8 A100 of 80 GB with 16 examples each (about 72 GB). On one GPU the batch is computed in parts
#             (PARTS=8 or more): the same steps, eight times as long.
# hours       nobody published them. Estimated from data sheets: 140 on one A100 (spatial; 50,000 steps of 128 are 121 epochs
#             of 1.16 hours, `handeye doctor --profile a100 --json`), 18 on eight; 2.7 for 500 episodes.
# differs?    0 % (`handeye diagnose`); a few points lower: no crop (it is in the checkpoint's pipeline), another MuJoCo (3.3.3
#             darkens the floor: Object 88 -> 68 %; `handeye sim check`), or chance (`handeye compare`).
set -euo pipefail
suite="${1:?libero_spatial, libero_object, libero_goal or libero_10}"
exec "$(dirname "$0")/fine_tune_openvla.sh" openvla "$suite" openvla-2024 "${2:-runs/openvla_$suite}"
