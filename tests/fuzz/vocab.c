/* Fuzzing the tokenizer's tables: any vocabulary with any text gives a status, or ids that are
 * tokens and go back to the text where nothing is lost on the way.
 *
 * Bytes: nine of flags and ids; tokens (how many, then for each: bytes, type, score, text); merges
 * (how many, then for each: bytes, text); the text. Built and run as fuzz.h says. */
#include <math.h>

#include "coordinator/tokenizer_internal.h"
#include "coordinator/utf8.h"
#include "coordinator/utf8_stream.h"
#include "tests/fuzz/fuzz.h"

enum { TOKENS = 600, MERGES = 64, SPM = 1, ALL_BYTES = 2, NO_TYPES = 4, NO_SCORES = 8, BOS = 16 };
enum { EOS = 32, PREFIX = 64 };

typedef struct {
    const uint8_t *at, *end;
} bytes_t;

static uint8_t next(bytes_t *b)
{
    return b->at < b->end ? *b->at++ : 0;
}

static model_str_t next_text(bytes_t *b, size_t n)
{
    if (n > (size_t)(b->end - b->at)) n = (size_t)(b->end - b->at);
    const model_str_t s = {fuzz_copy(b->at, n), (uint32_t)n};
    b->at += n;
    return s;
}

typedef struct {
    model_vocab_t v;
    model_str_t   tokens[TOKENS], merges[MERGES];
    float         scores[TOKENS];
    uint8_t       types[TOKENS];
} made_t;

static void add(made_t *m, model_str_t text, uint8_t type, float score)
{
    m->tokens[m->v.n_tokens]   = text;
    m->types[m->v.n_tokens]    = type;
    m->scores[m->v.n_tokens++] = score;
}

/* One token a byte, as each kind writes them. */
static void add_bytes(made_t *m, bool spm)
{
    unsigned shifted = 256;
    for (unsigned b = 0; b < 256; b++) {
        char           text[8];
        const bool     same = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        const unsigned c    = same ? b : shifted++;
        int            n    = snprintf(text, sizeof(text), "<0x%02X>", b);
        if (!spm && c < 0x80) {
            n       = 1;
            text[0] = (char)c;
        } else if (!spm) {
            n       = 2;
            text[0] = (char)(0xC0 | c >> 6);
            text[1] = (char)(0x80 | (c & 0x3F));
        }
        add(m, (model_str_t){fuzz_copy(text, (size_t)n), (uint32_t)n},
            spm ? MODEL_TOKEN_BYTE : MODEL_TOKEN_NORMAL, 0);
    }
}

static void make(made_t *m, bytes_t *b)
{
    static const char *const names[] = {
        "",        "llama-bpe",    "gpt-2",       "qwen2",  "smollm",    "falcon", "deepseek-coder",
        "default", "deepseek-llm", "deepseek-v3", "gpt-4o", "unheard-of"};
    static const float odd[] = {NAN, INFINITY, -INFINITY, -0.0f, 0, 1, -1, 1e-45f};
    const uint8_t      flags = next(b);
    const char        *pre   = names[next(b) % (sizeof(names) / sizeof(names[0]))];
    memset(m, 0, sizeof(*m));
    m->v         = (model_vocab_t){.kind   = (flags & SPM) != 0 ? MODEL_VOCAB_SPM : MODEL_VOCAB_BPE,
                                   .pre    = {pre, (uint32_t)strlen(pre)},
                                   .tokens = m->tokens,
                                   .merges = m->merges};
    m->v.scores  = (flags & NO_SCORES) != 0 ? NULL : m->scores;
    m->v.types   = (flags & NO_TYPES) != 0 ? NULL : m->types;
    m->v.add_bos = (flags & BOS) != 0;
    m->v.add_eos = (flags & EOS) != 0;
    m->v.add_space_prefix = (flags & PREFIX) != 0;
    m->v.bos              = (int8_t)next(b);
    m->v.eos              = (int8_t)next(b);
    m->v.eot              = (int8_t)next(b);
    m->v.unk              = (int8_t)next(b);
    for (unsigned n = next(b); n > 0; n--) {
        const uint8_t bytes = next(b), type = next(b), score = next(b);
        add(m, next_text(b, bytes), type % 8, score < 8 ? odd[score] : -(float)score);
    }
    if ((flags & ALL_BYTES) != 0) add_bytes(m, (flags & SPM) != 0);
    for (unsigned n = next(b) % MERGES; n > 0; n--)
        m->merges[m->v.n_merges++] = next_text(b, next(b));
}

static bool is(const model_str_t *s, const char *text)
{
    return s->bytes == strlen(text) && memcmp(s->text, text, s->bytes) == 0;
}

/* Do these ids say all of the text? Not if one stands for more than one text: unknown and unused
 * tokens, user-defined ones (not decoded), and for SPM what looks like a byte and is none, special
 * tokens (a space follows), and U+2581 that is no token (its bytes stay bytes) or in the text. */
static bool lossless(const made_t *m, const coord_tokenizer_t *t, const model_str_t *text,
                     const int32_t *ids, size_t n)
{
    const bool spm   = m->v.kind == MODEL_VOCAB_SPM;
    bool       space = !spm;
    for (size_t i = 0; i < n; i++) {
        const uint8_t type = t->types[ids[i]];
        if (type != MODEL_TOKEN_NORMAL && type != (spm ? MODEL_TOKEN_BYTE : MODEL_TOKEN_CONTROL))
            return false;
        if (ids[i] == t->unk) return false;
    }
    for (size_t i = 0; !spm && i < text->bytes; i++) /* a byte of no token is dropped */
        if (t->bytes[(unsigned char)text->text[i]] < 0) return false;
    for (uint32_t i = 0; spm && i < m->v.n_tokens; i++) {
        if (t->types[i] != MODEL_TOKEN_BYTE && coord_byte_token(&m->v.tokens[i]) >= 0) return false;
        if (t->types[i] == MODEL_TOKEN_NORMAL && is(&m->v.tokens[i], COORD_SPM_SPACE)) space = true;
    }
    return space && (!spm || memmem(text->text, text->bytes, COORD_SPM_SPACE,
                                    COORD_SPM_SPACE_BYTES) == NULL);
}

/* Pieces as a stream: whole characters, however they were cut. */
static void stream(const coord_tokenizer_t *t, const int32_t *ids, size_t n)
{
    const char *const stops[] = {"ab", "\xEF\xBF\xBD<", ""};
    coord_stream_t   *s       = NULL;
    const char       *out     = NULL;
    size_t            bytes   = 0;
    char             *piece   = malloc(coord_token_piece_max(t));
    base_err_t        err     = {0};
    if (piece == NULL ||
        coord_stream_create(stops, n % 4, true, coord_token_piece_max(t), &s, &err) != BASE_OK)
        abort();
    for (size_t i = 0; i <= n; i++) {
        const size_t got =
            i == n ? 0 : coord_token_piece(t, ids[i], true, piece, coord_token_piece_max(t));
        fuzz_expect(got <= coord_token_piece_max(t), "a piece longer than the longest", NULL);
        if (i == n)
            (void)coord_stream_flush(s, &out, &bytes);
        else
            (void)coord_stream_push(s, piece, got, &out, &bytes);
        for (size_t at = 0; at < bytes;) {
            const unsigned length = coord_utf8_length(out + at, bytes - at);
            fuzz_expect(length > 0, "no UTF-8 comes out", NULL);
            at += length;
        }
    }
    coord_stream_destroy(&s);
    free(piece);
}

static void use(const made_t *m, coord_tokenizer_t *t, const model_str_t *text, unsigned flags)
{
    int32_t            *ids = NULL, *whole = NULL;
    size_t              n = 0, n_whole = 0, bytes = 0;
    char               *back = NULL;
    base_err_t          err  = {0};
    const base_status_t st   = coord_tokenize(t, text->text, text->bytes, flags, &ids, &n, &err);
    if (st != BASE_OK) {
        fuzz_expect(st == BASE_ERR_INPUT && err.text[0] != '\0', "tokenize", &err);
        return;
    }
    for (size_t i = 0; i < n; i++)
        fuzz_expect(ids[i] >= 0 && (uint32_t)ids[i] < m->v.n_tokens, "an id of no token", NULL);
    stream(t, ids, n);
    if (coord_detokenize(t, ids, n, true, &back, &bytes, &err) != BASE_OK) abort();
    if ((flags & (COORD_ADD_BOS | COORD_ADD_EOS | COORD_GO_ON)) == 0 &&
        lossless(m, t, text, ids, n))
        fuzz_expect(bytes == text->bytes && memcmp(back, text->text, bytes) == 0,
                    "not the text again", NULL);
    if (t->split_at_space) { /* words one by one are the same as all at once */
        t->split_at_space = false;
        if (coord_tokenize(t, text->text, text->bytes, flags, &whole, &n_whole, &err) != BASE_OK)
            abort();
        fuzz_expect(n == n_whole && memcmp(ids, whole, n * sizeof(*ids)) == 0, "split at spaces",
                    NULL);
    }
    free(whole);
    free(back);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static made_t      m;
    bytes_t            b   = {data, data + size};
    coord_tokenizer_t *t   = NULL;
    base_err_t         err = {0};
    make(&m, &b);
    const unsigned    flags = next(&b) % 16;
    const model_str_t text  = next_text(&b, size);
    base_status_t     st    = coord_tokenizer_create(&m.v, &t, &err);
    if (st == BASE_OK)
        use(&m, t, &text, flags);
    else
        fuzz_expect(st == BASE_ERR_UNSUPPORTED, "create", &err);
    coord_tokenizer_destroy(&t);
    for (uint32_t i = 0; i < m.v.n_tokens; i++) free((void *)(uintptr_t)m.tokens[i].text);
    for (uint32_t i = 0; i < m.v.n_merges; i++) free((void *)(uintptr_t)m.merges[i].text);
    free((void *)(uintptr_t)text.text);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

/* Alone the mutations of bytes seldom leave the tables whole: mostly the text is changed. */
static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    static const char *const pieces[] = {
        "ab",  " ",      "a b",      "\xE2\x96\x81", "\xE2\x96",    "\x81",
        "<s>", "<0x41>", "\xFF",     "\xC3\xA9",     "12345",       "\r\n",
        "'s",  "\t ",    "\xC4\xA0", "word",         "\xE0\xA0\x80"};
    const char *piece = pieces[fuzz_random(state) % (sizeof(pieces) / sizeof(pieces[0]))];
    if (fuzz_random(state) % 2 == 0)
        fuzz_mutate_bytes(b, state);
    else
        fuzz_splice(b, b->n - fuzz_random(state) % (b->n < 24 ? b->n + 1 : 24), 0, piece,
                    strlen(piece));
}

static void put(fuzz_bytes_t *b, const void *bytes, size_t n)
{
    fuzz_splice(b, b->n, 0, bytes, n);
}

static fuzz_bytes_t make_seed(uint8_t flags, uint8_t pre)
{
    static const struct {
        const char *text;
        uint8_t     type, score;
    } tokens[]                        = {{"<unk>", 2, 8},
                                         {"<s>", 3, 8},
                                         {"</s>", 3, 8},
                                         {"word", 4, 8},
                                         {"a", 1, 40},
                                         {"b", 1, 41},
                                         {"ab", 1, 12},
                                         {"\xE2\x96\x81", 1, 30},
                                         {"\xE2\x96\x81"
                                                                 "a",
                                          1, 20},
                                         {"\xC4\xA0", 1, 50},
                                         {"\xC4\xA0"
                                                                 "ab",
                                          1, 9},
                                         {"<s>b", 5, 9},
                                         {"<|im_end|>", 1, 9}};
    static const char *const merges[] = {"a b", "\xC4\xA0 ab", "\xE2\x96\x81 a"};
    const uint8_t     head[] = {flags, pre, 1, 2, 0xFF, 0, sizeof(tokens) / sizeof(tokens[0])};
    static const char text[] = "\004<s>ab  a b\xC3\xA9 12word\xFF ab";
    fuzz_bytes_t      b      = {0};
    put(&b, head, sizeof(head));
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        const uint8_t about[] = {(uint8_t)strlen(tokens[i].text), tokens[i].type, tokens[i].score};
        put(&b, about, sizeof(about));
        put(&b, tokens[i].text, about[0]);
    }
    put(&b, "\003", 1);
    for (int i = 0; i < 3; i++) {
        const uint8_t n = (uint8_t)strlen(merges[i]);
        put(&b, &n, 1);
        put(&b, merges[i], n);
    }
    put(&b, text, sizeof(text) - 1);
    return b;
}

int main(int argc, char **argv)
{
    fuzz_bytes_t seeds[16];
    for (uint8_t i = 0; i < 16; i++) {
        const uint8_t flags = (i % 2 == 0 ? SPM : 0) | (i % 4 < 2 ? ALL_BYTES : 0);
        seeds[i]            = make_seed(flags | (i < 8 ? PREFIX : BOS | EOS), i % 12);
    }
    const int rc = fuzz_main(argc, argv, seeds, 16, mutate, 100000);
    for (int i = 0; i < 16; i++) free(seeds[i].data);
    return rc;
}

#endif
