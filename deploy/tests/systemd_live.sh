#!/usr/bin/env bash
# The units of deploy/systemd under a real systemd: start, reload, kill, watchdog, credentials,
# restarts with the ports of the process and with the socket unit, all under load. Takes root; about
# two minutes, of which a half are two drains of 15 s each and the watchdog.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/machine.sh"
credentials=/etc/openclaw-edge/credentials

main() {
    use nsenter findmnt curl jq python3
    local deb
    deb=$(deb_package --fast)
    machine_starts
    edge_installed "$deb"
    edge_configured
    start
    reloads_under_load
    kill_and_restart
    watchdog
    secret_of_a_file
    restart_of_the_ports
    with_the_socket_unit
    restart_of_the_socket_unit
    restarts_under_load
    secret_of_a_credential
    done_with systemd_live
}

says() { printf 'systemd_live: %s\n' "$*"; }

start() {
    local begun
    begun=$(now)
    holds "enable --now" inside systemctl enable --now openclaw-edge
    says "start: ready after $(($(now) - begun)) ms on systemd $(inside systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')"
    edge_serves
    local process
    process=$(there "/proc/$(main_pid)/status")
    holds "its own user" grep -q "^Uid:.$(inside id -u openclaw-edge)\b" "$process"
    # Of all capabilities, number 10.
    holds "one capability" grep -q '^CapEff:.0000000000000400$' "$process"
    holds "no new privileges" grep -q '^NoNewPrivs:.1$' "$process"
    holds "system calls are filtered" grep -q '^Seccomp:.2$' "$process"
    until_it_holds "a status" status_says "serving 2 routes, 0 quarantined; read 2[^ ]*Z: applied"
    says "status: $(status)"
}

status() { inside systemctl show --property StatusText --value openclaw-edge; }
status_says() { status | grep -x "$1"; }

reloads_under_load() {
    local number before
    before=$(main_pid)
    traffic_begins load load
    traffic_begins websockets websockets
    until_it_holds "50 WebSockets" sees websockets '.open == 50'
    for number in $(seq 20); do
        sed -i "s/\"generation [0-9]*\"/\"generation $number\"/" "$(there /etc/openclaw-edge/edge.yaml)"
        holds "reload" inside systemctl reload openclaw-edge
        until_it_holds "generation $number" generation "$number"
    done
    traffic_ends load
    traffic_ends websockets
    [ "$(main_pid)" = "$before" ] || fail "another process serves after the reloads"
    must_see load '.lost == 0 and .reconnected == 0 and .answered > 200'
    must_see websockets '.ended == 0 and .open == 50 and .fewest > 2'
    says "reload: 20 under load: $(of load .answered) requests, $(of load .lost) lost; 4 kept connections and 50 WebSockets stay"
}

generation() { [ "$(asks /generation)" = "generation $1" ]; }

kill_and_restart() {
    local before begun
    before=$(sha256sum <"$(there /var/lib/openclaw-edge/internal/ca.pem)")
    begun=$(now)
    holds "kill -9" inside systemctl kill --signal KILL --kill-whom main openclaw-edge
    until_it_holds "an answer after kill -9" asks /
    says "kill -9: answered again after $(($(now) - begun)) ms, by itself"
    until_it_holds "one restart" restarted_once
    [ "$before" = "$(sha256sum <"$(there /var/lib/openclaw-edge/internal/ca.pem)")" ] || fail "another CA"
}

restarted_once() { [ "$(inside systemctl show --property NRestarts --value openclaw-edge)" = 1 ]; }

# Ten seconds after the last sign of life, which comes every five.
watchdog() {
    local before begun killed
    before=$(main_pid)
    begun=$(now)
    holds "SIGSTOP" inside sh -c "kill -STOP $before"
    until_it_holds "the end of the process" gone "$before"
    killed=$(($(now) - begun))
    until_it_holds "another process" replaced "$before"
    until_it_holds "an answer after the watchdog" asks /
    says "watchdog: stopped by SIGSTOP, killed after $killed ms, answered again after $(($(now) - begun)) ms"
    [ "$killed" -lt 12000 ] || fail "that is more than 12 s"
    until_it_holds "a word of the watchdog in the journal" journal_has "Watchdog timeout"
}

journal_has() { inside journalctl --no-pager --unit openclaw-edge >"$scratch/journal" && grep "$1" "$scratch/journal"; }

gone() { [ ! -e "$(there "/proc/$1")" ]; }

replaced() {
    local process
    process=$(main_pid)
    [ "$process" != 0 ] && [ "$process" != "$1" ]
}

# A file that is watched: nobody notices.
secret_of_a_file() {
    users first >"$(there /etc/openclaw-edge/users)"
    inside chgrp openclaw-edge /etc/openclaw-edge/users
    inside chmod 0640 /etc/openclaw-edge/users
    guarded file "\${file:/etc/openclaw-edge/users}"
    holds "reload" inside systemctl reload openclaw-edge
    until_it_holds "the route in the status" status_says "serving 3 routes, 0 quarantined; .*"
    until_it_holds "the first password" asks /file --user "ops:first"
    traffic_begins websockets websockets
    until_it_holds "50 WebSockets" sees websockets '.open == 50'
    local begun
    begun=$(now)
    users second >"$(there /etc/openclaw-edge/users)"
    until_it_holds "the second password" asks /file --user "ops:second"
    says "secret of \${file:}: in force $(($(now) - begun)) ms after it is written, without any command"
    until_it_holds "the end of the first password" answers_401 /file --user "ops:first"
    traffic_ends websockets
    must_see websockets '.ended == 0'
}

answers_401() { ! asks "$@" >"$scratch/401" 2>&1 && grep 'error: 401' "$scratch/401"; }

# A line of htpasswd.
users() { python3 -c 'import base64, hashlib, sys; print("ops:{SHA}" + base64.b64encode(hashlib.sha1(sys.argv[1].encode()).digest()).decode())' "$1"; }

# guarded PATH SECRET
guarded() {
    sed -i "/^routes:/a\\  $1: { hosts: [app.openclaw.example], path: /$1, access: { basic_auth: '$2' }, respond: { status: 200, body: open } }" \
        "$(there /etc/openclaw-edge/edge.yaml)"
}

# With open streams a restart lasts as long as the drain, 15 s; new connections are refused meanwhile.
restart_of_the_ports() {
    traffic_begins websockets websockets
    until_it_holds "50 WebSockets" sees websockets '.open == 50'
    traffic_begins load load
    until_it_holds "requests" sees load '.answered > 20'
    local begun
    begun=$(now)
    holds "restart" inside systemctl restart openclaw-edge
    until_it_holds "an answer after the restart" asks /
    local took=$(($(now) - begun))
    traffic_ends load
    until_it_holds "their end" sees websockets '.ended == 50'
    traffic_ends websockets
    must_see websockets '.ended == 50'
    # These clients would notice, were a port closed for a moment.
    must_see load '.refused > 0'
    # Whose handshake had begun was served, who came in the last moments asked again.
    must_see load '.silence_ms < 20000 and .reset == 0 and .closed == 0 and .status == 0 and .timeout == 0'
    [ "$took" -lt 20000 ] || fail "answered only after $took ms"
    says "restart, ports of the process, 50 WebSockets: answered again after $took ms, silence of $(of load .silence_ms) ms," \
        "$(of load .refused) refused; the WebSockets went on for $(of websockets .longest_s) s at most"
}

with_the_socket_unit() {
    edge_on_socket
    edge_serves
    holds "no capability" grep -q '^CapBnd:.0000000000000000$' "$(there "/proc/$(main_pid)/status")"
}

restart_of_the_socket_unit() {
    traffic_begins websockets websockets
    until_it_holds "50 WebSockets" sees websockets '.open == 50'
    traffic_begins load load
    until_it_holds "requests" sees load '.answered > 20'
    holds "restart" inside systemctl restart openclaw-edge
    until_it_holds "an answer after the restart" asks /
    traffic_ends load
    until_it_holds "their end" sees websockets '.ended == 50'
    traffic_ends websockets
    must_see websockets '.ended == 50'
    must_see load '.lost == 0 and .slowest_ms < 20000'
    says "restart, socket unit, 50 WebSockets: $(of load .answered) requests, $(of load .refused) refused, $(of load .lost) lost;" \
        "the slowest waited $(of load .slowest_ms) ms; the WebSockets went on for $(of websockets .longest_s) s at most"
}

restarts_under_load() {
    local number before
    traffic_begins load load 12 4
    for number in $(seq 20); do
        before=$(of load .answered)
        until_it_holds "requests" sees load ".answered > $before + 50"
        holds "restart $number" inside systemctl restart openclaw-edge
    done
    until_it_holds "an answer after 20 restarts" asks /
    traffic_ends load
    must_see load '.lost == 0'
    says "20 restarts under load, socket unit: $(of load .answered) requests, $(of load .refused) refused, $(of load .lost) lost;" \
        "$(of load .reconnected) kept connections closed between requests, $(of load .retried) of them as a request came (sent again); the slowest waited $(of load .slowest_ms) ms"
}

# systemd copies a credential at the start.
secret_of_a_credential() {
    users first >"$(there $credentials/users)"
    printf '[Service]\nLoadCredential=users:%s/users\n' $credentials \
        >"$(there /etc/systemd/system/openclaw-edge.service.d/users.conf)"
    guarded credential "\${cred:users}"
    holds "daemon-reload" inside systemctl daemon-reload
    holds "restart" inside systemctl restart openclaw-edge
    until_it_holds "the first password" asks /credential --user "ops:first"
    users second >"$(there $credentials/users)"
    holds "reload" inside systemctl reload openclaw-edge
    # A reload alone changes no credential, and breaks none.
    holds "the first password after a reload" asks /credential --user "ops:first"
    traffic_begins load load
    until_it_holds "requests" sees load '.answered > 20'
    holds "restart" inside systemctl restart openclaw-edge
    until_it_holds "the second password" asks /credential --user "ops:second"
    until_it_holds "the end of the first password" answers_401 /credential --user "ops:first"
    traffic_ends load
    must_see load '.lost == 0'
    says "secret of \${cred:}: in force after systemctl restart, under load: $(of load .answered) requests, $(of load .lost) lost"
}

main
