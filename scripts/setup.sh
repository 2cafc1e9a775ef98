#!/usr/bin/env bash
# Everything `make` needs, made once: a .venv with the constrained packages, and a GL library for rendering.
# Nothing outside .venv is changed, but for apt packages that are missing (only when run as root).
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"

die() { printf '%s\n  why: %s\n  fix: %s\n' "$1" "$2" "$3" >&2; exit 2; }

apt() { # apt PACKAGE...: install when root, else say what to type
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        printf 'setup: installing %s\n' "$*"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null 2>&1 \
            || { apt-get update -qq >/dev/null 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null; } \
            || die "Could not install $*." "apt-get failed" "install it by hand, then run make again"
    else
        die "A system package is missing: $*." "this user may not install it" "sudo apt-get install $*"
    fi
}

command -v "$python" >/dev/null || apt python3 python3-venv
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || die "Python 3.11 or later is needed." "$("$python" --version) is too old" "make PYTHON=/path/to/python3.11"

# One of the libraries that MuJoCo can render with. EGL needs a driver; OSMesa always works.
has_gl() { "$1" -c 'import ctypes.util as u, sys; sys.exit(not (u.find_library("OSMesa") or u.find_library("EGL")))'; }
has_gl "$python" || apt libosmesa6

if [ ! -x .venv/bin/python ]; then
    rm -rf .venv.part
    "$python" -m venv .venv.part >/dev/null 2>&1 || { apt python3-venv && "$python" -m venv .venv.part; }
    rm -rf .venv.part && "$python" -m venv .venv
fi
stamp=.venv/.installed
wanted="$(cat pyproject.toml constraints.txt src/handeye/*/*.c | sha256sum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    printf 'setup: installing the constrained packages into .venv\n'
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
    printf '%s' "$wanted" >"$stamp"
fi
