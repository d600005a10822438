/* tests/coordinator/chat.c: the templates against the Jinja programs they stand for (chat.table,
 * made by make_chat.py), recognition, and growing a conversation piece by piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/chat.h"

enum { LINE_BYTES = 32768, MESSAGES = 8 };

static model_vocab_t vocabulary(const char *bos, const char *eos)
{
    static model_str_t tokens[2];

    tokens[0] = (model_str_t){.text = bos, .bytes = (uint32_t)strlen(bos)};
    tokens[1] = (model_str_t){.text = eos, .bytes = (uint32_t)strlen(eos)};
    return (model_vocab_t){.n_tokens = 2, .tokens = tokens, .bos = 0, .eos = 1};
}

/* Hexadecimal digits up to something else; a NUL is put behind the bytes. */
static size_t unhex(const char *hex, char *out)
{
    size_t   n    = 0;
    unsigned byte = 0;

    for (; sscanf(hex, "%2x", &byte) == 1 && hex[0] > ' '; hex += 2)
        out[n++] = (char)(unsigned char)byte;
    out[n] = '\0';
    return n;
}

static const coord_chat_template_t *find(const char *name, const char *jinja, const char *arch)
{
    const coord_chat_template_t *chat = NULL;
    base_err_t                   err  = {0};
    model_str_t                  s    = {.text = jinja, .bytes = (uint32_t)strlen(jinja)};

    if (coord_chat_find(name, s, arch, &chat, &err) == BASE_OK) return chat;
    assert_non_null(strstr(err.text, "bitnet, bitnet-gguf, llama3"));
    assert_non_null(strstr(err.text, "mistral-v7-tekken"));
    return NULL;
}

typedef struct {
    coord_message_t m[MESSAGES];
    size_t          n;
    char            pool[LINE_BYTES];
} talk_t;

static void read_talk(const char *at, talk_t *talk)
{
    size_t used = 0;

    talk->n = 0;
    for (; *at != '='; at = strchr(at, ' ') + 1) {
        coord_message_t *m = &talk->m[talk->n++];

        m->role  = *at == 's'   ? COORD_ROLE_SYSTEM
                   : *at == 'u' ? COORD_ROLE_USER
                                : COORD_ROLE_ASSISTANT;
        m->text  = talk->pool + used;
        m->bytes = unhex(at + 2, talk->pool + used);
        used += m->bytes + 1;
    }
}

static char *render(const coord_chat_template_t *chat, const model_vocab_t *v, const talk_t *talk,
                    size_t n, size_t n_done, bool open_answer)
{
    char      *text  = NULL;
    size_t     bytes = 0;
    base_err_t err   = {0};

    if (coord_chat_render(chat, v, talk->m, n, n_done, open_answer, &text, &bytes, &err) != BASE_OK)
        fail_msg("%s: %s", coord_chat_name(chat), err.text);
    assert_int_equal(strlen(text), bytes);
    return text;
}

/* What was there, the answer, what is added: together the whole text. */
static void check_growth(const coord_chat_template_t *chat, const model_vocab_t *v,
                         const talk_t *talk, const char *whole)
{
    for (size_t i = 1; i + 1 < talk->n; i++) {
        char  *first = NULL, *then = NULL;
        size_t n_first = 0, n_then = 0, n_whole = strlen(whole);

        if (talk->m[i].role != COORD_ROLE_ASSISTANT) continue;
        first   = render(chat, v, talk, i, 0, true);
        then    = render(chat, v, talk, talk->n, i + 1, true);
        n_first = strlen(first);
        n_then  = strlen(then);
        assert_true(n_then > 0 && n_first + n_then <= n_whole);
        assert_memory_equal(whole, first, n_first);
        assert_memory_equal(whole + n_whole - n_then, then, n_then);
        for (const char *at = whole + n_first; at < whole + n_whole - n_then; at++)
            assert_true(*at == ' ' || strchr(talk->m[i].text, *at) != NULL);
        free(first);
        free(then);
    }
}

static void jinja_table(void **state)
{
    const char   *source = getenv("TRIREME_SOURCE");
    static char   path[4096], line[LINE_BYTES], program[LINE_BYTES];
    static char   want[LINE_BYTES];
    char          latest[64] = "", name[64], bos[128], eos[128], bos_text[64], eos_text[64];
    static talk_t talk;
    const coord_chat_template_t *chat        = NULL;
    model_vocab_t                v           = {0};
    int                          n_templates = 0, n_cases = 0, n_unknown = 0;
    FILE                        *f = NULL;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/coordinator/chat.table", source != NULL ? source : ".");
    f = fopen(path, "r");
    if (f == NULL) fail_msg("no %s", path);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "template ", 9) == 0) {
            assert_int_equal(sscanf(line, "template %63s %127s %127s", name, bos, eos), 3);
            (void)unhex(bos, bos_text);
            (void)unhex(eos, eos_text);
            (void)unhex(strrchr(line, ' ') + 1, program);
            v    = vocabulary(bos_text, eos_text);
            chat = find(NULL, program, "llama");
            if (chat == NULL || strcmp(coord_chat_name(chat), name) != 0)
                fail_msg("%s is taken for %s", name,
                         chat != NULL ? coord_chat_name(chat) : "unknown");
            assert_ptr_equal(find(name, "x", "llama"), chat);
            n_templates += strcmp(name, latest) != 0;
            snprintf(latest, sizeof latest, "%s", name);
        } else if (strncmp(line, "unknown ", 8) == 0) {
            (void)unhex(line + 8, program);
            if (find(NULL, program, "bitnet-b1.58") != NULL) fail_msg("known: %s", program);
            n_unknown++;
        } else {
            char *got = NULL;

            read_talk(line + 7, &talk);
            (void)unhex(strstr(line, " = ") + 3, want);
            got = render(chat, &v, &talk, talk.n, 0, line[5] == '1');
            if (strcmp(got, want) != 0)
                fail_msg("%s, case %d: \"%s\", expected \"%s\"", name, n_cases, got, want);
            if (line[5] == '1') check_growth(chat, &v, &talk, got);
            free(got);
            n_cases++;
        }
    }
    fclose(f);
    while (coord_chat_name_at((size_t)n_templates) != NULL) n_templates = -1; /* none is untested */
    assert_true(n_templates > 10 && n_cases > 200 && n_unknown > 5);
}

/* Landmine: Microsoft's GGUF carries a template that contradicts the training. */
static void bitnet_decides_by_architecture(void **state)
{
    const char *gguf = "{{ 'Human: ' + message['content'] + '\\n\\nBITNETAssistant: ' }}";

    (void)state;
    assert_string_equal(coord_chat_name(find(NULL, gguf, "bitnet-b1.58")), "bitnet");
    assert_string_equal(coord_chat_name(find(NULL, "", "bitnet-b1.58")), "bitnet");
    assert_string_equal(coord_chat_name(find(NULL, gguf, "llama")), "bitnet-gguf");
    assert_string_equal(coord_chat_name(find("bitnet-gguf", gguf, "bitnet-b1.58")), "bitnet-gguf");
    assert_null(find(NULL, "", "llama"));
    assert_null(find(NULL, "", "bitnet"));
    assert_null(find("no-such", "", "llama"));
}

static void system_message_is_folded(void **state)
{
    talk_t        talk = {.n = 2};
    model_vocab_t v    = vocabulary("<s>", "</s>");
    char         *got  = NULL;

    (void)state;
    talk.m[0] = (coord_message_t){COORD_ROLE_SYSTEM, "Be brief.", 9};
    talk.m[1] = (coord_message_t){COORD_ROLE_USER, "Hi", 2};
    got       = render(find("bitnet-gguf", "", "x"), &v, &talk, 2, 0, true);
    assert_string_equal(got, "Human: Be brief.\n\nHi\n\nBITNETAssistant: </s>");
    free(got);
}

static void wrong_orders(void **state)
{
    const coord_message_t s = {COORD_ROLE_SYSTEM, "s", 1}, u = {COORD_ROLE_USER, "u", 1};
    const coord_message_t a = {COORD_ROLE_ASSISTANT, "a", 1};
    const struct {
        const char     *name;
        coord_message_t m[3];
        size_t          n;
        bool            good;
    } cases[] = {
        {"chatml", {u}, 0, false},        {"chatml", {s}, 1, true},
        {"llama2", {s}, 1, false},        {"chatml", {u, s}, 2, false},
        {"chatml", {s, u, s}, 3, false},  {"chatml", {u, u}, 2, true},
        {"llama2", {u, u}, 2, false},     {"mistral-v1", {a, u}, 2, false},
        {"mistral-v3", {s, a}, 2, false}, {"llama2", {s, u, a}, 3, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_vocab_t v    = vocabulary("<s>", "</s>");
        char         *text = NULL;
        size_t        n    = 0;
        base_err_t    err  = {0};
        base_status_t st   = coord_chat_render(find(cases[i].name, "", "x"), &v, cases[i].m,
                                               cases[i].n, 0, true, &text, &n, &err);

        if (st != (cases[i].good ? BASE_OK : BASE_ERR_USAGE)) fail_msg("case %zu", i);
        free(text);
    }
}

/* A vocabulary without BOS and EOS: their places stay empty. */
static void no_special_tokens(void **state)
{
    talk_t        talk = {.n = 3};
    model_vocab_t v    = {.bos = -1, .eos = 7};
    char         *got  = NULL;

    (void)state;
    talk.m[0] = (coord_message_t){COORD_ROLE_USER, "Hi", 2};
    talk.m[1] = (coord_message_t){COORD_ROLE_ASSISTANT, "Ho", 2};
    talk.m[2] = (coord_message_t){COORD_ROLE_USER, "\xFF\xC3", 2};
    got       = render(find("llama2", "", "x"), &v, &talk, 3, 0, true);
    assert_string_equal(got, "[INST] Hi [/INST] Ho [INST] \xFF\xC3 [/INST]");
    free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jinja_table),
        cmocka_unit_test(bitnet_decides_by_architecture),
        cmocka_unit_test(system_message_is_folded),
        cmocka_unit_test(wrong_orders),
        cmocka_unit_test(no_special_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
