#!/usr/bin/env bash
# See openvla_libero.sh.
exec "$(dirname "$0")/openvla_libero.sh" libero_goal "$@"
