#!/usr/bin/env bash
# Installs the broadcaster as a systemd service on Debian or Ubuntu, from the source tree that this file is in:
#   sudo deploy/install.sh
# Run it again to upgrade: settings stay, and a release with which a stream that ran does not start gives way to the
# one before it. Required settings that are not there yet are taken from the environment, or asked for.
#   sudo deploy/install.sh --uninstall
# takes all of it away, but for settings and state, which may hold segments that the bucket does not have yet.
# With DESTDIR it works below that folder and starts nothing. PYTHON names another interpreter.
set -euo pipefail
umask 022

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=${DESTDIR:-}
prefix=$root/opt/broadcaster
etc=$root/etc/broadcaster
units=$root/etc/systemd/system
settings=$etc/broadcaster.env
command=$root/usr/local/bin/broadcaster # runs the program as the service does
python=${PYTHON:-/usr/bin/python3} # one in a home folder could not be run by the service
work=$(mktemp -d)
unfinished= # a release that is being built
trap 'rm -rf "$work" "$unfinished"' EXIT

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

# Prints a setting as systemd reads it (systemd.exec(5), EnvironmentFile=): the last one counts, without its quotes.
setting() { # name, settings file
    sed -nE "s/^[[:space:]]*$1=[[:space:]]*(.*)$/\1/p" "$2" | tail -n 1 |
        sed -E "s/[[:space:]]+$//; s/^'(.*)'$/\1/; t; s/^\"(.*)\"$/\1/; s/\\\\(.)/\1/g"
}

is_set() { [ -n "$(setting "$1" "$settings")" ]; }

# Prints a value so that systemd reads it as it is.
quoted() { # value
    case $1 in *[\"\'\\]*) sed 's/[\\"]/\\&/g; s/.*/"&"/' <<<"$1" ;; *) say "$1" ;; esac
}

require() { # name, what it is
    is_set "$1" && return
    local value
    value=$(value_of "$1" "$2")
    value=$(quoted "$value")
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
    [ "$(setting BROADCASTER_URLS "$settings")" = presigned ] || require R2_PUBLIC_URL "the bucket's public address, https://..."
    require_credential R2_ACCESS_KEY_ID "the API token's access key id"
    require_credential R2_SECRET_ACCESS_KEY "the API token's secret access key"
}

# Asks once what tells the service a viewer's address; without an answer it believes what a proxy on this machine sends.
ask_what_is_in_front() {
    is_set BROADCASTER_TRUSTED_HEADER && return
    local front= header=${BROADCASTER_TRUSTED_HEADER:-}
    if [ -z "$header" ] && [ -t 0 ] && [ -z "$before" ]; then
        read -r -p "What stands in front of it: cloudflare (a tunnel), nginx (or another proxy), nothing? " front </dev/tty || say
        case $front in
            cloudflare*) header=cf-connecting-ip ;;
            nginx* | proxy*) header=x-forwarded-for ;;
            nothing) header=none ;;
        esac
    fi
    [ -z "$header" ] || BROADCASTER_TRUSTED_HEADER=$header require BROADCASTER_TRUSTED_HEADER "cf-connecting-ip, x-forwarded-for or none"
}

# The address at which viewers find the page, if there is one: `broadcaster check` asks there, too.
ask_for_page() {
    local file=$etc/page-address value=${BROADCASTER_PAGE_ADDRESS:-}
    if [ -z "$value" ]; then
        [ ! -e "$file" ] && [ -t 0 ] || return 0
        read -r -p "The page's public address, https://... (empty: there is none yet): " value </dev/tty || say
    fi
    case $value in
        "" | http://?* | https://?*) printf '%s' "$value" >"$file" ;;
        *) fail "BROADCASTER_PAGE_ADDRESS: the page's public address begins with https://" ;;
    esac
}

install_command() {
    if [ -e "$command" ] && ! grep -q "made by install.sh" "$command"; then
        say "$command is another program, and stays: the broadcaster has no command of its own"
        return
    fi
    install -D -m 0755 "$source/deploy/broadcaster.sh" "$command"
}

remove_command() {
    [ ! -e "$command" ] || ! grep -q "made by install.sh" "$command" || rm -f "$command"
}

# Says how all stands; what is wrong with bucket or page is no reason to call the installation a failure.
check_all() {
    say "broadcaster check:"
    "$command" check </dev/null ||
        say "mend what has FAILED above, then: sudo broadcaster check"
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

unit_of() { # settings file
    if [ "$1" = "$settings" ]; then say broadcaster; else say "broadcaster@$(basename "$1" .env)"; fi
}

# Owncast lets nobody but its own user and group into its HLS folder, and its user alone into data, around it. To
# open that is the operator's to do: what in it is not its user's alone can then be read by the group.
write_drop_in() { # settings file
    local folder group closed drop_in
    drop_in=$work/new/$(unit_of "$1").service.d/10-owncast.conf
    folder=$(setting BROADCASTER_HLS_DIR "$1")
    [ -d "$folder" ] || fail "$1: BROADCASTER_HLS_DIR: there is no folder $folder; start Owncast, which makes it (anew at each start of a stream: try again)"
    group=$(stat -c %g "$folder")
    if [ -z "$root" ] && ! as_group "$group" ls "$folder/."; then
        closed=$(closed_to "$group" "$(realpath "$folder")")
        [ -z "$closed" ] ||
            fail "the group $(stat -c %G "$folder") may not enter $closed, as Owncast makes it: sudo -u $(stat -c %U "$closed") chmod g+x $closed" \
                "(and before it chmod 600 what there is nobody else's business, such as $closed/owncast.db)"
        fail "the group $(stat -c %G "$folder") cannot read $folder: sudo -u $(stat -c %U "$folder") chmod g+rx $folder"
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
    name=releases/$(date -u +%Y%m%d%H%M%S)-$$
    release=$prefix/$name
    unfinished=$release
    local tree=$release/source
    say "building $release"
    mkdir -p "$tree" "$release/viewer"
    cp -R "$source"/{broadcaster,pyproject.toml,README.md} "$tree"
    cp -R "$source"/viewer/{public,dashboard,scripts,package.json,package-lock.json,.npmrc} "$release/viewer"
    "$python" -m venv "$release"
    # What comes from elsewhere is what was tried, to the byte, and runs no code of its own on its way here.
    "$release/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        -r "$source/deploy/requirements.txt"
    "$release/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation "$tree"
    (cd "$release/viewer" && npm ci --silent --omit=dev --no-audit --no-fund && npm run --silent vendor && npm run --silent build)
    ln -sf /etc/broadcaster/page.json "$release/viewer/dist/config.json" # the operator's, kept over upgrades
    cp -R "$source"/{README.md,SECURITY.md,docs} "$release"
    cp "$source/deploy/restore_journal.py" "$release"
    rm -rf "$tree" "$release"/viewer/{node_modules,public,scripts}
    unfinished=
}

. "$source/deploy/upgrade.sh"

uninstall() {
    if [ -z "$root" ]; then
        for file in "$etc"/*.env; do systemctl disable --quiet --now "$(unit_of "$file")" || true; done
    fi
    [ ! -d "$units" ] || remove_units "$units"
    remove_command
    rm -rf "$prefix"
    [ -n "$root" ] || systemctl daemon-reload
    say "removed; what is yours stays. To remove settings, keys, and segments that the bucket does not have yet:"
    say "  rm -rf $etc $root/var/lib/broadcaster* $root/var/lib/private/broadcaster*"
}

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it as root: sudo deploy/install.sh"
case ${1:-} in
    --uninstall) uninstall; exit ;;
    ?*) fail "$1 is not known; there is --uninstall" ;;
esac
[ -n "$root" ] || install_packages
before=$(readlink "$prefix/current" || true)
write_settings
ask_what_is_in_front
ask_for_page
mkdir -p "$units"
copy_units "$units" "$work/old"
copy_units "$units" "$work/new"
install -m 0644 "$source"/deploy/systemd/broadcaster{,@}.service "$work/new"
for file in "$etc"/*.env; do
    # One stream whose folder is not there now is no reason to keep the others from their upgrade.
    (write_drop_in "$file") || [ -n "$before" ] || [ "$file" != "$settings" ] || exit 1
done
build_release
switch_to "$name" "$work/new"
install_command
[ -z "$root" ] || exit 0

[ -n "$before" ] || systemctl enable --quiet broadcaster
start_all
for old in "$prefix"/releases/*; do
    [ "$old" = "$release" ] || [ "$old" = "$prefix/$before" ] || rm -rf "$old"
done
[ ! -x "$command" ] || ! grep -q "made by install.sh" "$command" || check_all
