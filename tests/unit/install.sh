# What is installed finds itself, wherever that is; and a build without a preset is optimised.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires cmake pkg-config

# One line of what the installed package says of itself.
says() { # FILE PKG-CONFIG-OPTIONS...
    PKG_CONFIG_PATH=$(dirname "$1") pkg-config "${@:2}" snaptree-qcow
}

# To another place than the one that it was configured for.
moved() {
    local build pc
    build=$(dirname "$(dirname "$SNAPTREE")")
    cmake --install "$build" --prefix "$TMP/moved" >log || fail "cmake --install: $(cat log)"
    pc=$(find "$TMP/moved" -name snaptree-qcow.pc)
    [ -e "$(says "$pc" --variable=libdir)/libsnaptree-qcow.a" ] || fail "no library: $(cat "$pc")"
    [ -e "$(says "$pc" --variable=includedir)/qcow.h" ] || fail "no header: $(cat "$pc")"
    assert_match "$(says "$pc" --cflags)" "-I.*/moved/.*include/snaptree" "the headers"
    moved/bin/snaptree --version >/dev/null || fail "no program"
    local file
    for file in doc/snaptree/GUIDE.md doc/snaptree/SECURITY.md doc/snaptree/LICENSE man/man1/snaptree.1; do
        [ -s "moved/share/$file" ] || fail "share/$file is not installed"
    done
}

# As distributions ask for it.
to_an_absolute_directory() {
    cmake -S "$SRCDIR" -B plain -DSNAPTREE_TESTS=OFF -DCMAKE_INSTALL_LIBDIR=/usr/lib/foo >log 2>&1 || fail "cmake: $(cat log)"
    assert_eq "$(says plain/qcow/snaptree-qcow.pc --variable=libdir)" /usr/lib/foo "the directory of libraries"
    assert_eq "$(says plain/qcow/snaptree-qcow.pc --variable=includedir)" /usr/local/include/snaptree "that of headers"
    assert_eq "$(sed -n 's/^CMAKE_BUILD_TYPE:STRING=//p' plain/CMakeCache.txt)" RelWithDebInfo "the type of a plain build"
}

moved
to_an_absolute_directory
