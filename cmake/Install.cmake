# What `cmake --install` places: the program, its manual pages and bash completion (which it writes
# itself, from the table that parses its options), the pages, the launch recipes, the model.
install(TARGETS trireme RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

if(NOT CMAKE_CROSSCOMPILING AND NOT TRIREME_SANITIZE)
    set(stamp ${PROJECT_BINARY_DIR}/manual/stamp)
    add_custom_command(OUTPUT ${stamp}
        COMMAND ${CMAKE_COMMAND} -D TRIREME=$<TARGET_FILE:trireme>
                -D OUT=${PROJECT_BINARY_DIR}/manual -P ${PROJECT_SOURCE_DIR}/cmake/Manual.cmake
        COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
        DEPENDS trireme ${PROJECT_SOURCE_DIR}/cmake/Manual.cmake
        COMMENT "manual pages" VERBATIM)
    add_custom_target(manual ALL DEPENDS ${stamp})
    install(DIRECTORY ${PROJECT_BINARY_DIR}/manual/man1 DESTINATION ${CMAKE_INSTALL_MANDIR}
            FILES_MATCHING PATTERN "*.1")
    install(FILES ${PROJECT_BINARY_DIR}/manual/trireme.bash RENAME trireme OPTIONAL
            DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/bash-completion/completions)
endif()

install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
install(DIRECTORY launch DESTINATION ${CMAKE_INSTALL_DATADIR}/trireme USE_SOURCE_PERMISSIONS
        REGEX "\\.([ch]|def)$|/launch/(setup|build|demo|container|apptainer)$" EXCLUDE)
set(unit ${CMAKE_INSTALL_DATADIR}/trireme/launch/systemd/trireme@.service)
install(CODE "
    file(READ \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${unit}\" text)
    string(REPLACE /usr/local \"\${CMAKE_INSTALL_PREFIX}\" text \"\${text}\")
    file(WRITE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${unit}\" \"\${text}\")")
install(DIRECTORY default-model DESTINATION ${CMAKE_INSTALL_DATADIR}/trireme
        FILES_MATCHING REGEX "\\.(gguf|md)$")
