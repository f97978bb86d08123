#!/usr/bin/env bash
# Everything that shows that the packages work together, on a machine with Debian's docker.io, docker-compose and Python:
# tests/e2e/run_e2e.sh
#
# Each step has a verdict, and a step that needs a failed one is left out. Exit status: the worst of the steps'.
# COMPOSE_ONLY=1 leaves out the tests, SKIP_DEB=1 takes the packages that are in dist/apt.
set -u
cd "$(dirname "$0")/../.."

python=build/env/dev/bin/python
place=build/e2e/compose
worst=0
verdicts=()
failed=
own_engine=
cleaned=

# step NAME NEEDED COMMAND…: runs it unless a step that it needs (names, by commas) has failed.
step() {
    local name=$1 needed=$2 began=$SECONDS status=0
    shift 2
    for each in ${needed//,/ }; do
        case " $failed " in *" $each "*)
            verdicts+=("LEFT OUT  $name (needs $each)")
            failed="$failed $name"
            return ;;
        esac
    done
    printf '\n== %s\n' "$name"
    "$@" || status=$?
    if [ "$status" = 0 ]; then
        verdicts+=("PASSED    $name ($((SECONDS - began)) s)")
    else
        verdicts+=("FAILED    $name with $status ($((SECONDS - began)) s)")
        failed="$failed $name"
        [ "$status" -le "$worst" ] || worst=$status
    fi
}

compose() {
    docker-compose --env-file "$place/environment" --file tests/e2e/docker-compose.test.yml "$@"
}

environments() { make env && requirements/debian-packages hosts compose; }
packages() { [ -n "${SKIP_DEB:-}" ] || make deb; }
engine() {
    docker version > /dev/null 2>&1 || own_engine=1
    $python -m tests.hosts start
}
images() { $python -m tests.e2e environment --directory "$place"; }
services() { compose up --detach --no-color; }
oracle_is_healthy() {
    for _ in $(seq 60); do
        python3 -c "import urllib.request as r; r.urlopen('http://127.0.0.1:3100/health', timeout=2)" 2> /dev/null && return
        sleep 0.5
    done
    return 1
}
nodes_serve() { compose_variables $python -m tests.e2e up; }
integration() { compose_variables $python -m tests.e2e verify; }
# docker-compose reads the variables from the environment where another program calls it.
compose_variables() { (set -a && . "$place/environment" && set +a && "$@"); }
logs() {
    compose logs --no-color --tail 20 chain oracle
    for node in node-a node-b; do
        printf '\n-- %s\n' "$node"
        compose exec -T "$node" journalctl --unit plumised --no-pager --lines 25 --output cat
    done
}
cleanup() {
    compose down --volumes --timeout 20 || return
    cleaned=1
    [ -z "$own_engine" ] || $python -m tests.hosts stop
}
trap '[ -n "$cleaned" ] || [ ! -e "$place/environment" ] || compose down --volumes --timeout 20 > /dev/null 2>&1' EXIT
trap 'exit 130' INT TERM

[ -z "${COMPOSE_ONLY:-}" ] || verdicts+=("LEFT OUT  unit-tests, e2e-tests (COMPOSE_ONLY)")
step environments "" environments
[ -n "${COMPOSE_ONLY:-}" ] || step unit-tests environments build/env/dev/bin/pytest -q tests/unit
step packages environments packages
step engine environments engine
step images packages,engine images
[ -n "${COMPOSE_ONLY:-}" ] || step e2e-tests images build/env/dev/bin/pytest -q -n 2 --dist loadfile tests/e2e
step services images services
step oracle-is-healthy services oracle_is_healthy
step nodes-serve oracle-is-healthy nodes_serve
step integration nodes-serve integration
step logs services logs
step cleanup images cleanup

printf '\n'
printf '%s\n' "${verdicts[@]}"
exit "$worst"
