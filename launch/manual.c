/* launch/manual.c: manual pages (roff, man macros) and bash completion, from the tables. */
#include <string.h>

#include "build_info.h"
#include "launch/cli.h"

enum { FACTS_BYTES = 256 };

/* Text with roff's special characters escaped; a dot or quote at a line's start is guarded. */
static void print_roff(FILE *out, const char *text)
{
    bool start = true;

    for (const char *c = text; *c != '\0'; c++) {
        if (start && (*c == '.' || *c == '\'')) (void)fputs("\\&", out);
        if (*c == '\\')
            (void)fputs("\\e", out);
        else if (*c == '-')
            (void)fputs("\\-", out);
        else if (*c == '\n' && c[1] == '\n')
            (void)fputs("\n.PP", out);
        else
            (void)fputc(*c, out);
        start = *c == '\n';
    }
    (void)fputc('\n', out);
}

static void print_head(FILE *out, const char *name, const char *summary)
{
    (void)fprintf(out, ".TH %s 1 \"\" \"trireme %s\" \"User Commands\"\n.SH NAME\n", name,
                  TRIREME_VERSION);
    for (const char *c = name; *c != '\0'; c++)
        (void)fputs((char[]){*c == '-' ? '\\' : *c, *c == '-' ? '-' : '\0', '\0'}, out);
    (void)fputs(" \\- ", out);
    print_roff(out, summary);
}

static void print_examples(FILE *out, const char *lines)
{
    (void)fputs(".SH EXAMPLES\n", out);
    while (*lines != '\0') {
        size_t n = strcspn(lines, "\n");
        char   line[256];
        base_assert(n < sizeof(line));
        (void)snprintf(line, sizeof(line), "%.*s", (int)n, lines);
        if (line[0] == '#') {
            (void)fputs(".PP\n", out);
            print_roff(out, line + 2);
        } else {
            (void)fputs(".PP\n.RS 4\n.nf\n", out);
            print_roff(out, line);
            (void)fputs(".fi\n.RE\n", out);
        }
        lines += n;
        if (*lines == '\n') lines++;
    }
}

static void print_option(FILE *out, opt_id_t id)
{
    const opt_row_t *row = opt_row(id);
    const char      *at  = row->spellings;
    char             word[64];
    char             facts[FACTS_BYTES];
    bool             first = true;

    (void)fputs(".TP\n", out);
    while (opt_next_word(&at, ' ', word, sizeof(word))) {
        (void)fputs(first ? "\\fB" : ", \\fB", out);
        for (const char *c = word; *c != '\0'; c++)
            (void)fprintf(out, "%s%c", *c == '-' ? "\\" : "", *c);
        (void)fputs("\\fR", out);
        first = false;
    }
    if (row->metavar != NULL) (void)fprintf(out, " \\fI%s\\fR", row->metavar);
    (void)fputc('\n', out);
    print_roff(out, row->help);
    if (cli_option_facts(id, facts, sizeof(facts))[0] != '\0') {
        (void)fputc('(', out);
        facts[strlen(facts) + 1 < sizeof(facts) ? strlen(facts) + 1 : 0] = '\0';
        (void)strncat(facts, ").", sizeof(facts) - strlen(facts) - 1);
        print_roff(out, facts);
    }
}

void cli_man_command(FILE *out, const command_t *command)
{
    char name[64];

    (void)snprintf(name, sizeof(name), "trireme-%s", command->name);
    print_head(out, name, command->summary);
    (void)fprintf(out, ".SH SYNOPSIS\n.B trireme %s\n", command->name);
    print_roff(out, command->synopsis);
    (void)fputs(".SH DESCRIPTION\n", out);
    print_roff(out, command->description);
    print_examples(out, command->examples);
    (void)fputs(".SH OPTIONS\n", out);
    for (int group = 0; group < GROUP_COUNT; group++) {
        bool title = false;
        for (int id = 0; id < OPT_ID_COUNT; id++) {
            const opt_row_t *row = opt_row((opt_id_t)id);
            if ((row->commands & command->bit) == 0 || row->group != (opt_group_t)group) continue;
            if (!title) (void)fprintf(out, ".SS %s\n", opt_group_title((opt_group_t)group));
            title = true;
            print_option(out, (opt_id_t)id);
        }
    }
    (void)fputs(".SH NOTES\n", out);
    for (size_t i = 0; cli_notes[i] != NULL; i++) {
        if (i > 0) (void)fputs(".PP\n", out);
        print_roff(out, cli_notes[i]);
    }
    (void)fputs(".SH SEE ALSO\n.BR trireme (1)\n", out);
}

void cli_man_program(FILE *out)
{
    print_head(out, "trireme", "ternary language models over MPI, the same tokens bit for bit");
    (void)fputs(".SH SYNOPSIS\n.B trireme\n.I COMMAND\n[options]\n.PP\n"
                ".B mpirun \\-n\n.I N\n.B trireme\n.I COMMAND\n[options]\n.SH COMMANDS\n",
                out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(out, ".TP\n.BR trireme\\-%s (1)\n", cli_commands[i].name);
        print_roff(out, cli_commands[i].summary);
    }
    (void)fputs(".SH DESCRIPTION\n", out);
    for (size_t i = 0; cli_notes[i] != NULL; i++) {
        if (i > 0) (void)fputs(".PP\n", out);
        print_roff(out, cli_notes[i]);
    }
    (void)fputs(".SH SEE ALSO\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, ".BR trireme\\-%s (1),\n", cli_commands[i].name);
    (void)fputs(".BR mpirun (1)\n", out);
}

/* ---- bash ---- */

/* "command option) words" lines of a case, for the options whose values complete. */
static void print_value_cases(FILE *out, const command_t *command)
{
    for (int id = 0; id < OPT_ID_COUNT; id++) {
        const opt_row_t *row = opt_row((opt_id_t)id);
        const char      *at  = row->spellings;
        char             word[64];
        bool             first = true;
        if ((row->commands & command->bit) == 0 || row->type == OPT_FLAG) continue;
        (void)fputs("        ", out);
        while (opt_next_word(&at, ' ', word, sizeof(word))) {
            (void)fprintf(out, "%s%s:%s", first ? "" : "|", command->name, word);
            first = false;
        }
        if (row->type == OPT_PATH) {
            (void)fputs(
                ") COMPREPLY=($(compgen -f -- \"$cur\")); compopt -o filenames; return ;;\n", out);
        } else {
            (void)fputs(") COMPREPLY=($(compgen -W \"", out);
            for (const char *c = row->choices != NULL ? row->choices : ""; *c != '\0'; c++)
                (void)fputc(*c == '|' ? ' ' : *c, out);
            (void)fputs("\" -- \"$cur\")); return ;;\n", out);
        }
    }
}

void cli_completion_bash(FILE *out)
{
    (void)fputs("# bash completion of trireme; written by: trireme --completion-bash\n"
                "_trireme() {\n"
                "    local cur=${COMP_WORDS[COMP_CWORD]} prev= command= word i words=\n"
                "    [ \"$COMP_CWORD\" -gt 0 ] && prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                "    if [ \"$cur\" = \"=\" ]; then cur=; fi\n"
                "    if [ \"$prev\" = \"=\" ] && [ \"$COMP_CWORD\" -gt 1 ]; then\n"
                "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
                "    fi\n"
                "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                "        word=${COMP_WORDS[i]}\n"
                "        case $word in\n        ",
                out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, "%s%s", i > 0 ? "|" : "", cli_commands[i].name);
    (void)fputs(") command=$word; break ;;\n        esac\n    done\n    case $command:$prev in\n",
                out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) print_value_cases(out, &cli_commands[i]);
    (void)fputs("    esac\n    case $command in\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(out, "        %s) words=\"", cli_commands[i].name);
        for (int id = 0; id < OPT_ID_COUNT; id++)
            if ((opt_row((opt_id_t)id)->commands & cli_commands[i].bit) != 0)
                (void)fprintf(out, "%s ", opt_row((opt_id_t)id)->spellings);
        (void)fputs("\" ;;\n", out);
    }
    (void)fputs("        *) words=\"", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) (void)fprintf(out, "%s ", cli_commands[i].name);
    (void)fputs("--help --version --man --completion-bash\" ;;\n    esac\n"
                "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                "}\n"
                "complete -o default -F _trireme trireme\n",
                out);
}
