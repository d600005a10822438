/* launch/foreign.h
 * Commands and options of other engines (llama.cpp, ollama, vLLM) that have another name here, or
 * nothing to set: what to say to those who type them. */
#ifndef TRIREME_LAUNCH_FOREIGN_H
#define TRIREME_LAUNCH_FOREIGN_H

#include <stddef.h>
#include <stdint.h>

/* Half a sentence for an unknown command, NULL for one that nobody has. Local, pure. */
const char *foreign_command(const char *word);

/* The same for an unknown option (its first n bytes; "--max_tokens" is "--max-tokens") of a
 * command: one CMD_* bit of launch/options.h. */
const char *foreign_option(uint32_t command, const char *word, size_t n);

#endif
