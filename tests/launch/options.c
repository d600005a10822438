/* tests/launch/options.c: the options table and its parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/chat.h"
#include "launch/cli.h"
#include "launch/options.h"
#include "quantize/synth.h"

enum { WORDS_MAX = 16 };

/* Parse a line whose words are parted by spaces; env: "NAME=value" or NULL. */
static base_status_t parse(uint32_t command, const char *line, char *env, options_t *o,
                           base_err_t *err)
{
    static char buf[512]; /* values point into it */
    const char *words[WORDS_MAX];
    char       *environment[] = {env, NULL};
    int         n             = 0;
    char       *save          = NULL;

    (void)snprintf(buf, sizeof(buf), "%s", line);
    for (char *w = strtok_r(buf, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        assert_true(n < WORDS_MAX);
        words[n++] = w;
    }
    err->text[0] = '\0';
    return options_parse(command, n, words, environment, o, err);
}

static void expect_error(uint32_t command, const char *line, const char *text)
{
    options_t  o;
    base_err_t err;

    assert_int_equal(parse(command, line, NULL, &o, &err), BASE_ERR_USAGE);
    if (strstr(err.text, text) == NULL) fail_msg("'%s': '%s' lacks '%s'", line, err.text, text);
    options_free(&o);
}

static void parse_good(uint32_t command, const char *line, char *env, options_t *o)
{
    base_err_t err;

    if (parse(command, line, env, o, &err) != BASE_OK) fail_msg("'%s': %s", line, err.text);
}

/* No command takes two options with one spelling; every text is there; defaults obey their rules
 * (options_parse asserts that). */
static void table_is_sound(void **state)
{
    (void)state;
    for (size_t c = 0; c < COMMAND_COUNT; c++) {
        options_t o;
        parse_good(cli_commands[c].bit, "", NULL, &o);
        options_free(&o);
        for (int a = 0; a < OPT_ID_COUNT; a++)
            for (int b = a + 1; b < OPT_ID_COUNT; b++) {
                const opt_row_t *ra = opt_row((opt_id_t)a);
                const opt_row_t *rb = opt_row((opt_id_t)b);
                const char      *at = ra->spellings;
                char             wa[64];
                if ((ra->commands & rb->commands & cli_commands[c].bit) == 0) continue;
                while (opt_next_word(&at, ' ', wa, sizeof(wa))) {
                    const char *bt = rb->spellings;
                    char        wb[64];
                    while (opt_next_word(&bt, ' ', wb, sizeof(wb))) assert_string_not_equal(wa, wb);
                }
            }
    }
    for (int id = 0; id < OPT_ID_COUNT; id++) {
        const opt_row_t *row = opt_row((opt_id_t)id);
        assert_true(strlen(row->help) > 10);
        assert_true(row->help[strlen(row->help) - 1] == '.');
        assert_true((row->metavar == NULL) == (row->type == OPT_FLAG));
        assert_true((row->choices != NULL) == (row->type == OPT_CHOICE));
    }
}

/* The choices of --shape and --type are what quantize/ knows, those of --chat-template what
 * coordinator/ knows. */
static void shapes_are_known(void **state)
{
    const char *at = OPT_SHAPES;
    char        word[64];
    size_t      n = 0;

    (void)state;
    for (; opt_next_word(&at, '|', word, sizeof(word)); n++)
        assert_non_null(quant_shape_find(word));
    assert_null(quant_shape_at(n));
    n = 0;
    for (at = OPT_CHAT_TEMPLATES; opt_next_word(&at, '|', word, sizeof(word)); n++)
        assert_string_equal(coord_chat_name_at(n), word);
    assert_null(coord_chat_name_at(n));
    for (at = OPT_TYPES "|" OPT_EMBED_TYPES; opt_next_word(&at, '|', word, sizeof(word));)
        assert_int_not_equal(quant_type_find(word), MODEL_NONE);
}

static void values_and_spellings(void **state)
{
    options_t o;

    (void)state;
    parse_good(CMD_RUN, "-m a.gguf --n-predict 7 --temp=0.5 --top_k 3 -ngl 0 --ignore-eos -c 4K",
               NULL, &o);
    assert_string_equal(opt_string(&o, OPT_MODEL), "a.gguf");
    assert_int_equal(opt_int(&o, OPT_N_PREDICT), 7);
    assert_true(opt_float(&o, OPT_TEMP) == 0.5);
    assert_int_equal(opt_int(&o, OPT_TOP_K), 3);
    assert_int_equal(opt_int(&o, OPT_CTX_SIZE), 4096);
    assert_true(opt_flag(&o, OPT_IGNORE_EOS));
    assert_false(opt_flag(&o, OPT_JSON));
    assert_false(opt_given(&o, OPT_TOP_P));
    assert_true(opt_float(&o, OPT_TOP_P) == 0.95);
    options_free(&o);

    parse_good(CMD_RUN, "-n -1 -c 2.5k -p --temp", NULL, &o); /* texts are taken as they are */
    assert_int_equal(opt_int(&o, OPT_N_PREDICT), -1);
    assert_int_equal(opt_int(&o, OPT_CTX_SIZE), 2500);
    assert_string_equal(opt_string(&o, OPT_PROMPT), "--temp");
    options_free(&o);

    parse_good(CMD_RUN, "-n 3 -n 4 --ignore-eos=0", NULL, &o); /* the last one counts */
    assert_int_equal(opt_int(&o, OPT_N_PREDICT), 4);
    assert_false(opt_flag(&o, OPT_IGNORE_EOS));
    options_free(&o);
}

static void lists(void **state)
{
    static const int64_t want[] = {1, 2, 4, 8, 16, 3, 10, 14, 18};
    options_t            o;

    (void)state;
    parse_good(CMD_BENCH, "-p 1-16*2,3 -p 10-20+4 -n 0", NULL, &o);
    assert_int_equal(o.v[OPT_N_PROMPT].n, sizeof(want) / sizeof(want[0]));
    assert_memory_equal(o.v[OPT_N_PROMPT].ints, want, sizeof(want));
    assert_int_equal(o.v[OPT_N_GEN].n, 1);
    options_free(&o);

    parse_good(CMD_RUN, "--stop a -r b --reverse-prompt=c", NULL, &o);
    assert_int_equal(o.v[OPT_STOP].n, 3);
    assert_string_equal(o.v[OPT_STOP].strings[2], "c");
    options_free(&o);

    parse_good(CMD_CONVERT, "dir --type tq1_0 out.gguf", NULL, &o); /* values without options */
    assert_string_equal(opt_string(&o, OPT_MODEL), "dir");
    assert_string_equal(opt_string(&o, OPT_OUTPUT), "out.gguf");
    options_free(&o);

    expect_error(CMD_BENCH, "-p 4-2", "-p: '4-2'");
    expect_error(CMD_BENCH, "-p 1,,2", "-p: ''");
    expect_error(CMD_BENCH, "-p 1-", "-p: '1-'");
    expect_error(CMD_BENCH, "-p 1-8*1", "'1-8*1'");
    expect_error(CMD_EVAL, "--ids 1,x", "--ids: 'x'");
}

static void environment(void **state)
{
    char       top_p[]  = "TRIREME_TOP_P=0.5";
    char       wrong[]  = "TRIREME_TOP_P=7";
    char       flag[]   = "TRIREME_JSON=yes";
    char       bad[]    = "TRIREME_JSON=perhaps";
    char       prompt[] = "TRIREME_N_PROMPT=8,9";
    options_t  o;
    base_err_t err;

    (void)state;
    parse_good(CMD_RUN, "", top_p, &o);
    assert_true(opt_float(&o, OPT_TOP_P) == 0.5);
    assert_true(opt_given(&o, OPT_TOP_P));
    options_free(&o);
    parse_good(CMD_RUN, "--top-p 0.25", top_p, &o); /* the line wins */
    assert_true(opt_float(&o, OPT_TOP_P) == 0.25);
    options_free(&o);
    parse_good(CMD_RUN, "", flag, &o);
    assert_true(opt_flag(&o, OPT_JSON));
    options_free(&o);
    parse_good(CMD_BENCH, "", prompt, &o); /* replaces the default list */
    assert_int_equal(o.v[OPT_N_PROMPT].n, 2);
    options_free(&o);
    parse_good(CMD_TOKENIZE, "", wrong, &o); /* not an option of this command */
    options_free(&o);
    parse_good(CMD_RUN, "--help", wrong, &o);
    assert_true(opt_flag(&o, OPT_HELP));
    options_free(&o);
    assert_int_equal(parse(CMD_RUN, "", wrong, &o, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "TRIREME_TOP_P"));
    options_free(&o);
    assert_int_equal(parse(CMD_RUN, "", bad, &o, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "TRIREME_JSON"));
    options_free(&o);
}

static void errors(void **state)
{
    (void)state;
    expect_error(CMD_RUN, "--tmep 3", "did you mean '--temp'?");
    expect_error(CMD_RUN, "--tp 3", "did you mean '-tp'?");
    expect_error(CMD_RUN, "--tokenizer-of-another-program", "unknown option");
    expect_error(CMD_RUN, "--decode", "unknown option '--decode'"); /* of another command */
    expect_error(CMD_RUN, "-n", "-n needs a value");
    expect_error(CMD_RUN, "-m --top-k 3", "-m needs a value");
    expect_error(CMD_RUN, "word", "unexpected argument 'word'");
    expect_error(CMD_RUN, "-", "unexpected argument");
    expect_error(CMD_VERIFY, "a b", "unexpected argument 'b'");
    expect_error(CMD_CONVERT, "-o x a -m b c", "unexpected argument 'c'");
    expect_error(CMD_RUN, "--top-p 1.5", "from 0 to 1");
    expect_error(CMD_RUN, "--top-p nan", "--top-p: 'nan'");
    expect_error(CMD_RUN, "--temp -1", "--temp: '-1'");
    expect_error(CMD_RUN, "-n 1.5", "-n: '1.5' is not an integer");
    expect_error(CMD_RUN, "-n 1k", "-n: '1k'");
    expect_error(CMD_RUN, "-n 99999999999999999999", "-n: '99999999999999999999'");
    expect_error(CMD_RUN, "-c 0x10", "-c: '0x10'");
    expect_error(CMD_RUN, "-c 1.0001k", "-c: '1.0001k'");
    expect_error(CMD_RUN, "-c 1T", "-c: '1T'");
    expect_error(CMD_RUN, "-s -2", "from -1 to 4294967295");
    expect_error(CMD_RUN, "--cpu sse", "ref, avx2, avx512vnni, avx512vbmi, zen4, neon");
    expect_error(CMD_RUN, "--json=maybe", "--json: 'maybe'");
    expect_error(CMD_RUN, "-m=", "-m: empty");
}

static void nearest(void **state)
{
    static const char *const names[] = {"run", "eval", "tokenize", "inspect", "bench"};

    (void)state;
    assert_string_equal(opt_nearest("tokenise", names, 5), "tokenize");
    assert_string_equal(opt_nearest("rnu", names, 5), "run");
    assert_null(opt_nearest("completely-else", names, 5));
}

static void environment_names(void **state)
{
    char buf[64];

    (void)state;
    assert_string_equal(opt_env_name(OPT_CTX_SIZE, buf, sizeof(buf)), "TRIREME_CTX_SIZE");
    assert_string_equal(opt_env_name(OPT_GPU_LAYERS, buf, sizeof(buf)), "TRIREME_GPU_LAYERS");
    assert_null(opt_env_name(OPT_PG, buf, sizeof(buf)));
    assert_null(opt_env_name(OPT_HELP, buf, sizeof(buf)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table_is_sound),
                                       cmocka_unit_test(shapes_are_known),
                                       cmocka_unit_test(values_and_spellings),
                                       cmocka_unit_test(lists),
                                       cmocka_unit_test(environment),
                                       cmocka_unit_test(errors),
                                       cmocka_unit_test(nearest),
                                       cmocka_unit_test(environment_names)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
