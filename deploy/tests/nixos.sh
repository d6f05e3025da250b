#!/usr/bin/env bash
# deploy/nixos/ without NixOS and without nixpkgs, which no package registry has: Nix itself evaluates
# the module and the flake over a small module system and builds the files of /etc for real, with the
# binary under test; the unit that comes out is held against deploy/systemd and against systemd-analyze.
# Two virtual machines (deploy/nixos/test.nix) would want KVM: their test is evaluated only.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/nixos.sh
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use nix nix-instantiate nix-build systemd-analyze jq git
edge=$(edge_binary)
modules=$deploy/nixos
# A store of its own, in which a builder is a child of this script: nothing is fetched.
export NIX_STORE_DIR=$scratch/store NIX_STATE_DIR=$scratch/nix NIX_LOG_DIR=$scratch/log
export NIX_CONF_DIR=$scratch/conf XDG_CACHE_HOME=$scratch/cache
mkdir "$NIX_CONF_DIR"
cat >"$NIX_CONF_DIR/nix.conf" <<'END'
sandbox = false
build-users-group =
substituters =
experimental-features = nix-command flakes
END
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

main() {
    local one
    for one in "$modules"/*.nix "$here"/nixos/*.nix; do
        holds "${one##*/} parses" nix-instantiate --parse "$one"
    done
    the_unit
    the_rest_of_the_system
    what_a_change_triggers
    other_options
    what_is_refused
    checked_while_building
    secrets_that_are_not_there
    the_example
    the_flake
    done_with nixos
}

# A machine whose `services.openclaw-edge` has these lines too.
machine() {
    cat <<-END
	import $here/nixos/system.nix {
	  edge = "$edge";
	  machine = { pkgs, lib, ... }: {
	    services.openclaw-edge = lib.mkMerge [
	      {
	        enable = true;
	        openFirewall = lib.mkDefault true;
	        credentials.eab = "/run/secrets/eab";
	        settings = {
	          listeners.http = { bind = [ "[::]:80" "127.0.0.1:8080" ]; redirect_to = "https"; };
	          listeners.https = { bind = [ "[::]:443" ]; tls = { }; };
	          issuers.other = {
	            directory = "https://acme.openclaw.example/directory";
	            eab = { key_id = "k"; hmac_key = "\\\${cred:eab}"; };
	          };
	          routes.app = { hosts = [ "app.openclaw.example" ]; respond.status = 200; };
	        };
	      }
	      { $1 }
	    ];
	  };
	}
	END
}

evaluated() { nix-instantiate --eval --strict --json --expr "removeAttrs ($(machine "$1")) [ \"toplevel\" ]"; }

# made LINES: the folder with its files of /etc.
made() { built "$1" 2>"$scratch/said" || { cat "$scratch/said" >&2; fail "does not build with: $1"; }; }

built() { nix-build --no-out-link --expr "($(machine "$1")).toplevel"; }

# says JQ-EXPRESSION: holds of the system that was evaluated last.
says() { holds "$1" jq -e "$1" "$scratch/system.json"; }

system() { evaluated "$1" >"$scratch/system.json" || fail "does not evaluate with: $1"; }

the_unit() {
    local unit=$scratch/openclaw-edge.service
    local bare='credentials = lib.mkForce { }; settings.issuers = lib.mkForce { };'
    system "$bare"
    holds "the unit of deploy/systemd" python3 "$here/nixos/unit.py" same "$scratch/system.json" \
        "$deploy/systemd/openclaw-edge.service"
    sed 's/^ProtectClock=yes/ProtectClock=no/; /^KeyringMode/d' "$deploy/systemd/openclaw-edge.service" >"$unit"
    refused "another unit" "KeyringMode" python3 "$here/nixos/unit.py" same "$scratch/system.json" "$unit"
    refused "another unit" "ProtectClock" python3 "$here/nixos/unit.py" same "$scratch/system.json" "$unit"

    # The programs are in the store when the system is built.
    holds "the system builds" built "$bare"
    python3 "$here/nixos/unit.py" render "$scratch/system.json" >"$unit"
    holds "systemd-analyze verify" systemd-analyze verify --man=no --recursive-errors=yes "$unit"
    holds "at most 1.6 of exposure" systemd-analyze security --offline=true --threshold=16 "$unit"
    sed -i 's/^NoNewPrivileges/NoNewPriviledges/' "$unit"
    refused "a misspelt directive" "NoNewPriviledges" \
        systemd-analyze verify --man=no --recursive-errors=yes "$unit"
}

the_rest_of_the_system() {
    system ""
    says '.users.users["openclaw-edge"]
        | .isSystemUser and .group == "openclaw-edge" and .home == "/var/lib/openclaw-edge"'
    says '.users.groups | has("openclaw-edge")'
    says '.boot.kernel.sysctl == {"net.ipv4.tcp_migrate_req": 1}'
    says '.networking.firewall.allowedTCPPorts == [80, 443]'
    says '.etc | keys == ["openclaw-edge/edge.yaml"]'
    says '.systemd.services["openclaw-edge"].serviceConfig.LoadCredential == ["eab:/run/secrets/eab"]'
    says '.systemd.services["openclaw-edge"].stopIfChanged == false'
    # The file that is served is the one that was checked, as settings have it.
    local file
    file=$(made "")/edge.yaml
    holds "edge.yaml has the settings" jq -e '.version == 1
        and .admin.socket == "/run/openclaw-edge/admin.sock"
        and .listeners.https.bind == ["[::]:443"]
        and .issuers.other.eab.hmac_key == "${cred:eab}"' "$file"
}

triggers() { jq -c ".systemd.services[\"openclaw-edge\"] | $1" "$scratch/system.json"; }

# change_of WHAT LINES SAME-OR-OTHER [FORMER LINES]: what LINES do to the part WHAT of the unit.
change_of() {
    local before now
    system "${4:-}"
    before=$(triggers "$1")
    system "$2"
    now=$(triggers "$1")
    case $3 in
    same) [ "$before" = "$now" ] || fail "'$2' changes $1: $before, $now" ;;
    other) [ "$before" != "$now" ] || fail "'$2' does not change $1: $now" ;;
    esac
    checks=$((checks + 1))
}

what_a_change_triggers() {
    local route='settings.routes.app.body_limit = "20MiB";'
    local port='settings.listeners.more.bind = [ "[::]:8443" ];'
    change_of .reloadTriggers "$route" other
    change_of 'del(.reloadTriggers)' "$route" same
    change_of .restartTriggers "$port" other
    change_of .restartTriggers 'settings.admin.listen = "off";' other
    change_of .restartTriggers 'settings.workers = 2;' other
    tenants_reload
}

# Another registry under the same name in /etc: no restart, and a reload also where nothing is checked
# while the system is built.
tenants_reload() {
    local routes='settings.tenants.routes.gateway = {
        hosts = [ "{tenant}.gw.openclaw.example" ]; endpoint = "{host}:{gateway_port}"; };' one
    mkdir "$scratch/former" "$scratch/next"
    cp "$deploy/../config/tests/tenants/production.json" "$scratch/former/tenants.json"
    sed 's/newtenant-corp/other-corp/' "$scratch/former/tenants.json" >"$scratch/next/tenants.json"
    ! cmp -s "$scratch"/{former,next}/tenants.json || fail "the same registry twice"
    for one in true false; do
        local former="$routes check.enable = $one; tenantsFile = $scratch/former/tenants.json;"
        local next=${former/former/next}
        change_of .reloadTriggers "$next" other "$former"
        change_of 'del(.reloadTriggers)' "$next" same "$former"
    done
    holds "the registry is read" grep -q other-corp "$(made "$next")/tenants.json"
}

other_options() {
    says_with 'environmentFile = "/run/secrets/edge.env";' \
        '.systemd.services["openclaw-edge"].serviceConfig.EnvironmentFile == ["/run/secrets/edge.env"]'
    says_with 'extraArgs = [ "--log-format" "js%on $x" ];' \
        '.systemd.services["openclaw-edge"].serviceConfig.ExecStart | endswith(" \"--log-format\" \"js%%on $$x\"")'
    says_with 'openFirewall = false;' '.networking.firewall.allowedTCPPorts == []'
    says_with 'settings.listeners = lib.mkForce { };' '.networking.firewall.allowedTCPPorts == []'
    says_with "tenantsFile = $here/nixos.sh;" '.etc | has("openclaw-edge/tenants.json")'
    says_with 'tenantsFile = "/srv/production.json";' '.etc | keys == ["openclaw-edge/edge.yaml"]'
    # A file of the administrator is read where it is.
    says_with 'openFirewall = false; configFile = "/srv/edge.yaml";' '(.etc == {})
        and (.systemd.services["openclaw-edge"] | .reloadTriggers == [] and .restartTriggers == []
        and (.serviceConfig.ExecStart | endswith(" \"/srv/edge.yaml\"")))'
    holds "tenants.file" jq -e '.tenants == {"file": "/srv/production.json"}' \
        "$(made 'check.enable = false; tenantsFile = "/srv/production.json";')/edge.yaml"
    holds "tenants.file of the store" jq -e '.tenants == {"file": "/etc/openclaw-edge/tenants.json"}' \
        "$(made "check.enable = false; tenantsFile = $here/nixos.sh;")/edge.yaml"
}

says_with() {
    system "$1"
    says "$2"
}

what_is_refused() {
    holds "a literal reference" evaluated 'settings.routes.app.respond.body = "$\${cred:htpasswd}";'
    refused "a misspelt option" "unknown option services.openclaw-edge.openFirewal" evaluated 'openFirewal = true;'
    refused "a word for a number" "extraArgs is not of type" evaluated 'extraArgs = "--share-ports";'
    refused "two values" "conflicting values" evaluated 'settings.routes.app.respond.status = 204;'
    refused "another version" "version is not of type enum" evaluated 'settings.version = 2;'
    refused "a credential that nobody provides" "has no htpasswd" \
        evaluated 'settings.routes.app.access.basic_auth = "\${cred:htpasswd}";'
    refused "a credential in the store" "must not be in the Nix store" \
        evaluated 'credentials.x = "${builtins.toFile "x" "x"}";'
    refused "a name with a slash" "a name has letters" evaluated 'credentials."a/b" = "/run/x";'
    refused "a port that nobody knows" "openFirewall needs ports" \
        evaluated 'settings.listeners.more.bind = [ "[::]:\${env:PORT}" ];'
    refused "openFirewall of a file" "openFirewall needs ports" evaluated 'configFile = "/srv/edge.yaml";'
}

checked_while_building() {
    refused "a misspelt key" 'did you mean `status`?' \
        built 'settings.routes.other = { hosts = [ "o.openclaw.example" ]; respond.stauts = 200; };'
    refused "a failing test" "expected" \
        built 'settings.tests = [ { request = "GET https://app.openclaw.example/"; status = 404; } ];'
    holds "check.enable = false" built 'check.enable = false; settings.routes.other.upstream = "gone";'
    printf 'version: 1\nroutse: {}\n' >"$scratch/bad.yaml"
    cp "$deploy/../config/examples/platform.yaml" "$scratch/good.yaml"
    refused "a bad configFile" 'did you mean `routes`?' built "openFirewall = false; configFile = $scratch/bad.yaml;"
    holds "a good configFile" built "openFirewall = false; configFile = $scratch/good.yaml;"
    holds "configFile is served as it is" \
        cmp "$(made "openFirewall = false; configFile = $scratch/good.yaml;")/edge.yaml" "$scratch/good.yaml"
}

# Each reference is checked with what its key accepts; `check` alone refuses all of them.
secrets_that_are_not_there() {
    cat >"$scratch/secrets.yaml" <<'END'
version: 1
listeners:
  https: { bind: ["${env:NODE_IP}:443"], tls: {} }
issuers:
  other: { directory: "https://acme.openclaw.example/d", email: "${env:MAIL}", eab: { key_id: k, hmac_key: "${file:/run/secrets/eab}" } }
routes:
  app:
    hosts: [app.openclaw.example]
    respond: { status: 200 }
    access:
      basic_auth: ${cred:htpasswd}
    headers: { response: { set: { x-token: "<${cred:token}>", x-literal: "$${cred:nothing}" } } }
  other: { hosts: ["${env:OTHER_HOST}"], respond: { status: 404 } }
tests:
- { request: "GET https://other.openclaw.example/", route: other }
END
    local from='openFirewall = false; configFile = '$scratch'/secrets.yaml;'
    local host='check.placeholders."env:OTHER_HOST" = "other.openclaw.example";'
    holds "placeholders" built "$from $host"
    refused "a placeholder that does not do" 'env:OTHER_HOST: placeholder' built "$from"
    refused "check without placeholders" "is not set" "$edge" check --config "$scratch/secrets.yaml"
    # The names of the configuration are in the message, not those of the copy.
    sed -i 's/tests:/tets:/' "$scratch/secrets.yaml"
    refused "a misspelt key beside secrets" 'did you mean `tests`?' built "$from $host"
    ! grep -q "/file/" "$scratch/said" || fail "a path of the copy is shown"
    a_file_that_is_elsewhere
}

# What will be in /etc of the new system is in the store while that is built: it is found there.
a_file_that_is_elsewhere() {
    echo "no certificate" >"$scratch/tenants"
    cat >"$scratch/files.yaml" <<'END'
version: 1
certificates:
  files: { chain: /etc/openclaw-edge/tenants.json, key: /etc/openclaw-edge/tenants.json }
END
    local from="openFirewall = false; configFile = $scratch/files.yaml;"
    holds "files that are absent" built "$from"
    refused "a bad file of the new /etc" "at: certificates.files" built "$from tenantsFile = $scratch/tenants;"
    ! grep -q -- "-tenants:" "$scratch/said" || fail "its place while it is built is shown"
}

# What the page tells to begin with.
the_example() {
    awk '/^`configuration.nix`/ { here = 1 } here && /^```$/ { exit } shown { print } here && /^```nix/ { shown = 1 }' \
        "$modules/README.md" >"$scratch/configuration.nix"
    holds "the example of README.md" nix-build --no-out-link --expr "(import $here/nixos/system.nix {
        edge = \"$edge\"; machine = import $scratch/configuration.nix; }).toplevel"
}

flake() {
    nix flake "$1" "git+file:$(realpath "$deploy/..")?dir=deploy/nixos" \
        --override-input nixpkgs "path:$here/nixos" --no-write-lock-file "${@:2}"
}

the_flake() {
    holds "nix flake check" flake check --no-build
    holds "nix flake show" flake show --json
    local shown
    shown=$(flake show --json 2>/dev/null)
    holds "all outputs" jq -e '(.packages["aarch64-linux"] | keys == ["default", "openclaw-edge"])
        and (.overlays | keys == ["default"])
        and (.nixosModules | keys == ["default", "openclaw-edge"])
        and (.checks["x86_64-linux"] | keys == ["package", "refused", "vm"])' <<<"$shown"
    ! grep -q '^source = "git' "$deploy/../Cargo.lock" || fail "cargoLock has no hash for crates from git"
    local source script
    # The workspace is whole without the folders that the package leaves out.
    source=$(nix-build --no-out-link --expr "($(packages).callPackage $modules/package.nix { }).src") ||
        fail "the package has no source"
    cp -r "$source" "$scratch/source"
    chmod -R u+w "$scratch/source"
    holds "cargo reads the source" cargo metadata --offline --locked --no-deps --format-version 1 \
        --manifest-path "$scratch/source/Cargo.toml"
    holds "the installed program is checked" \
        nix-build --no-out-link --expr "$(packages).callPackage $modules/package.nix { }"
    script=$(nix-instantiate --eval --strict --json --expr \
        "(import $modules/test.nix { module = { }; }).testScript { nodes.edge.system.build.toplevel = \"/x\"; }") ||
        fail "test.nix does not evaluate"
    jq -r . <<<"$script" >"$scratch/test.py"
    holds "the test script is Python" python3 -c "compile(open('$scratch/test.py').read(), 'test.nix', 'exec')"
}

packages() { echo "(import $here/nixos/pkgs.nix { edge = \"$edge\"; }).pkgs"; }

main
