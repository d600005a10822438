/* launch/cli.h
 * From argv to a command: the table of commands, texts made from the options table, dispatch. */
#ifndef TRIREME_LAUNCH_CLI_H
#define TRIREME_LAUNCH_CLI_H

#include <stdio.h>

#include "launch/options.h"

typedef struct {
    const char *name;
    uint32_t    bit;                       /* CMD_RUN ... */
    const char *synopsis;                  /* what follows "trireme run" */
    const char *summary;                   /* half a sentence, small first letter, no full stop */
    const char *description;               /* paragraphs parted by an empty line, one line each */
    const char *examples;                  /* pairs of lines: "# what it does", then the command */
    int (*main)(const options_t *options); /* returns the exit status */
} command_t;

enum { COMMAND_COUNT = 10 };
extern const command_t cli_commands[COMMAND_COUNT];
const command_t       *cli_command_find(const char *name); /* NULL if there is none */

/* Everything of a process: returns its exit status. */
int cli_main(int argc, char **argv, char **environ);

/* The rank that mpirun or srun gave this process, before MPI is started; 0 without a launcher. */
int  cli_launcher_rank(void);
bool cli_launcher(void); /* did one start this process? */

/* Say a usage error, once however many ranks made it; returns the exit status. */
int cli_usage_error(const base_err_t *err, const char *command);
/* Level, colours and progress of the messages; rank < 0: no rank in front of them. */
void cli_log_setup(const options_t *options, int rank);

/* Texts. `word`: only the options that mention it, or NULL. */
void cli_help_program(FILE *out);
void cli_help_command(FILE *out, const command_t *command, const char *word);
void cli_man_program(FILE *out);
void cli_man_command(FILE *out, const command_t *command);
void cli_completion_bash(FILE *out);
void cli_version(FILE *out);

/* Exit statuses, environment and launching, as shared by --help and trireme(1): paragraphs. */
extern const char *const cli_notes[];

/* What --help and --man say after an option's text: "default 0.8; 0 to 1". */
const char *cli_option_facts(opt_id_t id, char *buf, size_t buf_bytes);

#endif
