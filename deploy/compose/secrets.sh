#!/bin/sh
# Makes the secrets of docker-compose.yml that are missing. Run it as often as you like: what exists is left as it is.
#
#   sh deploy/compose/secrets.sh [DIRECTORY]
#
# Compose shows a secret's file to a container with the mode that it has here, and the containers do not run as you. So the
# files are readable by all, and the directory that holds them is closed to everybody but you.
set -eu
dir=${1:-$(dirname "$0")/secrets}

mkdir -p "$dir"
chmod 0700 "$dir"

secret() { # NAME VALUE
	[ -s "$dir/$1" ] && return
	printf '%s' "$2" >"$dir/$1"
	chmod 0444 "$dir/$1"
	echo "made $dir/$1"
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

secret mongo_url 'mongodb://mongodb:27017/?replicaSet=rs0'
secret postgres_password "$(random)"
secret webhook_token "$(random)"
if [ ! -s "$dir/resend_api_key" ]; then
	secret resend_api_key 're_put_your_own_key_here'
	echo "write your Resend API key into $dir/resend_api_key: until then no mail goes out, and everything else works"
fi
