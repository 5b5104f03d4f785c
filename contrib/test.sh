#!/bin/sh
# The whole check of a change: static checks, then the tests as the current user and, when that is
# root, a second time as an unprivileged user. Arguments go to pytest:
#
#     contrib/test.sh                               everything but the slow sweeps
#     contrib/test.sh tests/unit/store -x           a part
#     contrib/test.sh -m slow                       the slow sweeps
#
# It makes .venv-test by itself and, as root on a Debian machine, installs the programs the tests
# compare kstore with. Without them those tests skip; with CI=true a skip of that kind is a failure.
#
#     PYTHON=/path/to/python3     interpreter for .venv-test
#     KSTORE_SKIP_STATIC=1        only the tests
#     KSTORE_TEST_CACHE=DIR       where big test inputs are kept between runs
set -eu
umask 022

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$checkout"
PATH=$PATH:/usr/sbin:/sbin
export PATH
failed=
summary=

say() { printf '\n== %s\n' "$*"; }
record() { # record NAME STATUS SECONDS
    if [ "$2" -eq 0 ]; then word=ok; else word=FAILED failed=yes; fi
    summary="$summary$(printf '%-28s %-7s %4ss' "$1" "$word" "$3")
"
}
step() { # step NAME COMMAND... : runs it and goes on after a failure
    name=$1
    shift
    say "$name"
    begun=$(date +%s) status=0
    "$@" || status=$?
    record "$name" "$status" $(($(date +%s) - begun))
}

is_root() { [ "$(id -u)" -eq 0 ]; }
as_nobody() { setpriv --reuid "$(id -u nobody)" --regid "$(id -g nobody)" --clear-groups -- "$@"; }
apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

# --- the interpreter --------------------------------------------------------------------------

suits() { # 3.11 or newer, with venv
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
find_python() { # as root one that other users can run, for the second pass
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || return 1
        return 0
    fi
    names='python3 python3.14 python3.13 python3.12 python3.11'
    if is_root; then
        for name in $names; do
            PYTHON=/usr/bin/$name
            if suits "$PYTHON" && as_nobody "$PYTHON" -c '' 2>/dev/null; then return 0; fi
        done
    fi
    for name in $names; do
        PYTHON=$(command -v "$name" || :)
        if [ -n "$PYTHON" ] && suits "$PYTHON"; then return 0; fi
    done
    PYTHON=
    return 1
}

make_environment() {
    venv=$checkout/.venv-test
    if [ -n "${KSTORE_TEST_VENV:-}" ] &&
        "$KSTORE_TEST_VENV/bin/python" -c 'import pytest, urllib3' 2>/dev/null; then
        # Borrowed from another copy of the checkout: this copy's code goes first.
        venv=$KSTORE_TEST_VENV
        PYTHONPATH=$checkout
        export PYTHONPATH
        return 0
    fi
    if is_root && [ -z "${PYTHON:-}" ] && ! suits /usr/bin/python3 && command -v apt-get >/dev/null &&
        /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "installing python3-venv"
        apt-get update -qq || :
        apt_install python3-venv || echo "note: apt-get could not install python3-venv"
    fi
    find_python || {
        echo "test.sh: no Python 3.11 or newer with venv was found; set PYTHON=/path/to/python3" >&2
        return 1
    }
    stamp="$PYTHON $(cksum <pyproject.toml)"
    if [ "$(cat "$venv/stamp" 2>/dev/null || :)" = "$stamp" ]; then return 0; fi
    echo "making .venv-test with $PYTHON ($("$PYTHON" -V))"
    "$PYTHON" -m venv --clear "$venv" &&
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check -e '.[test]' &&
        echo "$stamp" >"$venv/stamp"
}

# --- the programs of other projects -----------------------------------------------------------

install_peers() {
    missing=
    for pair in docker-registry: skopeo: podman: umoci: buildah: mmdebstrap: strace: faketime: \
        sqlite3: curl: openssl: zstd: gpg:gnupg gpgv: xz:xz-utils newuidmap:uidmap \
        mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mksquashfs:squashfs-tools sshfs: \
        /usr/lib/openssh/sftp-server:openssh-sftp-server; do
        program=${pair%%:*} package=${pair#*:}
        command -v "$program" >/dev/null || missing="$missing ${package:-$program}"
    done
    [ -n "$missing" ] || { echo "all present"; return 0; }
    if ! is_root || ! command -v apt-get >/dev/null; then
        echo "missing:$missing (as root on Debian this script installs them; tests that need them skip)"
        return 0
    fi
    echo "apt-get install$missing"
    apt-get update -qq || echo "note: apt-get update failed"
    # shellcheck disable=SC2086 # a list of words
    if ! apt_install $missing; then
        for package in $missing; do
            apt_install "$package" || echo "note: apt-get could not install $package"
        done
    fi
}

unpack_docker() { # Docker is a service of the machine; its daemon will do without being installed
    place=$KSTORE_TEST_CACHE/docker
    if command -v dockerd >/dev/null || ! is_root || ! command -v apt-get >/dev/null; then return 0; fi
    if [ ! -x "$place/usr/sbin/dockerd" ]; then
        rm -rf "$place"
        mkdir -p "$place/debs"
        (
            cd "$place/debs" && apt-get -qq -o APT::Sandbox::User=root download docker.io containerd || exit
            for package in ./*.deb; do dpkg -x "$package" .. || exit; done
        ) || echo "note: docker.io could not be unpacked; the tests with Docker's daemon skip"
        rm -rf "$place/debs"
    fi
    PATH=$PATH:$place/usr/bin:$place/usr/sbin
}

# --- the tests --------------------------------------------------------------------------------

run_tests() { # three at a time on two cores: tests of what is slow or silent wait a lot
    "$venv/bin/python" -m pytest -n "${KSTORE_TEST_WORKERS:-3}" --dist loadfile -m 'not slow' "$@"
}

run_tests_unprivileged() {
    KSTORE_SKIP_STATIC=1 KSTORE_TEST_VENV=$venv PYTHON=$PYTHON \
        contrib/unprivileged.sh sh contrib/test.sh "$@"
}

say "environment"
begun=$(date +%s)
make_environment || exit 1
record environment 0 $(($(date +%s) - begun))
bin=$venv/bin
"$bin/python" -V

if is_root; then cache=/var/cache/kstore-test; else cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/kstore-test; fi
KSTORE_TEST_CACHE=${KSTORE_TEST_CACHE:-$cache}
export KSTORE_TEST_CACHE

if [ -z "${KSTORE_SKIP_STATIC:-}" ]; then
    step "peers" install_peers
    step "docker" unpack_docker
    step "ruff check" "$bin/ruff" check .
    step "ruff format" "$bin/ruff" format --check .
    step "mypy" "$bin/mypy"
    step "import layers" "$bin/lint-imports"
fi
step "tests as $(id -un)" run_tests "$@"
if is_root; then
    step "tests unprivileged" run_tests_unprivileged "$@"
fi

say "summary"
printf '%s' "$summary"
[ -z "$failed" ] || { echo "FAILED"; exit 1; }
echo "all good"
