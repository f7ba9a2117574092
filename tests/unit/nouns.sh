# The table of the nouns in docs/ARCHITECTURE.md has each module of qcow/ and fs/ once, and no other.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
cd "$SRCDIR" || exit

modules() {
    find qcow fs -name '*.[ch]' | sed 's/\.[ch]$//' | sort -u
}

# The first column is the folder, the second its modules.
named() {
    # shellcheck disable=SC2016
    sed -n '/^## The nouns$/,/^## Two/p' docs/ARCHITECTURE.md | tr -d '` ' |
        awk -F '|' '$2 ~ /\/$/ { n = split($3, names, ","); for (i = 1; i <= n; i++) print $2 names[i] }' | sort
}

difference=$(diff <(modules) <(named)) || fail "modules (<) and the table of the nouns (>):
$difference"
