#!/usr/bin/env bash
# The one job of this host of a slice, apart from the shell that started it.
#
#   job.sh start ATTEMPT KEY COMMAND...   starts the command, unless this attempt has been started already
#   job.sh state                      prints what became of the newest attempt, and its key, which tells commands apart:
#                                     job 0 none | job N running KEY | job N exited CODE KEY | job N stopped CODE KEY |
#                                     job N lost KEY
#   job.sh stop SECONDS               tells it to end, and after so many seconds ends it; it then counts as stopped
#   job.sh end SECONDS                the same, but it counts as one that has ended
#   job.sh log ATTEMPT OFFSET         prints the log of an attempt from a byte on
#   job.sh follow                     prints the newest log as it grows
#
# Whoever runs for an attempt holds a lock, so that neither a reboot nor another process with the same number is taken
# for it. An attempt without lock and exit code is lost.
set -euo pipefail

jobs="${T5LIKE_JOBS:-$HOME/t5like-jobs}"
checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
environment="${T5LIKE_ENV:-$HOME/t5like-env}"
mkdir -p "$jobs"

newest() { cat "$jobs/attempt" 2>/dev/null || echo 0; }

is_running() { ! flock -n "$jobs/lock" true; }

put() { # a file, with one line, as a whole
  echo "$2" >"$1.new"
  mv "$1.new" "$1"
}

state() {
  local attempt how=exited key
  attempt="$(newest)"
  key="$(cat "$jobs/$attempt.key" 2>/dev/null || true)"
  [ ! -e "$jobs/$attempt.stopped" ] || how=stopped
  if [ "$attempt" = 0 ]; then
    echo "job 0 none"
  elif [ -e "$jobs/$attempt.code" ]; then
    echo "job $attempt $how $(cat "$jobs/$attempt.code") $key"
  elif is_running; then
    echo "job $attempt running $key"
  elif [ "$how" = stopped ]; then
    echo "job $attempt stopped 137 $key"
  else
    echo "job $attempt lost $key"
  fi
}

end_session() { # of an attempt: whatever is left of it, as it would keep the chips from the next
  local leader
  leader="$(cat "$jobs/$1.pid" 2>/dev/null || true)"
  [ -n "$leader" ] || return 0
  for _ in $(seq 50); do # one that is forked while pkill looks is not seen by it, but holds the lock
    pkill -KILL -s "$leader" || true
    is_running || return 0
    sleep 0.1
  done
}

start() {
  local attempt="$1" key="$2" before
  shift 2
  before="$(newest)"
  if [ "$before" -ge "$attempt" ]; then
    state
    return
  fi
  if is_running && [ ! -e "$jobs/$before.code" ]; then
    echo "error: attempt $before is still running on $(hostname); stop it first" >&2
    return 3
  fi
  ! is_running || end_session "$before"
  exec 9>"$jobs/lock"
  flock -w 20 9
  if [ "$(newest)" -ge "$attempt" ]; then # another call was quicker
    exec 9>&-
    state
    return
  fi
  put "$jobs/$attempt.key" "$key"
  put "$jobs/attempt" "$attempt"
  setsid --fork bash "${BASH_SOURCE[0]}" supervise "$attempt" "$@" </dev/null >/dev/null 2>&1
  exec 9>&-
  state
}

supervise() {
  local attempt="$1" child code told line
  shift
  put "$jobs/$attempt.pid" "$$"
  cd "$checkout"
  export PATH="$environment/bin:$PATH"
  ulimit -n 100000 2>/dev/null || ulimit -n "$(ulimit -Hn)" || true
  if [ -e "$jobs/environment" ]; then
    while IFS= read -r line || [ -n "$line" ]; do # taken as it is, and not as a shell would
      case "$line" in
      '#'*) ;;
      [A-Za-z_]*=*) export "${line%%=*}=${line#*=}" ;;
      esac
    done <"$jobs/environment"
  fi
  "$@" >>"$jobs/$attempt.log" 2>&1 &
  child=$!
  trap 'told=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  told=yes
  while [ "$told" = yes ]; do # a signal ends the wait, and not the child
    told=no
    code=0
    wait "$child" || code=$?
  done
  put "$jobs/$attempt.code" "$code"
}

stop() {
  local attempt
  attempt="$(newest)"
  if [ "$attempt" != 0 ] && [ ! -e "$jobs/$attempt.code" ] && is_running; then
    touch "$jobs/$attempt.stopped"
  fi
  end "$1"
}

end() {
  local attempt seconds="$1" leader
  attempt="$(newest)"
  if [ "$attempt" != 0 ] && [ ! -e "$jobs/$attempt.code" ] && is_running; then
    leader="$(cat "$jobs/$attempt.pid" 2>/dev/null || true)"
    [ -z "$leader" ] || kill -TERM "$leader" 2>/dev/null || true
    while [ ! -e "$jobs/$attempt.code" ] && is_running && [ "$SECONDS" -lt "$seconds" ]; do
      sleep 0.2
    done
    end_session "$attempt"
  fi
  state
}

log() {
  tail -c "+$(($2 + 1))" "$jobs/$1.log" 2>/dev/null || true
}

follow() {
  exec tail -n 40 -F "$jobs/$(newest).log"
}

action="$1"
shift
case "$action" in
start | supervise | state | stop | end | log | follow) "$action" "$@" ;;
*)
  echo "error: job.sh knows no action '$action'" >&2
  exit 2
  ;;
esac
