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

# Gives a stopped service its journal as it was before the new release migrated it (broadcaster/catalog/copies.py).
restore_journal() { # settings file, whether the new release may have served by then
    local journal copy
    journal=$(setting BROADCASTER_STATE_DIR "$1")
    journal=${journal:-/var/lib/$(unit_of "$1" | tr @ -)}/journal.db
    for copy in "$journal".schema*; do
        [ "$copy" -nt "$release" ] || continue
        rm -f "$journal"-wal "$journal"-shm
        mv -f "$copy" "$journal"
        say "$journal is again what it was before the new release"
        # Numbers that viewers were told meanwhile must not be used again: as after a power cut, they are raised.
        [ "$2" = no ] || "$python" - "$journal" <<'END'
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as journal:
    journal.execute("INSERT OR REPLACE INTO facts VALUES ('boot', 'before a migration')")
journal.close()
END
    done
}

try() { # unit
    systemctl restart "$1" && return
    say "$1 does not start; its last lines:" >&2
    journalctl -u "$1" -n 5 --no-pager -o cat >&2 || true
    return 1
}

back() { # settings file, whether the new release may have served by then
    local unit
    unit=$(unit_of "$1")
    systemctl stop "$unit" || true
    restore_journal "$@"
    try "$unit"
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
