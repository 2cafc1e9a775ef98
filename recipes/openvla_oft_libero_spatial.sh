#!/usr/bin/env bash
# See openvla_oft_libero.sh.
exec "$(dirname "$0")/openvla_oft_libero.sh" libero_spatial "$@"
