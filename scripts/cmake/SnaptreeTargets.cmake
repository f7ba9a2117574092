# Flags that every target of the project is compiled with: snaptree_target(NAME).
function(snaptree_target name)
    set_target_properties(${name} PROPERTIES C_STANDARD 11 C_EXTENSIONS ON)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE _FILE_OFFSET_BITS=64
        G_LOG_USE_STRUCTURED SNAPTREE_VERSION="${PROJECT_VERSION}")
    target_compile_options(${name} PRIVATE -Wall -Wextra -Wshadow -Wstrict-prototypes
        -Wmissing-prototypes -Wpointer-arith -Wvla)
    if(SNAPTREE_WERROR)
        target_compile_options(${name} PRIVATE -Werror)
    endif()
    if(SNAPTREE_SANITIZE)
        target_compile_options(${name} PRIVATE -fsanitize=${SNAPTREE_SANITIZE}
            -fno-sanitize-recover=all -fno-omit-frame-pointer)
        target_link_options(${name} PRIVATE -fsanitize=${SNAPTREE_SANITIZE})
    endif()
endfunction()
