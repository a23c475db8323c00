#!/usr/bin/env bash
# Installs the broadcaster as a systemd service on Debian or Ubuntu, from the source tree that this file is in:
#   sudo deploy/install.sh
# Run it again to upgrade: settings stay, and a release that does not start gives way to the one before it.
# Required settings that are not there yet are taken from the environment, or asked for.
# With DESTDIR it puts everything below that folder and starts nothing. PYTHON names another interpreter.
set -euo pipefail
umask 022

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=${DESTDIR:-}
prefix=$root/opt/broadcaster
etc=$root/etc/broadcaster
units=$root/etc/systemd/system
settings=$etc/broadcaster.env
python=${PYTHON:-/usr/bin/python3} # one in a home folder could not be run by the service

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

install_packages() {
    local missing=()
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v npm >/dev/null || missing+=(npm)
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; name it: PYTHON=/usr/bin/python3.12 deploy/install.sh"
}

# Prints the value of a setting that is in no file yet: from the environment, or from whoever sits there.
value_of() { # name, what it is
    local value=${!1:-} silent=()
    [[ $1 == *SECRET* ]] && silent=(-s)
    if [ -z "$value" ] && [ -t 0 ]; then
        read -r "${silent[@]}" -p "$2 ($1): " value </dev/tty
        [ ${#silent[@]} = 0 ] || say >/dev/tty
    fi
    [ -n "$value" ] || fail "$1 is missing ($2): set it in the environment, or run this in a terminal"
    printf '%s' "$value"
}

is_set() { grep -q "^$1=." "$settings"; }

require() { # name, what it is
    is_set "$1" && return
    local value
    value=$(value_of "$1" "$2")
    NAME=$1 VALUE=$value awk '
        index($0, ENVIRON["NAME"] "=") == 1 { next }
        { print }
        END { print ENVIRON["NAME"] "=" ENVIRON["VALUE"] }
    ' "$settings" >"$settings.new"
    chmod 0600 "$settings.new"
    mv "$settings.new" "$settings"
}

require_credential() { # name, what it is
    local file=$etc/credentials/$1 value
    [ -s "$file" ] && return
    value=$(value_of "$1" "$2")
    (umask 077 && printf '%s\n' "$value" >"$file")
}

write_settings() {
    install -d -m 0755 "$etc"
    install -d -m 0700 "$etc/credentials"
    # Without what the unit sets, and without examples where an answer is required.
    [ -f "$settings" ] || (umask 077 && sed -E \
        -e 's/^(BROADCASTER_STATE_DIR|R2_ACCESS_KEY_ID|R2_SECRET_ACCESS_KEY)=.*/# (The unit sets \1.)/' \
        -e 's/^(BROADCASTER_HLS_DIR|R2_PUBLIC_URL)=.*/\1=/' \
        "$source/.env.example" >"$settings")
    [ -f "$etc/page.json" ] || install -m 0644 "$source/viewer/public/config.json" "$etc/page.json"
    require BROADCASTER_HLS_DIR "Owncast's data/hls folder"
    is_set R2_ENDPOINT_URL || [ -z "${R2_ENDPOINT_URL:-}" ] || require R2_ENDPOINT_URL "the S3 server"
    is_set R2_ENDPOINT_URL || require R2_ACCOUNT_ID "the Cloudflare account's id"
    require R2_BUCKET "the bucket's name"
    grep -q '^BROADCASTER_URLS=presigned' "$settings" || require R2_PUBLIC_URL "the bucket's public address, https://..."
    require_credential R2_ACCESS_KEY_ID "the API token's access key id"
    require_credential R2_SECRET_ACCESS_KEY "the API token's secret access key"
}

as_group() { setpriv --reuid=65534 --regid=65534 --groups="$1" "${@:2}" >/dev/null 2>&1; }

# Prints the first folder above one that a group may not enter, if there is any.
closed_to() { # group, folder
    local path=$2 above=()
    while [ "$path" != / ]; do path=$(dirname "$path"); above=("$path" "${above[@]}"); done
    for path in "${above[@]}"; do
        as_group "$1" test -x "$path" || { printf '%s' "$path"; return; }
    done
}

# Owncast lets nobody but its own user and group into its HLS folder, and its user alone into data, around it. To
# open that is the operator's to do: what in it is not its user's alone can then be read by the group.
write_drop_in() { # settings file
    local folder group closed drop_in unit=broadcaster
    [ "$1" = "$settings" ] || unit=broadcaster@$(basename "$1" .env)
    drop_in=$units/$unit.service.d/10-owncast.conf
    folder=$(sed -n 's/^BROADCASTER_HLS_DIR=//p' "$1")
    [ -d "$folder" ] || fail "BROADCASTER_HLS_DIR: there is no folder $folder; start Owncast, which makes it (anew at each start of a stream: try again)"
    group=$(stat -c %g "$folder")
    if [ -z "$root" ] && ! as_group "$group" ls "$folder/."; then
        closed=$(closed_to "$group" "$(realpath "$folder")")
        [ -z "$closed" ] ||
            fail "the group $(stat -c %G "$folder") may not enter $closed, as Owncast makes it: chmod g+x $closed" \
                "(and before it chmod 600 what there is nobody else's business, such as $closed/owncast.db)"
        fail "the group $(stat -c %G "$folder") cannot read $folder: chmod g+rx $folder"
    fi
    install -d "${drop_in%/*}"
    {
        say "# Made by install.sh for $folder, and made again by each run of it."
        say "[Service]"
        say "SupplementaryGroups=$group"
        case $folder in /home/* | ~root/* | /run/user/*) say "ProtectHome=read-only" ;; esac
    } >"$drop_in"
}

build_release() {
    name=releases/$(date -u +%Y%m%d%H%M%S)
    release=$prefix/$name
    local work=$release/source
    say "building $release"
    trap 'rm -rf "$release"' EXIT
    mkdir -p "$work" "$release/viewer"
    cp -R "$source"/{broadcaster,pyproject.toml,constraints.txt,README.md} "$work"
    cp -R "$source"/viewer/{public,dashboard,scripts,package.json,package-lock.json,.npmrc} "$release/viewer"
    "$python" -m venv "$release"
    "$release/bin/pip" install --quiet --disable-pip-version-check -c "$work/constraints.txt" "$work"
    (cd "$release/viewer" && npm ci --silent --omit=dev --no-audit --no-fund && npm run --silent vendor)
    ln -sf /etc/broadcaster/page.json "$release/viewer/public/config.json" # the operator's, kept over upgrades
    mv "$work/README.md" "$release"
    rm -rf "$work" "$release/viewer/node_modules"
    trap - EXIT
}

switch_to() { # releases/...
    ln -sfn "$1" "$prefix/next"
    mv -T "$prefix/next" "$prefix/current"
}

start() { systemctl restart broadcaster && systemctl try-restart 'broadcaster@*'; }

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it as root: sudo deploy/install.sh"
[ -n "$root" ] || install_packages
write_settings
for file in "$etc"/*.env; do write_drop_in "$file"; done
build_release
before=$(readlink "$prefix/current" || true)
switch_to "$name"
install -m 0644 "$source"/deploy/systemd/broadcaster{,@}.service "$units"
[ -z "$root" ] || exit 0

systemctl daemon-reload
systemctl enable --quiet broadcaster
if ! start; then
    journalctl -u broadcaster -n 5 --no-pager -o cat >&2 || true
    [ -n "$before" ] || fail "the service does not start; mend what its last lines say and run this again"
    switch_to "$before"
    start || true
    fail "the new release does not start; the one before it runs again"
fi
for old in "$prefix"/releases/*; do
    [ "$old" = "$release" ] || [ "$old" = "$prefix/$before" ] || rm -rf "$old"
done
say "broadcaster runs; its log: journalctl -u broadcaster -f; its settings: $settings"
