# shellcheck shell=bash
# Sourced by the other scripts. `find_python` prints an interpreter that is new enough; `make_environment "[extras]"` makes
# a virtual environment with this checkout installed in it, after which $VENV is its folder.

find_python() {
  local python
  python="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"
  if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: t5like needs Python 3.11 or newer; name one with PYTHON=/path/to/python3.11" >&2
    exit 2
  fi
  echo "$python"
}

make_environment() {
  local extras="${1:-}" python version stamp
  python="$(find_python)"
  version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  VENV="${VENV:-.venv-$version}"
  # Installed anew only when what is to be installed has changed.
  stamp="$VENV/installed-$(cat setup.py <(echo "$extras") | cksum | tr -d ' ')"
  if [ ! -e "$stamp" ]; then
    echo "installing into $VENV (a few minutes) ..." >&2
    "$python" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$extras"
    touch "$stamp"
  fi
}
