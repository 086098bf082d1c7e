#!/usr/bin/env bash
# Runs MySQL on /var/lib/mysql, making the data first if there is none. Of the official image's
# settings it knows MYSQL_ROOT_PASSWORD and MYSQL_ROOT_HOST.
set -euo pipefail

data=/var/lib/mysql
whole=$data/.data-is-whole
accounts=/run/mysqld/accounts.sql

die() {
  echo "mysql stand-in: $*" >&2
  exit 1
}

case ${1:-} in
  -*) set -- mysqld "$@" ;;
  mysqld) ;;
  *) exec "$@" ;;
esac
for setting in MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD MYSQL_ROOT_PASSWORD_FILE MYSQL_RANDOM_ROOT_PASSWORD MYSQL_ALLOW_EMPTY_PASSWORD; do
  [ -z "${!setting:-}" ] || die "$setting is known to the official image only"
done
[ -n "${MYSQL_ROOT_PASSWORD:-}" ] || die "MYSQL_ROOT_PASSWORD is not set"
if [ "$(id -u)" = 0 ]; then
  mkdir -p /run/mysqld
  chown mysql:mysql "$data" /run/mysqld
  exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
fi

if [ ! -e "$whole" ]; then # also when an earlier start was cut short in the middle of this
  find "$data" -mindepth 1 -delete
  "$@" --initialize-insecure
  touch "$whole"
fi

# The server runs these statements before it listens, so nobody is let in without a password.
literal() { printf "'%s'" "$(printf %s "$1" | sed -e 's/\\/\\\\/g' -e "s/'/''/g")"; }
umask 077
{
  echo "SET SESSION sql_log_bin = 0;"
  for host in localhost "${MYSQL_ROOT_HOST:-%}"; do
    echo "CREATE USER IF NOT EXISTS root@$(literal "$host");"
    echo "ALTER USER root@$(literal "$host") IDENTIFIED BY $(literal "$MYSQL_ROOT_PASSWORD");"
    echo "GRANT ALL ON *.* TO root@$(literal "$host") WITH GRANT OPTION;"
  done
} >"$accounts"
exec "$@" --init-file="$accounts"
