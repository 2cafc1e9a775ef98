#!/usr/bin/env bash
# What openvla_libero.sh and openvla_oft_libero.sh share: from the published weights and demonstrations to a page.
#
#   recipes/fine_tune_openvla.sh PRESET_FAMILY SUITE PROTOCOL OUT
#
# Each line goes on where it was killed. GPUS: how many to use (default: all); PARTS: in how many parts each computes its
# share of a batch.
set -euo pipefail
family="$1" suite="$2" protocol="$3" out="$4"
gpus="${GPUS:-$(nvidia-smi -L | wc -l)}"
data="data/openvla/modified_libero_rlds/${suite}_no_noops"  # where `fetch demos` puts it

handeye fetch libero
handeye fetch demos --source rlds --suite "$suite" --out data
handeye data verify "$data"
[ -f checkpoints/openvla-7b/.whole ] || {
  hf download openvla/openvla-7b --local-dir checkpoints/openvla-7b
  touch checkpoints/openvla-7b/.whole
}

torchrun --nproc-per-node "$gpus" -m handeye.cli train "${family}_$suite" --data "$data" --out "$out/train" \
  --accumulate "${PARTS:-1}"
handeye evaluate-offline "$out/train" "$data"
handeye evaluate "$out/train" --suite "$suite" --protocol "$protocol" --out "$out/eval"
handeye report "$out/eval" --out "$out/report.html"
