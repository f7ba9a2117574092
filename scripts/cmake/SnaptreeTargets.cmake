# ThreadSanitizer has to be told of GLib's locks.
if(SNAPTREE_SANITIZE MATCHES thread)
    add_library(tsan OBJECT ${CMAKE_SOURCE_DIR}/tests/tools/tsan.c)
    target_compile_options(tsan PRIVATE -D_GNU_SOURCE -Wall -Wextra)
    target_link_libraries(tsan PUBLIC PkgConfig::GLIB)
    target_include_directories(tsan PRIVATE $<TARGET_PROPERTY:PkgConfig::FUSE,INTERFACE_INCLUDE_DIRECTORIES>)
    target_compile_definitions(tsan PRIVATE $<TARGET_PROPERTY:PkgConfig::FUSE,INTERFACE_COMPILE_DEFINITIONS>)
endif()

# Flags that every target of the project is compiled with: snaptree_target(NAME).
function(snaptree_target name)
    set_target_properties(${name} PROPERTIES C_STANDARD 11 C_EXTENSIONS ON)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE _FILE_OFFSET_BITS=64
        G_LOG_USE_STRUCTURED SNAPTREE_VERSION="${PROJECT_VERSION}")
    target_compile_options(${name} PRIVATE -Wall -Wextra -Wshadow -Wstrict-prototypes
        -Wmissing-prototypes -Wpointer-arith -Wvla)
    if(CMAKE_C_COMPILER_ID STREQUAL Clang) # takes a g_autoptr() lock for unused; gcc does not
        target_compile_options(${name} PRIVATE -Wno-unused-variable)
    endif()
    if(SNAPTREE_WERROR)
        target_compile_options(${name} PRIVATE -Werror)
    endif()
    if(SNAPTREE_SANITIZE)
        target_compile_definitions(${name} PRIVATE SNAPTREE_SANITIZED)
        target_compile_options(${name} PRIVATE -fsanitize=${SNAPTREE_SANITIZE}
            -fno-sanitize-recover=all -fno-omit-frame-pointer)
        target_link_options(${name} PRIVATE -fsanitize=${SNAPTREE_SANITIZE})
    endif()
    get_target_property(type ${name} TYPE)
    if(TARGET tsan AND type STREQUAL EXECUTABLE)
        target_link_libraries(${name} PRIVATE tsan)
        set_target_properties(${name} PROPERTIES ENABLE_EXPORTS ON)
    endif()
endfunction()

# The modules of a directory lie in folders: snaptree_modules(PREFIX FOLDER...) sets PREFIX_SOURCES,
# and PREFIX_FOLDERS, in which their headers are.
macro(snaptree_modules prefix)
    set(${prefix}_FOLDERS ${ARGN})
    list(TRANSFORM ${prefix}_FOLDERS PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    list(TRANSFORM ${prefix}_FOLDERS APPEND /*.c OUTPUT_VARIABLE ${prefix}_PATTERNS)
    file(GLOB ${prefix}_SOURCES CONFIGURE_DEPENDS ${${prefix}_PATTERNS})
endmacro()
