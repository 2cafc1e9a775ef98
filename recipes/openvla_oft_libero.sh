#!/usr/bin/env bash
# OpenVLA-OFT on one LIBERO suite, from nothing to a page: the published recipe.
#
#   [KIND=diffusion|film] recipes/openvla_oft_libero.sh libero_spatial [OUT]
#
# KIND: the presets oft_diffusion_... and oft_film_...; the figures below are of the L1 head without FiLM.
#
# expected    97.6 / 98.4 / 97.9 / 94.5 % (spatial, object, goal, 10), 500 episodes each, in the paper; other people's runs of
#             spatial gave 93.2 to 99.4 (openvla-oft issues 5, 61, 135, 150). Loss about 0.006 to 0.008 at the end.
# hardware    the authors used 8 A100 or H100 of 80 GB: 62 GB each at 8 examples. On one GPU of 80 GB the batch is computed in
#             parts (PARTS=8): the same steps, eight times as long. `handeye doctor --profile` says what others can do.
# hours       nobody published them. Estimated from data sheets: 420 on one A100 (150,000 steps of 64 are 181 epochs of 2.3
#             hours, `handeye doctor --profile a100 --json`), 53 on eight; a quarter for 500 episodes.
# differs?    the loss stays above 0.02 (statistics or no-ops: `handeye data verify`); it is 0 % (`handeye diagnose`); it is a few
#             points lower (fewer steps, another MuJoCo: `handeye sim check`, or chance: `handeye compare`).
set -euo pipefail
suite="${1:?libero_spatial, libero_object, libero_goal or libero_10}"
kind="${KIND:+_$KIND}"
exec "$(dirname "$0")/fine_tune_openvla.sh" "oft$kind" "$suite" oft-2025 "${2:-runs/openvla_oft${kind}_$suite}"
