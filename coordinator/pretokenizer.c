/* coordinator/pretokenizer.c
 * One row per name, one array per set of expressions. Expressions are the published ones, but for
 * white space: \s in PCRE2 with UCP includes U+180E, which is no white space in Unicode, so the
 * class is written out. Several expressions are applied one after the other, each to the pieces
 * that the one before it left (matches and what lies between them alike). */
#include "coordinator/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "coordinator/utf8.h"

#define WS                                                                                         \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define S   "[" WS "]"
#define NS  "[^" WS "]"
#define SYM "[^" WS "\\p{L}\\p{N}]" /* neither space, letter nor number */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES       S "*[\\r\\n]+|" S "+(?!" NS ")|" S "+"
#define LLAMA3(numbers)                                                                            \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?" SYM "+[\\r\\n]*|" SPACES
#define GPT2  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" SYM "+|" S "+(?!" NS ")|" S "+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(after)                                                                               \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" after "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER   \
    "*" after "|"

/* Letters with case, as DeepSeek-LLM lists them; the ends U+1F7D, U+1FD3 and U+1FDB are those from
 * before Unicode normalisation, which some copies of it have gone through. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"                 \
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"         \
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"                           \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}"                 \
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}"          \
    "\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"                  \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"         \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"                  \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                 \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"                 \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"         \
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
#define HAN     "\\x{4E00}-\\x{9FA5}"
#define HAN_ETC "[" HAN "\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define MARKS   "!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}"
#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./"                                                                          \
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"              \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES

enum { PRETOK_STAGES = 6 };

typedef enum {
    SET_LLAMA3,
    SET_GPT2,
    SET_QWEN2,
    SET_DIGITS_GPT2,
    SET_FALCON,
    SET_DEFAULT,
    SET_GPT4O,
    SET_TEKKEN,
    SET_DEEPSEEK_LLM,
    SET_DEEPSEEK_CODER,
    SET_DEEPSEEK3,
    SET_COUNT
} pretok_set_t;

static const char *const expressions[SET_COUNT][PRETOK_STAGES] = {
    [SET_LLAMA3]         = {LLAMA3("\\p{N}{1,3}")},
    [SET_GPT2]           = {GPT2},
    [SET_QWEN2]          = {LLAMA3("\\p{N}")},
    [SET_DIGITS_GPT2]    = {"\\p{N}", GPT2},
    [SET_FALCON]         = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"},
    [SET_DEFAULT]        = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
    [SET_GPT4O]          = {CASED(CONTRACTIONS "?") "\\p{N}{1,3}| ?" SYM "+[\\r\\n/]*|" SPACES},
    [SET_TEKKEN]         = {CASED("") "\\p{N}| ?" SYM "+[\\r\\n/]*|" SPACES},
    [SET_DEEPSEEK_LLM]   = {"[\\r\\n]", S "?[" CASED_LETTERS "]+", S "?[" MARKS "]+", S "+\\z",
                            HAN_ETC, "\\p{N}"},
    [SET_DEEPSEEK_CODER] = {"[\\r\\n]", S "?\\p{L}+", S "?\\p{P}+", HAN_ETC, "\\p{N}"},
    [SET_DEEPSEEK3]      = {"\\p{N}{1,3}", "[" HAN "\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
                            DEEPSEEK3},
};

static const struct {
    const char  *name;
    pretok_set_t set;
    bool         ignore_merges;
} pretok_rows[] = {
    {"llama-bpe", SET_LLAMA3, true},
    {"llama3", SET_LLAMA3, true},
    {"llama-v3", SET_LLAMA3, true},
    {"falcon3", SET_LLAMA3, true},
    {"falcon-h1", SET_LLAMA3, true},
    {"falcon_e", SET_LLAMA3, true}, /* Falcon-E, as bitnet.cpp names it */
    {"pixtral", SET_LLAMA3, true},
    {"lfm2", SET_LLAMA3, true},
    {"midm-2.0", SET_LLAMA3, true},
    {"dbrx", SET_LLAMA3, false},
    {"smaug-bpe", SET_LLAMA3, false},
    {"glm4", SET_LLAMA3, false},
    {"chatglm-bpe", SET_LLAMA3, false},
    {"gpt-2", SET_GPT2, false},
    {"", SET_GPT2, false},
    {"phi-2", SET_GPT2, false},
    {"mpt", SET_GPT2, false},
    {"olmo", SET_GPT2, false},
    {"jais", SET_GPT2, false},
    {"exaone4", SET_GPT2, false},
    {"trillion", SET_GPT2, false},
    {"gigachat", SET_GPT2, false},
    {"a.x-4.0", SET_GPT2, false},
    {"mellum", SET_GPT2, false},
    {"modern-bert", SET_GPT2, false},
    {"granite-docling", SET_GPT2, false},
    {"qwen2", SET_QWEN2, false},
    {"deepseek-r1-qwen", SET_QWEN2, false},
    {"stablelm2", SET_QWEN2, false},
    {"hunyuan", SET_QWEN2, false},
    {"solar-open", SET_QWEN2, false},
    {"megrez", SET_QWEN2, false},
    {"grok-2", SET_QWEN2, false},
    {"smollm", SET_DIGITS_GPT2, false},
    {"starcoder", SET_DIGITS_GPT2, false},
    {"refact", SET_DIGITS_GPT2, false},
    {"command-r", SET_DIGITS_GPT2, false},
    {"codeshell", SET_DIGITS_GPT2, false},
    {"exaone", SET_DIGITS_GPT2, false},
    {"minerva-7b", SET_DIGITS_GPT2, false},
    {"falcon", SET_FALCON, false},
    {"default", SET_DEFAULT, false},
    {"gpt-4o", SET_GPT4O, false},
    {"llama4", SET_GPT4O, false},
    {"tekken", SET_TEKKEN, true},
    {"deepseek-llm", SET_DEEPSEEK_LLM, false},
    {"deepseek-coder", SET_DEEPSEEK_CODER, false},
    {"deepseek-v3", SET_DEEPSEEK3, false},
    {"hunyuan-dense", SET_DEEPSEEK3, false},
};
enum { PRETOK_ROWS = sizeof(pretok_rows) / sizeof(pretok_rows[0]) };

struct coord_pretok {
    pcre2_code *code[PRETOK_STAGES];
    unsigned    n_stages;
    bool        ignore_merges;
};

/* One split: what a thread needs beside the compiled expressions. */
typedef struct {
    const coord_pretok_t *pretok;
    pcre2_match_context  *match;
    pcre2_jit_stack      *stack;
    pcre2_match_data     *data[PRETOK_STAGES];
    coord_word_fn        *fn;
    void                 *ctx;
} pretok_run_t;

enum {
    JIT_STACK_START = 32 << 10,
    JIT_STACK_MAX   = 1 << 20,
    MATCH_LIMIT     = 20000000, /* steps of the interpreter for one word */
    HEAP_LIMIT_KIB  = 64 << 10,
    KNOWN_BYTES     = BASE_ERR_TEXT_BYTES
};

static base_status_t unknown_name(model_str_t name, base_err_t *err)
{
    char   known[KNOWN_BYTES] = "";
    size_t n                  = 0;

    for (size_t i = 0; i < PRETOK_ROWS && n + 1 < sizeof known; i++)
        if (pretok_rows[i].name[0] != '\0')
            n += (size_t)snprintf(known + n, sizeof known - n, " %s", pretok_rows[i].name);
    return base_fail(err, BASE_ERR_UNSUPPORTED, "pre-tokenizer \"%.*s\" is not known; known:%s",
                     (int)(name.bytes < 64 ? name.bytes : 64), name.bytes > 0 ? name.text : "",
                     known);
}

static base_status_t compile(const char *expression, pcre2_code **out, base_err_t *err)
{
    int         error  = 0;
    PCRE2_SIZE  offset = 0;
    pcre2_code *code   = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                       PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);

    if (code == NULL)
        return base_fail(err, BASE_ERR_MEMORY, "pcre2: error %d at %zu of a pre-tokenizer", error,
                         (size_t)offset);
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without: slower, same matches */
    *out = code;
    return BASE_OK;
}

base_status_t coord_pretok_create(model_str_t name, coord_pretok_t **out, base_err_t *err)
{
    coord_pretok_t *p    = NULL;
    void           *room = NULL;
    size_t          row  = 0;
    base_status_t   st   = BASE_OK;

    base_assert(out != NULL);
    while (row < PRETOK_ROWS &&
           !(strlen(pretok_rows[row].name) == name.bytes &&
             (name.bytes == 0 || memcmp(pretok_rows[row].name, name.text, name.bytes) == 0)))
        row++;
    if (row == PRETOK_ROWS) return unknown_name(name, err);
    st = base_alloc(&room, 1, sizeof *p, "pre-tokenizer", err);
    if (st != BASE_OK) goto out;
    p                = room;
    p->ignore_merges = pretok_rows[row].ignore_merges;
    while (p->n_stages < PRETOK_STAGES && expressions[pretok_rows[row].set][p->n_stages] != NULL) {
        st = compile(expressions[pretok_rows[row].set][p->n_stages], &p->code[p->n_stages], err);
        if (st != BASE_OK) goto out;
        p->n_stages++;
    }
    *out = p;
    p    = NULL;
out:
    coord_pretok_destroy(&p);
    return st;
}

void coord_pretok_destroy(coord_pretok_t **pretok)
{
    coord_pretok_t *p = *pretok;

    if (p == NULL) return;
    for (unsigned i = 0; i < PRETOK_STAGES; i++) pcre2_code_free(p->code[i]);
    free(p);
    *pretok = NULL;
}

bool coord_pretok_ignores_merges(const coord_pretok_t *pretok)
{
    return pretok->ignore_merges;
}

/* The next match from `at`, in valid UTF-8. *start == *end == bytes if there is none. */
static base_status_t next_match(pretok_run_t *run, unsigned stage, const char *text, size_t bytes,
                                size_t at, size_t *start, size_t *end, base_err_t *err)
{
    const pcre2_code *code = run->pretok->code[stage];
    pcre2_match_data *data = run->data[stage];
    int rc = pcre2_match(code, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK, data, run->match);

    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                         run->match);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *start = *end = bytes;
        return BASE_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return base_fail(err, BASE_ERR_MEMORY, "pre-tokenizer: out of memory");
    if (rc < 0)
        return base_fail(err, BASE_ERR_LIMIT,
                         "pre-tokenizer: gave up at byte %zu of %zu (pcre2 error %d)", at, bytes,
                         rc);
    *start = pcre2_get_ovector_pointer(data)[0];
    *end   = pcre2_get_ovector_pointer(data)[1];
    base_assert(*start >= at && *end > *start && *end <= bytes); /* none matches the empty string */
    return BASE_OK;
}

/* Valid UTF-8, not empty; recursion is at most PRETOK_STAGES deep. */
static base_status_t split_stage(pretok_run_t *run, unsigned stage, const char *text, size_t bytes,
                                 base_err_t *err)
{
    base_status_t st = BASE_OK;
    size_t        at = 0;

    if (stage == run->pretok->n_stages) return run->fn(run->ctx, text, bytes, err);
    while (at < bytes && st == BASE_OK) {
        size_t start = 0, end = 0;

        st = next_match(run, stage, text, bytes, at, &start, &end, err);
        if (st == BASE_OK && start > at)
            st = split_stage(run, stage + 1, text + at, start - at, err);
        if (st == BASE_OK && end > start)
            st = split_stage(run, stage + 1, text + start, end - start, err);
        at = end;
    }
    return st;
}

static base_status_t run_create(const coord_pretok_t *pretok, pretok_run_t *run, base_err_t *err)
{
    run->match = pcre2_match_context_create(NULL);
    run->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    bool ok    = run->match != NULL && run->stack != NULL;

    for (unsigned i = 0; i < pretok->n_stages; i++) {
        run->data[i] = pcre2_match_data_create(1, NULL);
        ok           = ok && run->data[i] != NULL;
    }
    if (!ok) return base_fail(err, BASE_ERR_MEMORY, "pre-tokenizer: out of memory");
    pcre2_set_match_limit(run->match, MATCH_LIMIT);
    pcre2_set_heap_limit(run->match, HEAP_LIMIT_KIB);
    pcre2_jit_stack_assign(run->match, NULL, run->stack);
    return BASE_OK;
}

static void run_destroy(pretok_run_t *run)
{
    for (unsigned i = 0; i < PRETOK_STAGES; i++) pcre2_match_data_free(run->data[i]);
    pcre2_jit_stack_free(run->stack);
    pcre2_match_context_free(run->match);
}

base_status_t coord_pretok_split(const coord_pretok_t *pretok, const char *text, size_t bytes,
                                 coord_word_fn *fn, void *ctx, base_err_t *err)
{
    pretok_run_t  run = {.pretok = pretok, .fn = fn, .ctx = ctx};
    size_t        at  = 0;
    base_status_t st  = run_create(pretok, &run, err);

    while (st == BASE_OK && at < bytes) {
        size_t   end = at;
        unsigned n   = 0;

        while ((n = coord_utf8_length(text + end, bytes - end)) > 0) end += n;
        if (end > at) {
            st = split_stage(&run, 0, text + at, end - at, err);
        } else {
            end = at + 1;
            st  = fn(ctx, text + at, 1, err);
        }
        at = end;
    }
    run_destroy(&run);
    return st;
}
