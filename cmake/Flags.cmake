# Compiler flags of every target. Never -march=native (a build serves unlike machines: kernels are
# chosen at run time), never -ffast-math, and no contraction of a*b+c: docs/NUMERICS.md.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()
# -g1: line numbers in backtraces at little cost. The kernels add -O3 (Room.cmake).
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")
if(TRIREME_SANITIZE) # with -g the ternary kernels take a third longer to compile
    set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1")
endif()

set(TRIREME_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes
    -Wmissing-prototypes -Wundef -Wvla -Wformat=2)
if(TRIREME_FATAL_WARNINGS)
    list(APPEND TRIREME_WARNINGS -Werror)
endif()

add_library(trireme_options INTERFACE)
target_compile_definitions(trireme_options INTERFACE _GNU_SOURCE)
target_compile_options(trireme_options INTERFACE -ffp-contract=off)
if(TRIREME_SANITIZE)
    target_compile_options(trireme_options INTERFACE -fsanitize=${TRIREME_SANITIZE}
        -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(trireme_options INTERFACE -fsanitize=${TRIREME_SANITIZE})
else()
    target_compile_options(trireme_options INTERFACE -fstack-protector-strong
        $<$<CONFIG:Release>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>)
    target_link_options(trireme_options INTERFACE -Wl,-z,relro,-z,now)
endif()

if(TRIREME_FUZZ)
    target_compile_options(trireme_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Everything that our own code is compiled with; generated code takes trireme_options alone.
function(trireme_flags target)
    target_link_libraries(${target} PRIVATE trireme_options)
    target_compile_options(${target} PRIVATE ${TRIREME_WARNINGS})
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
    target_include_directories(${target} SYSTEM PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()
