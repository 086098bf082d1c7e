#!/usr/bin/env bash
# Starts the whole shop on this machine, or runs its tests, from a bare Debian or Ubuntu on.
# It installs what is missing, builds the program, and lets the program do the rest.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${CARTWRIGHT_HOME:-$root/.cartwright}
case $home in /*) ;; *) home=$PWD/$home ;; esac
export CARTWRIGHT_HOME=$home
program=$home/bin/cartwright

# Fetched where there is no Go that go.mod is content with.
go_release=1.26.8

usage() {
  cat <<'END'
Usage: ./setup.sh [command] [argument ...]

  up [--scale service=number ...]   start the shop, wait until it is ready, and on new data place
                                    one order to show that it works; this is what happens without
                                    a command. Run twice, it changes nothing
  status                            what runs, and whether it is ready (exit status 1 if not)
  logs [service] [-f]               the ends of the logs; -f goes on
  env                               settings for the shell:  eval "$(./setup.sh env)"
  demo                              place one more order
  verify                            recompute every balance; exit status 1 if one differs
  queues                            what waits on each queue, and which are paused
  queues pause|resume <queue> [--by name]
                                    pause cartmanager or checkoutmanager in all replicas: jobs wait
  queues peek|replay|drop <queue>.dead
                                    look through dead letters, put them back, throw them away; see
                                    queues --help
  checkouts                         those that have not ended; --stuck, show, resume, undo: see
                                    checkouts --help
  bench [scenario] [flag ...]       load it, and tell how fast it is and whether it was right;
                                    bench --help lists the scenarios
  chaos [flag ...]                  start a shop of its own, break it in every way while people buy, and
                                    tell whether anything was lost; chaos --help tells more
  down                              stop what up has started, and only that; data is kept
  reset [--yes]                     stop it and remove its data for good; asks first
  test [argument of go test ...]    gofmt, go vet and all tests with the race detector, against
                                    private servers on free ports; may run beside a shop. Without
                                    arguments, and where a Docker engine answers, also a shop in
                                    containers
    --on compose                    against the database and the broker of docker-compose.yml
                                    instead, in containers that go again
    --record                        and when all went well, note the versions in docs/tested.md
  fuzz [--minutes n]                feed every decoder and every entry what nobody has thought of, for
                                    so long in all: a minute unless told. What it finds is kept under
                                    testdata/fuzz, where every later run of the tests tries it again
  help                              this text

Containers or not: up uses docker compose where a Docker engine answers, a compose command is
there and the images can be had, and otherwise private MariaDB and RabbitMQ out of this machine's
own packages. It says which, and later commands keep to it. To choose:

  --native    no containers; data, passwords and logs are in .cartwright/
  --compose   containers; passwords are in .env, data in volumes. Images that can be neither found
              nor pulled are built out of Debian's packages (deploy/standins/standins.sh --help)

It installs, with apt-get and only when missing: mariadb-server and rabbitmq-server (native and
test), gcc (test), a Go toolchain (native and test; into .cartwright/go), and with --compose, only
for such images, docker compose into ~/.docker, mmdebstrap and the Go toolchain. It never starts,
stops or changes the system's own MariaDB and RabbitMQ, nor the Docker engine.

Settings: ./setup.sh up --help
END
}

say() { printf '%s\n' "$*" >&2; } # not on the standard output, which is what was asked for
die() {
  say "setup.sh: $*"
  exit 1
}

# ---------------------------------------------------------------- packages

have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo. As root, run:  apt-get install ${wanted[*]}"
  fi
}

# install_packages installs what is named, if anything is.
install_packages() {
  local wanted=("$@") record=$home/log/install.log
  [ ${#wanted[@]} -gt 0 ] || return 0
  have apt-get || die "missing: ${wanted[*]}. There is no apt-get here: install them by the means of this system, then run this again."
  say "Installing ${wanted[*]} with apt-get; the record is in $record"
  mkdir -p "$home/log"
  [ -n "$lists_fresh" ] || as_root apt-get -q update >>"$record" 2>&1 || say "apt-get update did not succeed; going on with what is known"
  lists_fresh=yes
  without_services as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
    install --no-install-recommends --no-remove "${wanted[@]}" >>"$record" 2>&1 </dev/null || {
    tail -n 15 "$record" >&2
    die "apt-get could not install ${wanted[*]}"
  }
}

lists_fresh= # whether apt-get has been told what there is

# without_services runs an installation during which no package starts its service: the shop has
# servers of its own. Where the machine has a policy of its own, that one stands.
without_services() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e "$policy" ]; then
    "$@"
    return
  fi
  trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT # also when somebody interrupts this
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  "$@" || status=$?
  as_root rm -f "$policy"
  trap - EXIT
  return "$status"
}

need_servers() {
  local wanted=()
  { have mariadbd && have mariadb-install-db; } || wanted+=(mariadb-server)
  { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && have epmd; } || wanted+=(rabbitmq-server)
  install_packages "${wanted[@]}"
  local package
  for package in "${wanted[@]}"; do
    # What was installed only for the shop has no business of its own at the next boot either.
    [ ! -d /run/systemd/system ] || as_root systemctl --quiet disable "${package/mariadb-server/mariadb}" >&2 || true
  done
}

# ---------------------------------------------------------------- Go

# go_suits tells whether that go is as new as go.mod asks for.
go_suits() {
  local needed is
  needed=$(awk '$1 == "go" {print $2}' "$root/go.mod")
  is=$(GOTOOLCHAIN=local GOFLAGS='' "$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n%s\n' "$needed" "${is#go}" | sort -V | head -n 1)" = "$needed" ]
}

# find_go puts a go that suits first on the PATH, if this machine has one.
find_go() {
  [ -n "${HOME:-}" ] || export HOME=$home # where Go keeps its caches
  local candidate
  for candidate in "$home/go/bin/go" "$(command -v go || true)" /usr/local/go/bin/go; do
    if [ -x "$candidate" ] && go_suits "$candidate"; then
      use_go "$candidate"
      return
    fi
  done
  return 1
}

use_go() {
  export PATH="${1%/*}:$PATH" GOTOOLCHAIN=local
  unset GOROOT
}

# fetch_go gets the toolchain as a module, with any older Go, from wherever Go modules come from
# on this machine.
fetch_go() {
  local old arch part=$home/go.part toolchain
  old=$(command -v go)
  arch=$(GOTOOLCHAIN=local "$old" env GOARCH)
  toolchain=golang.org/toolchain@v0.0.1-go$go_release.linux-$arch
  say "Fetching Go $go_release into $home/go"
  rm -rf "$part"
  mkdir -p "$part"
  printf 'module fetch\n' >"$part/go.mod" # or the old Go would try to read ours
  (cd "$part" && GOTOOLCHAIN=local GOFLAGS=-modcacherw GOPATH=$part/path GOMODCACHE=$part/mod "$old" mod download "$toolchain") >&2 ||
    die "Go $go_release could not be fetched. Install Go $go_release or newer and run this again."
  chmod -R u+w "$part"
  mv "$part/mod/$toolchain" "$part/go"
  # A module's files carry no permission to be run.
  chmod +x "$part"/go/bin/* "$part"/go/pkg/tool/*/*
  rm -rf "$home/go"
  mv "$part/go" "$home/go"
  rm -rf "$part"
}

build() {
  find_go || {
    fetch_go
    use_go "$home/go/bin/go"
  }
  mkdir -p "$home/bin"
  [ -x "$program" ] || say "Building the program (the first time takes a minute or two)"
  # With the flags that people use by hand, so that what they have compiled is not compiled again.
  (cd "$root" && go build -buildvcs=false -o "$program" .)
}

# prepare installs what is missing and builds the program, side by side: the one waits for the
# network and the disk, the other for the processor.
prepare() {
  find_go || have go || install_packages golang-go ca-certificates
  build &
  local building=$!
  need_servers
  wait "$building" || die "the program was not built"
}

# ---------------------------------------------------------------- compose

compose=()  # the compose command
why_native= # why compose is out of the question

# find_compose tells which compose command there is. With get, one is fetched if there is none of
# version 2.
find_compose() {
  if ! have docker; then
    why_native="there is no docker"
  elif ! timeout 10 docker info >/dev/null 2>&1; then
    why_native="no Docker engine answers"
  elif docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif [ "${1:-}" = get ] && "$root/deploy/standins/standins.sh" --plugin none >&2; then
    compose=(docker compose)
  elif have docker-compose; then
    compose=(docker-compose)
  else
    why_native="there is neither docker compose nor docker-compose"
  fi
  [ -z "$why_native" ] || return 1
  compose+=(--project-directory "$root" -f "$root/docker-compose.yml")
}

images_at_hand() {
  local image
  for image in rabbitmq:4-management mysql:8.4 haproxy:3.2 "${GO_IMAGE:-golang:1.26}"; do
    docker image inspect "$image" >/dev/null 2>&1 && continue
    say "Asking for the image $image"
    if ! timeout 600 docker pull -q "$image" >&2; then
      why_native="the image $image can be had neither here nor by pulling"
      return 1
    fi
  done
}

# need_images builds stand-ins for the images that cannot be had, and gets docker compose if this
# machine has not even an old one.
need_images() {
  images_at_hand && return
  say "So stand-ins are built out of Debian's packages, which takes about a minute"
  find_go || {
    have go || install_packages golang-go ca-certificates
    fetch_go
    use_go "$home/go/bin/go"
  }
  local run=()
  [ "$(id -u)" = 0 ] || ! have sudo || run=(sudo env PATH="$PATH" CARTWRIGHT_HOME="$home")
  "${run[@]}" "$root/deploy/standins/standins.sh" >&2 || die "there are not all images, so compose is out of the question. Choose otherwise with --native."
}

# make_secrets makes a file of settings with random passwords for that project, and adds those that
# a newer version asks for.
make_secrets() {
  local file=$1 project=$2 name lines=''
  for name in ADMIN_PASSWORD READER_PASSWORD BROKER_PASSWORD CATALOGUE_PASSWORD INVENTORY_PASSWORD PAYMENTS_PASSWORD \
    CARTMANAGER_PASSWORD CHECKOUTMANAGER_PASSWORD JOB_SECRET STAFF_KEY \
    BROKER_{GATEWAY,CATALOGUE,INVENTORY,PAYMENTS,CARTMANAGER,CHECKOUTMANAGER}_PASSWORD; do
    grep -qs "^$name=" "$file" || lines+="$name=$(random)"$'\n'
  done
  # The folder's name, as compose would have it; docker-compose 1.29 does not tell it to the file.
  grep -qs '^COMPOSE_PROJECT_NAME=' "$file" || lines+="COMPOSE_PROJECT_NAME=$project"$'\n'
  [ -n "$lines" ] || return 0
  say "Making passwords in $file"
  (
    umask 077
    { sed '$a\' "$file" 2>/dev/null || true; printf %s "$lines"; } >"$file.new"
  )
  mv "$file.new" "$file"
}

project_name() {
  local name
  name=$(basename "$root" | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9_-' | sed 's/^[_-]*//')
  printf %s "${name:-cartwright}"
}

random() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }

compose_up() {
  local argument
  for argument; do
    case $argument in
      rabbitmq=[!1]* | mysql=[!1]* | certs=[!1]* | migrate=[!1]* | balancer=[!1]* | rabbitmq=1?* | mysql=1?* | certs=1?* | migrate=1?* | balancer=1?*)
        die "${argument%%=*} cannot be scaled: there must be one. The services can: gateway, cartmanager, checkoutmanager, inventory, payments, catalogue."
        ;;
    esac
  done
  make_secrets "$root/.env" "$(project_name)"
  need_images
  "${compose[@]}" up -d --build "$@" >&2
  wait_for_containers
  if [ ! -e "$home/compose-shown" ]; then
    compose_demo
    : >"$home/compose-shown"
  fi
  say "The shop runs: http://$("${compose[@]}" port balancer 5003), and /documentation there"
}

# wait_for_containers waits until each container is healthy, or has done its work and ended.
wait_for_containers() {
  local deadline=$((SECONDS + 300)) id state unready
  say "Waiting until all containers are healthy"
  while :; do
    unready=
    for id in $("${compose[@]}" ps -q); do
      state=$(docker inspect -f '{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.ExitCode}}{{end}}' "$id")
      case $state in *' running healthy' | *' exited 0') ;; *) unready=$state ;; esac
    done
    [ -n "$unready" ] || return 0
    [ "$SECONDS" -lt "$deadline" ] || die "not ready after 300 s: $unready. ./setup.sh logs shows why; it goes on trying."
    sleep 2
  done
}

compose_demo() { "${compose[@]}" exec -T -e CARTWRIGHT_URL=http://balancer:5003 gateway /usr/local/bin/cartwright demo; }

compose_env() {
  local port
  [ -e "$root/.env" ] || die "there is no shop here yet: start one with up"
  # shellcheck disable=SC1091
  . "$root/.env"
  port() { "${compose[@]}" port "$1" "$2"; }
  printf "export %s='%s'\n" \
    CARTWRIGHT_URL "http://$(port balancer 5003)" \
    CARTWRIGHT_STAFF_KEY "$STAFF_KEY" \
    CARTWRIGHT_AMQP_URL "amqp://cartwright:$BROKER_PASSWORD@$(port rabbitmq 5672)/" \
    CARTWRIGHT_ADMIN_DSN "root:$ADMIN_PASSWORD@tcp($(port mysql 3306))/" \
    CARTWRIGHT_MYSQL_DSN "cartwright_reader:$READER_PASSWORD@tcp($(port mysql 3306))/" \
    CARTWRIGHT_INVENTORY_ADDR "$(port inventory 9100)"
}

compose_status() {
  "${compose[@]}" ps
  local id
  for id in $("${compose[@]}" ps -q); do
    case $(docker inspect -f '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.ExitCode}}{{end}}' "$id") in
      'running healthy' | 'exited 0') ;;
      *) return 1 ;;
    esac
  done
  [ -n "${id:-}" ]
}

compose_reset() {
  local answer=
  if [ "${1:-}" != --yes ]; then
    printf 'All orders, stock, passwords and logs of the containers will be gone. Type yes to go on: ' >&2
    read -r answer || true
    [ "$answer" = yes ] || die "not confirmed, nothing was removed"
  fi
  "${compose[@]}" --profile tools down --volumes --remove-orphans
  rm -f "$root/.env" "$home/compose-shown" "$home/mode"
}

in_compose() {
  local command=$1
  shift
  case $command in
    up) compose_up "$@" ;;
    down) "${compose[@]}" --profile tools down ;;
    status) compose_status ;;
    logs)
      local options=(--tail 100) names=() argument
      for argument; do
        if [ "$argument" = -f ]; then options+=(-f); else names+=("$argument"); fi
      done
      "${compose[@]}" logs "${options[@]}" "${names[@]}"
      ;;
    env) compose_env ;;
    reset) compose_reset "$@" ;;
    demo) compose_demo ;;
    checkouts) die "checkouts asks the checkoutmanager, which listens only inside its containers: run the program there, with the operator's certificate" ;;
    verify | queues | bench)
      find_go || have go || install_packages golang-go ca-certificates
      build
      eval "$(compose_env)"
      note_commit
      exec "$program" "$command" "$@"
      ;;
  esac
}

# ---------------------------------------------------------------- native

in_native() {
  local command=$1
  shift
  case $command in
    up) prepare ;;
    *) [ -x "$program" ] || die "there is no shop here yet: start one with up" ;;
  esac
  case $command in
    demo | verify | queues | checkouts | bench)
      local settings
      settings=$("$program" env)
      eval "$settings"
      note_commit
      ;;
  esac
  exec "$program" "$command" "$@"
}

# ---------------------------------------------------------------- both

# note_commit tells reports which version of the program they are of, where git knows.
note_commit() {
  local commit
  commit=$(git -C "$root" describe --always --dirty --abbrev=12 2>/dev/null || true)
  [ -z "$commit" ] || export CARTWRIGHT_COMMIT=$commit
}

# choose prints how the shop runs: as asked for, else as it did before, else by what is there.
choose() {
  local asked=$1 command=$2 before
  before=$(cat "$home/mode" 2>/dev/null || true)
  mode=${asked:-$before}
  if [ "$mode" = compose ]; then
    find_compose "$([ "$command" != up ] || echo get)" || die "compose is out of the question: $why_native. Choose otherwise with --native."
  elif [ -z "$mode" ] && [ "$command" != up ]; then
    mode=native # nothing was ever started; the program says so in its own words
  elif [ -z "$mode" ]; then
    mode=native
    if find_compose && images_at_hand; then
      mode=compose
      say "Using docker compose. (./setup.sh up --native chooses private servers on this machine instead.)"
    else
      say "Using private MariaDB and RabbitMQ on this machine: $why_native. (--compose chooses containers.)"
    fi
  fi
  if [ "$command" = up ] && [ -n "$before" ] && [ "$before" != "$mode" ]; then
    say "The shop of this directory ran with $before so far: stopping that. Its data is kept."
    "$root/setup.sh" down "--$before" >&2
  fi
}

run_tests() {
  local servers=() record= on=private
  while :; do
    case ${1:-} in
      --record) record=yes ;;
      --on)
        [ "${2:-}" = compose ] || die "test --on ${2:-}: it must be --on compose"
        on=compose
        shift
        ;;
      *) break ;;
    esac
    shift
  done
  [ -z "$record" ] || [ $# = 0 ] || die "test --record is for all tests, not for: $*"
  servers=("$program" servers ${record:+--record "$root/docs/tested.md"})
  prepare
  find_go
  have gcc || install_packages gcc libc6-dev # the race detector is linked by the C compiler
  cd "$root"
  local unformatted kind files=''
  for kind in Go TestGo XTestGo IgnoredGo; do
    files+="{{range .${kind}Files}}{{\$.Dir}}/{{.}}{{\"\\n\"}}{{end}}"
  done
  unformatted=$(go list -f "$files" ./... | sed '/^$/d' | xargs -d '\n' gofmt -l)
  [ -z "$unformatted" ] || die "not formatted (gofmt -w mends it): $unformatted"
  go vet ./...
  [ "$on" = private ] || servers_for_tests
  "${servers[@]}" env CGO_ENABLED=1 go test -race -timeout 30m "${@:-./...}" || exit
  [ $# -gt 0 ] || [ "$on" = compose ] || fuzz_all
  [ $# -gt 0 ] || [ "$on" = compose ] || test_containers
}

# fuzz_all gives every fuzz target its part of so many minutes, building not counted.
fuzz_all() {
  local minutes=1 targets target seconds failed=
  if [ "${1:-}" = --minutes ]; then
    [[ ${2:-} =~ ^[1-9][0-9]{0,4}$ ]] || die "fuzz --minutes ${2:-}: it must be a whole number"
    minutes=$2
    shift 2
  fi
  [ $# = 0 ] || die "fuzz: $1 is no argument of it; ./setup.sh help lists them"
  find_go || have go || install_packages golang-go ca-certificates
  cd "$root"
  mapfile -t targets < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' [a-z]*/ | sed -E 's|^(.*)/[^/]*:func (.*)$|./\1 ^\2$|' | sort)
  seconds=$(((minutes * 60 + ${#targets[@]} - 1) / ${#targets[@]}))
  for target in "${targets[@]}"; do
    go test -run '^$' -fuzz "${target#* }" -fuzztime "${seconds}s" -fuzzminimizetime 1s "${target% *}" || failed+=" $target"
  done
  [ -z "$failed" ] || die "found something:$failed (what it was fed is under testdata/fuzz there)"
}

# servers_for_tests starts database and broker of the compose file under a name of their own, and
# tells the tests of them. They go when this script ends.
servers_for_tests() {
  local env_file
  find_compose get || die "--on compose is out of the question: $why_native"
  need_images
  env_file=$(mktemp)
  make_secrets "$env_file" "cartwright-tests-$$"
  printf 'MYSQL_PORT=0\nRABBITMQ_PORT=0\nSERVER_CPUS=%s\n' "$(nproc)" >>"$env_file"
  compose+=(-f "$root/deploy/test-servers.yml" --env-file "$env_file" --project-name "cartwright-tests-$$")
  # shellcheck disable=SC2064
  trap "$(printf '%q ' "${compose[@]}") down --volumes >&2; rm -f $(printf %q "$env_file")" EXIT
  "${compose[@]}" up -d mysql rabbitmq >&2
  wait_for_containers
  # shellcheck disable=SC1090
  . "$env_file"
  export CARTWRIGHT_TEST_ADMIN_DSN="root:$ADMIN_PASSWORD@tcp($("${compose[@]}" port mysql 3306))/" \
    CARTWRIGHT_TEST_AMQP_URL="amqp://cartwright:$BROKER_PASSWORD@$("${compose[@]}" port rabbitmq 5672)/" \
    CARTWRIGHT_TEST_BROKER_ADMIN_URL="http://cartwright:$BROKER_PASSWORD@$("${compose[@]}" port rabbitmq 15672)"
}

# test_containers runs the tests that need a Docker engine, by themselves: they kill and time
# things on the whole machine.
test_containers() {
  if ! find_compose get; then
    say ""
    say "NOT TESTED: the shop in containers (TestInContainers…), because $why_native."
    say "Where a Docker engine answers, ./setup.sh test runs it too."
    return
  fi
  need_images
  CARTWRIGHT_TEST_COMPOSE=1 CGO_ENABLED=1 go test -race -count=1 -timeout 40m -run '^TestInContainers' ./tests
}

main() {
  local command=up asked='' mode argument arguments=()
  case ${1:-} in
    help | -h | --help)
      usage
      return
      ;;
    '' | -*) ;;
    *)
      command=$1
      shift
      ;;
  esac
  case $command in
    up | down | status | logs | env | reset | demo | verify | queues | checkouts | bench | chaos | test | fuzz) ;;
    *) die "there is no command $command; ./setup.sh help lists them" ;;
  esac
  case $command${1:-} in
    chaos*) ;; # it needs no shop, and so it is built first
    *-h | *--help)
      if [ -x "$program" ] && [ "$command" != test ] && [ "$command" != fuzz ]; then exec "$program" "$command" --help; fi
      usage
      return
      ;;
  esac
  case $command in
    test)
      run_tests "$@"
      return
      ;;
    fuzz)
      fuzz_all "$@"
      return
      ;;
    chaos) # has a shop of its own, however this one runs
      prepare
      note_commit
      exec "$program" chaos "$@"
      ;;
  esac
  for argument; do
    case $argument in
      --native) asked=native ;;
      --compose) asked=compose ;;
      *) arguments+=("$argument") ;;
    esac
  done
  choose "$asked" "$command"
  if [ "$command" = up ]; then
    mkdir -p "$home"
    printf '%s\n' "$mode" >"$home/mode"
  fi
  "in_$mode" "$command" "${arguments[@]}"
}

main "$@"
