#!/usr/bin/env bash
# Every test of this folder, one after the other, and the seconds that each took; alerts.sh, which
# mostly waits, runs beside them. A failed one does not keep the others from running.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/all.sh [--minutes]
#
# --minutes, for .ci/run: without those that say `# Only by make test-deploy.`, and alerts.sh waits for
# alerts of up to five minutes. A test is a script with a #! line; the rest is sourced.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
edge=$(edge_binary)
export OPENCLAW_EDGE_BIN=$edge
logs=$(mktemp -d)
beside=
trap 'ended' EXIT
trap 'exit 130' INT TERM
timings=()
failed=()

main() {
    local minutes=no longest=900 test
    [ $# -eq 0 ] || [ "$*" = --minutes ] || fail "usage: deploy/tests/all.sh [--minutes]"
    if [ $# -gt 0 ]; then minutes=yes longest=300; else export TWO_FOLDERS=1; fi
    "$edge" version
    traces >"$logs/before"
    local begun=$SECONDS
    bash "$here/alerts.sh" "$longest" >"$logs/alerts" 2>&1 &
    beside=$!
    while read -r test; do
        one "$test"
    done < <(tests "$minutes")
    echo "=== alerts, beside them"
    local code=0
    wait "$beside" || code=$?
    beside=
    cat "$logs/alerts"
    note alerts "$begun" "$code"
    echo
    printf '%s\n' "${timings[@]}"
    traces >"$logs/after"
    ! grep -vxFf "$logs/before" "$logs/after" >&2 || fail "that is left behind"
    [ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
}

# tests YES_OR_NO: their names; whether those that take long are left out.
tests() {
    local file
    for file in "$here"/*.sh; do
        case ${file##*/} in
        setup.sh | all.sh | alerts.sh) continue ;;
        esac
        head -n 1 "$file" | grep -q '^#!' || continue
        [ "$1" = no ] || ! grep -qx '# Only by make test-deploy\.' "$file" || continue
        basename "$file" .sh
    done
}

one() {
    local begun=$SECONDS code=0
    echo "=== $1"
    bash "$here/$1.sh" </dev/null || code=$?
    note "$1" "$begun" "$code"
}

# What a test could leave on the machine.
traces() {
    ls -d /etc/openclaw-edge /run/openclaw-edge /var/lib/openclaw-edge /usr/bin/openclaw-edge 2>/dev/null || true
    grep openclaw-edge /etc/passwd /etc/group || true
    ls /run/netns 2>/dev/null || true
    # The folder of namespaces itself stays once there was one.
    awk '$5 != "/run/netns" { print $5 }' /proc/self/mountinfo | sort
    pgrep -f "^$edge " || true
}

# note TEST BEGUN CODE
note() {
    local word=
    if [ "$3" -ne 0 ]; then
        word="  failed ($3)"
        failed+=("$1")
    fi
    timings+=("$(printf '%5d s  %s%s' $((SECONDS - $2)) "$1" "$word")")
}

ended() {
    if [ -n "$beside" ]; then
        kill "$beside" 2>/dev/null || true
        wait "$beside" 2>/dev/null || true
    fi
    rm -rf "$logs"
}

main "$@"
