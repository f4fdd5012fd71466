#!/usr/bin/env bash
# Sets up .venv for one verb of the Makefile:  scripts/setup.sh demo|test|docs|bench
#
# In this order: a Python from 3.11 to 3.14, the system libraries, .venv, the packages at the
# versions of constraints.txt. What is there already is left alone, so a second call returns at
# once; a changed pyproject.toml, constraints.txt or setup.sh installs again.
# System packages are installed only on Debian and its relatives, and only as root or where sudo
# asks no password. Anywhere else a sentence names them. PYTHON=/path/to/python picks the Python.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-}
# Programs, beside Qt's libraries: an X server in memory for tests and pictures of the viewer, and
# PoCL, OpenCL on the CPU. PoCL comes from the system where that is possible: the build on PyPI
# (the extra [pocl], taken otherwise) carries a compiler too old for recent processors.
case $what in
  demo) extras=opencl qt="napari[pyqt6]" programs="" ;;
  test) extras=all,test qt="" programs="xvfb xauth pocl-opencl-icd" ;;
  docs) extras=opencl,docs qt="napari[pyqt6]" programs="xvfb xauth" ;;
  bench) extras=all,test,bench qt="" programs="xvfb xauth pocl-opencl-icd" ;;
  *) echo "usage: scripts/setup.sh demo|test|docs|bench" >&2; exit 2 ;;
esac

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# Libraries that Qt and the canvas load, each with the Debian package that carries it.
qt_libraries="
libEGL.so.1              libegl1
libGL.so.1               libgl1
libOpenGL.so.0           libopengl0
libX11-xcb.so.1          libx11-xcb1
libdbus-1.so.3           libdbus-1-3
libfontconfig.so.1       libfontconfig1
libfreetype.so.6         libfreetype6
libglib-2.0.so.0         libglib2.0-0
libxkbcommon.so.0        libxkbcommon0
libxkbcommon-x11.so.0    libxkbcommon-x11-0
libxcb-cursor.so.0       libxcb-cursor0
libxcb-icccm.so.4        libxcb-icccm4
libxcb-image.so.0        libxcb-image0
libxcb-keysyms.so.1      libxcb-keysyms1
libxcb-randr.so.0        libxcb-randr0
libxcb-render-util.so.0  libxcb-render-util0
libxcb-shape.so.0        libxcb-shape0
libxcb-sync.so.1         libxcb-sync1
libxcb-xfixes.so.0       libxcb-xfixes0
libxcb-xkb.so.1          libxcb-xkb1
"

# --- system packages -----------------------------------------------------------------------

become_root= # the words before a command that make it root's
if [ "$(id -u)" != 0 ]; then become_root="sudo -n"; fi

can_install() {
  command -v apt-get >/dev/null && { [ -z "$become_root" ] || sudo -n true 2>/dev/null; }
}

# apt_install PACKAGE...: 0 when they are installed, 1 when that is not possible here
apt_install() {
  can_install || return 1
  say "installing system packages: $*"
  local log rc=0
  log=$(mktemp)
  # A failed update is no reason to stop: the lists at hand may do.
  $become_root apt-get update -qq >"$log" 2>&1 || true
  $become_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1 || rc=1
  if [ $rc != 0 ]; then tail -n 5 "$log" >&2; fi
  rm -f "$log"
  return $rc
}

how_to_install() {
  echo "system packages are missing; on Debian:" \
    "sudo apt-get install --no-install-recommends" "$@"
}

# --- Python --------------------------------------------------------------------------------

fits() {
  command -v "$1" >/dev/null &&
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
  else
    set -- python3 python3.14 python3.13 python3.12 python3.11
  fi
  for candidate in "$@"; do
    if fits "$candidate"; then echo "$candidate"; return; fi
  done
  return 1
}

venv_works() { .venv/bin/python -c '' 2>/dev/null; }

if venv_works; then
  python=.venv/bin/python
elif ! python=$(find_python); then
  if [ -z "${PYTHON:-}" ] && ! command -v python3 >/dev/null; then
    # shellcheck disable=SC2046,SC2086  # lists of words
    set -- python3 python3-venv $programs $(echo "$qt_libraries" | awk '{print $2}')
    apt_install "$@" || fail "$(how_to_install "$@")"
  fi
  python=$(find_python) ||
    fail "no Python from 3.11 to 3.14 found (tried ${PYTHON:-python3, python3.14 ... python3.11}):" \
      "install one, or name it: make $what PYTHON=/path/to/python"
fi

# --- what the system lacks -----------------------------------------------------------------

lacks_venv() { ! venv_works && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; }

missing_packages() {
  if lacks_venv; then echo "$(basename "$python")-venv"; fi
  if [ "$(uname -s)" != Linux ]; then return; fi
  local program
  for program in $programs; do
    case $program in
      xvfb) command -v Xvfb >/dev/null ;;
      pocl-opencl-icd) compgen -G "${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}/*pocl*.icd" >/dev/null ;;
      *) command -v "$program" >/dev/null ;;
    esac || echo "$program"
  done
  # Loading is the test: it holds on every distribution, whatever its packages are called.
  echo "$qt_libraries" | "$python" -c '
import ctypes, sys
for name, package in (line.split() for line in sys.stdin if line.strip()):
    try:
        ctypes.CDLL(name)
    except OSError:
        print(package)
'
}

missing=$(missing_packages)
# shellcheck disable=SC2086  # a list of words
if [ -n "$missing" ]; then
  apt_install $missing || true
  missing=$(missing_packages)
fi
if echo "$missing" | grep -qx pocl-opencl-icd; then
  say "no OpenCL driver from the system: taking PoCL from PyPI"
  extras=$extras,pocl
  missing=$(echo "$missing" | grep -vx pocl-opencl-icd || true)
fi
if [ -n "$missing" ]; then
  # shellcheck disable=SC2086
  sentence=$(how_to_install $missing)
  if [ "$what" != demo ] || lacks_venv; then fail "$sentence"; fi
  say "the demo restores without a viewer here; $sentence"
fi

# --- .venv ---------------------------------------------------------------------------------

stamp=.venv/.ready-for-$what
key=$({ pwd; cat pyproject.toml constraints.txt scripts/setup.sh; } | cksum)
if venv_works && [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then exit 0; fi

if ! venv_works; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
elif ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  .venv/bin/python -m ensurepip >/dev/null
fi

say "installing the package and what 'make $what' needs into .venv; the first time takes minutes"
# The constraints file also keeps pip at a torch whose build for the CPU is taken where one is offered.
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
  -c constraints.txt -e ".[$extras]" ${qt:+"$qt"}
echo "$key" >"$stamp"
