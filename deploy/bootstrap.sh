#!/bin/sh
# Find uv and a Python 3.11-3.13, get them where they are missing, and run that Python with the arguments given:
#     sh deploy/bootstrap.sh -m deploy.environments
# The program run this way finds uv in $UV. Needs nothing but a POSIX shell and Debian's or Ubuntu's python3.
set -eu
cd "$(dirname "$0")/.."
home=.venv-bootstrap # what is installed here goes here; git ignores it
again="then run the command again"

fail() {
    echo "error: $*" >&2
    exit 2
}

# apt PACKAGE…: install as root, or end with the one line that somebody else has to type.
apt() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        fail "$* missing: run \`apt-get install $*\` as root, $again"
    fi
    echo "setup: installing $* with apt-get"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null ||
        fail "apt-get could not install $* ($(tail -n 1 "$log")); check the network, $again"
}

# The interpreter behind a command, if it runs (a pyenv shim may not) and has a version that TensorFlow supports.
usable() {
    "$1" -c 'import sys; print(sys.executable) if (3, 11) <= sys.version_info[:2] <= (3, 13) else sys.exit(1)' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 && usable "$candidate"; then return 0; fi
    done
    return 1
}

# Any Python 3 that runs is good enough to install uv.
install_uv() {
    any=${python:-}
    for candidate in python3 /usr/bin/python3; do
        [ -n "$any" ] || ! "$candidate" -c '' 2>/dev/null || any=$candidate
    done
    if [ -z "$any" ]; then
        apt python3 python3-venv
        any=/usr/bin/python3
    fi
    if ! "$any" -c 'import ensurepip, venv' 2>/dev/null; then
        case $("$any" -c 'import sys; print(sys.executable)') in
        /usr/bin/*) apt "$("$any" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')" ;;
        *) fail "$any has no venv module; install uv or python3-venv, $again" ;;
        esac
    fi
    echo "setup: installing uv into $home"
    rm -rf "$home"
    "$any" -m venv "$home" >"$log" 2>&1 || fail "$any -m venv failed ($(tail -n 1 "$log")); install uv or python3-venv, $again"
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 --require-hashes -r deploy/uv.txt >"$log" 2>&1 ||
        fail "uv could not be installed ($(grep -v '^ *$' "$log" | tail -n 1)); check the network, or install uv yourself, $again"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
python=$(find_python) || python=

if uv --version >/dev/null 2>&1; then
    UV=$(command -v uv)
else
    UV=$PWD/$home/bin/uv
    case "$(sed -n 's/^uv==\([^ ]*\).*/uv \1/p' deploy/uv.txt)" in
    "$("$UV" --version 2>/dev/null | cut -d' ' -f1-2)") ;;
    *) install_uv ;;
    esac
fi

if [ -z "$python" ]; then
    python=$("$UV" python find '>=3.11,<3.14' 2>/dev/null) || python=
    if [ -z "$python" ]; then
        echo "setup: getting Python 3.11 with uv"
        "$UV" python install 3.11 >"$log" 2>&1 ||
            fail "no Python 3.11, 3.12 or 3.13 here, and uv could not get one ($(tail -n 1 "$log")); install python3.11 or check the network, $again"
        python=$("$UV" python find 3.11)
    fi
fi

rm -f "$log"
export UV
exec "$python" "$@"
