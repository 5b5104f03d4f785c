#!/bin/sh
# Runs a command as an unprivileged user, inside a private copy of this checkout:
#
#     contrib/unprivileged.sh sh contrib/quickstart.sh
#
# The copy, the user's HOME and TMPDIR live in one fresh directory that is removed afterwards.
# As root the user is KSTORE_TEST_USER (default: nobody); otherwise it is the current one.
set -eu
umask 022

[ $# -gt 0 ] || { echo "usage: contrib/unprivileged.sh COMMAND [ARGUMENT...]" >&2; exit 2; }
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
user=${KSTORE_TEST_USER:-nobody}

# A short name: sockets of gpg-agent live below it and may have 107 bytes at most.  No capitals:
# buildah makes a repository's name of the path that it reads an image from.
place=$(mktemp -u /tmp/ks.XXXXXX | tr '[:upper:]' '[:lower:]')
mkdir -m 700 "$place"
trap 'rm -rf -- "$place"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$place/src" "$place/home" "$place/t"
tar -C "$checkout" -cf "$place/src.tar" --exclude=__pycache__ --exclude='./.git' \
    --exclude='./.venv*' --exclude='./.*_cache' --exclude='./.hypothesis' --exclude='./*.egg-info' \
    --exclude='./build' --exclude='./dist' .
tar -C "$place/src" -xf "$place/src.tar" --no-same-owner
rm "$place/src.tar"

# What would lead back to the caller's own files and stores is not passed on.
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME XDG_STATE_HOME XDG_RUNTIME_DIR \
    KSTORE_ROOT REGISTRY_AUTH_FILE DOCKER_CONFIG GNUPGHOME PYTHONPATH VIRTUAL_ENV 2>/dev/null || :
HOME=$place/home TMPDIR=$place/t
export HOME TMPDIR
cd "$place/src"

# In the foreground: a background job of sh would ignore Ctrl-C, and so would all it starts.
if [ "$(id -u)" -eq 0 ]; then
    id "$user" >/dev/null 2>&1 || { echo "unprivileged.sh: there is no user $user" >&2; exit 1; }
    USER=$user LOGNAME=$user
    export USER LOGNAME
    chown -R "$(id -u "$user"):$(id -g "$user")" "$place"
    setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --clear-groups -- "$@" </dev/null
else
    "$@" </dev/null
fi
