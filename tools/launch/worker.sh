#!/bin/bash
# Runs experiments on a worker of a TPU VM. tools/launch/tpu_vm.py copies it there and calls it over ssh.
#
#   worker.sh install ARCHIVE                a Python environment with the archived commit and JAX for TPUs
#   worker.sh start RETRIES MODULE [ARG...]  python -m MODULE ARG... in the background; restarts it, up to RETRIES
#                                            times, when it was preempted (exit code 75)
#   worker.sh log LINES                      the last lines of its log, then new ones until it ends
#   worker.sh stop SECONDS                   SIGTERM; after so many seconds SIGKILL to what is left
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$here/run
preempted=75

fail() {
  echo "worker.sh: $1" >&2
  exit 1
}

# Every process of a run inherits this lock, so it is held while any of them lives. A reboot releases it.
running() {
  [[ -e $run/lock ]] && ! flock --nonblock "$run/lock" true
}

install() {
  if running; then fail "a run is in progress here; stop it before installing"; fi
  new=$here/venv.new # the old environment stays until the new one is complete
  trap 'rm -rf "$new"' EXIT
  rm -rf "$new"
  # TPU VMs run Ubuntu 22.04 with Python 3.10, which is too old; uv brings its own. Ubuntu 24.04 wants the variable.
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --python 3.11 "$new"
  mkdir "$new/source"
  tar -xzf "$1" --strip-components=1 --directory "$new/source"
  python3 -m uv pip install --quiet --python "$new/bin/python" "$new/source[tpu]"
  rm -rf "$here/venv"
  mv "$new" "$here/venv"
}

start() {
  local retries=$1 command
  shift
  command=$(printf '%q ' "$@")
  [[ -x $here/venv/bin/python ]] || fail "nothing is installed here; install first"
  mkdir -p "$run"
  exec 9>>"$run/lock"
  if ! flock --nonblock 9; then
    # ssh repeats a command when its connection breaks, so the same command twice is one run.
    [[ $command == "$(cat "$run/command")" ]] || fail "another run is in progress here; stop it first"
    echo "worker.sh: already running"
    return
  fi
  printf '%s\n' "$command" >"$run/command"
  rm -f "$run/pid" "$run/exit"
  setsid bash "$here/worker.sh" supervise "$retries" "$@" </dev/null >>"$run/log" 2>&1 &
  until [[ -s $run/pid ]]; do # supervise writes it once it can
    kill -0 "$!" 2>/dev/null || [[ -s $run/pid ]] || fail "did not start; is the disk full?"
    sleep 0.05
  done
  echo "worker.sh: started"
}

# Runs the program until it ends for another reason than preemption. SIGTERM goes on to the program alone, not to the
# processes that load its data: it needs them until its checkpoint is written.
supervise() {
  local retries=$1 attempt=0 code=0 child='' stopping='' interrupted=''
  shift
  trap 'stopping=yes; interrupted=yes; [[ $child ]] && kill -TERM "$child" 2>/dev/null' TERM
  trap '' HUP
  echo "$$" >"$run/pid"
  while [[ ! $stopping ]]; do
    echo "worker.sh: $(date -u +%FT%TZ) python -m $(printf '%q ' "$@")"
    # Experiments are not installed, only the package is; they run out of the source.
    PYTHONPATH=$here/venv/source "$here/venv/bin/python" -m "$@" &
    child=$!
    if [[ $stopping ]]; then kill -TERM "$child" 2>/dev/null || true; fi # it came before `child` was set
    while :; do # a signal ends `wait` before the child has ended
      interrupted=''
      code=0
      wait "$child" || code=$?
      [[ $interrupted ]] || break
    done
    child=''
    if [[ $stopping ]] || ((code != preempted || attempt >= retries)); then break; fi
    attempt=$((attempt + 1))
    echo "worker.sh: preempted (exit code $code); restart $attempt of $retries"
    # The program must have ended on every worker before it restarts on any. The pause does not hold the lock.
    sleep "${VRSTC_RETRY_SECONDS:-30}" 9>&- &
    wait "$!" || true
  done
  echo "$code" >"$run/exit"
  echo "worker.sh: $(date -u +%FT%TZ) ended with exit code $code"
}

log() {
  [[ -e $run/log ]] || fail "nothing has run here yet"
  local follow=()
  if running; then follow=(--follow "--pid=$(cat "$run/pid")"); fi
  tail --lines="$1" "${follow[@]}" "$run/log"
}

stop() {
  local group end=$((SECONDS + $1))
  if ! running; then
    echo "worker.sh: nothing runs here"
    return
  fi
  group=$(cat "$run/pid")
  kill -TERM "$group" 2>/dev/null || true
  while running && ((SECONDS < end)); do sleep 0.2; done
  if running; then
    kill -KILL -- "-$group" 2>/dev/null || true
    echo "worker.sh: killed after $1 s"
  else
    echo "worker.sh: stopped, exit code $(cat "$run/exit" 2>/dev/null || echo unknown)"
  fi
}

case ${1:-} in
install | start | supervise | log | stop) "$@" ;;
*)
  echo "worker.sh: install, start, log or stop; got '${1:-}'" >&2
  exit 2
  ;;
esac
