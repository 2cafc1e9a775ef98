#!/usr/bin/env bash
# `tiny` on the ten tasks of LIBERO-Object: scripted demonstrations, training and evaluation on this machine's CPU.
# What it reached, on what, and how long it took: docs/reproductions.md.
#
#   handeye fetch libero                     # once; or HANDEYE_LIBERO_ASSETS=DIR
#   recipes/tiny_libero_object.sh [OUT]
#
# Each line goes on where it was killed.
set -euo pipefail
out="${1:-runs/tiny_libero_object}"

# 24 demonstrations per task from sampled scenes: none of them is one of the stored initial states used below.
# Noise moves the arm off its way and the expert brings it back, so the policy sees what recovering looks like.
handeye demos libero_object --per-task 24 --noise 0.2 --seed 1 --out "$out/demos"
handeye train tiny_libero_object --data "$out/demos" --out "$out/train" --steps 6000
handeye evaluate "$out/train" --suite libero_object --initial-states 0:10 --out "$out/eval"
handeye evaluate zero --suite libero_object --initial-states 0:10 --out "$out/eval-zero"
handeye report "$out/eval" "$out/eval-zero" --out "$out/report.html"
