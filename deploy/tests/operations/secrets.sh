# shellcheck shell=bash disable=SC2154
# Rotation of secrets, as deploy/README.md says. To be sourced by ../operations.sh.

# status USER:PASSWORD [PATH]
status() { curl -s -o /dev/null -w '%{http_code}' -u "$1" -H "Host: $APP" "http://127.0.0.1:$http${2:-/}"; }

# is USER:PASSWORD STATUS [PATH]
is() { [ "$(status "$1" "${3:-/}")" = "$2" ]; }

config_state() { curl -fsS --unix-socket "$work/old.sock" http://localhost/api/v1/config; }
loaded_at() { config_state | jq -r .loaded_at; }
refused_or_former() { config_state | jq -e '.quarantined | length > 0' >/dev/null; }
applied() { config_state | jq -e '.quarantined | length == 0' >/dev/null; }
loaded_after() { [ "$(loaded_at)" != "$1" ]; }

passwords() {
    local before
    is ops:old 200 || fail "the old password"
    before=$(loaded_at)
    { cat "$work/htpasswd"; htpasswd -nbB -C 5 ops2 new; } >"$work/both"
    mv "$work/both" "$work/htpasswd"
    wait_for 30 "the new password" is ops2:new 200
    is ops:old 200 || fail "the old password beside the new one"
    wait_for 30 "another loaded_at" loaded_after "$before"
    htpasswd -nbB -C 5 ops2 new >"$work/only"
    mv "$work/only" "$work/htpasswd"
    wait_for 30 "the end of the old password" is ops:old 401
    mv "$work/htpasswd" "$work/away"
    wait_for 30 "the missing file to be noticed" refused_or_former
    is ops2:new 200 || fail "without its file the former password is not in force"
    is ops:old 401 || fail "without its file everybody is let in"
    mv "$work/away" "$work/htpasswd"
    wait_for 30 "the file again" applied
    proven "a password changes under traffic; a file that is gone leaves the former one"
}

# kubelet_writes PASSWORD: a Secret mounted as a directory. As kubelet does it: a new directory, then
# the link to it by rename, then the old directory goes.
kubelet_writes() {
    local old new
    mkdir -p "$work/secret"
    old=$(readlink "$work/secret/..data" || true)
    new=$(mktemp -d "$work/secret/..2026_XXXXXX")
    htpasswd -nbB -C 5 ops "$1" >"$new/users"
    ln -s "$(basename "$new")" "$work/secret/..data_tmp"
    mv -T "$work/secret/..data_tmp" "$work/secret/..data"
    [ -L "$work/secret/users" ] || ln -s ..data/users "$work/secret/users"
    [ -z "$old" ] || rm -r "${work:?}/secret/$old"
}

a_mounted_secret() {
    local before number
    is ops:mounted-first 200 /mounted || fail "the first mounted password"
    before=$(loaded_at)
    for number in second third; do
        kubelet_writes "mounted-$number"
        wait_for 30 "the $number mounted password" is "ops:mounted-$number" 200 /mounted
    done
    wait_for 30 "the end of the first" is ops:mounted-first 401 /mounted
    wait_for 30 "another loaded_at" loaded_after "$before"
    proven "a Secret that kubelet swaps twice is in force, without a command"
}

token() { curl -s -D - -o /dev/null -H "Host: $APP" "http://127.0.0.1:$http/env" | tr -d '\r' | sed -n 's/^x-token: //p'; }

# That of a process is of its start: a reload keeps it.
an_environment() {
    local before
    [ "$(token)" = token-first ] || fail "the first token: $(token)"
    export EDGE_TOKEN=token-second
    before=$(loaded_at)
    echo "# a comment" >>"$work/old.yaml"
    wait_for 30 "the reload" loaded_after "$before"
    [ "$(token)" = token-first ] || fail "a reload has read another environment: $(token)"
    end old
    node old
    [ "$(token)" = token-second ] || fail "the restart has not changed the token: $(token)"
    must old check
    proven "a secret of the environment changes with a restart"
}
