#!/usr/bin/env bash
# Makes the test environment if it is not there, then checks format, lint and types and runs every test.
# PYTHON picks the interpreter (default python3.11, else python3); arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
make_environment "[test]"

"$VENV/bin/ruff" format --check .
"$VENV/bin/ruff" check .
"$VENV/bin/mypy"
export JAX_PLATFORMS=cpu
if [ ! -d ../shared/data ]; then
  echo "NOTE: ../shared/data is not beside this checkout; the tests on real data are left out (listed as skipped below)."
fi
# One process a core of the smallest machine; a file's tests stay together, with what they share.
# One that crashes ends the run: started again, its tests could wait for ever.
"$VENV/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -rs "$@"
