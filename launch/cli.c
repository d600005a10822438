/* launch/cli.c: from argv to a command. */
#include "launch/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "build_info.h"
#include "comm/comm.h"
#include "launch/foreign.h"
#include "worker/worker.h"

static const char *launcher_rank_text(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *text = getenv(names[i]);
        if (text != NULL && text[0] >= '0' && text[0] <= '9') return text;
    }
    return NULL;
}

int cli_launcher_rank(void)
{
    const char *text = launcher_rank_text();
    return text == NULL ? 0 : atoi(text);
}

bool cli_launcher(void)
{
    return launcher_rank_text() != NULL;
}

void cli_version(FILE *out)
{
    char mpi[256];
    (void)fprintf(out, "trireme %s (%s)\nMPI: %s\nkernels: %s\n", TRIREME_VERSION,
                  TRIREME_BUILD_COMMIT, comm_library_version(mpi, sizeof(mpi)), worker_cpu_best());
}

int cli_usage_error(const base_err_t *err, const char *command)
{
    if (cli_launcher_rank() == 0)
        base_log(BASE_LOG_ERROR, "%s (see: trireme%s%s --help)", err->text,
                 command != NULL ? " " : "", command != NULL ? command : "");
    return base_status_exit(err->code);
}

static int unknown_command(const char *word)
{
    const char *names[COMMAND_COUNT];
    const char *nearest = NULL;
    base_err_t  err;

    for (size_t i = 0; i < COMMAND_COUNT; i++) names[i] = cli_commands[i].name;
    nearest = opt_nearest(word, names, COMMAND_COUNT);
    if (foreign_command(word) != NULL) {
        (void)base_fail(&err, BASE_ERR_USAGE, "unknown command '%.64s': %s", word,
                        foreign_command(word));
        return cli_usage_error(&err, NULL);
    }
    (void)base_fail(&err, BASE_ERR_USAGE, "unknown %s '%.64s'%s%s%s",
                    word[0] == '-' ? "option" : "command", word,
                    nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                    nearest != NULL ? "'?" : "");
    return cli_usage_error(&err, NULL);
}

typedef enum { TEXT_HELP, TEXT_MAN, TEXT_VERSION, TEXT_COMPLETION } text_t;

static int print_text(text_t text, const command_t *command, const char *word)
{
    if (cli_launcher_rank() != 0) return 0;
    switch (text) {
    case TEXT_HELP:
        if (command != NULL)
            cli_help_command(stdout, command, word);
        else
            cli_help_program(stdout);
        break;
    case TEXT_MAN:
        if (command != NULL)
            cli_man_command(stdout, command);
        else
            cli_man_program(stdout);
        break;
    case TEXT_VERSION: cli_version(stdout); break;
    case TEXT_COMPLETION: cli_completion_bash(stdout); break;
    }
    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && errno != EPIPE) {
        base_log(BASE_LOG_ERROR, "standard output: %s", strerror(errno));
        return base_status_exit(BASE_ERR_SYSTEM);
    }
    return 0;
}

/* "trireme --help run" and the like: what comes before any command. */
static int program_option(int argc, char **argv)
{
    static const struct {
        const char *word;
        text_t      text;
    } words[] = {{"--help", TEXT_HELP},       {"-h", TEXT_HELP},
                 {"help", TEXT_HELP},         {"--man", TEXT_MAN},
                 {"--version", TEXT_VERSION}, {"--completion-bash", TEXT_COMPLETION}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const command_t *command = NULL;
        bool             takes   = words[i].text == TEXT_HELP || words[i].text == TEXT_MAN;
        if (strcmp(argv[1], words[i].word) != 0) continue;
        if (argc > 2 && takes) {
            command = cli_command_find(argv[2]);
            if (command == NULL) return unknown_command(argv[2]);
        }
        return print_text(words[i].text, command, NULL);
    }
    return -1;
}

enum { PROGRESS_SELDOM_MS = 10000 }; /* where stderr is no terminal */

void cli_log_setup(const options_t *o, int rank)
{
    const char *when     = opt_string(o, OPT_LOG_COLORS);
    bool        terminal = isatty(STDERR_FILENO) != 0;
    bool        colors   = strcmp(when, "on") == 0 ||
                  (strcmp(when, "auto") == 0 && terminal && getenv("NO_COLOR") == NULL);
    bool quiet = opt_flag(o, OPT_QUIET);

    base_log_setup(quiet                      ? BASE_LOG_WARN
                   : opt_flag(o, OPT_VERBOSE) ? BASE_LOG_DEBUG
                                              : BASE_LOG_INFO,
                   colors, rank);
    when          = opt_string(o, OPT_PROGRESS);
    const bool on = strcmp(when, "on") == 0;
    base_progress_setup(cli_launcher_rank() == 0 && (on || (strcmp(when, "auto") == 0 && !quiet)),
                        on || terminal ? 0 : PROGRESS_SELDOM_MS);
}

/* A mapped model file that somebody cuts while it is read has no bytes to give: the kernel says so
 * with SIGBUS. There is no way on, but there is a message. */
static void on_sigbus(int number)
{
    static const char text[] =
        "trireme: error: the model file became shorter while it was read, or "
        "its disk failed (SIGBUS)\n";
    (void)number;
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(base_status_exit(BASE_ERR_INPUT));
}

/* A closed standard stream leaves its number to the next file that is opened, and messages would go
 * into that file. The stand-ins fail like a closed stream where it matters: reading standard input,
 * writing standard output. */
static void fill_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_WRONLY);
}

int cli_main(int argc, char **argv, char **environ)
{
    const command_t *command = NULL;
    options_t        options;
    base_err_t       err;
    int              rc = 0;

    fill_closed_streams();
    (void)signal(SIGBUS, on_sigbus);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that leaves shows as EPIPE */
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over ulimit -f shows as EFBIG */
    if (argc < 2) {
        (void)base_fail(&err, BASE_ERR_USAGE,
                        "no command: one of run, eval, tokenize, inspect, "
                        "bench, synth, plan, doctor, convert, verify");
        return cli_usage_error(&err, NULL);
    }
    rc = program_option(argc, argv);
    if (rc >= 0) return rc;
    command = cli_command_find(argv[1]);
    if (command == NULL) return unknown_command(argv[1]);

    if (options_parse(command->bit, argc - 2, (const char *const *)argv + 2, environ, &options,
                      &err) != BASE_OK) {
        rc = cli_usage_error(&err, command->name);
    } else if (opt_flag(&options, OPT_HELP)) {
        rc = print_text(TEXT_HELP, command, options.v[OPT_HELP].s);
    } else if (opt_flag(&options, OPT_MAN)) {
        rc = print_text(TEXT_MAN, command, NULL);
    } else if (opt_flag(&options, OPT_VERSION)) {
        rc = print_text(TEXT_VERSION, NULL, NULL);
    } else {
        cli_log_setup(&options, -1);
        rc = command->main(&options);
    }
    options_free(&options);
    return rc;
}
