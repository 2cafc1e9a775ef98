#!/usr/bin/env bash
# OpenVLA-OFT, OpenVLA and the policy on VGGT in small, each trained from nothing on a CPU and evaluated in LIBERO's
# simulator under the protocol of its large sister (pi0.5 in small: xvr_chain.sh). It shows that model, data, training,
# checkpoint and evaluation fit together, and says nothing about the published models. What it reached:
# docs/reproductions.md.
#
#   handeye fetch libero
#   recipes/reduced_models.sh [OUT]
#
# Each line goes on where it was killed.
set -euo pipefail
out="${1:-runs/reduced_models}"

handeye demos libero_object --tasks 0 --per-task 60 --noise 0.2 --seed 1 --camera-size 256 --out "$out/demos"
learn() {
  handeye train "$1" --data "$out/demos" --out "$out/$1/train" --batch 16 --steps "$2" --threads 1 "${@:3}"
}
judge() {
  handeye evaluate "$out/$1/train" --suite libero_object --tasks 0 --episodes 20 --protocol "$2" --out "$out/$1/eval"
}
learn oft_small 2000 --no-augment
judge oft_small oft-2025
learn openvla_small 4000 --no-augment
judge openvla_small openvla-2024
learn vggt_vla_small 2000
judge vggt_vla_small handeye-2026
handeye report "$out"/*/eval --out "$out/report.html"
