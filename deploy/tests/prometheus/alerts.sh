# shellcheck shell=bash disable=SC2154
# What Prometheus says. To be sourced by ../prometheus.sh.

query() { curl -fsS --max-time 20 --get --data-urlencode "query=$1" "$api/api/v1/query" | jq -c .data.result; }

# Not where Prometheus does not answer.
has_data() {
    local found
    found=$(query "$1") && [ -n "$found" ] && [ "$found" != "[]" ]
}

# fires ALERT [LABELS]: now.
fires() { has_data "ALERTS{alertstate=\"firing\", alertname=\"$1\"${2:+, $2}}"; }

proven=()

# must_fire SECONDS ALERT LABELS [COMMAND...]: the command is repeated until the alert fires.
must_fire() {
    local end=$((SECONDS + $1)) begun=$SECONDS alert=$2 labels=$3
    shift 3
    until fires "$alert" "$labels"; do
        [ $SECONDS -lt $end ] || fail "$alert{$labels} does not fire; firing: $(firing)"
        if [ $# -gt 0 ]; then "$@"; fi
        sleep 0.5
    done
    proven+=("$alert")
    echo "  $alert{$labels} fires ($((SECONDS - begun)) s)"
}

firing() { query 'ALERTS{alertstate="firing"}' | jq -c '[.[].metric | del(.__name__, .alertstate, .job)]'; }

# On a healthy pair of edges.
nothing_fires() {
    [ "$(firing)" = "[]" ] || fail "with nothing wrong there are alerts: $(firing)"
}

# Each alert that is shipped was provoked.
all_were_proven() {
    local alert missing=()
    while read -r alert; do
        case " ${proven[*]} " in
        *" $alert "*) ;;
        *) missing+=("$alert") ;;
        esac
    done < <(shipped_alerts)
    [ ${#missing[@]} -eq 0 ] || fail "never fired: ${missing[*]}"
}

shipped_alerts() { sed -n 's/^ *- alert: //p' "$shipped"/rules/*.yml | sort -u; }
