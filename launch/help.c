/* launch/help.c: --help, from the tables. */
#include <string.h>
#include <strings.h>

#include "launch/cli.h"

enum { WIDTH = 96, INDENT = 6, FACTS_BYTES = 256 };

/* A paragraph, wrapped; every line indented. */
static void print_wrapped(FILE *out, const char *text, int indent)
{
    while (*text != '\0') {
        size_t room = (size_t)(WIDTH - indent);
        size_t n    = strcspn(text, "\n");
        bool   cut  = n > room;
        if (cut) {
            n = room;
            while (n > 0 && text[n] != ' ') n--;
            if (n == 0) n = strcspn(text, " \n");
        }
        (void)fprintf(out, "%*s%.*s\n", n > 0 ? indent : 0, "", (int)n, text);
        text += n;
        if (*text != '\0') text++;
    }
}

/* Examples: a long line goes on behind a backslash, so that it can be pasted. */
static void print_examples(FILE *out, const char *text)
{
    enum { ROOM = WIDTH - 8 };
    for (int indent = 2; *text != '\0';) {
        size_t n   = strcspn(text, "\n");
        bool   cut = n > ROOM;
        if (cut) {
            n = ROOM;
            while (n > 0 && (text[n] != ' ' || text[n + 1] != '-')) n--;
            cut = n > 0;
            if (!cut) n = strcspn(text, "\n");
        }
        (void)fprintf(out, "%*s%.*s%s\n", indent, "", (int)n, text, cut ? " \\" : "");
        indent = cut ? 6 : 2;
        text += n;
        if (*text != '\0') text++;
    }
}

const char *cli_option_facts(opt_id_t id, char *buf, size_t buf_bytes)
{
    const opt_row_t *row = opt_row(id);
    char             choices[FACTS_BYTES];
    int              n = 0;

    buf[0] = '\0';
    if (row->def != NULL) n = snprintf(buf, buf_bytes, "default %s", row->def);
    if (row->choices != NULL)
        (void)snprintf(buf + n, buf_bytes - (size_t)n, "%s%s", n > 0 ? "; one of " : "one of ",
                       opt_choices_text(id, choices, sizeof(choices)));
    else if (row->max > row->min && row->max < 1e9)
        (void)snprintf(buf + n, buf_bytes - (size_t)n, "%s%.15g to %.15g", n > 0 ? "; " : "",
                       row->min, row->max);
    return buf;
}

static bool mentions(opt_id_t id, const char *word)
{
    const opt_row_t *row = opt_row(id);
    return word == NULL || strcasestr(row->spellings, word) != NULL ||
           strcasestr(row->help, word) != NULL;
}

static void print_option(FILE *out, opt_id_t id)
{
    const opt_row_t *row = opt_row(id);
    const char      *at  = row->spellings;
    char             word[64];
    char             facts[FACTS_BYTES];
    char             line[FACTS_BYTES + 2];
    bool             first = true;

    (void)fputs("  ", out);
    while (opt_next_word(&at, ' ', word, sizeof(word))) {
        (void)fprintf(out, "%s%s", first ? "" : ", ", word);
        first = false;
    }
    (void)fprintf(out, "%s%s\n", row->metavar != NULL ? " " : "",
                  row->metavar != NULL ? row->metavar : "");
    print_wrapped(out, row->help, INDENT);
    if (cli_option_facts(id, facts, sizeof(facts))[0] == '\0') return;
    (void)snprintf(line, sizeof(line), "(%s)", facts);
    print_wrapped(out, line, INDENT);
}

static bool print_group(FILE *out, uint32_t command, opt_group_t group, const char *word)
{
    bool title = false;

    for (int id = 0; id < OPT_ID_COUNT; id++) {
        const opt_row_t *row = opt_row((opt_id_t)id);
        if ((row->commands & command) == 0 || row->group != group || !mentions((opt_id_t)id, word))
            continue;
        if (!title) (void)fprintf(out, "\n%s:\n", opt_group_title(group));
        title = true;
        print_option(out, (opt_id_t)id);
    }
    return title;
}

void cli_help_command(FILE *out, const command_t *command, const char *word)
{
    (void)fprintf(out, "trireme %s: %s\n", command->name, command->summary);
    if (word == NULL) {
        (void)fprintf(out, "\n  trireme %s %s\n\n", command->name, command->synopsis);
        print_wrapped(out, command->description, 0);
        (void)fprintf(out, "\nExamples:\n");
        print_examples(out, command->examples);
    }
    bool any = false;
    for (int group = 0; group < GROUP_COUNT; group++)
        if (print_group(out, command->bit, (opt_group_t)group, word)) any = true;
    if (!any) (void)fprintf(out, "\nno option mentions '%s'\n", word);
    if (word == NULL)
        (void)fprintf(out, "\nEnvironment, exit status and launching: trireme --help\n");
}

void cli_help_program(FILE *out)
{
    (void)fprintf(out, "trireme: ternary language models over MPI, the same tokens bit for bit\n\n"
                       "  trireme COMMAND [options]\n"
                       "  mpirun -n N trireme COMMAND [options]\n\n"
                       "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, "  %-10s %s\n", cli_commands[i].name, cli_commands[i].summary);
    (void)fprintf(out, "\n"
                       "  trireme COMMAND --help   explains a command and its options\n"
                       "  trireme --man [COMMAND]  its manual page (trireme --man run | man -l -)\n"
                       "  trireme --completion-bash, trireme --version\n\n"
                       "Examples:\n"
                       "  trireme run -m model.gguf -p \"Once upon a time\" -n 100\n"
                       "  mpirun -n 4 trireme run -m model.gguf -p \"Once upon a time\"\n"
                       "  trireme inspect -m model.gguf\n");
    for (size_t i = 0; cli_notes[i] != NULL; i++) {
        (void)fputc('\n', out);
        print_wrapped(out, cli_notes[i], 0);
    }
}
