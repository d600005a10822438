# One static library per room. A room without sources yet is an interface library, so that the
# rest configures and builds.

# The rooms among the names become trireme_NAME; real libraries pass unchanged.
function(trireme_link target scope)
    foreach(name IN LISTS ARGN)
        if(name MATCHES "::" OR name STREQUAL "m")
            target_link_libraries(${target} ${scope} ${name})
        else()
            target_link_libraries(${target} ${scope} trireme_${name})
        endif()
    endforeach()
endfunction()

# trireme_library(NAME SOURCES files LINK names)
function(trireme_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
    if(NOT ARG_SOURCES)
        add_library(trireme_${name} INTERFACE)
        trireme_link(trireme_${name} INTERFACE ${ARG_LINK})
        return()
    endif()
    add_library(trireme_${name} STATIC ${ARG_SOURCES})
    trireme_flags(trireme_${name})
    trireme_link(trireme_${name} PRIVATE ${ARG_LINK} Threads::Threads m)
    add_dependencies(trireme_${name} build_info)
endfunction()

# trireme_room(NAME [EXCEPT file] [LINK names]): all of NAME/*.c but the files named.
function(trireme_room name)
    cmake_parse_arguments(ARG "" "" "EXCEPT;LINK" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${name}/*.c)
    foreach(file IN LISTS ARG_EXCEPT)
        list(REMOVE_ITEM sources ${PROJECT_SOURCE_DIR}/${name}/${file})
    endforeach()
    trireme_library(${name} SOURCES ${sources} LINK ${ARG_LINK})
endfunction()

# The kernels: portable code, then one folder per architecture. Flags of an instruction set go to
# the files whose names end in it, so that no other code can use it before the CPU was asked.
function(trireme_kernels)
    set(dir ${PROJECT_SOURCE_DIR}/worker/kernels)
    file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.c ${dir}/ref/*.c)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
        file(GLOB isa CONFIGURE_DEPENDS ${dir}/x86/*.c)
        set(avx2 -mavx2 -mfma -mf16c)
        set(avx512vnni -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni ${avx2})
        set(avx512vbmi -mavx512vbmi ${avx512vnni})
        set(zen4 ${avx512vbmi})
        foreach(file IN LISTS isa)
            if(file MATCHES "_(avx2|avx512vnni|avx512vbmi|zen4)\\.c$")
                set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${${CMAKE_MATCH_1}}")
            endif()
        endforeach()
        list(APPEND sources ${isa})
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
        file(GLOB isa CONFIGURE_DEPENDS ${dir}/arm/*.c)
        set(dotprod -march=armv8.2-a+dotprod)
        set(i8mm -march=armv8.2-a+dotprod+i8mm)
        foreach(file IN LISTS isa)
            if(file MATCHES "_(dotprod|i8mm)\\.c$")
                set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${${CMAKE_MATCH_1}}")
            endif()
        endforeach()
        list(APPEND sources ${isa})
    endif()
    trireme_library(kernels SOURCES ${sources} LINK base)
    if(sources)
        target_compile_options(trireme_kernels PRIVATE $<$<CONFIG:Release>:-O3>)
    endif()
endfunction()

# proto/NAME.proto -> generated/proto/NAME.pb-c.{c,h}, included as "proto/NAME.pb-c.h". A file
# imports another by its path from the root: import "proto/other.proto".
function(trireme_proto)
    file(GLOB protos CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/*.proto)
    if(NOT protos)
        add_library(trireme_proto INTERFACE)
        target_link_libraries(trireme_proto INTERFACE PkgConfig::PROTOBUF_C)
        return()
    endif()
    set(out ${PROJECT_BINARY_DIR}/generated)
    file(MAKE_DIRECTORY ${out}/proto)
    foreach(proto IN LISTS protos)
        cmake_path(GET proto STEM name)
        add_custom_command(
            OUTPUT ${out}/proto/${name}.pb-c.c ${out}/proto/${name}.pb-c.h
            COMMAND ${PROTOC_C} -I ${PROJECT_SOURCE_DIR} --c_out=${out} proto/${name}.proto
            WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
            DEPENDS ${protos}
            COMMENT "protoc-c proto/${name}.proto"
            VERBATIM)
        list(APPEND sources ${out}/proto/${name}.pb-c.c ${out}/proto/${name}.pb-c.h)
    endforeach()
    add_library(trireme_proto STATIC ${sources})
    target_link_libraries(trireme_proto PRIVATE trireme_options PUBLIC PkgConfig::PROTOBUF_C)
    target_include_directories(trireme_proto SYSTEM PUBLIC ${out})
endfunction()
