#!/usr/bin/env bash
# Makes the virtual environment of a checkout: bootstrap.sh VENV demo|test|bench. Called by the Makefile.
#
# Finds Python >= 3.11, a C compiler, the headers of Python and OpenSSL, and for `bench` also PgBouncer and HAProxy.
# What is missing is installed by apt-get when that needs no password; otherwise the one line to run is printed.
set -euo pipefail

venv=$1
purpose=$2
cd "$(dirname "$0")/.."

say() { printf 'hoopfast: %s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough "$name"; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

has_header() { printf '#include <%s>\n' "$1" | "${CC:-cc}" "${@:2}" -E - >/dev/null 2>&1; }

missing() {
    local python include version
    python=$(find_python)
    if [ -z "$python" ]; then
        # A python3 that is too old stays what it is; a newer one may stand beside it.
        version=python3
        ! command -v python3 >/dev/null 2>&1 || version=python3.11
        printf '%s\n' "$version" "$version-venv" "$version-dev"
    else
        # Debian names the packages of a second interpreter after its version.
        version=$("$python" -c 'import os.path, sys; print("%d.%d" % sys.version_info[:2] if os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3") else "3")')
        version=python${version}
        "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || echo "$version-venv"
        include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        [ -f "$include/Python.h" ] || echo "$version-dev"
    fi
    command -v "${CC:-cc}" >/dev/null 2>&1 || echo build-essential
    { command -v "${CC:-cc}" >/dev/null 2>&1 && has_header openssl/ssl.h; } || echo libssl-dev
    if [ "$purpose" = bench ]; then
        PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null 2>&1 || echo pgbouncer
        PATH=$PATH:/usr/sbin command -v haproxy >/dev/null 2>&1 || echo haproxy
    fi
}

install_packages() {
    local run=()
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this is not Debian or Ubuntu; please install what these packages hold, and try again: $*"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            run=(sudo -n)
        else
            say "these packages are missing; install them and try again:"
            say "    sudo apt-get install -y $*"
            exit 1
        fi
    fi
    say "installing $*"
    # The benchmark starts its own PgBouncer and HAProxy; Debian's services stay off.
    local guard=
    if [ ! -e /usr/sbin/policy-rc.d ] && [ "$purpose" = bench ]; then
        guard=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | "${run[@]}" tee $guard >/dev/null
        "${run[@]}" chmod 755 $guard
    fi
    local status=0
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null || status=$?
    [ $status -ne 0 ] || "${run[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@" >/dev/null </dev/null || status=$?
    [ -z "$guard" ] || "${run[@]}" rm -f "$guard"
    if [ $status -ne 0 ]; then
        say "apt-get failed; the packages wanted are: $*"
        exit 1
    fi
}

if [ -n "${PYTHON:-}" ] && ! new_enough "$PYTHON"; then
    say "PYTHON=$PYTHON is no Python 3.11 or newer; name another, or none, and one will be looked for"
    exit 1
fi
mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -gt 0 ]; then
    install_packages "${wanted[@]}"
    mapfile -t wanted < <(missing)
    if [ ${#wanted[@]} -gt 0 ]; then
        say "still missing after the installation: ${wanted[*]}. Python must be 3.11 or newer (PYTHON=... names one)."
        exit 1
    fi
fi

if ! new_enough "$venv/bin/python"; then
    say "making $venv"
    rm -rf "$venv"
    "$(find_python)" -m venv "$venv"
fi

extra=$purpose
[ "$purpose" != bench ] || extra=test
say "installing the packages of [$extra] into $venv"
pip=("$venv/bin/python" -m pip install -q --retries 8 --timeout 120)
# The build tools live in the environment, so that a change of the core is one quick build_ext.
if ! "${pip[@]}" 'setuptools>=77' wheel 'cython>=3.1' ||
    ! HOOPFAST_BUILD=none "${pip[@]}" --no-build-isolation -e ".[$extra]"; then
    say "pip could not install them (see above); the packages come from PyPI, or from where pip is told to look"
    exit 1
fi
touch "$venv/.ready-$purpose"
