#!/usr/bin/env bash
# From this machine to a Cloud TPU and back: asks for slices, runs a command on all their hosts, stays with it.
#
#   bash launch/pod.sh --backend qr|gce|gke --name N --type v6e-16 --zone Z --project P [OPTIONS] ACTION [COMMAND ...]
#
# `bash launch/pod.sh --help` lists all options; --dry_run prints what would be called, and calls nothing.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
python="$(find_python)"
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m launch.pod "$@"
