# The table of the nouns in docs/ARCHITECTURE.md has each module of qcow/ and fs/ once, and no other.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
cd "$SRCDIR" || exit

modules() {
    printf '%s\n' {qcow,fs}/*.[ch] | sed 's/\.[ch]$//' | sort -u
}

# Those in the first column; "`qcow/refs`, `tally`" are both of qcow/.
named() {
    # shellcheck disable=SC2016
    sed -n '/^## The nouns$/,/^## Two/p' docs/ARCHITECTURE.md | cut -s -d '|' -f 2 |
        grep -o '`[^`]*`' | tr -d '`' | awk -F / 'NF == 2 { dir = $1 } { print dir "/" $NF }' | sort
}

difference=$(diff <(modules) <(named)) || fail "modules (<) and the table of the nouns (>):
$difference"
