#!/usr/bin/env bash
# The command `broadcaster` on a machine where install.sh has installed the service (made by install.sh).
#   broadcaster check | recordings ...          with the service's settings, keys, user and sandbox
#   broadcaster @NAME check | recordings ...    of broadcaster@NAME
# All other commands (export, relay, demo) need nothing of the service, and run as who calls them.
set -euo pipefail

program=/opt/broadcaster/current/bin/broadcaster
page=/etc/broadcaster/page-address
fail() { printf 'broadcaster: %s\n' "$*" >&2; exit 2; }

given=("$@")
unit=broadcaster instance=
case ${1:-} in @?*) instance=${1#@}; unit=broadcaster@$instance; shift ;; esac
case ${1:-} in
    check | recordings) ;;
    run) fail "systemd runs the service: systemctl start $unit" ;;
    *) exec "$program" "$@" ;;
esac
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "run it as root: it reads the service's keys"
    exec sudo -- "$0" "${given[@]}"
fi
systemctl cat "$unit" >/dev/null 2>&1 || fail "there is no service $unit"

# An argument as systemd reads it in ExecStart=.
quoted() {
    local value=$1
    value=${value//\\/\\\\} value=${value//\"/\\\"} value=${value//%/%%} value=${value//\$/\$\$}
    value=${value//$'\n'/\\n}
    printf '"%s" ' "$value"
}

# What of the unit, with its drop-ins, says who the service is and what it may do.
likeness() {
    local line section='' name
    while IFS= read -r line; do
        case $line in
            \[*) section=$line ;;
            [A-Za-z]*=*)
                name=${line%%=*}
                [ "$section" = "[Service]" ] && [[ $name != Restart && $name != RestartSec && $name != RestartPrevent* ]] || continue
                case $name in
                    Environment | EnvironmentFile | UnsetEnvironment | LoadCredential | SetCredential | StateDirectory | \
                        StateDirectoryMode | User | Group | DynamicUser | SupplementaryGroups | UMask | LimitNOFILE | \
                        LimitCORE | AmbientCapabilities | CapabilityBoundingSet | NoNewPrivileges | Protect* | \
                        Private* | DevicePolicy | ReadWritePaths | ReadOnlyPaths | InaccessiblePaths | BindPaths | \
                        BindReadOnlyPaths | RemoveIPC | Restrict* | LockPersonality | MemoryDenyWriteExecute | \
                        KeyringMode | SystemCall*) printf '%s\n' "${line//%i/$instance}" ;;
                esac
                ;;
        esac
    done < <(systemctl cat "$unit" | sed -e ':a' -e '/\\$/N; s/\\\n/ /; ta')
}

page_given=
for word in "$@"; do [[ $word != --public* ]] || page_given=yes; done
if [ "$1" = check ] && [ -z "$instance$page_given" ] && [ -s "$page" ]; then
    set -- "$@" --public "$(head -n 1 "$page")"
fi

# A unit of its own, as systemd alone makes the user, the keys and the sandbox; what it says comes through two pipes.
work=$(mktemp -d /run/broadcaster-command.XXXXXX)
own=broadcaster-command-$$.service
file=/run/systemd/system/$own
readers=()
tidy() {
    systemctl stop "$own" 2>/dev/null || true
    for pipe in out err; do exec 9<>"$work/$pipe" && exec 9>&-; done # who waits for a writer is let go
    [ ${#readers[@]} = 0 ] || wait "${readers[@]}" || true
    rm -rf "$file" "$work"
    systemctl reset-failed "$own" 2>/dev/null || true
    systemctl daemon-reload
}
mkfifo "$work/out" "$work/err"
trap tidy EXIT
trap 'exit 130' INT TERM
cat "$work/out" & readers+=($!)
cat "$work/err" >&2 & readers+=($!)
{
    printf '%s\n' "[Service]"
    likeness
    # The user of DynamicUser= is called as the unit, if by no other name: it is the same user in this unit.
    printf 'User=%s\n' "$(systemctl show --property User --value "$unit")"
    printf '%s\n' "Type=oneshot" "StandardOutput=file:$work/out" "StandardError=file:$work/err" \
        "Environment=LANG=${LANG:-C.UTF-8}"
    # Files to be uploaded may lie anywhere that this user can read.
    [ "$1" != recordings ] || printf '%s\n' "ProtectHome=read-only" "WorkingDirectory=-${PWD//%/%%}"
    printf 'ExecStart=%s' "$program "
    for word in "$@"; do quoted "$word"; done
    printf '\n'
} >"$file"
systemctl daemon-reload
systemctl start "$own" 2>/dev/null & # so that a signal is not kept waiting
wait $! || true
status=$(systemctl show --property ExecMainStatus --value "$own")
result=$(systemctl show --property Result --value "$own")
[ "$result" = success ] || [ "$status" != 0 ] || fail "it could not be started as the service is ($result): journalctl -u $own"
exit "$status"
