/* model/json.c: JSON of hostile files. */
#include "model/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "model/source.h"

/* Depth, number of values and bytes that JSON does not have, as far as they can be seen without
 * parsing. */
static base_status_t measure(const char *bytes, uint64_t n, const char *where, base_err_t *err)
{
    uint64_t values = 1;
    uint32_t depth  = 0;
    bool     text   = false;
    for (uint64_t i = 0; i < n; i++) {
        const char c = bytes[i];
        /* jansson takes a NUL byte behind a literal for its end */
        if ((uint8_t)c < 0x20 && c != '\t' && c != '\n' && c != '\r')
            return base_fail(err, BASE_ERR_INPUT,
                             "%s: no JSON: a control character, %d, at byte %" PRIu64
                             ": damaged file?",
                             where, c, i);
        if (text) {
            if (c == '\\') i++;
            if (c == '"') text = false;
            continue;
        }
        if (c == '"') text = true;
        if (c == ',' || c == ':' || c == '[' || c == '{') values++;
        if (c == '[' || c == '{') depth++;
        if ((c == ']' || c == '}') && depth > 0) depth--;
        if (depth > MODEL_JSON_DEPTH)
            return base_fail(err, BASE_ERR_LIMIT,
                             "%s: JSON nested deeper than %d at byte %" PRIu64
                             ": damaged or hostile file",
                             where, MODEL_JSON_DEPTH, i);
    }
    if (values > MODEL_JSON_VALUES)
        return base_fail(err, BASE_ERR_LIMIT, "%s: JSON of over %d values", where,
                         MODEL_JSON_VALUES);
    return BASE_OK;
}

base_status_t model_json_parse(const char *bytes, uint64_t n, const char *where, json_t **out,
                               base_err_t *err)
{
    json_error_t why = {0};
    if (n > MODEL_JSON_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "%s: %" PRIu64 " bytes of JSON, limit %d", where, n,
                         MODEL_JSON_BYTES);
    base_status_t st = measure(bytes, n, where, err);
    if (st != BASE_OK) return st;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_t      *root  = json_loadb(bytes, n, flags, &why);
    /* transformers writes "no limit" as the integer 10^30 in tokenizer_config.json */
    if (root == NULL && json_error_code(&why) == json_error_numeric_overflow)
        root = json_loadb(bytes, n, flags | JSON_DECODE_INT_AS_REAL, &why);
    if (root == NULL)
        return base_fail(err, BASE_ERR_INPUT, "%s: no JSON: line %d: %s: damaged file?", where,
                         why.line, why.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return base_fail(err, BASE_ERR_INPUT, "%s: JSON, but no object: damaged file?", where);
    }
    *out = root;
    return BASE_OK;
}

base_status_t model_json_load(const char *path, bool required, json_t **out, base_err_t *err)
{
    model_source_t *source = NULL;
    if (!required && model_source_absent(path)) return BASE_OK;
    base_status_t st = model_source_open(&path, 1, &source, err);
    if (st != BASE_OK) return st;
    st = model_json_parse((const char *)model_source_data(source, 0), model_source_bytes(source, 0),
                          path, out, err);
    model_source_close(&source);
    return st;
}

json_t *model_json_get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

bool model_json_is(const json_t *value, const char *text)
{
    return json_is_string(value) && json_string_length(value) == strlen(text) &&
           memcmp(json_string_value(value), text, strlen(text)) == 0;
}

/* The member, or NULL with *st OK (absent and not required) or the error. */
static json_t *look_up(const json_t *object, const char *key, const char *where, bool required,
                       base_status_t *st, base_err_t *err)
{
    json_t *value = model_json_get(object, key);
    *st           = BASE_OK;
    if (value == NULL && required)
        *st = base_fail(err, BASE_ERR_INPUT, "%s: '%s' is missing", where, key);
    return value;
}

static base_status_t fail_type(const char *where, const char *key, const char *want,
                               base_err_t *err)
{
    return base_fail(err, BASE_ERR_INPUT, "%s: '%s' is not %s: damaged file?", where, key, want);
}

base_status_t model_json_u32(const json_t *object, const char *key, const char *where,
                             bool required, uint32_t min, uint32_t max, uint32_t *out,
                             base_err_t *err)
{
    base_status_t st    = BASE_OK;
    const json_t *value = look_up(object, key, where, required, &st, err);
    if (value == NULL) return st;
    if (!json_is_integer(value)) return fail_type(where, key, "an integer", err);
    const json_int_t v = json_integer_value(value);
    if (v < (json_int_t)min)
        return base_fail(err, BASE_ERR_INPUT, "%s: '%s' is %lld, want at least %" PRIu32, where,
                         key, (long long)v, min);
    if (v > (json_int_t)max)
        return base_fail(err, BASE_ERR_LIMIT, "%s: '%s' is %lld, limit %" PRIu32, where, key,
                         (long long)v, max);
    *out = (uint32_t)v;
    return BASE_OK;
}

base_status_t model_json_f64(const json_t *object, const char *key, const char *where,
                             bool required, double *out, base_err_t *err)
{
    base_status_t st    = BASE_OK;
    const json_t *value = look_up(object, key, where, required, &st, err);
    if (value == NULL) return st;
    if (!json_is_number(value)) return fail_type(where, key, "a number", err);
    if (!isfinite(json_number_value(value))) return fail_type(where, key, "finite", err);
    *out = json_number_value(value);
    return BASE_OK;
}

base_status_t model_json_bool(const json_t *object, const char *key, const char *where, bool *out,
                              base_err_t *err)
{
    base_status_t st    = BASE_OK;
    const json_t *value = look_up(object, key, where, false, &st, err);
    if (value == NULL) return st;
    if (!json_is_boolean(value)) return fail_type(where, key, "true or false", err);
    *out = json_is_true(value);
    return BASE_OK;
}

base_status_t model_json_str(const json_t *object, const char *key, const char *where,
                             bool required, model_str_t *out, base_err_t *err)
{
    base_status_t st    = BASE_OK;
    const json_t *value = look_up(object, key, where, required, &st, err);
    if (value == NULL) return st;
    if (!json_is_string(value)) return fail_type(where, key, "a string", err);
    *out = (model_str_t){json_string_value(value), (uint32_t)json_string_length(value)};
    return BASE_OK;
}
