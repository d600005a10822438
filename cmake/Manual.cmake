# Script: the built program writes its manual pages and completion under OUT. A page that it fails
# to write costs a warning, not the build; tests/launch/install.test.sh wants them all.
file(MAKE_DIRECTORY ${OUT}/man1)
function(write_page file)
    execute_process(COMMAND ${TRIREME} ${ARGN} OUTPUT_FILE ${OUT}/${file}.new
                    RESULT_VARIABLE rc ERROR_VARIABLE text)
    if(NOT rc EQUAL 0)
        list(JOIN ARGN " " words)
        message(WARNING "trireme ${words}: exit ${rc}: ${text}")
        file(REMOVE ${OUT}/${file}.new)
        return()
    endif()
    file(RENAME ${OUT}/${file}.new ${OUT}/${file})
endfunction()

write_page(man1/trireme.1 --man)
foreach(command run eval tokenize inspect bench synth plan doctor convert verify)
    write_page(man1/trireme-${command}.1 --man ${command})
endforeach()
write_page(trireme.bash --completion-bash)
