#!/bin/sh
# Installs the edge service from the bundle that this file lies in, without network. `sh install.sh --help` says how.
set -eu
umask 022

unit=/etc/systemd/system/export-once-edge.service
here=$(cd "$(dirname "$0")" && pwd)
prefix=/opt/export-once-edge
action=install service=auto python='' bind='' port='' variant=''

usage() {
    cat <<'END'
usage: sh install.sh [--prefix DIR] [--bind ADDRESS] [--port N] [--variant NAME] [--python PROGRAM] [--no-service]
       sh install.sh [--prefix DIR] --uninstall

Installs, or upgrades what is there: a release that does not answer never replaces one that does.
  --prefix DIR      where (/opt/export-once-edge)
  --bind ADDRESS    what the service listens on (0.0.0.0: every network; a token is always asked for)
  --port N          TCP port (8090)
  --variant NAME    which files of models/ it answers from (int8)
  --python PROGRAM  instead of the first fitting python3 on the PATH
  --no-service      no systemd unit: the command that starts the service is printed. Needs no root in a folder of one's own
  --uninstall       stop the service and remove everything, the token and the models too
END
}

fail() {
    echo "error: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
        --prefix | --bind | --port | --variant | --python)
            [ $# -ge 2 ] || fail "$1 lacks its value; see --help"
            eval "${1#--}=\$2"
            shift
            ;;
        --no-service) service=no ;;
        --uninstall) action=uninstall ;;
        --help | -h) usage && exit 0 ;;
        *) fail "there is no option $1; see --help" ;;
    esac
    shift
done
case "$prefix" in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
case "$prefix" in *[!A-Za-z0-9_./-]*) fail "--prefix $prefix: use letters, digits and . _ - / only" ;; esac
[ "$service" = no ] || [ -d /run/systemd/system ] || service=no
[ "$service" = no ] || [ "$(id -u)" = 0 ] || fail "a systemd unit needs root: run it with sudo, or give --no-service and a --prefix of your own"

uninstall() {
    [ -d "$prefix/releases" ] || fail "there is no installation in $prefix; name its folder with --prefix"
    if [ -f "$unit" ] && grep -q "^ExecStart=$prefix/current/" "$unit"; then
        [ "$service" != no ] || [ ! -d /run/systemd/system ] || fail "its systemd unit is still there; leave out --no-service"
        [ "$service" = no ] || systemctl disable --quiet --now export-once-edge
        rm -f "$unit"
        [ "$service" = no ] || systemctl daemon-reload
    fi
    for name in inputs current previous releases models before settings token; do rm -rf "${prefix:?}/$name"; done
    rmdir "$prefix" 2>/dev/null || echo "kept: what else is in $prefix"
    echo "uninstalled: $prefix"
}

# The machine and version of a Python, as the wheels are named. A 32-bit system often has a 64-bit kernel.
kind_of() {
    "$1" -c 'import platform, struct, sys
machine = platform.machine()
if struct.calcsize("P") == 4 and machine in ("aarch64", "armv8l"):
    machine = "armv7l"
print(f"{machine}-cp{sys.version_info[0]}{sys.version_info[1]}")' 2>/dev/null
}

choose_python() {
    seen=''
    for candidate in ${python:-python3 python3.13 python3.12 python3.11}; do
        kind=$(kind_of "$candidate") || continue
        seen="$seen $kind"
        python=$candidate
        [ ! -f "$here/wheels/requirements-$kind.txt" ] || return 0
    done
    there=$(cd "$here/wheels" && ls requirements-*.txt | sed 's/requirements-//; s/\.txt//' | tr '\n' ' ')
    fail "this bundle is for ${there}(machine and Python), here is${seen:- no python3}; install such a Python, name it with" \
        "--python, or make the bundle for this machine: make edge-bundle ARCH=$(uname -m)"
}

# Everything that the service needs, into $release; finished is what has .complete.
make_release() {
    options=''
    case "$kind" in
        armv7l-*)
            "$python" -c 'import numpy' 2>/dev/null || fail "NumPy is missing, which has no wheel for armv7l: apt-get install python3-numpy"
            options=--system-site-packages
            ;;
    esac
    rm -rf "$release"
    mkdir -p "$release"
    echo "installing for $kind in $release"
    "$python" -m venv --without-pip $options "$release/venv" || fail "$python cannot make an environment: apt-get install python3-venv"
    # pip runs from its wheel; it and setuptools are not installed, nor is the service built: it is a folder of Python files.
    grep -v -e '^pip==' -e '^setuptools==' "$here/wheels/requirements-$kind.txt" >"$release/requirements.txt"
    PYTHONPATH=$(ls "$here"/wheels/pip-*.whl) "$release/venv/bin/python" -m pip --isolated --quiet --disable-pip-version-check \
        install --no-index --no-deps --find-links "$here/wheels" --require-hashes --requirement "$release/requirements.txt"
    site=$("$release/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp -R "$here/edge" "$site/edge"
    "$release/venv/bin/python" -m compileall -q "$site/edge"
    printf '#!%s\nfrom edge.__main__ import main\n\nmain()\n' "$release/venv/bin/python" >"$release/venv/bin/edge"
    chmod 755 "$release/venv/bin/edge"
    cp -R "$here/inputs" "$here/install.sh" "$release"
    touch "$release/.complete"
}

# Waits up to $3 seconds until http://$1/healthz answers "ok"; $2: the process that must not end meanwhile, or 0.
healthy() {
    "$release/venv/bin/python" - "$@" <<'END'
import json, os, sys, time, urllib.error, urllib.request
address, pid, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    try:
        with opener.open(f"http://{address}/healthz", timeout=5) as answer:
            health = json.load(answer)
            broken = health.get("broken_versions", 0)
            sys.exit(f"{broken} of its models cannot be loaded" if broken else 0 if health["status"] == "ok" else 1)
    except (OSError, ValueError):
        pass
    try:
        os.kill(pid, 0) if pid else None
    except ProcessLookupError:
        sys.exit("it ended")
    time.sleep(0.1)
sys.exit("it does not answer")
END
}

# The new release with the bundle's models, on a port of its own: before anything of the old one is touched.
try_release() {
    free=$("$release/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$release/venv/bin/edge" serve --port "$free" --models "$here/models" --variant "$variant" >"$release/trial.log" 2>&1 &
    trial=$!
    healthy "127.0.0.1:$free" "$trial" 60 || { # a slow card is read for half of it
        tail -n 5 "$release/trial.log" >&2
        fail "the new release does not work here, so nothing was changed"
    }
    kill "$trial"
    wait "$trial" 2>/dev/null || true
    trial=''
}

# By a temporary name, .tflite before its json: a service that runs takes each pair over by itself.
copy_models() {
    for source in $(cd "$here/models" && ls ./*/*/*.tflite ./*/*/*.json | sort -r); do
        mkdir -p "$prefix/models/$(dirname "$source")"
        temporary=$prefix/models/$(dirname "$source")/.tmp-$$
        cp "$here/models/$source" "$temporary"
        mv -f "$temporary" "$prefix/models/$source"
    done
}

point() { # the link $1 at release $2, in one step
    ln -sfn "releases/$2" "$prefix/.link-$$"
    mv -Tf "$prefix/.link-$$" "$prefix/$1"
}

restart_unit() {
    systemctl daemon-reload
    systemctl enable --quiet export-once-edge
    systemctl restart export-once-edge
    answers 20
}

answers() { # the service, at the address of its settings, within $1 seconds
    . "$prefix/settings"
    case "$EDGE_BIND" in 0.0.0.0 | ::) address=127.0.0.1 ;; *:*) address="[$EDGE_BIND]" ;; *) address=$EDGE_BIND ;; esac
    healthy "$address:$EDGE_PORT" 0 "$1"
}

# What a new release replaces, for a way back.
keep_old() {
    rm -rf "$prefix/before"
    mkdir "$prefix/before"
    for path in "$prefix/models" "$prefix/settings" "$unit"; do
        [ ! -e "$path" ] || cp -a "$path" "$prefix/before"
    done
}

roll_back() {
    [ -n "$old" ] || { systemctl stop export-once-edge; fail "the service does not answer: journalctl -u export-once-edge"; }
    point current "$old"
    rm -rf "$prefix/models"
    mv "$prefix/before/models" "$prefix/before/settings" "$prefix"
    mv "$prefix/before/export-once-edge.service" "$unit"
    systemctl daemon-reload
    systemctl restart export-once-edge
    answers 60 || fail "neither the new release nor the one before answers: journalctl -u export-once-edge"
    fail "the new release does not answer as a service (journalctl -u export-once-edge); the one before runs again"
}

tidy() {
    status=$?
    [ -z "${trial:-}" ] || kill "$trial" 2>/dev/null || true
    [ -z "${release:-}" ] || [ -e "$release/.complete" ] || rm -rf "$release"
    exit $status
}

[ "$action" = install ] || { uninstall && exit 0; }

damaged=$(cd "$here" && sha256sum -c SHA256SUMS 2>&1 | grep -v ': OK$' | head -n 1) || true
[ -z "$damaged" ] || fail "the bundle is damaged ($damaged); copy it again"
choose_python
mkdir -p "$prefix/releases" 2>/dev/null && [ -w "$prefix" ] || fail "$prefix cannot be written: run it with sudo, or give a --prefix of your own"

# What an earlier installation was told stays, unless it is told anew.
for setting in bind=0.0.0.0 port=8090 variant=int8; do
    name=${setting%%=*}
    upper=EDGE_$(echo "$name" | tr '[:lower:]' '[:upper:]')
    kept=$(sed -n "s/^$upper=//p" "$prefix/settings" 2>/dev/null) || true
    eval "$name=\${$name:-\${kept:-${setting#*=}}}"
done

id=$(sha256sum "$here/SHA256SUMS" | cut -c 1-12)
release=$prefix/releases/$id
trap tidy EXIT
trap 'exit 130' INT TERM
[ -e "$release/.complete" ] || make_release
try_release

[ -s "$prefix/token" ] || (umask 077 && "$release/venv/bin/python" -c 'import secrets; print(secrets.token_urlsafe(32))' >"$prefix/token")
old=$(basename "$(readlink "$prefix/current" || true)")
keep_old
printf 'EDGE_BIND=%s\nEDGE_PORT=%s\nEDGE_VARIANT=%s\n' "$bind" "$port" "$variant" >"$prefix/settings"
copy_models
point current "$id"
ln -sfn current/inputs "$prefix/inputs" # what edge bench asks, beside the models
if [ "$service" != no ]; then
    sed "s|@PREFIX@|$prefix|g" "$here/export-once-edge.service" >"$unit"
    restart_unit || roll_back
fi
[ -z "$old" ] || [ "$old" = "$id" ] || point previous "$old"
rm -rf "$prefix/before"
for other in "$prefix"/releases/*; do
    case "${other##*/}" in "$id" | "$old") ;; *) rm -rf "$other" ;; esac
done

name=$(hostname -I 2>/dev/null | cut -d ' ' -f 1)
[ "$bind" = 0.0.0.0 ] || name=$bind
echo "installed: $prefix, release $id"
if [ "$service" = no ]; then
    echo "start:     $prefix/current/venv/bin/edge serve --bind $bind --port $port --models $prefix/models --variant $variant --token-file $prefix/token"
fi
echo "address:   http://${name:-127.0.0.1}:$port"
echo "token:     $prefix/token"
echo "try:       curl -H \"Authorization: Bearer \$(cat $prefix/token)\" http://127.0.0.1:$port/v1/models"
