# For `source`: runs the stages of a script one after another and tells how long each took.
#     stage NAME COMMAND...     stops the script with the command's exit code if any part of it fails
#     stages                    prints the table
# Executed instead of sourced, it tests itself.
# awk and the clock must agree on the decimal point.
export LC_ALL=C.UTF-8
stage_names=()
stage_seconds=()

stage() {
    local name=$1 start=$EPOCHREALTIME code=0
    shift
    printf '\n== %s\n' "$name" >&2
    # Bash ignores `set -e` inside a command whose result is asked for (`||`, `if`): the first of three failing
    # commands of a function would pass unseen. So the stage runs in a shell of its own, outside of any condition.
    set +e
    (
        set -euo pipefail
        "$@"
    )
    code=$?
    set -e
    stage_names+=("$name")
    stage_seconds+=("$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')")
    if ((code)); then
        stages >&2
        printf 'error: stage "%s" failed with exit code %d\n' "$name" "$code" >&2
        exit "$code"
    fi
}

stages() {
    printf '\n%-34s %10s\n' stage seconds
    local i
    for i in "${!stage_names[@]}"; do
        printf '%-34s %10s\n' "${stage_names[$i]}" "${stage_seconds[$i]}"
    done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -euo pipefail
    first_fails() {
        false
        true
    }
    pipe_fails() { false | true; }
    unset_variable() { echo "$no_such_variable"; }
    all_pass() { true; }
    for planted in first_fails pipe_fails unset_variable; do
        # A shell in the background is outside of any condition too.
        (stage "$planted" "$planted") >/dev/null 2>&1 &
        if wait $!; then
            echo "error: a stage passed although \`$planted\` fails in it" >&2
            exit 1
        fi
    done
    (stage all_pass all_pass) >/dev/null 2>&1 &
    wait $! || { echo "error: a stage failed although nothing in it does" >&2; exit 1; }
    echo "stages self-test: 3 planted failures, all caught"
fi
