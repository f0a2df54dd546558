# shellcheck shell=bash
# Sourced by the commands that do everything from data to report (launch/quickstart, launch/compression_curve): their
# options, their run directory, and their parts, each of which is run once and measured (launch/phases.py).
#
# A command sets `recipe`, a line per dataset: name, kind, samples to train on, samples held out, options of the kind.

fail() { echo "error: $1" >&2; exit 2; }
say() { echo "$1" >&2; }

# open_run NAME ARGUMENTS...: sets root, run and rehearsal, installs, and goes to the root.
open_run() {
    local name="$1" command="$1"
    shift
    rehearsal=false
    if [ "${1:-}" = "--rehearsal" ]; then rehearsal=true; name=rehearsal; shift; fi
    [ "$name" = rehearsal ] && [ "$command" != quickstart ] && name="${command}_rehearsal"
    case "${1:-}" in
        -h | --help) sed -n '2,/^set -/s/^#\( \|$\)//p' "$0"; exit 0 ;;
        -*) fail "unknown option $1; the options are --rehearsal and --help" ;;
    esac
    [ $# -le 1 ] || fail "one run directory is enough; $# were given"
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    run="${1:-$root/runs/$name}"
    case "$run" in /*) ;; *) run="$PWD/$run" ;; esac
    if [ -e "$run" ] && [ ! -d "$run/phases" ] && { [ ! -d "$run" ] || [ -n "$(ls -A "$run")" ]; }; then
        fail "$run exists and is no $command run; name another directory"
    fi
    if [ -e "$run/phases/command" ] && [ "$(cat "$run/phases/command")" != "$name" ]; then
        fail "$run holds a run of another command ($(cat "$run/phases/command"), not $name); name another directory"
    fi
    "$root/launch/setup"
    cd "$root"
    export PATH="$root/.venv/bin:$PATH"
    export PYTHONWARNINGS="ignore::FutureWarning" # libraries announcing changes to each other, on every rank
    mkdir -p "$run/phases"
    echo "$name" >"$run/phases/command"
    trap : INT # the part that runs gets Ctrl-C itself; its end is reported by `stopped`
}

# rehearse: next to no data and steps, where that was asked for; leaves words for training in `training`.
rehearse() {
    training=()
    if $rehearsal; then
        say "A rehearsal: every part with next to no data and steps; the model will not read."
        recipe="$(awk 'NF { $3 = 24; if ($4 > 0) $4 = 4; print }' <<<"$recipe")"
        training=(steps=4 optimizer.warmup_steps=1 logging.every=1)
    fi
}

# expect MORE: the number of parts is that of the datasets and so many more.
expect() {
    part=0
    parts=$(($(awk '{ count += ($3 > 0) + ($4 > 0) } END { print count }' <<<"$recipe") + $1))
}

# phase NAME TITLE [--fresh PATH] [--stop FILE] -- COMMAND...: runs one part unless it is finished.
phase() {
    local name="$1" title="$2"
    shift 2
    part=$((part + 1))
    python launch/phases.py run "$run/phases" "$name" "[$part/$parts] $title" "$@" || stopped $? "$title"
}

stopped() {
    if [ "$1" = 130 ]; then
        say "Interrupted. Type the same command again to go on."
    elif [ "$1" != 2 ]; then
        say "error: '$2' ended with status $1; what it said stands above. Type the same command again to go on."
    fi
    exit "$1"
}

# render SPLIT SEED: one dataset after the other; the seeds make training and held-out samples different ones.
render() {
    local split="$1" seed="$2" name kind train heldout options samples
    while read -r name kind train heldout options; do
        samples="${train:-0}"
        [ "$split" = train ] || samples="${heldout:-0}"
        [ "$samples" != 0 ] || continue
        # shellcheck disable=SC2086 # the options are words without blanks
        phase "$split-$name" "Rendering $samples samples of '$name' ($split)" -- \
            python -m data_engine kind="$kind" samples="$samples" seed="$seed" workers=2 \
            out="$run/data/$split/$name" ${options//SPLIT/$split} </dev/null
    done <<<"$recipe"
}
