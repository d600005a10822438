/* tests/coordinator/tokenizer.c: rules that golden texts do not reach (special tokens, broken
 * UTF-8, pieces), and vocabularies that nobody should have made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/tokenizer.h"

#define SP "\xE2\x96\x81"
enum { MAX_TOKENS = 512 };

/* A vocabulary made by hand. */
typedef struct {
    model_vocab_t vocab;
    model_str_t   tokens[MAX_TOKENS], merges[64];
    float         scores[MAX_TOKENS];
    uint8_t       types[MAX_TOKENS];
    char          bytes[256][8];
} made_t;

static made_t made;

static void begin(model_vocab_kind_t kind, const char *pre)
{
    memset(&made, 0, sizeof made);
    made.vocab = (model_vocab_t){.kind             = kind,
                                 .pre              = {.text = pre, .bytes = (uint32_t)strlen(pre)},
                                 .tokens           = made.tokens,
                                 .scores           = made.scores,
                                 .types            = made.types,
                                 .merges           = made.merges,
                                 .bos              = -1,
                                 .eos              = -1,
                                 .eot              = -1,
                                 .unk              = -1,
                                 .pad              = -1,
                                 .add_space_prefix = kind == MODEL_VOCAB_SPM};
}

static int32_t add(const char *text, size_t bytes, float score, uint8_t type)
{
    uint32_t i = made.vocab.n_tokens++;

    assert_true(i < MAX_TOKENS);
    made.tokens[i] = (model_str_t){.text = text, .bytes = (uint32_t)bytes};
    made.scores[i] = score;
    made.types[i]  = type;
    return (int32_t)i;
}

#define ADD(text, score, type) add(text, sizeof(text) - 1, score, type)

static void merge(const char *text)
{
    made.merges[made.vocab.n_merges++] =
        (model_str_t){.text = text, .bytes = (uint32_t)strlen(text)};
}

static int32_t add_byte_tokens(void)
{
    int32_t first = (int32_t)made.vocab.n_tokens;

    for (unsigned b = 0; b < 256; b++) {
        snprintf(made.bytes[b], sizeof made.bytes[b], "<0x%02X>", b);
        add(made.bytes[b], 6, 0, MODEL_TOKEN_BYTE);
    }
    return first;
}

static coord_tokenizer_t *create(void)
{
    coord_tokenizer_t *t   = NULL;
    base_err_t         err = {0};

    if (coord_tokenizer_create(&made.vocab, &t, &err) != BASE_OK) fail_msg("%s", err.text);
    return t;
}

/* Ids in decimal. */
static void expect_n(const coord_tokenizer_t *t, const char *text, size_t bytes, unsigned flags,
                     const char *expected)
{
    int32_t   *ids = NULL;
    size_t     n = 0, at = 0;
    char       got[65536] = "";
    base_err_t err        = {0};

    if (coord_tokenize(t, text, bytes, flags, &ids, &n, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%d", i > 0 ? " " : "", ids[i]);
    free(ids);
    assert_string_equal(got, expected);
}

#define EXPECT(t, text, flags, expected) expect_n(t, text, sizeof(text) - 1, flags, expected)

static void begin_spm(void)
{
    begin(MODEL_VOCAB_SPM, "");
    made.vocab.unk = ADD("<unk>", 0, MODEL_TOKEN_UNKNOWN); /* 0 */
    made.vocab.bos = ADD("<s>", 0, MODEL_TOKEN_CONTROL);   /* 1 */
    made.vocab.eos = ADD("</s>", 0, MODEL_TOKEN_CONTROL);  /* 2 */
    ADD(SP, -10, MODEL_TOKEN_NORMAL);                      /* 3 */
    ADD("a", -11, MODEL_TOKEN_NORMAL);                     /* 4 */
    ADD("b", -12, MODEL_TOKEN_NORMAL);                     /* 5 */
    ADD("ab", -1, MODEL_TOKEN_NORMAL);                     /* 6 */
    ADD(SP "a", -2, MODEL_TOKEN_NORMAL);                   /* 7 */
    ADD("<", -13, MODEL_TOKEN_NORMAL);                     /* 8 */
    ADD("s", -13, MODEL_TOKEN_NORMAL);                     /* 9 */
    ADD(">", -13, MODEL_TOKEN_NORMAL);                     /* 10 */
    ADD("<s", -13, MODEL_TOKEN_NORMAL);                    /* 11 */
    ADD("[x]", 0, MODEL_TOKEN_USER_DEFINED);               /* 12 */
    ADD(SP SP, -3, MODEL_TOKEN_NORMAL);                    /* 13 */
    made.vocab.add_bos = made.vocab.add_eos = true;
}

static void spm_rules(void **state)
{
    coord_tokenizer_t *t;

    (void)state;
    begin_spm();
    t = create();
    EXPECT(t, "", 0, "");
    EXPECT(t, "", COORD_ADD_BOS, "1");
    EXPECT(t, "", COORD_ADD_BOS | COORD_ADD_EOS, "1 2");
    EXPECT(t, "ab", COORD_ADD_BOS, "1 3 6"); /* the better score first, though to the right */
    EXPECT(t, "aab", 0, "7 6");
    EXPECT(t, " a", 0, "3 7");     /* the prefix is put before a space too; SP+a beats SP+SP */
    EXPECT(t, "  b", 0, "13 3 5"); /* the leftmost of equals */
    /* special tokens: parsed if asked for, never made by merging; the space goes first again */
    EXPECT(t, "<s>b", 0, "3 11 10 5");
    EXPECT(t, "<s>a", COORD_PARSE_SPECIAL, "1 7");
    EXPECT(t, "a<s>ab</s>", COORD_PARSE_SPECIAL | COORD_ADD_BOS, "1 7 1 3 6 2");
    EXPECT(t, "a[x]ab[x][x]", 0, "7 12 3 6 12 12");
    /* text that goes on from other text: no space, but for what comes after a special token */
    EXPECT(t, "ab", COORD_GO_ON, "6");
    EXPECT(t, " a", COORD_GO_ON, "7");
    EXPECT(t, "</s>a", COORD_GO_ON | COORD_PARSE_SPECIAL, "2 7");
    EXPECT(t, "ab<s>a", COORD_GO_ON | COORD_PARSE_SPECIAL, "6 1 7");
    /* unknown characters: one unknown token for a run of them */
    EXPECT(t, "a\xC3\xA9z\xF0\x9F\xA6\x99 a", 0, "7 0 7");
    EXPECT(t, "\xFF\xFE\xE2\x96", 0, "3 0");
    coord_tokenizer_destroy(&t);
    made.vocab.add_space_prefix = false;
    made.vocab.add_bos          = false;
    t                           = create();
    EXPECT(t, "ab ab", COORD_ADD_BOS, "6 3 6");
    EXPECT(t, "<s>ab", COORD_PARSE_SPECIAL, "1 6");
    coord_tokenizer_destroy(&t);
}

static void spm_bytes(void **state)
{
    coord_tokenizer_t *t;
    int32_t            first;
    char               expected[128];

    (void)state;
    begin_spm();
    first = add_byte_tokens();
    t     = create();
    snprintf(expected, sizeof expected, "7 %d %d 4", first + 0xC3, first + 0xA9);
    EXPECT(t,
           "a\xC3\xA9"
           "a",
           0, expected);
    /* broken UTF-8: the bytes themselves, and the text beside them as ever */
    snprintf(expected, sizeof expected, "3 %d 6 %d %d 6", first + 0xC3, first + 0xFF, first + 0xF0);
    EXPECT(t,
           "\xC3"
           "ab\xFF\xF0"
           "ab",
           0, expected);
    snprintf(expected, sizeof expected, "7 %d 4", first);
    EXPECT(t, "a\0a", 0, expected);
    coord_tokenizer_destroy(&t);
}

/* A token with a space inside: words may not be merged one by one then. */
static void spm_token_across_words(void **state)
{
    coord_tokenizer_t *t;

    (void)state;
    begin_spm();
    ADD("b" SP, -0.5F, MODEL_TOKEN_NORMAL);      /* 14 */
    ADD("b" SP "a", -0.25F, MODEL_TOKEN_NORMAL); /* 15 */
    t = create();
    EXPECT(t, "ab ab", 0, "7 15 5");
    coord_tokenizer_destroy(&t);
}

static void begin_bpe(const char *pre)
{
    static char chars[256][4];
    unsigned    next = 256;

    begin(MODEL_VOCAB_BPE, pre);
    made.vocab.scores = NULL;
    for (unsigned b = 0; b < 256; b++) {
        bool     plain = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        unsigned c     = plain ? b : next++;

        chars[b][0] = c < 0x80 ? (char)c : (char)(unsigned char)(0xC0 | c >> 6);
        chars[b][1] = (char)(unsigned char)(0x80 | (c & 0x3F));
        add(chars[b], c < 0x80 ? 1 : 2, 0, MODEL_TOKEN_NORMAL); /* id = byte */
    }
}

static void bpe_rules(void **state)
{
    coord_tokenizer_t *t;

    (void)state;
    begin_bpe("llama-bpe");
    ADD("ab", 0, MODEL_TOKEN_NORMAL); /* 256 */
    ADD("\xC4\xA0"
        "ab",
        0, MODEL_TOKEN_NORMAL);                              /* 257: space ab */
    ADD("aba", 0, MODEL_TOKEN_NORMAL);                       /* 258: no merge leads here */
    made.vocab.bos = ADD("<|bos|>", 0, MODEL_TOKEN_CONTROL); /* 259 */
    ADD("<|bos|><|bos|>", 0, MODEL_TOKEN_CONTROL);           /* 260 */
    ADD("[x]", 0, MODEL_TOKEN_USER_DEFINED);                 /* 261 */
    ADD("bc", 0, MODEL_TOKEN_NORMAL);                        /* 262 */
    merge("b c");
    merge("a b");
    merge("\xC4\xA0 ab");
    merge("a b"); /* again, worse: the first counts */
    made.vocab.add_bos = true;
    t                  = create();
    EXPECT(t, "ab ab", COORD_ADD_BOS, "259 256 257");
    EXPECT(t, "abab", 0, "256 256");
    EXPECT(t, "abc", 0, "97 262");
    EXPECT(t, "aba", 0, "258"); /* a whole word is taken at once */
    EXPECT(t, "<|bos|>", 0, "60 124 98 111 115 124 62");
    EXPECT(t, "<|bos|><|bos|><|bos|>[x]", COORD_PARSE_SPECIAL, "260 259 261");
    EXPECT(t, "a[x]b", 0, "97 261 98");
    /* broken UTF-8: bytes as they are */
    EXPECT(t, "ab\xFF\xC3 ab\xE2\x96", 0, "256 255 195 257 226 150");
    EXPECT(t, "\0\0", 0, "0 0");
    coord_tokenizer_destroy(&t);
    made.vocab.pre = (model_str_t){.text = "gpt-2", .bytes = 5};
    t              = create();
    EXPECT(t, "aba", 0, "256 97"); /* by merges only */
    coord_tokenizer_destroy(&t);
    made.vocab.pre = (model_str_t){.text = NULL, .bytes = 0};
    t              = create();
    coord_tokenizer_destroy(&t);
}

static void expect_piece(const coord_tokenizer_t *t, int32_t id, bool special, const char *expected)
{
    char   buf[64];
    size_t n = coord_token_piece(t, id, special, buf, sizeof buf);

    assert_int_equal(n, strlen(expected));
    assert_memory_equal(buf, expected, n);
    memset(buf, '!', sizeof buf);
    assert_int_equal(coord_token_piece(t, id, special, buf, 1), n); /* writes what fits */
    assert_int_equal(buf[1], '!');
    assert_int_equal(coord_token_piece(t, id, special, NULL, 0), n);
}

static void pieces(void **state)
{
    coord_tokenizer_t *t;
    int32_t            first;
    char              *text  = NULL;
    size_t             bytes = 0;
    base_err_t         err   = {0};

    (void)state;
    begin_spm();
    first = add_byte_tokens();
    ADD("<|im_end|>", 0, MODEL_TOKEN_NORMAL);
    t = create();
    expect_piece(t, 7, false, " a");
    expect_piece(t, 13, false, "  ");
    expect_piece(t, first + 0xC3, false, "\xC3");
    expect_piece(t, 1, false, "");
    expect_piece(t, 1, true, "<s>");
    expect_piece(t, 0, false, "");
    expect_piece(t, 12, false, "[x]");
    expect_piece(t, -1, true, "");
    expect_piece(t, (int32_t)made.vocab.n_tokens, true, "");
    assert_true(coord_token_ends(t, 2) && !coord_token_ends(t, 1) && !coord_token_ends(t, -1));
    assert_true(coord_token_ends(t, (int32_t)made.vocab.n_tokens - 1)); /* by its name */
    expect_piece(t, (int32_t)made.vocab.n_tokens - 1, false, "");
    assert_true(coord_token_piece_max(t) >= 10 && coord_tokenizer_space_first(t));
    assert_ptr_equal(coord_tokenizer_vocab(t), &made.vocab);
    assert_int_equal(coord_detokenize(t, (int32_t[]){1, 7, 6, 2}, 4, false, &text, &bytes, &err),
                     BASE_OK);
    assert_string_equal(text, "aab");
    assert_int_equal(bytes, 3);
    free(text);
    coord_tokenizer_destroy(&t);
}

static void errors(void **state)
{
    coord_tokenizer_t *t   = NULL;
    int32_t           *ids = NULL;
    size_t             n   = 0;
    base_err_t         err = {0};

    (void)state;
    begin(MODEL_VOCAB_NONE, "");
    assert_int_equal(coord_tokenizer_create(&made.vocab, &t, &err), BASE_ERR_UNSUPPORTED);
    begin_bpe("no-such-thing");
    assert_int_equal(coord_tokenizer_create(&made.vocab, &t, &err), BASE_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "no-such-thing"));
    assert_non_null(strstr(err.text, "llama-bpe"));
    assert_null(t);
    begin_bpe("gpt-2"); /* as tokenizers and llama.cpp do with Falcon's vocabulary and "a\x13z" */
    made.vocab.n_tokens = 0;
    ADD("a", 0, MODEL_TOKEN_NORMAL);
    ADD("z", 0, MODEL_TOKEN_NORMAL);
    t = create();
    assert_int_equal(coord_tokenize(t, "a\x13z", 3, 0, &ids, &n, &err), BASE_OK);
    assert_int_equal(n, 2);
    assert_true(ids[0] == 0 && ids[1] == 1);
    free(ids);
    ids = NULL;
    coord_tokenizer_destroy(&t);
    begin(MODEL_VOCAB_SPM, "");
    ADD("a", 0, MODEL_TOKEN_NORMAL);
    t = create();
    assert_int_equal(coord_tokenize(t, "b", 1, 0, &ids, &n, &err), BASE_ERR_INPUT);
    assert_null(ids);
    assert_int_equal(coord_tokenize(t, "b", (size_t)LIMIT_TEXT_BYTES + 1, 0, &ids, &n, &err),
                     BASE_ERR_LIMIT);
    coord_tokenizer_destroy(&t);
    coord_tokenizer_destroy(&t);
}

static uint32_t next_random(void) /* xorshift: the same run each time */
{
    static uint64_t x = 88172645463325252ULL;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 16);
}

/* Tokens and merges of random bytes, ids out of range, odd scores: anything but a crash. */
static void hostile_vocabularies(void **state)
{
    static char pool[4096];

    (void)state;
    for (int round = 0; round < 300; round++) {
        coord_tokenizer_t *t     = NULL;
        int32_t           *ids   = NULL;
        size_t             n     = 0;
        base_err_t         err   = {0};
        bool               bpe   = round % 2 == 0;
        const float        odd[] = {NAN, INFINITY, -INFINITY, -0.0F, 0.0F, 1e38F};
        char              *text  = NULL;

        begin(bpe ? MODEL_VOCAB_BPE : MODEL_VOCAB_SPM, round % 4 == 0 ? "llama3" : "gpt-2");
        for (size_t i = 0; i < sizeof pool; i++)
            pool[i] = next_random() % 3 == 0 ? "ab <>0x\xE2\x96\x81\xC4\xA0\xFF"[next_random() % 13]
                                             : (char)(unsigned char)('a' + next_random() % 4);
        for (int i = 0; i < 200; i++)
            add(pool + next_random() % 4000, next_random() % 6, odd[next_random() % 6],
                (uint8_t)(next_random() % 9));
        for (int i = 0; i < 60; i++)
            made.merges[made.vocab.n_merges++] =
                (model_str_t){.text = pool + next_random() % 4000, .bytes = next_random() % 9};
        made.vocab.bos     = (int32_t)next_random() % 300 - 50;
        made.vocab.eos     = INT32_MAX;
        made.vocab.eot     = INT32_MIN;
        made.vocab.unk     = round % 3 == 0 ? -7 : 5;
        made.vocab.add_bos = made.vocab.add_eos = true;
        if (round % 5 == 0) made.vocab.types = NULL;
        if (round % 7 == 0) made.vocab.scores = NULL;
        t = create();
        for (unsigned flags = 0; flags < 8; flags++) {
            base_status_t st =
                coord_tokenize(t, pool, 1 + next_random() % 3000, flags, &ids, &n, &err);

            assert_true(st == BASE_OK || st == BASE_ERR_INPUT);
            if (st != BASE_OK) continue;
            for (size_t i = 0; i < n; i++) assert_in_range(ids[i], 0, 199);
            assert_int_equal(coord_detokenize(t, ids, n, flags > 3, &text, &n, &err), BASE_OK);
            free(text);
            free(ids);
        }
        coord_tokenizer_destroy(&t);
    }
}

/* A quarter of a megabyte of one letter, of spaces, of broken bytes: n log n, not n squared. */
static void long_texts(void **state)
{
    enum { BYTES = 1 << 18 };
    const char *const fills[] = {"a", " ", "\xFF", "ab", "a ", "'", "\n ", "\xE3\x80\x80", "1"};
    char             *text    = malloc(BYTES + 4);
    uint64_t          started = base_clock_us();
    base_err_t        err     = {0};

    (void)state;
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++) {
        coord_tokenizer_t *t;

        if (kind == 0) {
            begin_spm();
            add_byte_tokens();
            ADD("aa", -1, MODEL_TOKEN_NORMAL);
            ADD("aaaa", -1, MODEL_TOKEN_NORMAL);
            ADD(SP SP SP SP, -1, MODEL_TOKEN_NORMAL);
        } else {
            begin_bpe(kind == 1 ? "llama3" : "gpt-4o");
            ADD("aa", 0, MODEL_TOKEN_NORMAL);
            ADD("aaaa", 0, MODEL_TOKEN_NORMAL);
            merge("a a");
            merge("aa aa");
        }
        t = create();
        for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++) {
            size_t   length = strlen(fills[i]), n = 0;
            int32_t *ids = NULL;

            for (size_t at = 0; at < BYTES; at += length) memcpy(text + at, fills[i], length);
            if (coord_tokenize(t, text, BYTES / length * length, 0, &ids, &n, &err) != BASE_OK)
                fail_msg("%s", err.text);
            free(ids);
        }
        coord_tokenizer_destroy(&t);
    }
    free(text);
    assert_true(base_clock_us() - started <
                60000000); /* a second or two; a square would be an hour */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spm_rules),
        cmocka_unit_test(spm_bytes),
        cmocka_unit_test(spm_token_across_words),
        cmocka_unit_test(bpe_rules),
        cmocka_unit_test(pieces),
        cmocka_unit_test(errors),
        cmocka_unit_test(hostile_vocabularies),
        cmocka_unit_test(long_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
