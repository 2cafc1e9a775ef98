#!/usr/bin/env bash
# The whole way from pi0.5 through XVR and back, on reduced models, made-up weights and rendered questions: take
# PaliGemma out, prove that it learns, tune it, measure it before and after, put it back under the action expert.
# What it reached, on what, and how long it took: docs/reproductions.md.
#
#   recipes/xvr_chain.sh [OUT]
#
# Each line goes on where it was killed. Needs the extra `orbax`, and `handeye fetch libero`. With published weights and
# data, leave the first three steps and the flags of size out.
set -euo pipefail
out="${1:-runs/xvr_chain}"
here="$(dirname "$0")"
mkdir -p "$out"

# True questions of all eight kinds, from the tabletop suite, and a small tokenizer.
[ -d "$out/xvr" ] || handeye data make-xvr "$out/xvr" --train 1920 --valid 96 --eval 320 --size 128
handeye data verify "$out/xvr"

# A pi0.5 of 1.6 M random numbers in openpi's layout (params/ by Orbax, assets/, tokenizer), and PaliGemma out of it.
[ -d "$out/base" ] || python "$here/reduced_pi05.py" "$out/base" "$out/xvr/tokenizer.model"
[ -f "$out/vlm.npz" ] || handeye extract-vlm "$out/base" "$out/vlm.npz"

asked=(--tokenizer "$out/xvr/tokenizer.model" --length 256 --pictures 6)
learn=(--data "$out/xvr" --start "$out/vlm.npz" --learning-rate 1e-3 --answer-length 8 --threads 1)

# Does it learn at all? 20 questions, 95 % of them right, or the recipe ends here.
handeye train paligemma_overfit "${learn[@]}" "${asked[@]}" --out "$out/overfit"

handeye train paligemma_xvr "${learn[@]}" "${asked[@]}" --out "$out/tuned" --trainable all \
  --epochs 4 --batch 8 --accumulate 1 --no-recompute --validate-every 240 --save-every 120
handeye evaluate-vqa "$out/vlm.npz" "$out/xvr" "${asked[@]}" --answer-length 8 --out "$out/vqa-before"
handeye evaluate-vqa "$out/tuned" "$out/xvr" --answer-length 8 --out "$out/vqa-after"

# Back under the action expert: a folder that openpi's PyTorch side reads, and one of ours. PyTorch's file does not say
# how many heads a model of this size has.
[ -d "$out/merged" ] || handeye merge-vlm "$out/base" "$out/tuned" "$out/merged"
heads="heads=4,vision_heads=4,chunk=8"
[ -d "$out/pi05_xvr" ] || handeye convert "$out/merged#$heads" "$out/pi05_xvr"
[ -d "$out/pi05" ] || handeye convert "$out/base#chunk=8" "$out/pi05"

# Both arms learn the same LIBERO task from the same demonstrations and are asked for the same episodes.
handeye demos libero_object --tasks 0 --per-task 60 --noise 0.2 --seed 1 --camera-size 256 --out "$out/demos"
for arm in pi05 pi05_xvr; do
  handeye train pi05_small --start-from "$out/$arm" --data "$out/demos" --out "$out/$arm-libero" \
    --steps 2000 --batch 16 --no-augment --threads 1
  handeye evaluate "$out/$arm-libero" --suite libero_object --tasks 0 --episodes 20 --protocol openpi-2025 \
    --out "$out/eval-$arm"
done
handeye compare "$out/eval-pi05" "$out/eval-pi05_xvr" --margin 0.1
handeye report "$out/eval-pi05" "$out/eval-pi05_xvr" --out "$out/report.html"
