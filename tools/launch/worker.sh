#!/bin/bash
# What each worker of a TPU VM is told over ssh; tools/launch/tpu_vm.py puts this file on it.
#
#   worker.sh install REQUIREMENT...         a virtual environment with these in it
#   worker.sh start RETRIES MODULE [ARG...]  python -m MODULE ARG... in the background; again, up to RETRIES
#                                            times, where it was preempted (exit code 75)
#   worker.sh log LINES                      the last lines of its log, and what comes, until it ends
#   worker.sh stop SECONDS                   SIGTERM; SIGKILL to what is left after so many seconds
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$here/run
python=$here/venv/bin/python
preempted=75

# A run holds this lock as long as any of its processes lives, and a reboot frees it.
running() {
  [[ -e $run/lock ]] && ! flock --nonblock "$run/lock" true
}

install() {
  if running; then
    echo "worker.sh: a run is going on here; stop it before installing" >&2
    exit 1
  fi
  # The old environment stays until the new one is whole.
  trap 'rm -rf "$here/venv.new"' EXIT
  rm -rf "$here/venv.new"
  make_environment
  "$here/venv.new/bin/python" -m pip install --quiet --upgrade "$@"
  rm -rf "$here/venv"
  mv "$here/venv.new" "$here/venv"
}

make_environment() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$candidate" -m venv "$here/venv.new"
      return
    fi
  done
  # Ubuntu 22.04, which TPU VMs run, has Python 3.10: uv brings another.
  python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --python 3.11 --seed "$here/venv.new"
}

start() {
  local retries=$1 command waited
  shift
  command=$(printf '%q ' "$@")
  if [[ ! -x $python ]]; then
    echo "worker.sh: nothing is installed here; install first" >&2
    exit 1
  fi
  mkdir -p "$run"
  exec 9>>"$run/lock"
  if ! flock --nonblock 9; then
    # ssh tries again when a connection breaks off, so the same command twice is one run.
    if [[ $command == "$(cat "$run/command")" ]]; then
      echo "worker.sh: this runs already"
      return
    fi
    echo "worker.sh: another run is going on here; stop it first" >&2
    exit 1
  fi
  printf '%s\n' "$command" >"$run/command"
  rm -f "$run/pid" "$run/exit"
  setsid bash "$here/worker.sh" supervise "$retries" "$@" </dev/null >>"$run/log" 2>&1 &
  for ((waited = 0; waited < 200; waited++)); do
    if [[ -s $run/pid ]]; then
      echo "worker.sh: started"
      return
    fi
    sleep 0.05
  done
  echo "worker.sh: did not start; is the disk full?" >&2
  exit 1
}

# Runs the program until it ends for another reason than preemption. SIGTERM goes on to the program alone, not
# to the processes that read its data: it needs them until its checkpoint is written.
supervise() {
  local retries=$1 attempt=0 code=0 child='' stopping='' interrupted=''
  shift
  trap 'stopping=yes; interrupted=yes; [[ $child ]] && kill -TERM "$child" 2>/dev/null' TERM
  trap '' HUP
  echo "$$" >"$run/pid"
  while [[ ! $stopping ]]; do
    echo "worker.sh: $(date -u +%FT%TZ) python -m $(printf '%q ' "$@")"
    "$python" -m "$@" &
    child=$!
    if [[ $stopping ]]; then kill -TERM "$child" 2>/dev/null || true; fi # it came just before
    while :; do # a signal ends `wait` early
      interrupted=''
      code=0
      wait "$child" || code=$?
      [[ $interrupted ]] || break
    done
    child=''
    if [[ $stopping ]] || ((code != preempted || attempt >= retries)); then break; fi
    attempt=$((attempt + 1))
    echo "worker.sh: preempted (exit code $code); again, $attempt of $retries"
    # The other workers must have ended too before the first of them starts anew.
    sleep "${VRSTC_RETRY_SECONDS:-30}" 9>&- &
    wait "$!" || true
  done
  echo "$code" >"$run/exit"
  echo "worker.sh: $(date -u +%FT%TZ) ended with exit code $code"
}

log() {
  if [[ ! -e $run/log ]]; then
    echo "worker.sh: nothing has run here yet" >&2
    exit 1
  fi
  if running; then
    tail --lines="$1" --follow --pid="$(cat "$run/pid")" "$run/log"
  else
    tail --lines="$1" "$run/log"
  fi
}

stop() {
  local seconds=$1 group end
  if ! running; then
    echo "worker.sh: nothing runs here"
    return
  fi
  group=$(cat "$run/pid")
  kill -TERM "$group" 2>/dev/null || true
  end=$((SECONDS + seconds))
  while ((SECONDS < end)); do
    if ! running; then
      echo "worker.sh: stopped, exit code $(cat "$run/exit" 2>/dev/null || echo unknown)"
      return
    fi
    sleep 0.2
  done
  kill -KILL -- "-$group" 2>/dev/null || true
  echo "worker.sh: killed after $seconds s"
}

verb=${1:-}
case $verb in
install | start | supervise | log | stop)
  shift
  "$verb" "$@"
  ;;
*)
  echo "worker.sh: install, start, log or stop; got '$verb'" >&2
  exit 2
  ;;
esac
