/* tests/coordinator/tokenizer_golden.c
 * Ids against those of other programs: llama.cpp's test vocabularies (shared data, skipped where it
 * is absent), and tokenizers and sentencepiece (tests/golden/tokenizers, made by
 * make_tokenizers.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/tokenizer.h"

static const char SEPARATOR[] = "\n__ggml_vocab_test__\n";

typedef struct {
    model_t           *model;
    coord_tokenizer_t *tokenizer;
} fixture_t;

static char *read_file(const char *path, size_t *bytes)
{
    FILE  *f   = fopen(path, "rb");
    char  *buf = NULL;
    size_t n   = 0;

    if (f == NULL) return NULL;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    n = (size_t)ftell(f);
    rewind(f);
    buf = malloc(n + 1);
    assert_non_null(buf);
    assert_int_equal(fread(buf, 1, n, f), n);
    buf[n] = '\0';
    fclose(f);
    if (bytes != NULL) *bytes = n;
    return buf;
}

static void open_vocab(const char *path, fixture_t *f)
{
    base_err_t err = {0};

    *f = (fixture_t){0};
    if (model_open(path, true, &f->model, &err) != BASE_OK) fail_msg("%s: %s", path, err.text);
    if (coord_tokenizer_create(&f->model->vocab, &f->tokenizer, &err) != BASE_OK)
        fail_msg("%s: %s", path, err.text);
}

static void close_vocab(fixture_t *f)
{
    coord_tokenizer_destroy(&f->tokenizer);
    model_close(&f->model);
}

/* Compare with ids written in decimal, up to the end of the line. */
static void check_ids(const fixture_t *f, const char *text, size_t bytes, unsigned flags,
                      const char *expected, const char *where)
{
    int32_t   *ids  = NULL;
    size_t     n    = 0;
    char      *end  = NULL;
    base_err_t err  = {0};
    bool       same = true;

    if (coord_tokenize(f->tokenizer, text, bytes, flags, &ids, &n, &err) != BASE_OK)
        fail_msg("%s: %s", where, err.text);
    for (size_t i = 0; i <= n && same; i++) {
        while (*expected == ' ') expected++;
        if (i == n) {
            same = *expected == '\0' || *expected == '\n';
        } else {
            same     = strtol(expected, &end, 10) == ids[i] && end != expected;
            expected = end;
        }
        if (!same)
            fail_msg("%s: text of %zu bytes \"%.60s\", token %zu of %zu: %d, expected %.40s", where,
                     bytes, text, i, n, i < n ? ids[i] : -1, expected);
    }
    free(ids);
}

static void check_round_trip(const fixture_t *f, const char *text, size_t bytes, const char *where)
{
    int32_t   *ids = NULL;
    size_t     n = 0, back_bytes = 0;
    char      *back = NULL;
    base_err_t err  = {0};

    assert_int_equal(coord_tokenize(f->tokenizer, text, bytes, 0, &ids, &n, &err), BASE_OK);
    assert_int_equal(coord_detokenize(f->tokenizer, ids, n, false, &back, &back_bytes, &err),
                     BASE_OK);
    if (back_bytes != bytes || memcmp(back, text, bytes) != 0)
        fail_msg("%s: \"%.60s\" comes back as \"%.60s\"", where, text, back);
    free(ids);
    free(back);
}

static void check_llama_cpp(const char *name)
{
    const char *shared = getenv("TRIREME_SHARED");
    char        path[4096], where[64];
    char       *in = NULL, *out = NULL, *text = NULL, *line = NULL;
    size_t      n = 0;
    fixture_t   f;

    if (shared == NULL) {
        print_message("skipped: TRIREME_SHARED is not set, no %s vocabulary\n", name);
        skip();
    }
    snprintf(path, sizeof path, "%s/vocabs/ggml-vocab-%s.gguf.inp", shared, name);
    in = read_file(path, NULL);
    snprintf(path, sizeof path, "%s/vocabs/ggml-vocab-%s.gguf.out", shared, name);
    out = read_file(path, NULL);
    if (in == NULL || out == NULL) {
        print_message("skipped: no %s\n", path);
        free(in);
        free(out);
        skip();
    }
    snprintf(path, sizeof path, "%s/vocabs/ggml-vocab-%s.gguf", shared, name);
    open_vocab(path, &f);
    for (text = in, line = out; text != NULL && *line != '\0'; n++) {
        char  *end   = strstr(text, SEPARATOR);
        size_t bytes = end != NULL ? (size_t)(end - text) : strlen(text);

        snprintf(where, sizeof where, "%s text %zu", name, n);
        check_ids(&f, text, bytes, 0, line, where);
        if (strcmp(name, "falcon") != 0) /* has no token for some bytes */
            check_round_trip(&f, text, bytes, where);
        text = end != NULL ? end + strlen(SEPARATOR) : NULL;
        line = strchr(line, '\n') + 1;
    }
    assert_true(n > 40);
    close_vocab(&f);
    free(in);
    free(out);
}

static void llama_cpp_spm(void **state)
{
    (void)state;
    check_llama_cpp("llama-spm");
}

static void llama_cpp_gpt2(void **state)
{
    (void)state;
    check_llama_cpp("gpt-2");
}

static void llama_cpp_falcon(void **state)
{
    (void)state;
    check_llama_cpp("falcon");
}

/* name: for texts. pre: another name for the same pre-tokenizer; NULL: the one in the file. */
static void check_file(const char *name, const char *model, const char *cases, const char *pre,
                       bool lossless)
{
    char      where[64];
    char     *all = NULL, *line = NULL, *text = NULL;
    size_t    n = 0, total = 0;
    fixture_t f;

    all = read_file(cases, &total);
    if (all == NULL) fail_msg("no %s", cases);
    text = malloc(total);
    assert_non_null(text);
    open_vocab(model, &f);
    if (pre != NULL) {
        base_err_t err = {0};

        coord_tokenizer_destroy(&f.tokenizer);
        f.model->vocab.pre = (model_str_t){.text = pre, .bytes = (uint32_t)strlen(pre)};
        if (coord_tokenizer_create(&f.model->vocab, &f.tokenizer, &err) != BASE_OK)
            fail_msg("%s: %s", pre, err.text);
    }
    for (line = all; *line != '\0'; n++) {
        unsigned flags = line[0] == 'p' ? COORD_PARSE_SPECIAL : 0;
        size_t   bytes = 0;
        unsigned byte  = 0;

        for (line += 2; *line != ':'; line += 2) {
            assert_int_equal(sscanf(line, "%2x", &byte), 1);
            text[bytes++] = (char)(unsigned char)byte;
        }
        snprintf(where, sizeof where, "%s line %zu", name, n + 1);
        check_ids(&f, text, bytes, flags, line + 1, where);
        /* U+2581 in a text is a space to SPM */
        if (lossless && flags == 0 && memmem(text, bytes, "\xE2\x96\x81", 3) == NULL)
            check_round_trip(&f, text, bytes, where);
        line = strchr(line, '\n') + 1;
    }
    assert_true(n > 100);
    close_vocab(&f);
    free(all);
    free(text);
}

static void check_cases(const char *name, const char *pre, bool lossless)
{
    const char *source = getenv("TRIREME_SOURCE");
    char        model[4096], cases[4096];

    if (source == NULL) source = ".";
    snprintf(cases, sizeof cases, "%s/tests/golden/tokenizers/%s.cases", source, name);
    snprintf(model, sizeof model, "%s/tests/golden/tokenizers/%s", source, name);
    if (access(model, F_OK) != 0) /* no folder with a tokenizer.json */
        snprintf(model, sizeof model, "%s/tests/golden/tokenizers/%s.gguf", source, name);
    check_file(name, model, cases, pre, lossless);
}

static void tokenizers_llama3(void **state)
{
    (void)state;
    check_cases("llama3", NULL, true);
    check_cases("llama3", "llama3", true);
    check_cases("llama3", "falcon3", true);
    check_cases("llama3", "falcon_e", true);
}

static void tokenizers_gpt2(void **state)
{
    (void)state;
    check_cases("gpt2", NULL, true);
    check_cases("gpt2", "mpt", true);
}

static void tokenizers_others(void **state)
{
    static const char *const names[] = {"qwen2",       "smollm", "deepseek-llm", "deepseek-coder",
                                        "deepseek-v3", "falcon", "default"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check_cases(names[i], NULL, true);
    check_cases("smollm", "starcoder", true);
    check_cases("smollm", "refact", true);
    check_cases("smollm", "command-r", true);
}

static void sentencepiece_byte_fallback(void **state)
{
    (void)state;
    check_cases("spm", NULL, true);
}

static void sentencepiece_unknown(void **state)
{
    (void)state;
    check_cases("spm-unk", NULL, false);
}

static void normalisation_forms(void **state)
{
    (void)state;
    check_cases("nfc", NULL, false);
    check_cases("nfd", NULL, false);
    check_cases("nfkc", NULL, false);
    check_cases("nfkd", NULL, false);
    check_cases("spm-nfkc", NULL, false);
    check_cases("nfkc-added", NULL, false);
}

/* vocabs.test.py: MODEL CASES [lossless] */
static char **arguments;

static void given_files(void **state)
{
    (void)state;
    check_file(strrchr(arguments[1], '/') + 1, arguments[1], arguments[2], NULL,
               strcmp(arguments[3], "lossless") == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest given[] = {cmocka_unit_test(given_files)};

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_cpp_spm),
        cmocka_unit_test(llama_cpp_gpt2),
        cmocka_unit_test(llama_cpp_falcon),
        cmocka_unit_test(tokenizers_llama3),
        cmocka_unit_test(tokenizers_gpt2),
        cmocka_unit_test(tokenizers_others),
        cmocka_unit_test(sentencepiece_byte_fallback),
        cmocka_unit_test(sentencepiece_unknown),
        cmocka_unit_test(normalisation_forms),
    };

    arguments = argv;
    if (argc == 4 && strchr(argv[1], '/') != NULL) return cmocka_run_group_tests(given, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
