#!/bin/sh
# kstore in one minute: installs it into .venv and takes one image through every basic command.
# Needs Python 3.11 or newer with venv, and a package index; neither root nor any other program.
# Nothing outside the checkout is touched: the stores of this demonstration are removed at the end.
#
#     PYTHON=/path/to/python3     another interpreter
#     KSTORE_VENV=DIR             another place for the environment
set -eu

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=${KSTORE_VENV:-$checkout/.venv}
give_up() {
    echo "quickstart: $1" >&2
    explained=yes
    exit 1
}

# --- an interpreter ---------------------------------------------------------------------------

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
suits() { recent "$1" && "$1" -c 'import ensurepip, venv' 2>/dev/null; }
python='' without_venv=''
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    if suits "$candidate"; then
        python=$candidate
        break
    fi
    if recent "$candidate"; then without_venv=$candidate; fi
done
if [ -z "$python" ] && [ -n "$without_venv" ]; then
    give_up "$without_venv has no venv module; install it (Debian, Ubuntu: apt install python3-venv) and run this again."
elif [ -z "$python" ]; then
    found=$(${PYTHON:-python3} -V 2>/dev/null || echo none)
    give_up "Python 3.11 or newer is needed (found: $found); install it, or name one: PYTHON=/path/to/python3 $0"
fi

# --- a place, and the certainty that it is left clean -----------------------------------------

place=$(mktemp -d "${TMPDIR:-/tmp}/kstore-quickstart.XXXXXX")
server=''
clean_up() {
    status=$?
    trap - EXIT HUP INT TERM
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || :
        wait "$server" 2>/dev/null || :
    fi
    rm -rf -- "$place"
    [ "$status" -eq 0 ] || [ -n "${explained:-}" ] || echo "quickstart: stopped (exit $status)" >&2
    exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- installing -------------------------------------------------------------------------------

echo "Installing kstore into $venv with $("$python" -V) ..."
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
        give_up "$venv exists and is not a Python environment; name another place: KSTORE_VENV=DIR $0"
    fi
    "$python" -m venv --clear "$venv" ||
        give_up "no environment could be made in $venv; name another place: KSTORE_VENV=DIR $0"
fi
"$venv/bin/python" -m pip install -qq --disable-pip-version-check -e "$checkout" ||
    give_up "pip could not install kstore into $venv (see above)."
PATH=$venv/bin:$PATH
export PATH

# --- the tour ---------------------------------------------------------------------------------

say() { printf '\n# %s\n' "$*"; }
show() { # shows a command as it could be typed, then runs it
    line='$'
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:=@-]*) line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    printf '%s\n' "$line"
    "$@"
}

cd "$place"
KSTORE_ROOT=$place/store
export KSTORE_ROOT

say "An image needs files: a tar of this Python's standard library."
"$venv/bin/python" - <<'PYTHON'
import pathlib, sysconfig, tarfile

skipped = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "config"}
library = pathlib.Path(sysconfig.get_paths()["stdlib"])

def pick(entry):
    return None if skipped & set(pathlib.PurePath(entry.name).parts) else entry

with tarfile.open("stdlib.tar", "w") as tar:
    tar.add(library, "usr/lib/python3", filter=pick)
size = pathlib.Path("stdlib.tar").stat().st_size
print(f"stdlib.tar: {size / 1e6:.1f} MB from {library}")
PYTHON

say "Make an image of it, in a store of this demonstration's own."
show kstore import --change 'CMD ["/usr/bin/python3"]' --message 'standard library' stdlib.tar python-lib:1.0
show kstore images

say "A second store, served as a registry on a free port."
echo '$ kstore --root registry serve --listen 127.0.0.1:0 &'
kstore --root "$place/registry" serve --listen 127.0.0.1:0 >serve.out 2>serve.err &
server=$!
tries=0
until grep -q '^listening on http://' serve.out; do
    tries=$((tries + 1))
    if [ "$tries" -gt 150 ] || ! kill -0 "$server" 2>/dev/null; then
        cat serve.err >&2
        give_up "the registry did not start."
    fi
    sleep 0.1
done
cat serve.out
registry=$(sed -n 's|^listening on http://||p' serve.out)

say "Send the image there, forget it here, and fetch it back."
show kstore push --tls-verify=false python-lib:1.0 "$registry/demo/python-lib:1.0"
show kstore rmi python-lib:1.0
show kstore images
show kstore pull --tls-verify=false "$registry/demo/python-lib:1.0"
show kstore tag "$registry/demo/python-lib:1.0" python-lib:1.0 python-lib:stable
show kstore images

say "Ask about it."
show kstore inspect --format '{{.Os}}/{{.Architecture}}, {{len .RootFS.Layers}} layer, {{.Size}} bytes' python-lib:stable
show kstore history python-lib:stable

say "Read every byte of the store and compare it with its digest."
show kstore check --deep

cat <<END

That was kstore. To go on, with a store of your own:

    . $venv/bin/activate
    kstore pull busybox
    kstore images
    kstore --help
END
