# For `source`: runs the stages of a script one after another and tells how long each took.
#     stage NAME COMMAND...     stops the script with the command's exit code if it fails
#     stages                    prints the table
# awk and the clock must agree on the decimal point.
export LC_ALL=C.UTF-8
stage_names=()
stage_seconds=()

stage() {
    local name=$1 start=$EPOCHREALTIME code=0
    shift
    printf '\n== %s\n' "$name" >&2
    "$@" || code=$?
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
