# What is installed finds itself, wherever that is; and a build without a preset is optimised.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires gcc cmake ninja pkg-config

# One line of what the installed package says of itself.
says() { # FILE PKG-CONFIG-OPTIONS...
    PKG_CONFIG_PATH=$(dirname "$1") pkg-config "${@:2}" snaptree-qcow
}

# A program of a user's, made as README.md says.
make_program() { # PC-FILE
    local flags
    read -ra flags <<<"$(says "$1" --cflags --libs)"
    cat >program.c <<'END'
#include <qcow.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(GError) error = NULL;
    g_autoptr(QcGate) gate = NULL;
    g_autoptr(QcFile) file = NULL;
    g_autoptr(QcImage) image = NULL;

    if (argc != 3 || qc_gate_new(argv[1], QC_BACKING_STORE, &gate, &error) < 0 ||
        qc_gate_open(gate, argv[2], false, &file, &error) < 0 ||
        qc_image_open(file, argv[2], QC_FORMAT_QCOW2, cache, &image, &error) < 0)
        return 1;
    for (unsigned i = 0; i < qc_image_info(image)->n_snapshots; i++)
        puts(qc_image_info(image)->snapshots[i].name);
    return 0;
}
END
    gcc -Wall -Werror program.c "${flags[@]}" -o program >log 2>&1 || fail "gcc: $(cat log)"
}

program_of_a_user() { # PC-FILE
    make_program "$1"
    "$QCTOOL" create web.qcow2 1M
    "$QCTOOL" take web.qcow2 monday
    assert_eq "$(./program . web.qcow2)" monday "what a program finds in an image"
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
    [ -n "${SANITIZED:-}" ] || program_of_a_user "$pc"
}

# As distributions ask for it.
to_an_absolute_directory() {
    cmake -S "$SRCDIR" -B plain -G Ninja -DSNAPTREE_TESTS=OFF -DCMAKE_INSTALL_LIBDIR=/usr/lib/foo >log 2>&1 || fail "cmake: $(cat log)"
    assert_eq "$(says plain/qcow/snaptree-qcow.pc --variable=libdir)" /usr/lib/foo "the directory of libraries"
    assert_eq "$(says plain/qcow/snaptree-qcow.pc --variable=includedir)" /usr/local/include/snaptree "that of headers"
    assert_eq "$(sed -n 's/^CMAKE_BUILD_TYPE:STRING=//p' plain/CMakeCache.txt)" RelWithDebInfo "the type of a plain build"
}

moved
to_an_absolute_directory
