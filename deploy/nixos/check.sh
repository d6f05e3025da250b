# Checks a configuration on a machine that has none of its secrets: each ${env:}, ${file:} and
# ${cred:} gets a placeholder that its key accepts. To be sourced, with bash; check.nix does.
# shellcheck shell=bash

# What stands for a reference: by its name where `placeholder` was called, else by its key.
declare -A chosen=() given=()
declare -a renamed=()

# placeholder REFERENCE VALUE: what stands for `cred:NAME`, `env:NAME` or `file:/PATH`.
placeholder() { chosen[$1]=$2; }

# rename FROM TO: the absolute path FROM is TO on this machine.
rename() { renamed+=("$1" "$2"); }

# check_config PROGRAM FILE: the exit code and the words of `PROGRAM check`.
check_config() {
    local program=$1 text key reference
    text=$(<"$2")
    unset CREDENTIALS_DIRECTORY
    work=$(mktemp -d)
    mkdir "$work/cred" "$work/file"
    while IFS=$'\t' read -r reference key; do
        give "$reference" "$key" || return
    done < <(references "$2")
    local i
    for ((i = 0; i < ${#renamed[@]}; i += 2)); do
        text=${text//"${renamed[i]}"/"${renamed[i + 1]}"}
    done
    printf '%s\n' "$text" >"$work/edge.yaml"
    local code=0
    (cd "$work" && CREDENTIALS_DIRECTORY=$work/cred "$program" check --config edge.yaml) \
        >"$work/out" 2>"$work/err" || code=$?
    said "$work/err" >&2
    said "$work/out"
    [ $code -eq 0 ] || [ ${#given[@]} -eq 0 ] || tell_placeholders >&2
    return $code
}

# said FILE: with the names that the configuration has.
said() {
    local text i
    text=$(<"$1")
    for ((i = 0; i < ${#renamed[@]}; i += 2)); do
        text=${text//"${renamed[i + 1]}"/"${renamed[i]}"}
    done
    [ -z "$text" ] || printf '%s\n' "$text"
}

tell_placeholders() {
    local reference
    echo "note: checked with placeholders; services.openclaw-edge.check.placeholders.\"NAME\" takes others"
    for reference in "${!given[@]}"; do
        echo "  $reference: ${given[$reference]}"
    done
}

# Prints each reference with the key that it stands under: `cred:eab-hmac-key<TAB>hmac_key`. A key
# ends with a colon and a space; a quoted one, as in JSON, with the colon.
references() {
    awk '{
        rest = $0
        while (match(rest, /[A-Za-z0-9_.-]+(["\047]:|:[ \t]|:$)|\$+\{[^}]*\}/)) {
            found = substr(rest, RSTART, RLENGTH)
            rest = substr(rest, RSTART + RLENGTH)
            if (found !~ /^\$/) { key = found; sub(/["\047]?:[ \t]?$/, "", key) }
            else if (found ~ /^\$\{/) { print substr(found, 3, length(found) - 3) "\t" key }
        }
    }' "$1"
}

# give REFERENCE KEY: makes it resolvable. What is no reference is left for `check` to refuse.
give() {
    local reference=$1 name=${1#*:} value path
    [ -n "$reference" ] || return 0
    [ -z "${given[$reference]+set}" ] || return 0
    value=${chosen[$reference]-$(accepted_by "$2")}
    case $reference in
    env:*)
        [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || return 0
        export "$name=$value"
        ;;
    cred:*)
        [[ $name =~ ^[A-Za-z0-9_-][A-Za-z0-9._-]*$ ]] || return 0
        printf '%s' "$value" >"$work/cred/$name"
        ;;
    file:/*)
        # One from the store is here.
        [ ! -e "$name" ] || [ -n "${chosen[$reference]+set}" ] || return 0
        path=$work/file/${#given[@]}
        printf '%s' "$value" >"$path"
        rename "\${$reference}" "\${file:$path}"
        ;;
    *) return 0 ;;
    esac
    given[$reference]=$value
}

# accepted_by KEY: prints a value that the key can have.
accepted_by() {
    case $1 in
    basic_auth | users)
        # shellcheck disable=SC2016
        echo 'placeholder:$2y$05$WrhiCLeZ5opua8o6TeXSN.nLsAcDIh6PViS4.huY3m78uUnrVo3zm'
        ;;
    hmac_key) echo cGxhY2Vob2xkZXItcGxhY2Vob2xkZXItcGxhY2Vob2xkZXI ;;
    bind | listen | allow | deny) echo 127.0.0.1 ;;
    email) echo placeholder@openclaw.example ;;
    *) echo placeholder ;;
    esac
}
