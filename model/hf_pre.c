/* model/hf_pre.c: which pre-tokenizer is it? tokenizer.json spells it out, the tables of GGUF and
 * the coordinator's tokenizer know names. */
#include <stdlib.h>
#include <string.h>

#include "model/hf.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS        "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HAN          "\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80"
#define HANGUL       "\xea\xb0\x80-\xed\x9f\xbf"
#define CJK          "[" HAN HANGUL "]+"

enum { STEPS = 8 };

/* A sequence of steps: "B" ByteLevel with its own regex (GPT-2's), "b" without, "D" single digits,
 * "d" runs of digits, "P" punctuation, and anything else the regex of a Split. NULL ends. */
static const struct {
    const char *name;
    const char *steps[STEPS];
} known[] = {
    {"gpt-2", {"B"}},
    {"llama-bpe", {CONTRACTIONS WORDS "\\p{N}{1,3}" REST, "b"}},
    {"qwen2", {CONTRACTIONS WORDS "\\p{N}" REST, "b"}},
    {"smollm", {"D", "B"}}, /* starcoder, refact, command-r are the same to llama.cpp */
    {"falcon", {"P", "B", "d", "[0-9][0-9][0-9]"}},
    {"deepseek-coder", {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "D", "b"}},
};

/* Has the flag this value? What is no boolean has none. */
static bool flag_is(const json_t *object, const char *key, bool absent, bool want)
{
    const json_t *value = model_json_get(object, key);
    if (value == NULL) return absent == want;
    return json_is_boolean(value) && json_is_true(value) == want;
}

/* Does a step of the file match a step of the table? */
static bool is_step(const json_t *step, const char *want)
{
    const json_t *type = json_object_get(step, "type");
    if (model_json_is(type, "ByteLevel")) {
        if (!flag_is(step, "add_prefix_space", true, false)) return false;
        return (strcmp(want, "B") == 0 && flag_is(step, "use_regex", true, true)) ||
               (strcmp(want, "b") == 0 && flag_is(step, "use_regex", true, false));
    }
    if (model_json_is(type, "Digits"))
        return (strcmp(want, "D") == 0 && flag_is(step, "individual_digits", false, true)) ||
               (strcmp(want, "d") == 0 && flag_is(step, "individual_digits", false, false));
    if (model_json_is(type, "Punctuation")) return strcmp(want, "P") == 0;
    if (!model_json_is(type, "Split") || strlen(want) < 2) return false;
    const json_t *pattern = json_object_get(json_object_get(step, "pattern"), "Regex");
    return model_json_is(pattern, want) && flag_is(step, "invert", false, false) &&
           model_json_is(json_object_get(step, "behavior"), "Isolated");
}

static bool is_known(const json_t *pre, const char *const steps[STEPS])
{
    const json_t *list = json_object_get(pre, "pretokenizers");
    size_t        n    = 0;
    while (n < STEPS && steps[n] != NULL) n++;
    if (!model_json_is(json_object_get(pre, "type"), "Sequence"))
        return n == 1 && is_step(pre, steps[0]);
    if (json_array_size(list) != n) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_step(json_array_get(list, i), steps[i])) return false;
    return true;
}

base_status_t model_hf_pre(const json_t *tokenizer, const char *path, const char **out,
                           base_err_t *err)
{
    const json_t *pre = model_json_get(tokenizer, "pre_tokenizer");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (pre == NULL || !is_known(pre, known[i].steps)) continue;
        *out = known[i].name;
        return BASE_OK;
    }
    char         *text = pre == NULL ? NULL : json_dumps(pre, JSON_COMPACT);
    base_status_t st   = base_fail(
          err, BASE_ERR_UNSUPPORTED,
          "%s: 'pre_tokenizer' is none that is known (llama3, qwen2, gpt-2, smollm, starcoder, "
            "falcon, deepseek-coder): %.160s",
          path, text == NULL ? "absent" : text);
    free(text);
    return st;
}
