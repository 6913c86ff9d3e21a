#!/bin/sh
# Puts mounted secrets into the environment, then becomes the command. A secret is a file in /run/secrets, or in a folder
# of it, with the name of its variable. Variables that are set already win; files with other names are left alone.
set -eu
folder=${SECRETS_FOLDER:-/run/secrets}
for file in "$folder"/* "$folder"/*/*; do
    name=${file##*/}
    case $name in *[!A-Z0-9_]* | [0-9]*) continue ;; esac
    [ -f "$file" ] || continue
    if eval "[ -n \"\${$name:-}\" ]"; then continue; fi
    if [ ! -r "$file" ]; then
        echo "entrypoint: the secret $file cannot be read by $(id -un); give it to the user $(id -u)." >&2
        exit 1
    fi
    export "$name=$(cat "$file")"
done
exec "$@"
