#!/bin/sh
# Prints "MAJOR HOME" of the newest JDK on this machine: JAVA_HOME if set, else the newest beside the one on PATH.
major() { "$1/bin/javac" -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p'; }

if [ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/javac" ]; then
    echo "$(major "$JAVA_HOME") $JAVA_HOME"
    exit 0
fi
java=$(command -v java) || { echo "no java on PATH: install a JDK (17 or newer)" >&2; exit 1; }
family=$(dirname "$(dirname "$(dirname "$(readlink -f "$java")")")")
newest=$(for home in "$family"/*; do
    [ -x "$home/bin/javac" ] && echo "$(major "$home") $home"
done | sort -n | tail -n 1)
[ -n "$newest" ] || { echo "no JDK with javac under $family: install a JDK (17 or newer)" >&2; exit 1; }
echo "$newest"
