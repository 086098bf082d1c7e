#!/usr/bin/env bash
# Runs RabbitMQ and its tools under their own user. RABBITMQ_DEFAULT_USER and _PASS are read by the
# server itself.
set -euo pipefail

data=/var/lib/rabbitmq
cookie=$data/.erlang.cookie

if [ "$(id -u)" != 0 ]; then
  exec "$@"
fi
if [ "$1" = rabbitmq-server ]; then
  # A health check that came first would make the cookie as root, and the server could not read it.
  if [ ! -s "$cookie" ]; then
    od -An -N20 -tx1 /dev/urandom | tr -d ' \n' >"$cookie.new"
    mv "$cookie.new" "$cookie"
  fi
  chmod 400 "$cookie"
  chown -R rabbitmq:rabbitmq "$data"
fi
exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "$@"
