#!/usr/bin/env bash
# The Debian package: what is in it, lintian, and its life in a Debian of its own (machine.sh):
# installed, upgraded with a changed configuration file, at rest and under load, removed, purged.
# Takes root; a minute or two.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/machine.sh"

main() {
    use nsenter findmnt curl jq python3 dpkg-deb lintian
    local first second third
    refused "a static binary" "is static" bash "$deploy/debian/build.sh" "$(static_program)" "$scratch"
    # Compressed less than `make deb` does; else the same.
    first=$(deb_package --fast)
    contents "$first"
    holds "lintian" lintian --allow-root --fail-on error,warning "$first"
    second=$(newer "$first" 0.1.1-1)
    third=$(newer "$first" 0.1.2-1)
    machine_starts
    installs "$first"
    upgrades_at_rest "$second"
    upgrades_under_load "$third"
    removes
    comes_back "$third"
    purges
    purge_keeps_what_is_not_its_own "$third"
    done_with deb
}

# Enough of one.
static_program() {
    echo 'int main(void) { return 0; }' | cc -static -x c -o "$scratch/static" - || fail "cc makes no static program"
    echo "$scratch/static"
}

says() { printf 'deb: %s\n' "$*"; }

contents() {
    dpkg-deb --contents "$1" | awk '{ print $1, $2, $6 }' >"$scratch/contents"
    local mode path version
    while read -r mode path; do
        holds "$mode $path" grep -qxF -- "$mode 0/0 ./$path" "$scratch/contents"
    done <<'END'
-rwxr-xr-x usr/bin/openclaw-edge
-rw-r----- etc/openclaw-edge/edge.yaml
-rw-r--r-- usr/lib/systemd/system/openclaw-edge.service
-rw-r--r-- usr/lib/systemd/system/openclaw-edge.socket
-rw-r--r-- usr/lib/sysusers.d/openclaw-edge.conf
-rw-r--r-- usr/lib/tmpfiles.d/openclaw-edge.conf
-rw-r--r-- usr/share/openclaw-edge/socket.conf
-rw-r--r-- usr/share/openclaw-edge/no-capability.conf
-rw-r--r-- usr/share/openclaw-edge/credentials.conf
-rw-r--r-- usr/share/bash-completion/completions/openclaw-edge
-rw-r--r-- usr/share/zsh/vendor-completions/_openclaw-edge
-rw-r--r-- usr/share/fish/vendor_completions.d/openclaw-edge.fish
-rw-r--r-- usr/share/man/man1/openclaw-edge.1.gz
-rw-r--r-- usr/share/man/man1/openclaw-edge-run.1.gz
-rw-r--r-- usr/share/doc/openclaw-edge/README.md
-rw-r--r-- usr/share/doc/openclaw-edge/config.md
-rw-r--r-- usr/share/doc/openclaw-edge/operations.md
-rw-r--r-- usr/share/doc/openclaw-edge/copyright
-rw-r--r-- usr/share/doc/openclaw-edge/examples/minimal.yaml
END
    ! grep -v '^[d-]rw[x-]r-[x-]\(r-[x-]\|---\) 0/0 ' "$scratch/contents" || fail "other modes or owners"
    [ "$(dpkg-deb --info "$1" conffiles)" = /etc/openclaw-edge/edge.yaml ] || fail "other conffiles"
    version=$(version)-1
    [ "$(dpkg-deb --field "$1" Version)" = "$version" ] || fail "the package is not $version"
    holds "the changelog's version" grep -qF "openclaw-edge ($version)" "$deploy/debian/changelog"
    dpkg-deb --field "$1" Depends >"$scratch/depends"
    holds "Depends" grep -qx 'libc6 (>= [0-9.]*), libgcc-s1, systemd (>= 249)' "$scratch/depends"
    says "$(wc -l <"$scratch/contents") entries, $(($(stat -c %s "$1") / 1024)) KiB; Depends: $(cat "$scratch/depends")"
}

# The same under a higher version, with another configuration file.
newer() {
    rm -rf "$scratch/newer"
    dpkg-deb --raw-extract "$1" "$scratch/newer"
    sed -i "s/^Version: .*/Version: $2/" "$scratch/newer/DEBIAN/control"
    sed -i "s/is here/is here, $2/" "$scratch/newer/etc/openclaw-edge/edge.yaml"
    dpkg-deb --build -Znone "$scratch/newer" "$scratch/openclaw-edge_$2.deb" >/dev/null
    echo "$scratch/openclaw-edge_$2.deb"
}

installs() {
    edge_installed "$1"
    has_mode /etc/openclaw-edge "750 root openclaw-edge"
    has_mode /etc/openclaw-edge/edge.yaml "640 root openclaw-edge"
    has_mode /etc/openclaw-edge/credentials "700 root root"
    has_mode /var/lib/openclaw-edge "700 openclaw-edge openclaw-edge"
    is openclaw-edge.service inactive disabled
    is openclaw-edge.socket inactive disabled
    holds "the configuration it brings" inside openclaw-edge check
    holds "all files as packed" inside dpkg --verify openclaw-edge
    says "install: user, directories and configuration are there, nothing is started"
}

has_mode() {
    local mode
    mode=$(inside stat -c '%a %U %G' "$1")
    [ "$mode" = "$2" ] || fail "$1 is $mode, not $2"
    checks=$((checks + 1))
}

# is UNIT ACTIVE ENABLED
is() {
    local found
    found="$(inside systemctl is-active "$1" || true) $(inside systemctl is-enabled "$1" || true)"
    [ "$found" = "$2 $3" ] || fail "$1 is $found, not $2 $3"
    checks=$((checks + 1))
}

upgrades_at_rest() {
    edge_installed "$1"
    is openclaw-edge.service inactive disabled
    has_mode /etc/openclaw-edge/edge.yaml "640 root openclaw-edge"
    holds "the new configuration" grep -q "is here, 0.1.1-1" "$(there /etc/openclaw-edge/edge.yaml)"
    says "upgrade at rest: the configuration nobody has changed is the new one, nothing is started"
}

upgrades_under_load() {
    local process ports before
    edge_configured
    before=$(sum_of /etc/openclaw-edge/edge.yaml)
    edge_on_socket
    edge_serves
    process=$(main_pid)
    ports=$(since)
    traffic_begins load load
    until_it_holds "requests" sees load '.answered > 20'
    edge_installed "$1"
    [ "$(main_pid)" != "$process" ] || fail "the old process goes on"
    until_it_holds "an answer after the upgrade" asks /
    traffic_ends load
    must_see load '.lost == 0'
    is openclaw-edge.service active enabled
    [ "$(since)" = "$ports" ] || fail "the socket unit was restarted"
    [ "$before" = "$(sum_of /etc/openclaw-edge/edge.yaml)" ] || fail "the changed configuration is lost"
    holds "the new one beside it" grep -q "is here, 0.1.2-1" "$(there /etc/openclaw-edge/edge.yaml.dpkg-dist)"
    says "upgrade under load, socket unit: $(of load .answered) requests, $(of load .refused) refused, $(of load .lost) lost," \
        "the slowest waited $(of load .slowest_ms) ms; a changed configuration stays"
}

# When systemd has opened the ports.
since() { inside systemctl show --property ActiveEnterTimestampMonotonic openclaw-edge.socket; }

sum_of() { sha256sum <"$(there "$1")"; }

removes() {
    kept=$(sum_of /var/lib/openclaw-edge/internal/ca.pem)
    holds "remove" inside apt-get remove --yes openclaw-edge
    ! inside systemctl is-active openclaw-edge openclaw-edge.socket >"$scratch/said" || fail "something is still active"
    refused "a connection" "Couldn't connect" beside curl --silent --show-error http://127.0.0.1/
    gone /usr/bin/openclaw-edge
    [ "$kept" = "$(sum_of /var/lib/openclaw-edge/internal/ca.pem)" ] || fail "the state has changed"
    holds "the configuration" test -s "$(there /etc/openclaw-edge/edge.yaml)"
    says "remove: stopped, ports closed; configuration and state stay"
}

comes_back() {
    edge_installed "$1"
    is openclaw-edge.service inactive enabled
    holds "start" inside systemctl start openclaw-edge
    edge_serves
    [ "$kept" = "$(sum_of /var/lib/openclaw-edge/internal/ca.pem)" ] || fail "another CA"
    says "installed again: enabled as before, and serves with the certificates it had"
}

purges() {
    echo secret >"$(there /etc/openclaw-edge/credentials/token)"
    purged_saying "/etc/openclaw-edge has files that are not the package's"
    gone /var/lib/openclaw-edge
    gone /etc/openclaw-edge/edge.yaml
    gone /etc/systemd/system/multi-user.target.wants/openclaw-edge.service
    gone /etc/systemd/system/sockets.target.wants/openclaw-edge.socket
    holds "the administrator's file" test -s "$(there /etc/openclaw-edge/credentials/token)"
    says "purge: state, configuration and links are gone, the administrator's own files are not"
}

purged_saying() {
    inside apt-get purge --yes openclaw-edge >"$scratch/purge" 2>&1 || { cat "$scratch/purge" >&2; fail "purge"; }
    holds "'$1'" grep -qF "$1" "$scratch/purge"
}

gone() {
    ! inside test -e "$1" -o -L "$1" || fail "$1 is still there"
    checks=$((checks + 1))
}

# As where Compose runs it on the same machine.
purge_keeps_what_is_not_its_own() {
    edge_installed "$1"
    inside chown 65532:65532 /var/lib/openclaw-edge
    inside rm /etc/openclaw-edge/credentials/token
    purged_saying "/var/lib/openclaw-edge is another user's and is kept"
    has_mode /var/lib/openclaw-edge "700 UNKNOWN UNKNOWN"
    gone /etc/openclaw-edge
    says "purge: a state directory of another user stays"
}

main
