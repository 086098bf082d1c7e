#!/usr/bin/env bash
# Builds stand-ins for the images of docker-compose.yml, where those can neither be found nor
# pulled: the same servers, out of Debian's packages. Nothing here is needed where a registry
# answers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${CARTWRIGHT_HOME:-$here/../../.cartwright}
case $home in /*) ;; *) home=$PWD/$home ;; esac
label=cartwright.standin
suite=sid # the suite that has RabbitMQ 4 and MySQL
base=cartwright-standin/debian:$suite
ca_bundle=/etc/ssl/certs/ca-certificates.crt

# What each stands in for. adminer is built on request only.
declare -A official=(
  [rabbitmq]=rabbitmq:4-management
  [mysql]=mysql:8.4
  [haproxy]=haproxy:3.2
  [golang]=${GO_IMAGE:-golang:1.26}
  [adminer]=adminer:5
)

usage() {
  cat <<END_OF_TEXT
Usage: deploy/standins/standins.sh [option ...] [name ...]

Looks for the image of each name on this machine, tries to pull it, and only if it can be had
neither way, builds a stand-in under the same tag out of Debian $suite. A stand-in carries the label
$label=1, and never takes a real image's place. Names, by default all but adminer:

  rabbitmq haproxy mysql golang adminer; none is for no image, beside --plugin

  --mirror URL   the Debian archive; by default the first one in this machine's apt sources
  --plugin       get docker compose v2, if there is none, into ~/.docker/cli-plugins
  --remove       take all stand-ins away, and nothing else
  --help         this text

Building needs root, and installs mmdebstrap with apt-get if neither that nor debootstrap is there.
golang is made of the Go that is first on the PATH. Work and logs are in $home/standins.
END_OF_TEXT
}

say() { printf '%s\n' "standins: $*" >&2; }
die() {
  say "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------- which images

is_here() { docker image inspect "$1" >/dev/null 2>&1; }

is_standin() { [ "$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null)" = 1 ]; }

# missing prints those of the names whose image can neither be found nor pulled.
missing() {
  local name image
  for name; do
    image=${official[$name]}
    is_here "$image" && continue
    say "asking for the image $image"
    timeout 600 docker pull -q "$image" >>"$work/pull.log" 2>&1 || printf '%s\n' "$name"
  done
}

remove_all() {
  local image
  docker image ls --filter "label=$label=1" --format '{{.Repository}}:{{.Tag}}' | while read -r image; do
    [ "$image" != '<none>:<none>' ] || continue
    is_standin "$image" || continue
    docker rmi "$image" >/dev/null || die "$image is in use: docker compose down first"
    say "removed $image"
  done
  docker image prune --force --filter "label=$label=1" >/dev/null
  rm -rf "$work"
}

# ---------------------------------------------------------------- Debian

# find_mirror prints the first Debian archive, not of security updates, that apt is told to use.
find_mirror() {
  local file
  for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    case $file in
      *.sources) sed -n 's/^URIs: *//p' "$file" | tr ' ' '\n' ;;
      *) sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' "$file" ;;
    esac
  done | grep -E '/debian/?$' | head -n 1
}

need_mirror() {
  [ -n "$mirror" ] || mirror=$(find_mirror) || true
  [ -n "$mirror" ] || die "apt's sources on this machine name no Debian archive; name one with --mirror URL"
  mirror=${mirror%/}
}

# make_root unpacks a small Debian into a folder, whole or not at all.
make_root() {
  [ ! -d "$root" ] || return 0
  [ "$(id -u)" = 0 ] || die "unpacking Debian needs root: run this with sudo"
  if ! have mmdebstrap && ! have debootstrap; then
    say "installing mmdebstrap with apt-get"
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends mmdebstrap; } >"$work/apt.log" 2>&1 </dev/null ||
      die "apt-get could not install mmdebstrap; see $work/apt.log"
  fi
  say "unpacking Debian $suite from $mirror"
  local part=$root.part
  rm -rf "$part"
  if have mmdebstrap; then
    # The archive may be a snapshot whose date of validity has passed.
    mmdebstrap --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$part" "$mirror"
  else
    debootstrap --variant=minbase "$suite" "$part" "$mirror"
  fi >"$work/debian.log" 2>&1 || die "Debian $suite could not be unpacked from $mirror; see $work/debian.log"
  settle_root "$part"
  mv "$part" "$root"
}

# settle_root makes the unpacked Debian fit for a container: no service starts by itself, and
# what nobody reads there is left out. The machine's certificates hold also those of a proxy in
# front of it.
settle_root() {
  printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
  chmod 755 "$1/usr/sbin/policy-rc.d"
  cat >"$1/etc/apt/apt.conf.d/90container" <<'END_OF_TEXT'
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
END_OF_TEXT
  {
    printf 'path-exclude=/usr/share/%s/*\n' doc info locale man
    echo force-unsafe-io
  } >"$1/etc/dpkg/dpkg.cfg.d/90container"
  if [ -e "$ca_bundle" ]; then install -D -m 644 "$ca_bundle" "$1$ca_bundle"; fi
  rm -rf "$1"/var/cache/apt/* "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*
}

import_base() {
  ! is_here "$base" || return 0
  tar -C "$root" --exclude='./dev/*' -c . | docker import -c "LABEL $label=1" -c 'CMD ["bash"]' - "$base" >/dev/null
}

# ---------------------------------------------------------------- images

build_image() {
  DOCKER_BUILDKIT=0 docker build --build-arg "BASE=$base" --label "$label=1" -t "${official[$1]}" "$here/$1"
}

# build_golang is Debian with this machine's Go in the place where the official image has it.
build_golang() {
  local go_root
  go_root=$(go env GOROOT)
  tar -c -C "$root" --exclude='./dev/*' . -C "${go_root%/*}" --exclude="${go_root##*/}/test" \
    --transform "flags=r;s,^${go_root##*/},./usr/local/go," "${go_root##*/}" |
    docker import -c "LABEL $label=1" -c 'WORKDIR /go' -c 'CMD ["bash"]' \
      -c 'ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
      - "${official[golang]}"
}

build_all() {
  local name failed='' pids=()
  for name; do
    say "building a stand-in for ${official[$name]}"
    if [ "$name" = golang ]; then build_golang; else build_image "$name"; fi >"$work/$name.log" 2>&1 &
    pids+=($!)
  done
  for name; do
    if wait "${pids[0]}"; then
      say "${official[$name]} is there, as a stand-in"
    else
      tail -n 5 "$work/$name.log" >&2
      failed+=" $work/$name.log"
    fi
    pids=("${pids[@]:1}")
  done
  [ -z "$failed" ] || die "not built; see$failed"
}

# ---------------------------------------------------------------- docker compose

# get_plugin unpacks docker compose out of its package. The program needs nothing of a newer Debian.
get_plugin() {
  ! docker compose version >/dev/null 2>&1 || return 0
  have curl && have xz && have dpkg-deb || die "docker compose cannot be unpacked without curl, xz and dpkg-deb"
  need_mirror
  say "getting docker compose from Debian $suite"
  local part=$work/plugin index path plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
  rm -rf "$part"
  mkdir -p "$part" "$plugins"
  index=$mirror/dists/$suite/main/binary-$(dpkg --print-architecture)/Packages.xz
  path=$(curl -fsSL "$index" | xz -dc | awk '$1 == "Package:" {it = $2 == "docker-compose"} it && $1 == "Filename:" {print $2}')
  [ -n "$path" ] || die "$index has no docker-compose"
  curl -fsSL -o "$part/package.deb" "$mirror/$path" || die "$mirror/$path could not be fetched"
  dpkg-deb -x "$part/package.deb" "$part"
  install -m 755 "$(find "$part" -path '*/cli-plugins/docker-compose' -type f)" "$plugins/docker-compose"
  rm -rf "$part"
  docker compose version >&2 || die "the docker compose of Debian $suite does not run here"
}

# ---------------------------------------------------------------- all of it

main() {
  local names=() none='' remove='' plugin='' all
  work=$home/standins
  root=$work/debian-$suite
  mirror=
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help)
        usage
        return
        ;;
      --mirror)
        [ $# -gt 1 ] || die "--mirror needs a URL"
        mirror=$2
        shift
        ;;
      --plugin) plugin=yes ;;
      --remove) remove=yes ;;
      none) none=yes ;;
      *)
        [ -n "${official[$1]:-}" ] || die "there is no stand-in $1; --help names them"
        names+=("$1")
        ;;
    esac
    shift
  done
  have docker && docker version >/dev/null 2>&1 || die "no Docker engine answers"
  mkdir -p "$work"
  if [ -n "$remove" ]; then
    remove_all
    return
  fi
  [ -z "$plugin" ] || get_plugin
  [ -z "$none" ] || return 0
  [ ${#names[@]} -gt 0 ] || names=(rabbitmq haproxy mysql golang)
  all=$(missing "${names[@]}")
  [ -n "$all" ] || return 0
  case $all in *golang*)
    have go || die "${official[golang]} cannot be pulled, and there is no Go on the PATH to make it of"
    ;;
  esac
  need_mirror
  make_root
  import_base
  # shellcheck disable=SC2086
  build_all $all
}

main "$@"
