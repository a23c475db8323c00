# Part of install.sh: puts a release into place, starts it, and goes back where it is at fault.
# shellcheck shell=bash

# Ours of systemd's files: what `systemctl edit` made stays.
our_units() { # folder
    find "$1" -maxdepth 2 \( -path "$1/broadcaster.service" -o -path "$1/broadcaster@.service" \
        -o -path "$1/broadcaster*.service.d/10-owncast.conf" \) -printf '%P\n'
}

copy_units() { # from, to
    mkdir -p "$2"
    our_units "$1" | (cd "$1" && xargs -r -d '\n' cp -p --parents -t "$2")
}

remove_units() { # folder
    our_units "$1" | (cd "$1" && xargs -r -d '\n' rm -f)
    find "$1" -maxdepth 1 -name 'broadcaster*.service.d' -empty -delete
}

switch_to() { # releases/..., folder with its units
    ln -sfn "$1" "$prefix/next"
    mv -T "$prefix/next" "$prefix/current"
    remove_units "$units"
    copy_units "$2" "$units"
    [ -n "$root" ] || systemctl daemon-reload
}

# What a service wrote, made fit for a terminal: no control characters, no invisible or bidirectional formatting.
printable() {
    LC_ALL=C sed -E 's/[\x01-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf/?/g'
}

# The log of a unit's current start.
log_of() { # unit
    journalctl --sync 2>/dev/null || true
    journalctl "_SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID "$1")" --no-pager -o cat | printable
}

try() { # unit
    systemctl restart "$1" && return
    say "$1 does not start; its last lines:" >&2
    journalctl -u "$1" -n 5 --no-pager -o cat | printable >&2 || true
    return 1
}

# Starts a stopped service with the release before. The unit restores the journal first, as the service's user and in
# its sandbox: that user decides what the names in the state folder lead to, so root opens none of them.
back() { # settings file, whether the new release may have served by then
    local unit drop_in status=0
    unit=$(unit_of "$1")
    systemctl stop "$unit" || true
    drop_in=/run/systemd/system/$unit.service.d/90-restore-journal.conf
    mkdir -p "${drop_in%/*}"
    printf '%s\n' "[Service]" "ExecStartPre=$(command -v "$python") $release/restore_journal.py $(stat -c %.9Y "$release") $2" >"$drop_in"
    systemctl daemon-reload
    try "$unit" || status=1
    rm -f "$drop_in"
    systemctl daemon-reload
    log_of "$unit" | grep -x 'journal.db is again what it was before the new release' >/dev/null &&
        say "$unit: journal.db is again what it was before the new release"
    return $status
}

# The release is at fault when a stream that ran before does not start with it and starts again with the one before.
judge() { # settings file of what does not start; those of what did, before it
    local file unit runs=()
    systemctl stop "$(unit_of "$1")" || true
    switch_to "$before" "$work/old"
    if ! back "$1" no; then
        switch_to "$name" "$work/new"
        return
    fi
    for file in "$@"; do
        unit=$(unit_of "$file")
        [ "$file" = "$1" ] || back "$file" yes || continue
        runs+=("$unit")
    done
    fail "$(unit_of "$1") does not start with the new release; with the one before it run again: ${runs[*]}"
}

start_all() {
    local file unit state started=() broken=()
    for file in "$settings" $(find "$etc" -maxdepth 1 -name '*.env' ! -path "$settings" | sort); do
        unit=$(unit_of "$file")
        state=$(systemctl is-active "$unit" || true)
        if [ "$state" = inactive ] && { [ -n "$before" ] || [ "$unit" != broadcaster ]; }; then
            say "$unit did not run, and is not started"
        elif try "$unit"; then
            started+=("$file")
        else
            [ "$state" != active ] || [ -z "$before" ] || judge "$file" "${started[@]}"
            broken+=("$unit")
        fi
    done
    [ ${#broken[@]} = 0 ] || fail "mend what their last lines say, and run this again: ${broken[*]}"
    for file in "${started[@]}"; do
        unit=$(unit_of "$file")
        say "$unit runs; its log: journalctl -u $unit -f; its settings: $file"
    done
}
