#!/bin/sh
# Exports mounted secrets as environment variables, then executes the command. A secret is a file in /run/secrets, or in
# a subfolder, named like its variable. A variable that is already set is not replaced. Other files are ignored.
set -eu
folder=${SECRETS_FOLDER:-/run/secrets}
for file in "$folder"/* "$folder"/*/*; do
    name=${file##*/}
    case $name in *[!A-Z0-9_]* | [0-9]*) continue ;; esac
    [ -f "$file" ] || continue
    if eval "[ -n \"\${$name:-}\" ]"; then continue; fi
    if [ ! -r "$file" ]; then
        echo "entrypoint: user $(id -un) cannot read the secret $file; make uid $(id -u) its owner." >&2
        exit 1
    fi
    export "$name=$(cat "$file")"
done
exec "$@"
