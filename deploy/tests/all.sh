#!/usr/bin/env bash
# Every test of this folder, one after the other, and the seconds that each took; alerts.sh, which
# mostly waits, runs beside them. A failed one does not keep the others from running.
#     OPENCLAW_EDGE_BIN=STATIC OPENCLAW_EDGE_DEB_BIN=DYNAMIC deploy/tests/all.sh [--minutes]
#
# STATIC is the image's binary, which `deploy/image/build.sh` leaves in target/; DYNAMIC the package's,
# of `cargo build`. `make test-deploy` builds and names both.
#
# --minutes, for .ci/run: without those that say `# Only by make test-deploy.`; alerts.sh waits for
# alerts of up to two minutes, and the image is not built once more in another folder. A test is a
# script with a #! line; the rest is sourced. What failed says its last lines once more at the end,
# and then why.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
edge=$(edge_binary)
packed=$(package_binary)
export OPENCLAW_EDGE_BIN=$edge OPENCLAW_EDGE_DEB_BIN=$packed
logs=$(mktemp -d)
beside=
current=
trap 'ended' EXIT
trap 'exit 130' INT TERM
timings=()
failed=()

main() {
    local minutes=no longest=900 test
    [ $# -eq 0 ] || [ "$*" = --minutes ] || fail "usage: deploy/tests/all.sh [--minutes]"
    if [ $# -gt 0 ]; then minutes=yes longest=120; else export TWO_FOLDERS=1; fi
    echo "$("$edge" version): $edge; in the package: $packed"
    traces >"$logs/before"
    local begun
    begun=$(date +%s)
    bash "$here/alerts.sh" "$longest" >"$logs/alerts" 2>&1 &
    beside=$!
    while read -r test; do
        one "$test"
    done < <(tests "$minutes")
    [ ${#timings[@]} -gt 9 ] || fail "only ${#timings[@]} tests were found"
    echo "=== alerts, beside them"
    local code=0
    wait "$beside" || code=$?
    beside=
    cat "$logs/alerts"
    # It may have ended long ago: its file says when.
    note alerts $(($(stat -c %Y "$logs/alerts") - begun)) "$code"
    echo
    printf '%s\n' "${timings[@]}"
    last_words
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

# Not through a pipe, which a process that a test leaves behind would keep open.
one() {
    local begun=$SECONDS code=0
    echo "=== $1"
    : >"$logs/$1"
    bash "$here/$1.sh" </dev/null >>"$logs/$1" 2>&1 &
    current=$!
    tail --lines=+1 --sleep-interval=0.2 --follow --pid=$current "$logs/$1"
    wait $current || code=$?
    current=
    note "$1" $((SECONDS - begun)) "$code"
}

# Of what failed: who sees only the end of a long output sees why. The reason is not a test's last
# line: after it come the logs of what it ran.
last_words() {
    local test
    for test in "${failed[@]}"; do
        printf '\n--- %s, its last lines:\n' "$test"
        tail -n 25 "$logs/$test" | cut -c 1-300
    done
    for test in "${failed[@]}"; do
        printf '\n--- %s, why:\n' "$test"
        grep -a -B 2 "^$test\.sh: " "$logs/$test" | cut -c 1-1500 || echo "it does not say"
    done
}

# What a test could leave on the machine.
traces() {
    ls -d /etc/openclaw-edge /run/openclaw-edge /var/lib/openclaw-edge /usr/bin/openclaw-edge 2>/dev/null || true
    grep openclaw-edge /etc/passwd /etc/group || true
    ls /run/netns 2>/dev/null || true
    # The folder of namespaces itself stays once there was one.
    awk '$5 != "/run/netns" { print $5 }' /proc/self/mountinfo | sort
    # Also those that tests have copied.
    pgrep -f 'openclaw-edge run ' || [ $? -eq 1 ] || fail "no pgrep: run deploy/tests/setup.sh"
}

# note TEST SECONDS CODE
note() {
    local word=
    if [ "$3" -ne 0 ]; then
        word="  failed ($3)"
        failed+=("$1")
    fi
    timings+=("$(printf '%5d s  %s%s' "$2" "$1" "$word")")
}

ended() {
    local process
    for process in $beside $current; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$logs"
}

main "$@"
